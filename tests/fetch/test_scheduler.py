"""The executor: what it tells, and when."""

from __future__ import annotations

import json
import threading
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from tap_mixpanel_parallel.exceptions import (
    AttemptError,
    LaterThanTodayError,
    OversizeError,
    RefusedError,
    ThreadError,
    TransportError,
    UnknownError,
)
from tap_mixpanel_parallel.fetch.client import Download
from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
from tap_mixpanel_parallel.fetch.retries import RetryPolicy
from tap_mixpanel_parallel.fetch.scheduler import Fetcher, Outcome, Task
from tap_mixpanel_parallel.plan.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.fetch.client import ExportClient

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
    windows: list[Window], client: FailingClient | ScriptedClient, folder: Path, **options: Any
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


class ScriptedClient:
    """Answers a window's requests with what the script says of its day."""

    def __init__(self, script: dict[int, Callable[[Callable[[], None]], None]]) -> None:
        self.script = script
        self.asked: list[int] = []

    def download(
        self, window: Window, path: Path, *, on_error: Callable[[], None], **_: Any
    ) -> Download:
        day = window.first.day
        self.asked.append(day)
        if day in self.script:
            self.script[day](on_error)
        return Download(path, compressed=False, size=0, received_at=datetime.now(UTC))


def outcomes(fetcher: Fetcher) -> Iterator[Outcome]:
    """What comes until nothing more can."""
    while (outcome := fetcher.next(timeout=PATIENCE)) is not None:
        yield outcome
        fetcher.settle()
        if fetcher.is_done:
            return


MANY = [Window(date(2025, 1, day), date(2025, 1, day)) for day in range(1, 21)]


def free(workers: int = 4) -> dict[str, Any]:
    """No limit."""
    return {"limit": RateLimit(per_second=1000, per_hour=100_000), "workers": workers}


def refuse(_: Callable[[], None]) -> None:
    raise RefusedError("no")


def break_down(_: Callable[[], None]) -> None:
    raise KeyError("surprise")


def be_too_large(_: Callable[[], None]) -> None:
    raise OversizeError("larger")


@pytest.mark.parametrize("break_off", [refuse, break_down])
def test_the_first_error_of_all_stops_all_starts_before_anybody_looks(
    tmp_path: Path, break_off: Callable[[Callable[[], None]], None]
) -> None:
    client = ScriptedClient({1: break_off})
    before = set(threading.enumerate())
    with fetcher_of(MANY, client, tmp_path, **free(1)) as fetcher:
        for worker in set(threading.enumerate()) - before:
            worker.join(PATIENCE)
        assert client.asked == [1]
        with pytest.raises((RefusedError, UnknownError)):
            fetcher.next(timeout=PATIENCE)


def test_none_starts_while_what_may_be_a_refusal_is_read(tmp_path: Path) -> None:
    begun, reading, verdict = (threading.Event() for _ in range(3))

    def doubt(on_error: Callable[[], None]) -> None:
        begun.wait(PATIENCE)
        on_error()
        reading.set()
        verdict.wait(PATIENCE)
        raise LaterThanTodayError("a date, and no refusal")

    def wait(_: Callable[[], None]) -> None:
        begun.set()
        reading.wait(PATIENCE)

    client = ScriptedClient({1: doubt, 2: wait})
    with fetcher_of(MANY, client, tmp_path, **free(2)) as fetcher:
        first = fetcher.next(timeout=PATIENCE)
        assert first is not None
        assert first.task.window == MANY[1]
        fetcher.settle()
        assert fetcher.next(timeout=0.3) is None
        assert sorted(client.asked) == [1, 2]
        verdict.set()
        assert len(list(outcomes(fetcher))) == len(MANY) - 1
    assert sorted(client.asked) == list(range(1, 21))


def test_an_error_that_nobody_knows_is_a_sentence(tmp_path: Path) -> None:
    client = ScriptedClient({1: break_down})
    with fetcher_of(DAYS, client, tmp_path) as fetcher, pytest.raises(UnknownError) as caught:
        list(outcomes(fetcher))
    assert str(caught.value) == (
        "2025-01-01..2025-01-01: an error that this tap does not know ends the run; please report "
        "it: KeyError: 'surprise'"
    )
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_no_attempt_mends_is_tried_once(tmp_path: Path) -> None:
    client = ScriptedClient({2: be_too_large})
    with fetcher_of(DAYS, client, tmp_path, **free()) as fetcher:
        found = {o.task.window.first.day: o.error for o in outcomes(fetcher)}
    assert str(found[2]) == "larger"
    assert client.asked.count(2) == 1


def test_a_window_without_its_last_day(tmp_path: Path) -> None:
    client = ScriptedClient({})
    week = Window(date(2025, 1, 1), date(2025, 1, 7))
    with fetcher_of([week], client, tmp_path, **free()) as fetcher:
        outcome = fetcher.next(timeout=PATIENCE)
        assert outcome is not None
        fetcher.shorten(outcome.task)
        again = fetcher.next(timeout=PATIENCE)
    assert again is not None
    assert again.task.window == Window(date(2025, 1, 1), date(2025, 1, 6))
    assert again.task.attempts == 1
