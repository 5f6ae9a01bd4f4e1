"""The hourly limit: what has started within an hour, and what may still start. Pure.

A moment is in seconds since 1970, by this machine's clock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, groupby
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

HOUR: Final = 3_602.0
"""An hour, and what two requests' ways to Mixpanel may differ by: a first one shakes hands."""

_MINUTE: Final = 60

Minutes = tuple[tuple[int, int], ...]
"""Starts by the minute: the second of a minute's last start, and how many there were."""


def recent(starts: Iterable[float], now: float) -> tuple[float, ...]:
    """The starts of the last hour, sorted.

    A clock that went back leaves starts in the future. They count as of now, unless they are
    more than an hour away: nothing is known of such a clock.
    """
    return tuple(sorted(min(start, now) for start in starts if abs(now - start) < HOUR))


def union(starts: Iterable[float], others: Iterable[float]) -> tuple[float, ...]:
    """The starts that one or the other knows of; what both know of is there once."""
    return tuple(sorted((Counter(starts) | Counter(others)).elements()))


def by_minute(starts: Iterable[float]) -> Minutes:
    """Starts in short, for a state: none is earlier in it than it was."""
    groups = groupby(sorted(-int(-start // 1) for start in starts), lambda s: s // _MINUTE)
    seconds = [list(group) for _, group in groups]
    return tuple((group[-1], len(group)) for group in seconds)


def unknown(minutes: Minutes, starts: Iterable[float]) -> tuple[float, ...]:
    """The starts that a state tells of, less those that are known."""
    known = Counter(second // _MINUTE for second, n in by_minute(starts) for _ in range(n))
    return tuple(
        chain.from_iterable(
            [float(second)] * (count - known[second // _MINUTE]) for second, count in minutes
        )
    )


@dataclass(frozen=True, slots=True)
class Hour:
    """What may still start at a moment.

    Attributes:
        limit: How many requests may start in an hour.
        now: The moment.
        starts: Those of the hour before it, sorted.
    """

    limit: int
    now: float = 0.0
    starts: tuple[float, ...] = field(default=(), repr=False)

    @property
    def left(self) -> int:
        """How many requests may start now."""
        return max(self.limit - len(self.starts), 0)

    @property
    def left_until(self) -> datetime | None:
        """When more may start; None if none has started yet."""
        return _moment(self.starts[0] + HOUR) if self.starts else None

    def seconds_until(self, requests: int) -> float:
        """Seconds before which the limit does not let the last of so many requests start."""
        if requests < 1:
            return 0.0
        hours, further = divmod(requests - 1, self.limit)
        place = self.limit - further
        rest = 0.0
        if place <= len(self.starts):
            rest = max(self.starts[-place] + HOUR - self.now, 0.0)
        return hours * HOUR + rest

    def start_of(self, requests: int) -> datetime | None:
        """When the last of so many requests may start; None if it may now."""
        seconds = self.seconds_until(requests)
        return _moment(self.now + seconds) if seconds else None


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
