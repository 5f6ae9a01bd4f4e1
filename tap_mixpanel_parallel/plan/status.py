"""A saved state, shown to people and to scripts. Pure."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.plan.windows import Window, count_days, intersect, merge, subtract
from tap_mixpanel_parallel.wording import counted, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_mixpanel_parallel.plan.state import ExportState


class DayKind(StrEnum):
    """What is known of a day; the value is what people read."""

    LOADED = "loaded"
    UNSETTLED = "loaded, read again for late events"
    FAILED = "failed"
    MISSING = "missing"
    TODAY = "not over yet"


MARKS: Final = {
    DayKind.LOADED: "█",
    DayKind.UNSETTLED: "▒",
    DayKind.FAILED: "✗",
    DayKind.MISSING: "·",
}
"""A day in one character."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is loaded, what failed, and what is missing in between.

    Attributes:
        state: What is loaded and what failed.
        span: From the first to the last day that is known; None if there is none.
    """

    state: ExportState
    span: Window | None

    @classmethod
    def of(cls, state: ExportState, wanted: Window | None = None) -> Status:
        """The status of a state.

        Args:
            state: What is loaded and what failed.
            wanted: Days that belong to the span, whatever the state says of them.
        """
        failed = (failure.window for failure in state.failed)
        known = merge([*state.loaded, *failed, *([wanted] if wanted else [])])
        return cls(state, Window(known[0].first, known[-1].last) if known else None)

    @property
    def missing(self) -> tuple[Window, ...]:
        """Days of the span that are neither loaded nor failed."""
        if self.span is None:
            return ()
        failed = (failure.window for failure in self.state.failed)
        return subtract([self.span], [*self.state.loaded, *failed])

    @property
    def summary(self) -> str:
        """The status in a sentence."""
        if self.span is None:
            return "nothing is loaded, nothing has failed"
        failed = count_days(failure.window for failure in self.state.failed)
        return (
            f"{counted(count_days(self.state.loaded), 'day')} loaded, {failed:,} failed, "
            f"{count_days(self.missing):,} missing between {self.span.first} and {self.span.last}"
        )

    def kinds(self, within: Window) -> dict[date, DayKind]:
        """What is known of each day of the span.

        Args:
            within: Only days of this window.
        """
        failed = [failure.window for failure in self.state.failed]
        unsettled = [reading.window for reading in self.state.unsettled]
        layers = [
            ([self.span] if self.span else [], DayKind.MISSING),
            (self.state.loaded, DayKind.LOADED),
            (unsettled, DayKind.UNSETTLED),
            (failed, DayKind.FAILED),
        ]
        return {
            day: kind
            for windows, kind in layers
            for part in intersect(windows, [within])
            for day in part.days()
        }

    def to_json(self) -> dict[str, Any]:
        """The status for scripts."""
        return {
            "loaded_days": count_days(self.state.loaded),
            "loaded": [window.to_json() for window in self.state.loaded],
            "failed": [
                failure.window.to_json()
                | {
                    "attempts": failure.attempts,
                    "error": failure.error,
                    "failed_at": failure.failed_at,
                }
                for failure in self.state.failed
            ],
            "missing": [window.to_json() for window in self.missing],
            "unsettled": [
                reading.window.to_json() | {"read_on": str(reading.read_on)}
                for reading in self.state.unsettled
            ],
            "selection": dict(self.state.selection) if self.state.selection else {},
        }

    def to_text(self) -> str:
        """The status for people: a calendar with a line for each month, and what failed."""
        if self.span is None:
            return self.summary
        lines = [self.summary, f"{'':9}{''.join(str(day % 10) for day in range(1, 32))}"]
        kinds = self.kinds(self.span)
        for month in months(self.span):
            days = monthrange(month.year, month.month)[1]
            cells = (month.replace(day=number) for number in range(1, days + 1))
            row = "".join(MARKS[kinds[day]] if day in kinds else " " for day in cells)
            lines.append(f"{month:%Y-%m}  {row}".rstrip())
        optional = set() if self.state.unsettled else {DayKind.UNSETTLED}
        legend = (f"{mark} {kind}" for kind, mark in MARKS.items() if kind not in optional)
        lines.append("  ".join(legend))
        lines.extend(
            f"failed: {failure.window} after {counted(failure.attempts, 'attempt')}, "
            f"{printable(failure.failed_at)}: {printable(failure.error)}"
            for failure in self.state.failed
        )
        return "\n".join(lines)


def months(span: Window) -> Iterable[date]:
    """The first day of each month of a span."""
    first = span.first.year * 12 + span.first.month - 1
    last = span.last.year * 12 + span.last.month - 1
    return (date(number // 12, number % 12 + 1, 1) for number in range(first, last + 1))
