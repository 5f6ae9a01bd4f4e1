"""The plan of a run: what it fetches, and why. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tap_mixpanel_parallel.plan.hour import HOUR
from tap_mixpanel_parallel.plan.windows import (
    LONGEST_WINDOW,
    Cutting,
    Window,
    count_days,
    intersect,
    subtract,
)
from tap_mixpanel_parallel.wording import counted, format_moment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime

    from tap_mixpanel_parallel.plan.hour import Hour
    from tap_mixpanel_parallel.plan.state import ExportState

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
        windows: Those of the wanted days and of a replay that are fetched.
        concurrency: How many windows are fetched at once.
        hour: What may start within the hour.
        waits: Whether the run waits for the hourly limit; otherwise it fails there.
        advice: What would make the plan fit into one hour; None if it does.
        left_out: Failed windows that lie outside the wanted days.
    """

    wanted: Window
    windows: tuple[PlannedWindow, ...]
    concurrency: int
    hour: Hour
    waits: bool
    advice: str | None
    left_out: tuple[Window, ...]

    @property
    def days(self) -> int:
        """How many days are fetched."""
        return count_days(planned.window for planned in self.windows)

    @property
    def hours(self) -> int:
        """Whole hours that the hourly limit makes the run wait."""
        return int(self.hour.seconds_until(len(self.windows)) // HOUR)

    @property
    def waits_until(self) -> datetime | None:
        """When the hourly limit lets the last request start; None if none has to wait."""
        return self.hour.start_of(len(self.windows))

    @property
    def pace(self) -> str:
        """What the hourly limit means for the plan, in a sentence."""
        hour, needed = self.hour, len(self.windows)
        until = f" until {format_moment(hour.left_until)}" if hour.left_until else ""
        if not needed:
            return f"{hour.left:,} of {hour.limit:,} requests an hour are left{until}"
        if self.waits_until is None:
            if not until:
                return (
                    f"{counted(needed, 'request')} of the {hour.limit:,} that may start in an "
                    "hour: none has to wait"
                )
            return (
                f"{counted(needed, 'request')} of the {hour.left:,} that are left{until} "
                f"(of {hour.limit:,} an hour): none has to wait"
            )
        left = f", of which {hour.left:,} are left{until}" if until else ""
        then = f"the last starts after {format_moment(self.waits_until)}"
        if not self.waits:
            then = f"the run ends with an error after {hour.left:,} (on_hourly_limit: fail)"
        elif self.hours:
            then = f"it takes over {counted(self.hours, 'hour')}"
        return (
            f"{counted(needed, 'request')} {'is' if needed == 1 else 'are'} needed and "
            f"{hour.limit:,} may start in an hour{left}: {then}"
            f"{f'; {self.advice}' if self.advice else ''}"
        )

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
                "failed before and not read again, because they are outside start_date to "
                f"end_date: {', '.join(map(str, self.left_out))}"
            )
        if self.waits_until:
            warnings.append(self.pace)
        return warnings

    def to_json(self) -> dict[str, Any]:
        """The plan for scripts."""
        return {
            "wanted": self.wanted.to_json(),
            "days": self.days,
            "requests": len(self.windows),
            "concurrency": self.concurrency,
            "requests_per_hour": self.hour.limit,
            "requests_left": self.hour.left,
            "left_until": _text(self.hour.left_until),
            "waits_until": _text(self.waits_until),
            "waits_hours": self.hours,
            "advice": self.advice,
            "windows": [
                planned.window.to_json()
                | {"days": len(planned.window), "reasons": list(planned.reasons)}
                for planned in self.windows
            ],
            "left_out": [window.to_json() for window in self.left_out],
        }

    def to_text(self) -> str:
        """The plan for people."""
        rows = [
            f"  {planned.window.first}  {planned.window.last}  {len(planned.window):>4}  "
            f"{', '.join(planned.reasons)}"
            for planned in self.windows
        ]
        head = [f"  {'from_date':<12}{'to_date':<12}days  why"] if rows else []
        end = [] if self.waits_until else [self.pace]
        return "\n".join([self.summary, *head, *rows, *self.warnings, *end])


def make_plan(
    state: ExportState,
    wanted: Window,
    *,
    today: date,
    lookback_days: int,
    replay: Window | None,
    cutting: Cutting,
    hour: Hour,
    waits: bool,
) -> Plan:
    """Plan a run.

    Args:
        state: What is loaded.
        wanted: The days that are to be loaded.
        today: The project's current day.
        lookback_days: For how many days after its end a day can get late events.
        replay: Days to read again, wanted or not.
        cutting: How the days are cut into windows.
        hour: What may start within the hour.
        waits: Whether the run waits for the hourly limit.
    """
    days = state.remaining(wanted, today=today, lookback_days=lookback_days, replay=replay)
    windows = replace(cutting, most=hour.left).cut(days)
    failed = [failure.window for failure in state.failed]
    return Plan(
        wanted=wanted,
        windows=tuple(
            PlannedWindow(window, _reasons(window, state, failed, replay)) for window in windows
        ),
        concurrency=cutting.workers,
        hour=hour,
        waits=waits,
        advice=_advice(replace(cutting, most=hour.limit), windows, hour.limit),
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


def _advice(cutting: Cutting, windows: list[Window], requests_per_hour: int) -> str | None:
    """The smallest change that makes windows fit into one hour."""
    if len(windows) <= requests_per_hour:
        return None

    def fits(longest: int) -> bool:
        return len(replace(cutting, longest=longest).cut(windows)) <= requests_per_hour

    # Longer windows are never more windows.
    candidates = range(cutting.longest + 1, min(count_days(windows), LONGEST_WINDOW) + 1)
    found = bisect_left(candidates, True, key=fits)
    if found < len(candidates):
        return f"window_days: {candidates[found]} would fit into one"
    return "fewer workers, or fewer days, would fit into one"


def _text(moment: datetime | None) -> str | None:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else None
