"""How slow the sandbox is: a distance to the server that loopback does not have."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SLICES_PER_SECOND = 40


@dataclass(frozen=True)
class Shaping:
    """How fast answers come.

    Attributes:
        first_byte_seconds: Wait before the headers of an export.
        first_byte_seconds_per_day: Wait this much longer for each day of the range.
        bytes_per_second: The most bytes of body a second, for each connection. None: as it goes.
    """

    first_byte_seconds: float = 0.0
    first_byte_seconds_per_day: float = 0.0
    bytes_per_second: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would never send a byte."""
        if self.bytes_per_second is not None and self.bytes_per_second < 1:
            raise ValueError(f"bytes_per_second must be positive: {self.bytes_per_second}")

    def delay(self, days: int) -> float:
        """Give the seconds before the first byte of a range of so many days."""
        return self.first_byte_seconds + self.first_byte_seconds_per_day * days


class Throttle:
    """Keeps one body to its pace.

    The pace is kept against the start, not from slice to slice: a sleep that lasts too long is
    made up for by the next.
    """

    def __init__(self, bytes_per_second: int | None, sleep: Callable[[float], None]) -> None:
        """Begin now."""
        self._rate = bytes_per_second
        self._sleep = sleep
        self._started = time.monotonic()
        self._sent = 0

    def slices(self, piece: bytes) -> Iterator[bytes]:
        """Give the piece, in slices, each when its time has come."""
        if self._rate is None:
            yield piece
            return
        step = max(1, self._rate // _SLICES_PER_SECOND)
        for position in range(0, len(piece), step):
            part = piece[position : position + step]
            self._sent += len(part)
            self._sleep(self._started + self._sent / self._rate - time.monotonic())
            yield part
