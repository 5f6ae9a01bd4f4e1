"""Answers other than an export, such as a refusal."""

from __future__ import annotations

import json
from dataclasses import dataclass

JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """A complete HTTP response of known length."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    seconds_per_byte: float = 0.0

    @classmethod
    def error(cls, status: int, message: str, *headers: tuple[str, str]) -> Answer:
        """Make an error answer in Mixpanel's form."""
        return cls(status, json.dumps({"error": message}).encode(), headers=headers)


class RefusedError(Exception):
    """The sandbox refuses a request; `answer` says why."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        """Refuse with a status, a message and any headers."""
        super().__init__(f"{status} {message}")
        self.answer = Answer.error(status, message, *headers)
