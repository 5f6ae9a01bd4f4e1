"""A run's lines in the log."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.convert.conversion import Part
from tap_mixpanel_parallel.convert.malformed import Malformed
from tap_mixpanel_parallel.exceptions import MalformedLineError, RateLimitError, TransportError
from tap_mixpanel_parallel.fetch.progress import Ended, Retrying, Waiting
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.log import LogLines
from tap_mixpanel_parallel.report.observers import Converted, LeftOut, Looked, notify_each
from tests.report.events import Counting, body, failed, settings, window, written

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.report.observers import RunEvent

INFO, WARNING, ERROR = "INFO", "WARNING", "ERROR"


class Logging(Counting):
    """A run of three windows with a log."""

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        super().__init__(folder)
        self.log = LogLines(
            logging.getLogger("test"),
            self.progress,
            settings(max_attempts=4, requests_per_hour=50),
            lambda error: f"redacted {error}",
            quiet=quiet,
        )
        self.notify = notify_each(self.progress, self.log)

    def at(self, seconds: float, event: RunEvent) -> None:
        self.clock.seconds = 100.0 + seconds
        self.notify(event)


@pytest.fixture(params=[False, True], ids=["lines", "quiet"])
def quiet(request: pytest.FixtureRequest) -> bool:
    """Whether a display shows what is under way."""
    quiet: bool = request.param
    return quiet


@pytest.fixture
def run(tmp_path: Path, quiet: bool, caplog: pytest.LogCaptureFixture) -> Logging:
    caplog.set_level(logging.INFO)
    return Logging(tmp_path, quiet=quiet)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The lines, each with its level."""
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_each_window_s_end(
    run: Logging, quiet: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A display shows those that are loaded."""
    malformed = Malformed(tmp_path / "y", 1, MalformedLineError(1, b"", "x"), b"")
    run.at(5, written(tmp_path, 1, 1234, 1_500_000, malformed))
    run.at(6, failed(2, attempts=4))
    run.at(7, written(tmp_path, 3, 1))
    loaded = [
        (
            INFO,
            "2025-01-01..2025-01-01 loaded: 1,234 events, 1.5 MB in 5.0 s, 1 line quarantined "
            "(1 of 3, about 10.0 s left)",
        ),
        (INFO, "2025-01-03..2025-01-03 loaded: 1 events, 1.0 kB in 7.0 s (3 of 3, done)"),
    ]
    not_loaded = (ERROR, "2025-01-02..2025-01-02 failed after 4 attempts: HTTP 500 (2 of 3)")
    assert lines(caplog) == ([not_loaded] if quiet else [loaded[0], not_loaded, loaded[1]])


@pytest.mark.parametrize("rest", [None, Window(date(2025, 1, 1), date(2025, 1, 1))])
def test_what_is_odd_is_told_of_whatever_a_display_shows(
    run: Logging, tmp_path: Path, caplog: pytest.LogCaptureFixture, rest: Window | None
) -> None:
    first = MalformedLineError(1, b"", "x")
    malformed = Malformed(tmp_path / "y", 2, first, b"")
    path = tmp_path / "x"
    run.at(1, Retrying(window(1), 2, TransportError("HTTP 500"), 65.0))
    until = datetime(2025, 1, 1, 14, 20, 7, tzinfo=UTC)
    run.at(2, Waiting(until, 3300.0))
    run.at(2, Waiting(until, 15.0, RateLimitError("HTTP 429")))
    run.at(3, Converted(Part(window(1), path, 7), None))
    run.at(4, Converted(Part(window(1), path, 7, malformed, strays=3), tmp_path / "kept"))
    run.at(5, LeftOut(body(2), rest, "the clocks differ"))
    days = "2025-01-01..2025-01-01"
    assert lines(caplog) == [
        (WARNING, f"{days}: attempt 2 of 4 failed: redacted HTTP 500; again in 1 min 5 s"),
        (
            INFO,
            "50 requests have started within an hour, as many as requests_per_hour allows: "
            "the next starts in 55 min 0 s, at 14:20:07 UTC",
        ),
        (
            INFO,
            "Mixpanel takes no further request for now (redacted HTTP 429): it is asked again in "
            "15.0 s, at 14:20:07 UTC",
        ),
        (WARNING, f"{days}: events whose time lies outside these days: 3; they are loaded"),
        (
            WARNING,
            f"{days}: lines that are not events: 2; they are in {tmp_path}/kept and not loaded",
        ),
        (WARNING, "2025-01-02..2025-01-02: 2025-01-02 is left out. the clocks differ"),
    ]


def test_a_request_that_takes_long_is_told_of_now_and_then(
    run: Logging, quiet: bool, caplog: pytest.LogCaptureFixture
) -> None:
    slow = run.requested(1)
    slow.path.write_bytes(b"x" * 1_500_000)
    run.at(0, slow)
    for minute in range(0, 125, 5):
        run.at(minute * 60.0, run.requested(2))
        run.at(minute * 60.0, Looked())
        run.at(minute * 60.0, Ended(window(2)))

    told = (
        []
        if quiet
        else [f"{10 * n} min 0 s" for n in range(1, 6)]
        + [
            f"{hours} h {minutes} min"
            for hours, minutes in [(1, m) for m in range(0, 60, 10)] + [(2, 0)]
        ]
    )
    assert caplog.messages == [
        f"2025-01-01..2025-01-01: under way for {time}, 1.5 MB so far" for time in told
    ]


def test_another_attempt_takes_long_by_itself(
    run: Logging, quiet: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for attempt in (1, 2):
        begin = attempt * 1000.0
        run.at(begin, run.requested(1, attempt))
        for seconds in (599, 600, 601):
            run.at(begin + seconds, Looked())
        run.at(begin + 700, Ended(window(1)))
    told = "2025-01-01..2025-01-01: under way for 10 min 0 s, 0 B so far"
    assert caplog.messages == ([] if quiet else [told] * 2)


@pytest.mark.parametrize(
    ("events", "fails", "warned"), [(0, False, True), (1, False, False), (0, True, False)]
)
def test_a_run_without_an_event_says_what_to_check(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, events: int, fails: bool, warned: bool
) -> None:
    run = Logging(tmp_path)
    run.at(1, failed(1) if fails else written(tmp_path, 1, events))
    run.log.sum_up()
    assert any("check project_id, region, events and where" in m for m in caplog.messages) == warned


def test_the_summary(run: Logging, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a display has shown."""
    malformed = Malformed(tmp_path / "y", 2, MalformedLineError(1, b"", "x"), b"")
    run.at(1, failed(3, attempts=4))
    run.at(2, written(tmp_path, 2, 1234, 2000, malformed))
    run.at(3, failed(1, attempts=4))
    run.clock.seconds = 104.0
    caplog.clear()
    run.log.sum_up()
    assert lines(caplog) == [
        (INFO, "1 of 3 windows loaded: 1,234 events, 2.0 kB in 4.0 s"),
        (WARNING, "2 lines quarantined and not loaded"),
        (
            ERROR,
            "2 of 3 windows failed; the next run with this state reads them again:\n"
            "  from_date   to_date     attempts  reason\n"
            "  2025-01-01  2025-01-01         4  HTTP 500\n"
            "  2025-01-03  2025-01-03         4  HTTP 500\n"
            "see docs/failures.md#connection",
        ),
    ]
