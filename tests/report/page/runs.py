"""Runs as a report tells of them, made of events whose times a test sets."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.convert.conversion import Part
from tap_mixpanel_parallel.convert.malformed import Malformed
from tap_mixpanel_parallel.exceptions import (
    ExportFailedError,
    MalformedLineError,
    RateLimitError,
    TransportError,
)
from tap_mixpanel_parallel.fetch.events import Ended, Refused, Requested, Retrying, Waiting
from tap_mixpanel_parallel.fetch.job import Arrival, Download
from tap_mixpanel_parallel.plan.state import ExportState, FailedWindow
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.observers import Converted, Failed
from tap_mixpanel_parallel.report.page.calendar import make_calendar
from tap_mixpanel_parallel.report.page.contents import Page, failures_of, make_run_part
from tap_mixpanel_parallel.report.page.recorder import Note
from tap_mixpanel_parallel.report.page.verdicts import judge
from tap_mixpanel_parallel.report.results import ParallelFetchResult
from tap_mixpanel_parallel.settings.shown import ShownSetting
from tap_mixpanel_parallel.write.output import Written

if TYPE_CHECKING:
    from collections.abc import Iterator

TODAY: Final = date(2026, 11, 25)
NOW: Final = datetime(2026, 11, 25, 2, 0, 0, tzinfo=UTC)
PATH: Final = Path("x.body")

HOSTILE: Final = (
    "HTTP 500: <script>document.title='owned'</script>"
    "<img src=x onerror=\"document.title='owned'\">"
    "{{ 7 * 7 }}</p></li></main><style>*{display:none}</style>"
    "\u202egnirts\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 "
    "\x00\x07\x1b[31mred\r\n\u2028 Z" + "\u0351\u0359" * 20 + "x" * 100_000
)
"""What a server may answer: markup, another direction of writing, controls, and no end."""


def day(number: int) -> date:
    """A day, counted back from today."""
    return TODAY - timedelta(days=number)


class Told:
    """A run's events as they come, each at its time."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def at(self, seconds: float, event: Any) -> None:
        self.notes.append(Note(seconds, event))

    def loaded(
        self, window: Window, start: float, attempt: int = 1, events: int = 1000, **kinds: Any
    ) -> float:
        """A window that arrives; when it is written."""
        self.at(start, Requested(window, attempt, PATH))
        self.at(start + 3, Ended(window))
        by_day = {each: events + 137 * (each.day % 9) for each in window.days()}
        part = Part(window, PATH, sum(by_day.values()), by_day=by_day, **kinds)
        download = Download(
            PATH, compressed=True, size=90_000, received_at=NOW, first_byte_seconds=2, seconds=3
        )
        self.at(start + 4, Converted(part, PATH if part.malformed else None, seconds=0.5))
        self.at(start + 5.5, Written(Arrival(window, attempt, start, download), part))
        return start + 5.5

    def retried(self, window: Window, start: float, attempt: int, reason: str) -> float:
        """An attempt that fails; when the next one may start."""
        error = TransportError(reason)
        self.at(start, Requested(window, attempt, PATH))
        self.at(start + 2, Ended(window))
        self.at(start + 2, Retrying(window, attempt, error, 4.0))
        return start + 6

    def refused(self, window: Window, start: float, attempt: int, reason: str) -> float:
        """A request that the hourly limit refuses; when Mixpanel is asked again."""
        error = RateLimitError(reason)
        self.at(start, Requested(window, attempt, PATH))
        self.at(start + 1, Ended(window))
        self.at(start + 1, Refused(window, error))
        self.at(start + 1, Waiting(NOW, 5, error))
        return start + 6

    def failed(self, window: Window, start: float, attempt: int, reason: str) -> float:
        """The last attempt, which fails."""
        error = TransportError(reason)
        self.at(start, Requested(window, attempt, PATH))
        self.at(start + 2, Ended(window))
        self.at(start + 2.1, Failed(Arrival(window, attempt, start, error=error), reason))
        return start + 2.1


def windows(days: int, length: int) -> Iterator[Window]:
    """The windows of the days before today, oldest first."""
    for number in range(days, 0, -length):
        yield Window(day(number), day(max(number - length + 1, 1)))


def page(days: int, length: int = 1, reason: str = "HTTP 503 Service Unavailable") -> Page:
    """A run in which some windows fail and some are tried again, if there are several."""
    told, state, end = Told(), ExportState(), 0.0
    malformed = Malformed(PATH, 3, MalformedLineError(7, b"x", reason[:100]), b"")
    planned = [*windows(days, length)]
    for n, window in enumerate(planned):
        start = 1.5 * n
        if n % 12 == 5:
            start = told.retried(window, start, 1, reason)
        if n == 6:
            start = told.refused(window, start, 1, reason)
        if n % 30 == 7:
            end = max(end, told.failed(window, start, 2, reason))
            failure = FailedWindow(window, 2, reason[:400], "2026-11-25T01:59:00Z")
            state = state.fail(failure)
        elif n % 30 != 19:
            end = max(
                end,
                told.loaded(
                    window,
                    start,
                    events=20 * (n % 40),
                    malformed=malformed if n % 30 == 3 else None,
                ),
            )
            state = state.finish(window, today=TODAY, lookback_days=5)
    if len(planned) > 10:
        told.at(4, Waiting(NOW, 12))
        told.notes.sort(key=lambda note: note.at)
    run = make_run_part(
        planned,
        told.notes,
        started=NOW - timedelta(seconds=end),
        seconds=end,
        warnings=[f"replay: {reason}"] if len(planned) > 1 else [],
        reason=str,
    )
    error = ExportFailedError("some failed", ParallelFetchResult((), 0.0)) if run.failed else None
    failures, more = failures_of(state.failed)
    return Page(
        title=f"Mixpanel project 1234, {Window(day(days), TODAY)}",
        verdict=judge(run, error, ""),
        written=NOW,
        calendar=make_calendar(
            state, wanted=Window(day(days), TODAY), today=TODAY, events=run.events_by_day
        ),
        failures=failures,
        more_failures=more,
        command="meltano --environment=prod run tap-mixpanel-parallel <your loader>"
        if error
        else "",
        run=run,
        settings=(
            ShownSetting("start_date", "P90D", is_given=True),
            ShownSetting("service_account_secret", "set, not shown", is_given=True),
            ShownSetting("where", reason[:300], is_given=True),
            ShownSetting("window_days", "7", is_given=False),
        ),
        versions=(("Python", "3.11.2"), ("tap-mixpanel-parallel", "0.1.0")),
    )
