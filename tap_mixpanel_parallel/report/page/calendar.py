"""The calendar of a state: months of days, with what is known of each. Pure."""

from __future__ import annotations

from calendar import monthrange
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.plan.status import DayKind, Status, months
from tap_mixpanel_parallel.plan.windows import Window, count_days, merge, subtract
from tap_mixpanel_parallel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tap_mixpanel_parallel.plan.state import ExportState

MOST_MONTHS: Final = 120
"""Months that a page shows; ten years."""

_MOST_RANGES: Final = 30


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the calendar.

    Attributes:
        day: The day.
        kind: What is known of it; None if it lies outside what the calendar covers.
        events: How many events the run read; None if it did not read the day.
        height: The events in percent of those of the day with the most.
    """

    day: date
    kind: DayKind | None
    events: int | None = None
    height: int = 0

    @property
    def text(self) -> str:
        """The day in words."""
        events = "" if self.events is None else f", {counted(self.events, 'event')}"
        return f"{self.day}: {self.kind}{events}"


@dataclass(frozen=True, slots=True)
class Month:
    """A month of the calendar.

    Attributes:
        name: Its name and year.
        weeks: Its days by week, from Monday; None where another month's days would be.
        text: What it holds, in words.
    """

    name: str
    weeks: tuple[tuple[Day | None, ...], ...]
    text: str


@dataclass(frozen=True, slots=True)
class Ranges:
    """Days of a kind.

    Attributes:
        label: The kind.
        days: How many there are.
        shown: The first of their ranges, in words.
        more: How many ranges are not shown.
    """

    label: str
    days: int
    shown: tuple[str, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """All months from the first to the last day that is known.

    Attributes:
        months: The months, at most the last ten years.
        kinds: The kinds of days that are in them.
        ranges: The days that a person may ask for.
        earlier: Months that are not shown.
        counts: Whether the events of some days are known.
    """

    months: tuple[Month, ...]
    kinds: tuple[DayKind, ...]
    ranges: tuple[Ranges, ...]
    earlier: int
    counts: bool


def make_calendar(
    state: ExportState,
    *,
    wanted: Window | None = None,
    today: date | None = None,
    events: Mapping[date, int] | None = None,
) -> Calendar | None:
    """The calendar of a state; None if there is no day to show.

    Args:
        state: What is loaded and what failed.
        wanted: The days that a run was to load; None if there was no run.
        today: The project's current day, which is not over.
        events: The events of the days that a run read.
    """
    status = Status.of(state, wanted)
    if status.span is None:
        return None
    every = list(months(status.span))
    latest = every[-MOST_MONTHS:]
    shown = Window(max(status.span.first, latest[0]), status.span.last)
    kinds = status.kinds(shown)
    if today is not None and kinds.get(today) is DayKind.MISSING:
        kinds[today] = DayKind.TODAY
    counts = {day: number for day, number in (events or {}).items() if day in shown}
    days = {
        day: Day(day, kind, counts.get(day), _height(counts.get(day, 0), counts))
        for day, kind in kinds.items()
    }
    return Calendar(
        months=tuple(_month(first, days) for first in latest),
        kinds=tuple(kind for kind in DayKind if kind in set(kinds.values())),
        ranges=tuple(_ranges(status, kinds, counts)),
        earlier=len(every) - len(latest),
        counts=bool(counts),
    )


def _height(events: int, counts: Mapping[date, int]) -> int:
    most = max(counts.values(), default=0)
    return -(-100 * events // most) if most else 0


def _month(first: date, days: Mapping[date, Day]) -> Month:
    length = monthrange(first.year, first.month)[1]
    each = [first + timedelta(days=n) for n in range(length)]
    cells: list[Day | None] = [None] * first.weekday()
    cells.extend(days.get(day, Day(day, None)) for day in each)
    cells.extend([None] * (-len(cells) % 7))
    known = [days[day] for day in each if day in days]
    return Month(
        f"{first:%B %Y}",
        tuple(tuple(cells[n : n + 7]) for n in range(0, len(cells), 7)),
        _month_text(known),
    )


def _month_text(days: Sequence[Day]) -> str:
    """What a person should know of a month before looking at its days."""
    kinds = Counter(day.kind for day in days)
    loaded = kinds[DayKind.LOADED] + kinds[DayKind.UNSETTLED]
    parts = [f"{loaded} loaded"] if loaded else []
    parts.extend(
        f"{kinds[kind]} {kind}" for kind in (DayKind.FAILED, DayKind.MISSING) if kinds[kind]
    )
    if any(day.events is not None for day in days):
        parts.append(counted(sum(day.events or 0 for day in days), "event"))
    return ", ".join(parts)


def _ranges(
    status: Status, kinds: Mapping[date, DayKind], counts: Mapping[date, int]
) -> Iterable[Ranges]:
    failed = [failure.window for failure in status.state.failed]
    unsettled = [reading.window for reading in status.state.unsettled]
    today = [Window(day, day) for day, kind in kinds.items() if kind is DayKind.TODAY]
    empty = [Window(day, day) for day, number in counts.items() if not number]
    for label, windows in (
        (DayKind.FAILED, failed),
        (DayKind.MISSING, subtract(status.missing, today)),
        (DayKind.UNSETTLED, unsettled),
        ("loaded, without an event", empty),
    ):
        if windows:
            yield Ranges(str(label), count_days(windows), *ranges(windows))


def ranges(windows: Iterable[Window]) -> tuple[tuple[str, ...], int]:
    """The first of some days' ranges in words, and how many more there are."""
    merged = merge(windows)
    return tuple(map(days_text, merged[:_MOST_RANGES])), max(len(merged) - _MOST_RANGES, 0)


def days_text(window: Window) -> str:
    """A window as people read it: `2025-01-01..2025-01-07`, or `2025-01-01`."""
    return str(window.first) if len(window) == 1 else str(window)
