"""Mixpanel's limits: kept, and where it answers 429 all the same, waited out. In virtual time."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from tap_mixpanel_parallel import run as run_module
from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.fetch.client import download
from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
from tap_mixpanel_parallel.sandbox import Fault, Limits, Project, Status
from tap_mixpanel_parallel.tap import TapMixpanelParallel
from tests.support.commands import PATIENCE

if TYPE_CHECKING:
    from tap_mixpanel_parallel.fetch.job import Download, Job
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
    acquire = RateLimit.acquire

    def counted_acquire(limit: RateLimit) -> float:
        time.request(1)
        if wait := acquire(limit):
            time.request(-1)
        return wait

    def counted_download(job: Job) -> Download:
        try:
            return download(job)
        finally:
            time.request(-1)

    monkeypatch.setattr(RateLimit, "acquire", counted_acquire)
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
