"""A sandbox in a process of its own, seen from the benchmark.

This side imports nothing of the tap: a child's peak memory, as the kernel counts it, is never
less than its parent's was when it was started.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from datetime import date


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the sandbox saw it.

    Attributes:
        window: Its days, as the tap writes them: `2025-01-01..2025-01-07`.
        status: What it was answered with.
        started: When it came, by `time.monotonic()`.
        ended: When its last byte was sent.
        size: Bytes of body, compressed.
        events: Event lines in it.
    """

    window: str
    status: int
    started: float
    ended: float
    size: int
    events: int


class Server:
    """A sandbox whose bodies are prepared before they are measured. Context manager."""

    def __init__(self, *, events_per_day: int) -> None:
        """Serve a project whose days all have so many events."""
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "benchmarks.sandbox", str(events_per_day)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.url: str = self._order("url")

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop it."""
        self._process.communicate()

    def warm(
        self, first: date, last: date, *, longest: int, workers: int, time_in_ms: bool = True
    ) -> None:
        """Prepare the bodies of all windows that a tap with these settings asks for."""
        self._order(
            "warm",
            str(first),
            str(last),
            longest=longest,
            workers=workers,
            time_in_ms=time_in_ms,
        )

    def shape(
        self, *, first_byte_seconds: float, first_byte_seconds_per_day: float, bytes_per_second: int
    ) -> None:
        """Be as slow as a server that is far away, from now on."""
        self._order(
            "shape",
            first_byte_seconds=first_byte_seconds,
            first_byte_seconds_per_day=first_byte_seconds_per_day,
            bytes_per_second=bytes_per_second,
        )

    def property_names(self, day: date) -> list[str]:
        """The names of all properties that events of a day have."""
        names: list[str] = self._order("property_names", str(day))
        return names

    def requests(self) -> tuple[Request, ...]:
        """The requests that have ended since this was last asked for."""
        return tuple(Request(**request) for request in self._order("requests"))

    def _order(self, order: str, *args: Any, **kwargs: Any) -> Any:
        to, back = self._process.stdin, self._process.stdout
        assert to is not None  # noqa: S101 - they are pipes
        assert back is not None  # noqa: S101
        to.write(json.dumps({"order": order, "args": args, "kwargs": kwargs}).encode() + b"\n")
        to.flush()
        answer = back.readline()
        if not answer:
            raise RuntimeError("the sandbox's process has ended; its error is above")
        return json.loads(answer)
