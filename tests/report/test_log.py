"""A run's lines in the log."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.scenarios.latency import HANDED_OVER
from tap_mixpanel_parallel.convert.conversion import Part
from tap_mixpanel_parallel.convert.malformed import Malformed
from tap_mixpanel_parallel.exceptions import (
    MalformedLineError,
    RateLimitError,
    ThreadError,
    TransportError,
)
from tap_mixpanel_parallel.fetch.events import Ended, Refused, Retrying, Waiting
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report import log
from tap_mixpanel_parallel.report.log import LogLines
from tap_mixpanel_parallel.report.observers import Converted, LeftOut, notify_each
from tests.report.events import Counting, body, failed, settings, window, written
from tests.support.harness import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.report.observers import RunEvent

INFO, WARNING, ERROR = "INFO", "WARNING", "ERROR"


class Logging(Counting):
    """A run of three windows with a log."""

    def __init__(self, folder: Path, *, quiet: bool = False, **values: Any) -> None:
        super().__init__(folder)
        self.log = LogLines(
            logging.getLogger("test"),
            self.progress,
            settings(max_attempts=4, requests_per_hour=50, **values),
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
    """A display shows those that are handed on."""
    malformed = Malformed(tmp_path / "y", 1, MalformedLineError(1, b"", "x"), b"")
    run.at(5, written(tmp_path, 1, 1234, 1_500_000, malformed))
    run.at(6, failed(2, attempts=4))
    run.at(7, written(tmp_path, 3, 1))
    loaded = [
        (
            INFO,
            "2025-01-01..2025-01-01 handed to the loader: 1,234 events, 1.5 MB in 5.0 s, "
            "1 line quarantined (1 of 3 windows)",
        ),
        (
            INFO,
            "2025-01-03..2025-01-03 handed to the loader: 1 event, 1.0 kB in 7.0 s "
            "(2 of 3 windows, 1 failed, done)",
        ),
    ]
    not_loaded = (
        ERROR,
        "2025-01-02..2025-01-02 failed after 4 attempts: HTTP 500 (1 of 3 windows, 1 failed)",
    )
    assert lines(caplog) == ([not_loaded] if quiet else [loaded[0], not_loaded, loaded[1]])
    found = [match[1] for _, line in loaded if (match := HANDED_OVER.search(line))]
    assert found == ["2025-01-01..2025-01-01", "2025-01-03..2025-01-03"], "the benchmark needs it"


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
        (WARNING, f"{days}: events whose time lies outside these days: 3; they are handed on too"),
        (
            WARNING,
            f"{days}: lines that are not events: 2; they are in {tmp_path}/kept and not loaded",
        ),
        (WARNING, "2025-01-02..2025-01-02: 2025-01-02 is left out. the clocks differ"),
    ]


def test_what_is_under_way(run: Logging, quiet: bool, caplog: pytest.LogCaptureFixture) -> None:
    run.log.tell_under_way()
    assert caplog.messages == [], "nothing is"
    run.at(0, run.requested(2, received=1_000_000))
    run.at(1, run.requested(3, received=500_000))
    run.at(2, run.requested(1))
    run.clock.seconds = 130.0
    run.log.tell_under_way()
    run.at(31, Ended(window(3)))
    run.at(31, Ended(window(1)))
    run.at(31, Retrying(window(1), 1, TransportError("x"), 12.0))
    caplog.clear() if quiet else caplog.records.pop(1)
    run.clock.seconds = 133.0
    run.log.tell_under_way()
    days = "2025-01-02..2025-01-02"
    told = [
        "under way: 1 window waiting for the first byte; 2 windows receiving, 1.5 MB so far; "
        f"the longest {days}, for 30.0 s (0 of 3 windows)",
        f"under way: 1 window receiving, 1.0 MB so far; the longest {days}, for 33.0 s; "
        "1 window to be tried again, the first 2025-01-01..2025-01-01, try 2 of 4 in 10.0 s; "
        "1 window on the way to the loader (0 of 3 windows)",
    ]
    assert caplog.messages == ([] if quiet else told)


def test_a_pause_or_a_loader_alone_is_under_way_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run = Logging(tmp_path)
    run.at(0, run.requested(1))
    run.at(1, Ended(window(1)))
    run.log.tell_under_way()
    run.at(1, Retrying(window(1), 1, TransportError("x"), 12.0))
    run.log.tell_under_way()
    assert caplog.messages[0] == "under way: 1 window on the way to the loader (0 of 3 windows)"
    assert caplog.messages[2].startswith("under way: 1 window to be tried again, the first ")


@pytest.mark.parametrize("error", [None, RateLimitError("HTTP 429")])
def test_a_wait_for_the_hourly_limit_is_told_again_and_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: RateLimitError | None
) -> None:
    """By the tap's own count, or as Mixpanel refuses."""
    caplog.set_level(logging.INFO)
    run = Logging(tmp_path)
    if error is not None:
        run.at(0, run.requested(1))
        run.at(1, Ended(window(1)))
        run.at(1, Refused(window(1), error))
    run.at(1, Waiting(datetime(2025, 1, 1, 14, 20, 7, tzinfo=UTC), 3300.0, error))
    caplog.clear()
    run.clock.seconds += 3000
    run.log.tell_under_way()
    told = "waiting for the hourly limit until 14:20:07 UTC"
    if error is not None:
        told = "waiting: Mixpanel is asked again at 14:20:07 UTC (hourly limit)"
    assert caplog.messages == [f"under way: {told} (0 of 3 windows)"]


def test_what_is_under_way_is_told_again_and_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the run's own thread does nothing, since a loader makes it wait."""
    assert log._BEAT_SECONDS <= 30
    monkeypatch.setattr(log, "_BEAT_SECONDS", 0.001)
    caplog.set_level(logging.INFO)
    run = Logging(tmp_path)
    run.at(0, run.requested(1))
    with run.log.beating():
        wait_until(lambda: len(caplog.messages) > 2, "three lines")
    told = len(caplog.messages)
    assert all(message.startswith("under way: ") for message in caplog.messages)
    assert "log" not in {thread.name for thread in threading.enumerate()}
    assert len(caplog.messages) == told


def test_no_thread_for_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    run = Logging(tmp_path)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ThreadError, match="lower workers"), run.log.beating():
        pass


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
        (INFO, "1 of 3 windows handed to the loader: 1,234 events, 2.0 kB in 4.0 s"),
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


@pytest.mark.parametrize(
    ("deduplicate", "counts", "told"),
    [
        (False, (0, 0), ""),
        (False, (3, 1200), ", 1,203 of them duplicates"),
        (True, (3, 4), ", 7 duplicates dropped"),
        (False, (3, None), ""),
    ],
)
def test_the_summary_counts_duplicates(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    deduplicate: bool,
    counts: tuple[int | None, ...],
    told: str,
) -> None:
    caplog.set_level(logging.INFO)
    run = Logging(tmp_path, deduplicate=deduplicate)
    for day, count in enumerate(counts, 1):
        run.at(1, written(tmp_path, day, 5000, duplicates=count))
    caplog.clear()
    run.log.sum_up()
    assert caplog.messages == [
        f"2 of 3 windows handed to the loader: 10,000 events{told}, 2.0 kB in 1.0 s"
    ]
