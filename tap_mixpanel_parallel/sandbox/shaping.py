"""Delays and bandwidth: loopback made as slow as a distant server."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SLICES_PER_SECOND = 40


@dataclass(frozen=True)
class Shaping:
    """The speed of answers.

    Attributes:
        first_byte_seconds: The delay before the headers of an export.
        first_byte_seconds_per_day: The delay added for each day of the range.
        bytes_per_second: The highest rate of the body on each connection; None for no limit.
    """

    first_byte_seconds: float = 0.0
    first_byte_seconds_per_day: float = 0.0
    bytes_per_second: int | None = None

    def __post_init__(self) -> None:
        """Refuse a rate at which no byte is ever sent."""
        if self.bytes_per_second is not None and self.bytes_per_second < 1:
            raise ValueError(f"bytes_per_second must be positive: {self.bytes_per_second}")

    def delay(self, days: int) -> float:
        """Give the seconds before the first byte for a range of this many days."""
        return self.first_byte_seconds + self.first_byte_seconds_per_day * days


class Throttle:
    """Keeps a body to its rate.

    The rate is measured from the start, not from slice to slice, so that a sleep that is too long
    makes the next one shorter.
    """

    def __init__(self, bytes_per_second: int | None, sleep: Callable[[float], None]) -> None:
        """Start now."""
        self._rate = bytes_per_second
        self._sleep = sleep
        self._started = time.monotonic()
        self._sent = 0

    def slices(self, piece: bytes) -> Iterator[bytes]:
        """Give the piece in slices, each at its time."""
        if self._rate is None:
            yield piece
            return
        step = max(1, self._rate // _SLICES_PER_SECOND)
        for position in range(0, len(piece), step):
            part = piece[position : position + step]
            self._sent += len(part)
            self._sleep(self._started + self._sent / self._rate - time.monotonic())
            yield part
