"""The executor: what it tells, and when."""

from __future__ import annotations

import json
import threading
from datetime import date
from typing import TYPE_CHECKING, Any, cast

import pytest

from tap_mixpanel_parallel.exceptions import AttemptError, ThreadError, TransportError
from tap_mixpanel_parallel.fetcher import Fetcher, RetryPolicy, Task
from tap_mixpanel_parallel.limits import RateLimit
from tap_mixpanel_parallel.windows import Window

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.client import ExportClient

DAYS = [Window(date(2025, 1, day), date(2025, 1, day)) for day in (1, 2, 3)]
PATIENCE = 60


class FailingClient:
    """Fails once it may."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_fail = threading.Event()
        self.failed = threading.Event()

    def download(self, window: Window, _path: Path, **_: Any) -> None:
        self.begun.set()
        self.may_fail.wait(PATIENCE)
        self.failed.set()
        raise TransportError(f"{window}: reset")


class Told:
    """Who was told of what."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.once = threading.Event()

    def __call__(self, _: Task, error: BaseException, _pause: float) -> None:
        self.reasons.append(str(error))
        self.once.set()


def fetcher_of(
    windows: list[Window], client: FailingClient, folder: Path, **options: Any
) -> Fetcher:
    options = {
        "limit": RateLimit(per_second=3, per_hour=60),
        "workers": 1,
        "policy": RetryPolicy(),
    } | options
    return Fetcher(cast("ExportClient", client), windows, folder=folder, **options)


@pytest.mark.parametrize("is_over", [False, True])
def test_an_attempt_that_fails_after_the_run_is_no_news(tmp_path: Path, is_over: bool) -> None:
    client, told = FailingClient(), Told()
    before = set(threading.enumerate())
    policy = RetryPolicy(max_attempts=5, on_retry=told)
    fetcher = fetcher_of(DAYS[:1], client, tmp_path, policy=policy)
    with fetcher:
        [worker] = set(threading.enumerate()) - before
        assert client.begun.wait(PATIENCE)
        if not is_over:
            client.may_fail.set()
            assert told.once.wait(PATIENCE)
    client.may_fail.set()
    worker.join(PATIENCE)
    assert not worker.is_alive()
    assert told.reasons == ([] if is_over else ["2025-01-01..2025-01-01: reset"])


def test_what_the_hourly_limit_holds_back(tmp_path: Path) -> None:
    now = 0.0
    limit = RateLimit(per_second=3, per_hour=2, clock=lambda: now)
    fetcher = fetcher_of(DAYS, FailingClient(), tmp_path, limit=limit)
    assert fetcher.next_start == 0
    assert fetcher.held == pytest.approx(3602, abs=1)  # the third waits for the first's hour
    fetcher._all[0].attempts = fetcher._all[1].attempts = 1
    assert [limit.acquire(), limit.acquire()] == [0, 0]
    assert fetcher.next_start == fetcher.held == pytest.approx(3602, abs=1)
    now = 1000.0
    assert fetcher.held == pytest.approx(2602, abs=1)
    fetcher._all[2].attempts = 1
    assert fetcher.held == 0


def test_a_rejected_window_keeps_nothing_of_its_body(tmp_path: Path) -> None:
    """Frames hold lines and records: with many windows that wait, more than all else does."""
    fetcher = fetcher_of(DAYS[:1], FailingClient(), tmp_path)
    [task] = fetcher._all
    try:
        try:
            json.loads("cut")
        except ValueError:
            raise AttemptError("cut") from None
    except AttemptError as error:
        fetcher.reject(task, error)

    assert task.rejected is not None
    assert task.rejected.__traceback__ is None
    assert task.rejected.__context__ is None


def test_not_all_threads_can_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse_the_second(thread: threading.Thread) -> None:
        if thread.name == "fetch-1":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_second)
    client = FailingClient()
    before = set(threading.enumerate())
    with (
        pytest.raises(ThreadError, match="can't start new thread; lower workers, or raise"),
        fetcher_of(DAYS, client, tmp_path, workers=2),
    ):
        pass
    client.may_fail.set()
    for worker in set(threading.enumerate()) - before:
        worker.join(PATIENCE)
        assert not worker.is_alive()
