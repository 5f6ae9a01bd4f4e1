"""Date windows: merge, subtract, cut. Pure: no I/O, no clock."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DAY: Final = timedelta(days=1)

EARLIEST_DAY: Final = date(1970, 1, 1)
"""No event is older: Mixpanel takes none from before 1971 (Mixpanel docs, Import Events)."""

LONGEST_WINDOW: Final = 3650
"""The most days that a person can choose for the longest window."""

_SHORTEST: Final = 3
"""Days that a window has at least if it is cut for more workers: each request is one of few."""


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """A range of days, both ends inclusive, as Mixpanel's export takes it.

    Attributes:
        first: The first day.
        last: The last day; never before `first`.

    Raises:
        ValueError: If `last` is before `first`.
    """

    first: date
    last: date

    def __post_init__(self) -> None:
        """Reject a window that ends before it starts."""
        if self.last < self.first:
            raise ValueError(f"a window can't end ({self.last}) before it starts ({self.first})")

    def __str__(self) -> str:
        """The window as people read it: `2025-01-01..2025-01-07`."""
        return f"{self.first}..{self.last}"

    def __len__(self) -> int:
        """The number of days."""
        return (self.last - self.first).days + 1

    def __contains__(self, day: date) -> bool:
        """Whether `day` lies in the window."""
        return self.first <= day <= self.last

    def overlaps(self, other: Window) -> bool:
        """Whether there is a day in both."""
        return self.first <= other.last and other.first <= self.last

    def days(self) -> Iterator[date]:
        """Each day of the window, in order."""
        return (self.first + timedelta(days=n) for n in range(len(self)))

    def to_json(self) -> dict[str, str]:
        """The window for scripts, under Mixpanel's names for its ends."""
        return {"from_date": str(self.first), "to_date": str(self.last)}

    @classmethod
    def parse(cls, first: str, last: str) -> Window:
        """Parse two ISO dates.

        Raises:
            ValueError: If a date is not valid, or the window ends before it starts.
        """
        return cls(date.fromisoformat(first), date.fromisoformat(last))


def merge(windows: Iterable[Window]) -> tuple[Window, ...]:
    """The same days as disjoint, sorted windows with a gap between each two."""
    merged: list[Window] = []
    for window in sorted(windows):
        if merged and window.first <= merged[-1].last + _DAY:
            last = max(merged[-1].last, window.last)
            merged[-1] = Window(merged[-1].first, last)
        else:
            merged.append(window)
    return tuple(merged)


def subtract(windows: Iterable[Window], removed: Iterable[Window]) -> tuple[Window, ...]:
    """The days of `windows` that are not in `removed`, merged."""
    holes = merge(removed)
    left: list[Window] = []
    for window in merge(windows):
        first = window.first
        for hole in holes:
            if hole.last < first or hole.first > window.last:
                continue
            if hole.first > first:
                left.append(Window(first, hole.first - _DAY))
            first = hole.last + _DAY
        if first <= window.last:
            left.append(Window(first, window.last))
    return tuple(left)


def intersect(windows: Iterable[Window], others: Iterable[Window]) -> tuple[Window, ...]:
    """The days that are in both, merged."""
    kept = merge(windows)
    return subtract(kept, subtract(kept, others))


def count_days(windows: Iterable[Window]) -> int:
    """How many different days the windows hold."""
    return sum(len(window) for window in merge(windows))


def divide(window: Window, parts: int) -> list[Window]:
    """Cut a window into `parts` whose lengths differ by at most a day, longest first.

    The longest come first because they are fetched first: a short window is what
    should be left when the workers run out of work.

    Raises:
        ValueError: If there are fewer days than parts, or no parts.
    """
    if not 1 <= parts <= len(window):
        raise ValueError(f"can't cut {len(window)} days into {parts} windows")
    length, longer = divmod(len(window), parts)
    starts = [window.first]
    for part in range(parts):
        starts.append(starts[-1] + timedelta(days=length + (part < longer)))
    return [Window(first, following - _DAY) for first, following in pairwise(starts)]


def cut(windows: Iterable[Window], longest: int) -> list[Window]:
    """Cut days into plain windows of `longest` days; a range's last one is the rest."""
    return [
        Window(first, min(first + timedelta(days=longest - 1), window.last))
        for window in merge(windows)
        for first in list(window.days())[::longest]
    ]


def cut_balanced(
    windows: Iterable[Window], longest: int, workers: int, most: int | None = None
) -> list[Window]:
    """Cut days into windows that keep all workers busy to the end.

    Days that two windows hold become as few windows as `longest` and the gaps allow. More days
    become a multiple of `workers`, in as few rounds as `longest` allows, so that no round is left
    half empty; but no range is cut below three days a window for that. Of several ranges, the
    one whose windows are longest is cut further first, so lengths stay as equal as gaps allow.

    Args:
        windows: The days to cut.
        longest: The longest window, in days.
        workers: How many windows are fetched at once.
        most: How many windows there should be at most, if so many can hold the days.
    """
    ranges = merge(windows)
    parts = [-(-len(window) // longest) for window in ranges]
    fewest = sum(parts)
    wanted = workers * -(-fewest // workers) if count_days(ranges) > 2 * longest else fewest
    if most is not None:
        wanted = min(wanted, most)
    by_length = [
        (-len(window) / parts[n], n)
        for n, window in enumerate(ranges)
        if len(window) // _SHORTEST > parts[n]
    ]
    heapq.heapify(by_length)
    for _ in range(wanted - fewest):
        if not by_length:
            break
        _, n = heapq.heappop(by_length)
        parts[n] += 1
        if len(ranges[n]) // _SHORTEST > parts[n]:
            heapq.heappush(by_length, (-len(ranges[n]) / parts[n], n))
    return [
        part for window, count in zip(ranges, parts, strict=True) for part in divide(window, count)
    ]


@dataclass(frozen=True, slots=True)
class Cutting:
    """How days are cut into windows.

    Attributes:
        longest: The longest window, in days.
        workers: How many windows are fetched at once; 1 is the sequential mode.
        balance: Whether several workers get equal windows (see `cut_balanced`).
        most: How many windows there should be at most, if so many can hold the days.
    """

    longest: int
    workers: int
    balance: bool = True
    most: int | None = None

    def cut(self, days: Iterable[Window]) -> list[Window]:
        """The windows to fetch for these days."""
        if self.balance and self.workers > 1:
            return cut_balanced(days, self.longest, self.workers, self.most)
        return cut(days, self.longest)
