"""Mixpanel's limits: kept, and where it answers 429 all the same, waited out. In virtual time."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from tap_mixpanel_parallel import run as run_module
from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.exceptions import HourlyLimitError
from tap_mixpanel_parallel.fetch.client import download
from tap_mixpanel_parallel.fetch.job import Job
from tap_mixpanel_parallel.plan.windows import Window, count_days
from tap_mixpanel_parallel.sandbox import Fault, Limits, Project, Status
from tap_mixpanel_parallel.tap import TapMixpanelParallel
from tests.support.commands import PATIENCE
from tests.support.pipeline import CollectingTap

if TYPE_CHECKING:
    from tap_mixpanel_parallel.fetch.connection import Connections
    from tap_mixpanel_parallel.fetch.job import Download
    from tap_mixpanel_parallel.report.results import ParallelFetchResult
    from tests.failures.conftest import LabMaker
    from tests.support.harness import Lab

START: Final = datetime(2025, 5, 1, tzinfo=UTC)
HOUR: Final = 3600.0


class VirtualTime(Clock):
    """A clock that goes on only while nobody works: no request is under way, all wait.

    From the moment at which a request is let go to the end of its answer it stands still, so
    the sandbox sees a request when the tap has counted it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seconds = 0.0
        self._requests = 0
        self.waits: list[float] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    def request(self, count: int) -> None:
        """A request begins (1) or has ended (-1)."""
        with self._changed:
            self._requests += count

    def wait_for(self, seconds: float) -> None:
        """Let time pass while nothing runs."""
        self._seconds += seconds

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait; what is waited for comes at once, unless a request may change it before."""
        if seconds is not None and self._requests == 0 and not condition.wait(0.01):
            self.waits.append(seconds)
            self._seconds += seconds
        else:
            condition.wait(0.05)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    """Virtual time for every part of the tap that waits."""
    time = VirtualTime()

    def counted_job(*fields: Any) -> Job:
        """Not each start that the limit gives is used: the run may end meanwhile."""
        time.request(1)
        return Job(*fields)

    def counted_download(job: Job, connections: Connections) -> Download:
        try:
            return download(job, connections)
        finally:
            time.request(-1)

    monkeypatch.setattr(run_module, "Job", counted_job)
    monkeypatch.setattr(run_module, "download", counted_download)
    return time


def run(lab: Lab, time: VirtualTime, **settings: Any) -> ParallelFetchResult:
    """Run the tap in this process, to its end."""
    config = lab.settings | settings
    tap = TapMixpanelParallel(config=config, clock=time)
    outcome: list[ParallelFetchResult] = []
    thread = threading.Thread(target=lambda: outcome.append(tap.run()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert outcome, "the run hangs"
    return outcome[0]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"parallel": False}, {"parallel": True, "workers": 10}])
def test_seventy_windows_meet_no_429(
    make_lab: LabMaker,
    time: VirtualTime,
    settings: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    limits = Limits(per_hour=60, per_second=3, concurrent=100, clock=time.monotonic)
    lab = make_lab(Project(events_per_day=5), limits=limits)
    del lab.settings["requests_per_second"], lab.settings["requests_per_hour"]

    result = run(lab, time, start_date="2025-02-01", end_date="2025-04-11", **settings)

    assert len(result.batches) == 70
    assert result.success
    assert [request.status for request in lab.sandbox.requests] == [200] * 70
    assert HOUR <= time.monotonic() < HOUR + 60
    waits = [m for m in caplog.messages if "as many as requests_per_hour allows" in m]
    assert len(waits) == 1, "an hour's silence is explained, once"
    assert re.search(r"the next starts in (59|60) min|in 1 h 0 min", waits[0])
    first = next(message for message in caplog.messages if " handed to the loader: " in message)
    assert re.search(r"\(1 of 70 windows, about (59 min|60 min|1 h 0 min)", first), first


@pytest.mark.parametrize(
    ("retry_after", "first_wait"),
    [
        ("3600", (HOUR, HOUR + 1)),
        (None, (5, 6)),
        ("soon", (5, 6)),
        ("0", (0, 1)),
        ("30", (30, 31)),
        ("99999999999", (3700, 3701)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", (3700, 3701)),
    ],
)
def test_it_waits_as_told_and_gets_through(
    make_lab: LabMaker, time: VirtualTime, retry_after: str | None, first_wait: tuple[float, float]
) -> None:
    lab = make_lab(faults=[Fault(Status(429, retry_after=retry_after), times=1)])

    result = run(lab, time, max_attempts=2)

    assert result.success
    assert len(time.waits) == 1
    assert first_wait[0] <= time.waits[0] <= first_wait[1]


def test_without_a_word_the_pauses_grow_and_the_window_fails_with_the_reason(
    make_lab: LabMaker, time: VirtualTime, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "too many export requests in progress for this project"
    body = json.dumps({"error": said}).encode()
    lab = make_lab(faults=[Fault(Status(429, body))])

    result = run(lab, time, max_attempts=5, end_date="2025-01-06")

    counted = "requests of others and of earlier runs count too"
    assert [(batch.attempts, batch.error) for batch in result.failed] == [
        (5, f"HTTP 429: {said}; {counted}")
    ]
    assert len(time.waits) == 4
    assert all(
        after > 2 * before for before, after in zip(time.waits, time.waits[1:], strict=False)
    )


def test_a_limit_that_others_use_up(make_lab: LabMaker, time: VirtualTime) -> None:
    """The project has a smaller budget than the tap counts with."""
    limits = Limits(per_hour=2, retry_after=True, clock=time.monotonic)
    lab = make_lab(limits=limits)

    result = run(lab, time, max_attempts=3)

    assert result.success
    assert time.monotonic() >= HOUR


class Runs:
    """One run after another of a project with Mixpanel's own limits."""

    def __init__(self, make_lab: LabMaker, time: VirtualTime, **limits: Any) -> None:
        self.time = time
        self.lab = make_lab(
            Project(events_per_day=5), limits=Limits(clock=time.monotonic, **limits)
        )
        del self.lab.settings["requests_per_second"], self.lab.settings["requests_per_hour"]
        self.state: dict[str, Any] = {}

    def run(self, first: str, last: str, **settings: Any) -> CollectingTap:
        """Run to the end, and keep the state."""
        days = {"start_date": first, "end_date": last, "window_days": 1, "lookback_days": 0}
        tap = CollectingTap(
            config=self.lab.settings | days | settings,
            state=json.loads(json.dumps(self.state)),
            clock=self.time,
        )
        run_to_end(tap)
        states = [message for message in tap.messages if message["type"] == "STATE"]
        self.state = states[-1]["value"]
        return tap

    @property
    def refused(self) -> int:
        return sum(request.status == 429 for request in self.lab.sandbox.requests)


