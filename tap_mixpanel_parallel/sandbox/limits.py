"""Mixpanel's rate limits."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.sandbox.answers import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = 3600.0


@dataclass(frozen=True)
class Limits:
    """The rate limits of a project.

    The defaults are those of Mixpanel's documentation. Only accepted requests count; this is a
    guess.

    Attributes:
        per_hour: Requests in any 3600 seconds.
        per_second: Requests in any second.
        concurrent: Requests at the same time.
        retry_after: Send the header `Retry-After` with a 429. No source shows the export API do
            so.
        clock: A monotonic clock, in seconds.
    """

    per_hour: int = 60
    per_second: int = 3
    concurrent: int = 100
    retry_after: bool = False
    clock: Callable[[], float] = time.monotonic


class Gate:
    """Counts requests, and refuses those over a limit. Threads share it."""

    def __init__(self, limits: Limits | None, project_id: str) -> None:
        """Start without requests; without limits, accept all."""
        self._limits = limits
        self._project_id = project_id
        self._lock = Lock()
        self._starts: deque[float] = deque()
        self._inside = 0

    def enter(self) -> None:
        """Count a request that starts; call `leave` when it ends.

        Raises:
            RefusedError: A limit is reached (429).
        """
        with self._lock:
            if self._limits is not None:
                self._check(self._limits)
            self._inside += 1

    def leave(self) -> None:
        """Count a request that ends."""
        with self._lock:
            self._inside -= 1

    def _check(self, limits: Limits) -> None:
        now = limits.clock()
        while self._starts and now - self._starts[0] >= HOUR:
            self._starts.popleft()
        in_last_second = sum(1 for start in self._starts if now - start < 1)
        if self._inside >= limits.concurrent:
            message = "too many export requests in progress for this project"
            raise self._refusal(limits, message, 1)
        running = f"{self._inside + 1}/{limits.concurrent} queries running concurrently and"
        if len(self._starts) >= limits.per_hour:
            wait = HOUR - (now - self._starts[0]) if self._starts else HOUR
            count = f"{len(self._starts) + 1}/{limits.per_hour} queries running in the last hour"
            raise self._refusal(limits, self._exceeded(f"{running} {count}"), wait)
        if in_last_second >= limits.per_second:
            count = f"{in_last_second + 1}/{limits.per_second} queries running in the last second"
            raise self._refusal(limits, self._exceeded(f"{running} {count}"), 1)
        self._starts.append(now)

    def _exceeded(self, what: str) -> str:
        return f"Query rate limit exceeded for project_id: {self._project_id}. {what}."

    @staticmethod
    def _refusal(limits: Limits, message: str, wait: float) -> RefusedError:
        if not limits.retry_after:
            return RefusedError(429, message)
        return RefusedError(429, message, ("Retry-After", str(max(1, math.ceil(wait)))))
