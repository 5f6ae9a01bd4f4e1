"""Answers that are no export: what the sandbox says when it refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass

JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """A whole HTTP response with a known length."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    seconds_per_byte: float = 0.0

    @classmethod
    def error(cls, status: int, message: str, *headers: tuple[str, str]) -> Answer:
        """Say what is wrong as Mixpanel does."""
        return cls(status, json.dumps({"error": message}).encode(), headers=headers)


class RefusedError(Exception):
    """The sandbox does not export, and answers why."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        """Refuse with a status and a message, and further headers."""
        super().__init__(f"{status} {message}")
        self.answer = Answer.error(status, message, *headers)
