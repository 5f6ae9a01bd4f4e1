"""A saved state, shown to people and to scripts. Pure."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.plan.filled import EmptyDays, find_empty, tell
from tap_mixpanel_parallel.plan.windows import Window, count_days, merge, subtract
from tap_mixpanel_parallel.wording import counted, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_mixpanel_parallel.plan.state import ExportState

_LOADED: Final = "█"
_UNSETTLED: Final = "▒"
_FAILED: Final = "✗"
_MISSING: Final = "·"


@dataclass(frozen=True, slots=True)
class Status:
    """What is loaded, what failed, and what is missing in between.

    Attributes:
        state: What is loaded and what failed.
        span: From the first to the last day that the state knows; None if there is none.
    """

    state: ExportState
    span: Window | None

    @classmethod
    def of(cls, state: ExportState) -> Status:
        """The status of a state."""
        known = merge([*state.loaded, *(failure.window for failure in state.failed)])
        return cls(state, Window(known[0].first, known[-1].last) if known else None)

    @property
    def missing(self) -> tuple[Window, ...]:
        """Days of the span that are neither loaded nor failed."""
        if self.span is None:
            return ()
        failed = (failure.window for failure in self.state.failed)
        return subtract([self.span], [*self.state.loaded, *failed])

    @property
    def empty(self) -> tuple[EmptyDays, ...]:
        """The columns that loaded days have empty."""
        return find_empty(self.state.columns, self.state.loaded)

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
            "empty_columns": [each.to_json() for each in self.empty],
        }

    def to_text(self) -> str:
        """The status for people: a calendar with a line for each month, and what failed."""
        if self.span is None:
            return "nothing is loaded, nothing has failed"
        loaded, failed = self.state.loaded, [failure.window for failure in self.state.failed]
        unsettled = [reading.window for reading in self.state.unsettled]
        counts = (
            f"{counted(count_days(loaded), 'day')} loaded, {count_days(failed):,} failed, "
            f"{count_days(self.missing):,} missing between {self.span.first} and {self.span.last}"
        )
        lines = [counts, f"{'':9}{''.join(str(day % 10) for day in range(1, 32))}"]
        marks = _marks(loaded, _LOADED) | _marks(unsettled, _UNSETTLED) | _marks(failed, _FAILED)
        for month in _months(self.span):
            days = monthrange(month.year, month.month)[1]
            cells = (month.replace(day=number) for number in range(1, days + 1))
            row = "".join(marks.get(day, _MISSING if day in self.span else " ") for day in cells)
            lines.append(f"{month:%Y-%m}  {row}".rstrip())
        again = f"{_UNSETTLED} loaded, read again for late events  " if unsettled else ""
        lines.append(f"{_LOADED} loaded  {again}{_FAILED} failed  {_MISSING} missing")
        lines.extend(
            f"failed: {failure.window} after {counted(failure.attempts, 'attempt')}, "
            f"{printable(failure.failed_at)}: {printable(failure.error)}"
            for failure in self.state.failed
        )
        if told := tell(self.empty):
            lines.append(told)
        return "\n".join(lines)


def _marks(windows: Iterable[Window], mark: str) -> dict[date, str]:
    return {day: mark for window in windows for day in window.days()}


def _months(span: Window) -> Iterable[date]:
    first = span.first.year * 12 + span.first.month - 1
    last = span.last.year * 12 + span.last.month - 1
    return (date(number // 12, number % 12 + 1, 1) for number in range(first, last + 1))