def run_to_end(tap: TapMixpanelParallel) -> None:
    thread = threading.Thread(target=partial(suppressed, tap), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the run hangs"


def suppressed(tap: TapMixpanelParallel) -> None:
    with contextlib.suppress(HourlyLimitError):
        tap.run()


@pytest.mark.slow
@pytest.mark.parametrize("knows_by", ["history", "state"])
def test_a_run_knows_what_the_runs_before_it_have_used(
    make_lab: LabMaker,
    time: VirtualTime,
    knows_by: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO")
    if knows_by == "state":
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    runs = Runs(make_lab, time)
    for first, last in (("01-01", "01-20"), ("01-21", "02-09"), ("02-10", "03-01")):
        tap = runs.run(f"2025-{first}", f"2025-{last}")
        if knows_by == "history":
            runs.state = {}
    assert tap.stream.plan(tap.stream.saved_state()).hour.left == 0
    caplog.clear()

    tap = runs.run("2025-03-02", "2025-03-02")

    assert tap.stream.result is not None
    assert tap.stream.result.success
    assert (len(runs.lab.sandbox.requests), runs.refused) == (61, 0)
    assert HOUR <= time.monotonic() < HOUR + 60
    planned = "1 request is needed and 60 may start in an hour, of which 0 are left until 01:00:"
    assert any(message.startswith(planned) for message in caplog.messages)
    (wait,) = [message for message in caplog.messages if "the next starts in" in message]
    assert re.search(r"in (59 min \d+ s|1 h 0 min), at 01:00:\d\d UTC$", wait), wait
    used = [count for _, _, count in runs.state["bookmarks"]["events"]["requests"]]
    assert used[-1] == 1
    assert sum(used) <= 60, "what is over is forgotten"


def test_another_project_s_requests_do_not_count(make_lab: LabMaker, time: VirtualTime) -> None:
    runs = Runs(make_lab, time)
    runs.run("2025-01-01", "2025-01-03")
    requests = runs.state["bookmarks"]["events"]["requests"]
    now = int(START.timestamp())
    for account, left in ((requests[0][0], 0), ("another", 57)):
        requests[:] = [[account, now, 60]]
        tap = TapMixpanelParallel(
            config=runs.lab.settings | {"start_date": "2025-01-01"},
            state=json.loads(json.dumps(runs.state)),
            clock=time,
        )
        assert tap.stream.plan(tap.stream.saved_state()).hour.left == left


@pytest.mark.slow
@pytest.mark.parametrize("retry_after", [False, True])
def test_the_requests_of_others_are_waited_out(
    make_lab: LabMaker, time: VirtualTime, retry_after: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Though one attempt is all that a window has."""
    caplog.set_level("INFO")
    runs = Runs(make_lab, time, per_hour=4, retry_after=retry_after)
    runs.lab.settings |= {"parallel": True, "workers": 3, "max_attempts": 1}

    tap = runs.run("2025-01-01", "2025-01-06")

    assert tap.stream.result is not None
    assert tap.stream.result.success
    assert len(runs.lab.sandbox.requests) - runs.refused == 6
    assert HOUR <= time.monotonic() < HOUR + 400
    assert runs.refused <= (4 if retry_after else 20)
    waits = [
        message for message in caplog.messages if "takes no further request for now" in message
    ]
    assert waits
    assert all("5/4 queries running in the last hour" in wait for wait in waits)


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["own", "others"])
def test_a_run_that_fails_at_the_hourly_limit(
    make_lab: LabMaker, time: VirtualTime, whose: str
) -> None:
    runs = Runs(make_lab, time, per_hour=4)
    settings: dict[str, Any] = {"parallel": True, "on_hourly_limit": "fail"}
    if whose == "own":
        settings["requests_per_hour"] = 4

    tap = runs.run("2025-01-01", "2025-01-06", **settings)

    with pytest.raises(HourlyLimitError, match="on_hourly_limit is fail"):
        TapMixpanelParallel(
            config=runs.lab.settings | settings | {"start_date": "2025-01-05"},
            state=json.loads(json.dumps(runs.state)),
            clock=time,
        ).run()
    assert time.monotonic() < 60
    bookmark = runs.state["bookmarks"]["events"]
    assert count_days(Window.parse(*days) for days in bookmark["loaded"]) == 4
    assert bookmark["partitions"] == []
    assert len([m for m in tap.messages if m["type"] == "STATE"]) >= 4
    time.wait_for(HOUR + 60)
    runs.run("2025-01-01", "2025-01-06", **settings)
    assert runs.state["bookmarks"]["events"]["loaded"] == [["2025-01-01", "2025-01-06"]]


def test_no_success_for_an_hour_ends_the_run(make_lab: LabMaker, time: VirtualTime) -> None:
    lab = make_lab(faults=[Fault(Status(429), days=(date(2025, 1, 7), date(2025, 1, 7)))])
    tap = CollectingTap(config=lab.settings, clock=time)
    caught: list[Exception] = []

    def work() -> None:
        with pytest.raises(HourlyLimitError, match="has taken no request for over an hour") as info:
            tap.run()
        caught.append(info.value)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert caught, "the run hangs"
    assert HOUR < time.monotonic() < 2 * HOUR
    (*_, last) = [m["value"] for m in tap.messages if m["type"] == "STATE"]
    assert last["bookmarks"]["events"]["loaded"] == [["2025-01-06", "2025-01-06"]]
    assert last["bookmarks"]["events"]["partitions"] == []
