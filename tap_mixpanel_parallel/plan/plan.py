"""What a run would fetch, and why. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tap_mixpanel_parallel.plan.windows import Window, count_days, intersect, subtract
from tap_mixpanel_parallel.settings.schema import LONGEST_WINDOW
from tap_mixpanel_parallel.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_mixpanel_parallel.plan.state import ExportState
    from tap_mixpanel_parallel.settings.settings import Settings

Reason = Literal["new", "gap", "failed before", "look-back", "replay"]


@dataclass(frozen=True, slots=True)
class PlannedWindow:
    """A window to fetch.

    Attributes:
        window: Its days.
        reasons: Why they are fetched; a window's days may have several.
    """

    window: Window
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run fetches.

    Attributes:
        wanted: The days from `start_date` to `end_date`.
        windows: What of them, and of a replay, is fetched.
        concurrency: How many windows are fetched at once.
        requests_per_hour: How many requests may start in an hour.
        advice: What would make the plan fit into one hour; None if it does.
        left_out: Failed windows that lie outside the wanted days.
    """

    wanted: Window
    windows: tuple[PlannedWindow, ...]
    concurrency: int
    requests_per_hour: int
    advice: str | None
    left_out: tuple[Window, ...]

    @property
    def days(self) -> int:
        """How many days are fetched."""
        return count_days(planned.window for planned in self.windows)

    @property
    def hours(self) -> int:
        """Whole hours that the hourly limit makes the run wait."""
        return max(len(self.windows) - 1, 0) // self.requests_per_hour

    @property
    def summary(self) -> str:
        """The plan in a sentence."""
        if not self.windows:
            return f"{self.wanted}: every day is loaded, nothing to fetch"
        longest = max(len(planned.window) for planned in self.windows)
        several = len(self.windows) > 1 and self.concurrency > 1
        pace = f", {self.concurrency} at once" if several else ""
        return (
            f"{self.wanted}: {counted(self.days, 'day')} to fetch in "
            f"{counted(len(self.windows), 'window')} of up to {counted(longest, 'day')}{pace}"
        )

    @property
    def warnings(self) -> list[str]:
        """What a person should know before the run."""
        warnings = []
        if self.left_out:
            warnings.append(
                "failed before, and not read again since they lie outside start_date to "
                f"end_date: {', '.join(map(str, self.left_out))}"
            )
        if self.hours:
            warnings.append(
                f"{len(self.windows):,} requests are needed and {self.requests_per_hour:,} may "
                f"start in an hour: it takes over {counted(self.hours, 'hour')}; {self.advice}"
            )
        return warnings

    def to_json(self) -> dict[str, Any]:
        """The plan for scripts."""
        return {
            "wanted": _range(self.wanted),
            "days": self.days,
            "requests": len(self.windows),
            "concurrency": self.concurrency,
            "requests_per_hour": self.requests_per_hour,
            "waits_hours": self.hours,
            "advice": self.advice,
            "windows": [
                _range(planned.window)
                | {"days": len(planned.window), "reasons": list(planned.reasons)}
                for planned in self.windows
            ],
            "left_out": [_range(window) for window in self.left_out],
        }

    def to_text(self) -> str:
        """The plan for people."""
        rows = [
            f"  {planned.window.first}  {planned.window.last}  {len(planned.window):>4}  "
            f"{', '.join(planned.reasons)}"
            for planned in self.windows
        ]
        head = [f"  {'from_date':<12}{'to_date':<12}days  why"] if rows else []
        pace = (
            f"{counted(len(rows), 'request')} of the {self.requests_per_hour:,} that may start in "
            "an hour: none has to wait"
        )
        end = [pace] if rows and not self.hours else []
        return "\n".join([self.summary, *head, *rows, *self.warnings, *end])


def make_plan(settings: Settings, state: ExportState) -> Plan:
    """Dates and saved state in, windows out.

    Args:
        settings: The checked settings.
        state: What is loaded.
    """
    days = state.remaining(
        settings.wanted,
        today=settings.today,
        lookback_days=settings.lookback_days,
        replay=settings.replay,
    )
    windows = settings.plan(days)
    failed = [failure.window for failure in state.failed]
    return Plan(
        wanted=settings.wanted,
        windows=tuple(
            PlannedWindow(window, _reasons(window, state, failed, settings.replay))
            for window in windows
        ),
        concurrency=settings.concurrency,
        requests_per_hour=settings.requests_per_hour,
        advice=_advice(settings, windows),
        left_out=subtract(failed, days),
    )


def _reasons(
    window: Window, state: ExportState, failed: list[Window], replay: Window | None
) -> tuple[Reason, ...]:
    """Why the days of a window are fetched."""
    missing = subtract([window], state.loaded)
    broken = intersect(missing, failed)
    replayed = subtract(intersect([window], [replay] if replay else []), broken)
    unseen = subtract(missing, [*broken, *replayed])
    span = [Window(state.loaded[0].first, state.loaded[-1].last)] if state.loaded else []
    again = intersect([window], state.loaded)
    found: list[tuple[Reason, Iterable[Window]]] = [
        ("new", subtract(unseen, span)),
        ("gap", intersect(unseen, span)),
        ("failed before", broken),
        ("replay", replayed),
        ("look-back", subtract(again, replayed)),
    ]
    return tuple(reason for reason, days in found if days)


def _advice(settings: Settings, windows: list[Window]) -> str | None:
    """The smallest change that makes windows fit into one hour."""
    if len(windows) <= settings.requests_per_hour:
        return None

    def fits(longest: int) -> bool:
        return len(settings.plan(windows, longest)) <= settings.requests_per_hour

    # Longer windows are never more windows.
    candidates = range(settings.window_days + 1, min(count_days(windows), LONGEST_WINDOW) + 1)
    found = bisect_left(candidates, True, key=fits)
    if found < len(candidates):
        return f"window_days: {candidates[found]} would fit into one"
    return "fewer workers, or fewer days, would fit into one"


def _range(window: Window) -> dict[str, Any]:
    return {"from_date": str(window.first), "to_date": str(window.last)}
