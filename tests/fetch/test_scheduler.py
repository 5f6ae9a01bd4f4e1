"""The scheduler: which request starts when, and what comes of it."""

from __future__ import annotations

import heapq
import json
import pickle
import threading
from collections import Counter
from concurrent.futures import Future
from datetime import UTC, date, datetime
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.exceptions import (
    AttemptError,
    HourlyLimitError,
    OversizeError,
    RateLimitError,
    RefusedError,
    TapError,
    ThreadError,
    TransportError,
    UnknownError,
)
from tap_mixpanel_parallel.fetch.events import Ended, Refused, Requested, Retrying, Waiting
from tap_mixpanel_parallel.fetch.hourly import Limits
from tap_mixpanel_parallel.fetch.job import Arrival, Download, Job, Query
from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
from tap_mixpanel_parallel.fetch.retries import RetryPolicy
from tap_mixpanel_parallel.fetch.scheduler import Scheduler
from tap_mixpanel_parallel.fetch.threads import DaemonThreads
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.settings.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from tap_mixpanel_parallel.fetch.events import FetchEvent

PATIENCE = 60
DAYS = [Window(date(2025, 1, day), date(2025, 1, day)) for day in range(1, 21)]
FOLDER = Path("/nowhere")
QUERY = Query("http://127.0.0.1:9", Credentials("account", "secret-of-it", "1"))
AT_ONCE = RetryPolicy(max_attempts=3, first_pause=0, first_limited_pause=0, jitter=lambda: 0.0)


def make_job(window: Window, attempt: int) -> Job:
    return Job(window, QUERY, FOLDER / f"{window}.{attempt}")


class Workers:
    """An executor whose jobs end as the test says: the seam, held by hand."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: list[tuple[Job, Future[Download]]] = []
        self.started: list[str] = []
        self.most_open = 0

    def submit(self, job: Job) -> Future[Download]:
        future: Future[Download] = Future()
        with self._changed:
            self._open.append((job, future))
            self.started.append(f"{job.window.first.day}.{job.path.name[-1]}")
            self.most_open = max(self.most_open, len(self._open))
            self._changed.notify_all()
        return future

    def wait_for(self, jobs: int) -> None:
        """Wait until so many jobs are open."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._open) >= jobs, PATIENCE)

    def end(self, outcome: Exception | None = None) -> None:
        """Have the oldest job end."""
        self.wait_for(1)
        with self._changed:
            job, future = self._open.pop(0)
        if outcome is None:
            future.set_result(Download(job.path, False, 7, datetime(2025, 1, 1, tzinfo=UTC)))
        else:
            future.set_exception(outcome)


def at_once(outcome: Callable[[Job], Exception | None]) -> Callable[[Job], Future[Download]]:
    """An executor that does each job as it is submitted."""

    def submit(job: Job) -> Future[Download]:
        future: Future[Download] = Future()
        error = outcome(job)
        if error is None:
            future.set_result(Download(job.path, False, 7, datetime(2025, 1, 1, tzinfo=UTC)))
        else:
            future.set_exception(error)
        return future

    return submit


class VirtualMixpanel(Clock):
    """A clock, and an executor whose jobs end by it. Time passes as the scheduler waits."""

    def __init__(self, answer: Callable[[float], tuple[float, Exception | None]]) -> None:
        """Answer by the seconds at which a request starts: how long it takes, and its error."""
        self._answer = answer
        self._seconds = 0.0
        self._under_way: list[tuple[float, int, Job, Exception | None, Future[Download]]] = []
        self.requests: list[tuple[float, Exception | None]] = []

    def monotonic(self) -> float:
        return self._seconds

    def submit(self, job: Job) -> Future[Download]:
        future: Future[Download] = Future()
        seconds, error = self._answer(self._seconds)
        self.requests.append((self._seconds, error))
        end = (self._seconds + seconds, len(self.requests), job, error, future)
        heapq.heappush(self._under_way, end)
        return future

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        if self._under_way and self._under_way[0][0] <= self._seconds + (seconds or 1e9):
            self._seconds, _, job, error, future = heapq.heappop(self._under_way)
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(Download(job.path, False, 7, datetime(2025, 1, 1, tzinfo=UTC)))
        elif seconds is not None:
            self._seconds += seconds
        else:
            condition.wait(0.05)

    def run(self, windows: int) -> tuple[list[Arrival], TapError | None]:
        """What comes of a run of so many windows; nobody deals with them before its end."""
        limit = RateLimit(per_second=1000, per_hour=10**6, clock=self.monotonic)
        limits = Limits(windows, limit, RetryPolicy(max_attempts=1, jitter=lambda: 0.0))
        arrivals: list[Arrival] = []
        with Scheduler(DAYS[:windows], make_job, self.submit, limits, clock=self) as scheduler:
            try:
                while len(arrivals) < windows:
                    arrivals.append(take(scheduler))
            except TapError as error:
                return arrivals, error
        return arrivals, None


def scheduler_of(
    windows: list[Window],
    submit: Callable[[Job], Future[Download]],
    *,
    workers: int = 1,
    policy: RetryPolicy = AT_ONCE,
    limit: RateLimit | None = None,
    notify: Callable[[FetchEvent], None] = lambda _: None,
    waits: bool = True,
) -> Scheduler:
    limit = limit or RateLimit(per_second=1000, per_hour=1_000_000)
    limits = Limits(workers, limit, policy, waits)
    return Scheduler(windows, make_job, submit, limits, notify=notify)


def take(scheduler: Scheduler) -> Arrival:
    body = scheduler.next(timeout=PATIENCE)
    assert body is not None
    return body


def take_all(scheduler: Scheduler) -> list[Arrival]:
    bodies = []
    while not scheduler.is_done:
        bodies.append(take(scheduler))
        scheduler.task_done(bodies[-1])
    return bodies


def test_every_window_comes_once() -> None:
    with scheduler_of(DAYS, at_once(lambda _: None), workers=4) as scheduler:
        bodies = take_all(scheduler)
    assert sorted(body.window for body in bodies) == DAYS
    assert {(body.attempts, body.error) for body in bodies} == {(1, None)}


@given(
    st.integers(1, 6),
    st.lists(st.sampled_from(["ok", "fail", "reject"]), max_size=12),
    st.integers(1, 4),
)
def test_whatever_fails_each_window_ends_once(
    workers: int, script: list[str], max_attempts: int
) -> None:
    """By the body of its last attempt, or by that attempt's error."""
    events: list[FetchEvent] = []
    steps = iter(script)
    rejected = set()

    def outcome(job: Job) -> Exception | None:
        step = next(steps, "ok")
        if step == "reject":
            rejected.add(job.path)
        return TransportError("reset") if step == "fail" else None

    policy = RetryPolicy(max_attempts, first_pause=0, jitter=lambda: 0.0)
    ends = []
    with scheduler_of(
        DAYS[:8], at_once(outcome), workers=workers, policy=policy, notify=events.append
    ) as scheduler:
        while not scheduler.is_done:
            body = take(scheduler)
            if body.download is not None and body.download.path in rejected:
                scheduler.retry(body, AttemptError("damaged"))
            else:
                ends.append(body)
                scheduler.task_done(body)
    assert sorted(body.window for body in ends) == DAYS[:8]
    requested = [event for event in events if isinstance(event, Requested)]
    assert len(requested) == sum(body.attempts for body in ends)
    assert len(requested) == len([event for event in events if isinstance(event, Ended)])
    retried = [event for event in events if isinstance(event, Retrying)]
    assert len(retried) == len(requested) - len(ends)
    assert all(body.attempts == max_attempts for body in ends if body.error is not None)


def test_no_more_are_under_way_or_wait_than_workers_allow() -> None:
    workers = Workers()
    with scheduler_of(DAYS, workers.submit, workers=3) as scheduler:
        for _ in range(6):
            workers.end()
        bodies = [take(scheduler) for _ in range(6)]
        assert scheduler.next(timeout=0.1) is None
        assert len(workers.started) == 6, "nobody has dealt with any"
        for body in bodies[:2]:
            scheduler.task_done(body)
        workers.wait_for(2)
        assert len(workers.started) == 8
    assert workers.most_open == 3


def test_no_more_are_under_way_than_there_are_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tells of a slot that comes, so the scheduler looks for it."""
    monkeypatch.setattr("tap_mixpanel_parallel.fetch.scheduler._SLOT_SECONDS", 0.01)
    workers, slots = Workers(), [2]
    limit = RateLimit(per_second=1000, per_hour=1_000_000)
    limits = Limits(4, limit, AT_ONCE, slots=lambda: slots[0])
    with Scheduler(DAYS, make_job, workers.submit, limits) as scheduler:
        workers.wait_for(2)
        assert scheduler.next(timeout=0.1) is None
        assert workers.most_open == 2
        slots[0] = 9
        workers.wait_for(4)
        assert scheduler.next(timeout=0.1) is None
    assert workers.most_open == 4


def test_without_slots_for_good_the_run_ends_with_the_reason() -> None:
    workers = Workers()

    def none_any_more() -> int:
        raise TapError("the cluster is gone")

    limit = RateLimit(per_second=1000, per_hour=1_000_000)
    limits = Limits(4, limit, AT_ONCE, slots=none_any_more)
    with (
        Scheduler(DAYS, make_job, workers.submit, limits) as scheduler,
        pytest.raises(TapError, match="the cluster is gone"),
    ):
        take(scheduler)
    assert workers.started == []


def test_a_window_that_pauses_leaves_its_place_to_others() -> None:
    workers = Workers()
    policy = RetryPolicy(first_pause=3600)
    with scheduler_of(DAYS[:2], workers.submit, policy=policy) as scheduler:
        workers.end(TransportError("reset"))
        workers.end()
        assert take(scheduler).window == DAYS[1]
    assert workers.started[:2] == ["1.1", "2.1"]


def test_a_retry_goes_before_new_windows() -> None:
    workers = Workers()
    with scheduler_of(DAYS[:2], workers.submit) as scheduler:
        workers.end(TransportError("reset"))
        workers.end()
        workers.end()
        days = [take(scheduler).window.first.day for _ in range(2)]
    assert workers.started == ["1.1", "1.2", "2.1"]
    assert days == [1, 2]


@pytest.mark.parametrize("error", [RefusedError("no"), KeyError("surprise")])
def test_the_first_error_of_all_stops_all_starts_before_anybody_looks(error: Exception) -> None:
    workers = Workers()
    with scheduler_of(DAYS, workers.submit, workers=2) as scheduler:
        workers.wait_for(2)
        workers.end(error)
        workers.end()
        with pytest.raises(TapError):
            take(scheduler)
        assert len(workers.started) == 2


def test_an_error_that_nobody_knows_is_a_sentence() -> None:
    scheduler = scheduler_of(DAYS, at_once(lambda _: KeyError("surprise")))
    with scheduler, pytest.raises(UnknownError) as caught:
        take(scheduler)
    assert str(caught.value) == (
        "2025-01-01..2025-01-01: an error that this tap does not know ends the run; please report "
        "it: KeyError: 'surprise'"
    )
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_no_attempt_mends_is_tried_once() -> None:
    scheduler = scheduler_of(DAYS[:1], at_once(lambda _: OversizeError("larger")))
    with scheduler:
        body = take(scheduler)
    assert (body.attempts, str(body.error), body.download) == (1, "larger", None)


@pytest.mark.parametrize("is_over", [False, True])
def test_an_attempt_that_fails_after_the_run_is_no_news(is_over: bool) -> None:
    workers, told = Workers(), []

    def notify(event: FetchEvent) -> None:
        if isinstance(event, Retrying):
            told.append(str(event.error))

    with scheduler_of(DAYS[:1], workers.submit, notify=notify):
        workers.wait_for(1)
        if not is_over:
            workers.end(TransportError("reset"))
    if is_over:
        workers.end(TransportError("reset"))
    assert told == ([] if is_over else ["reset"])


def test_a_rejected_window_keeps_nothing_of_its_body() -> None:
    """Frames hold lines and records: with many windows that wait, more than all else does."""
    with scheduler_of(DAYS[:1], at_once(lambda _: None)) as scheduler:
        body = take(scheduler)
        try:
            try:
                json.loads("cut")
            except ValueError:
                raise AttemptError("cut") from None
        except AttemptError as error:
            kept = error
        scheduler.retry(body, kept)
    assert kept.__traceback__ is None
    assert kept.__context__ is None


def test_fewer_days_in_place_of_a_window() -> None:
    week = Window(date(2025, 1, 1), date(2025, 1, 7))
    shorter = Window(date(2025, 1, 1), date(2025, 1, 6))
    with scheduler_of([week], at_once(lambda _: None)) as scheduler:
        scheduler.shorten(take(scheduler), shorter)
        assert not scheduler.is_done
        body = take(scheduler)
        scheduler.task_done(body)
        assert scheduler.is_done
    assert (body.window, body.attempts) == (shorter, 1)


def test_a_long_wait_for_the_limit_is_told_once() -> None:
    told: list[Waiting] = []
    once = threading.Event()

    def notify(event: FetchEvent) -> None:
        if isinstance(event, Waiting):
            told.append(event)
            once.set()

    limit = RateLimit(per_second=3, per_hour=2)
    with scheduler_of(DAYS[:3], at_once(lambda _: None), limit=limit, notify=notify) as scheduler:
        for _ in range(2):
            scheduler.task_done(take(scheduler))
        assert once.wait(PATIENCE)
        assert scheduler.next(timeout=0.05) is None
    assert len(told) == 1
    assert 3590 < told[0].seconds < 3603


def test_a_short_wait_is_not_told() -> None:
    told: list[FetchEvent] = []
    limit = RateLimit(per_second=1, per_hour=60)
    with scheduler_of(DAYS[:2], at_once(lambda _: None), limit=limit, notify=told.append) as one:
        take_all(one)
    assert not any(isinstance(event, Waiting) for event in told)


class TestHourlyLimit:
    """A 429 of the hourly limit, or one that says nothing; without real pauses."""

    POLICY = RetryPolicy(max_attempts=1, first_limited_pause=0.01, jitter=lambda: 0.0)
    HOURLY = RateLimitError("HTTP 429: 61/60 queries running in the last hour", span="hour")

    def test_it_is_no_attempt_and_keeps_the_order(self) -> None:
        workers = Workers()
        told: list[FetchEvent] = []
        refusal = RateLimitError("HTTP 429")
        with scheduler_of(
            DAYS[:4], workers.submit, workers=2, policy=self.POLICY, notify=told.append
        ) as scheduler:
            workers.wait_for(2)
            workers.end(refusal)
            workers.end(refusal)
            workers.end(refusal)
            for _ in range(4):
                workers.end()
            bodies = take_all(scheduler)
        assert workers.started[:2] == ["1.1", "2.1"]
        assert workers.started[2] == "1.2", "the first window goes first"
        assert sorted(workers.started[3:]) == ["1.3", "2.2", "3.1", "4.1"]
        assert [body.window for body in bodies] == DAYS[:4]
        assert all(body.error is None for body in bodies)
        waits = [event for event in told if isinstance(event, Waiting)]
        assert [wait.error for wait in waits] == [refusal] * 2, "the second of two is no news"
        assert [wait.seconds for wait in waits] == pytest.approx([0.01, 0.03])
        assert not any(isinstance(event, Retrying) for event in told)
        for window, requests in zip(DAYS[:4], (3, 2, 1, 1), strict=True):
            kinds = [type(event) for event in told if getattr(event, "window", None) == window]
            assert kinds == [Requested, Ended, Refused] * (requests - 1) + [Requested, Ended]

    def test_other_errors_have_all_their_attempts_left(self) -> None:
        steps = iter([self.HOURLY, self.HOURLY, TransportError("reset"), None])
        policy = RetryPolicy(2, 0.0, 0.01, jitter=lambda: 0.0)
        told: list[FetchEvent] = []
        outcomes = at_once(lambda _: next(steps))
        with scheduler_of(DAYS[:1], outcomes, policy=policy, notify=told.append) as scheduler:
            body = take(scheduler)
        assert (body.attempts, body.error) == (2, None)
        requested = [event for event in told if isinstance(event, Requested)]
        assert [event.attempt for event in requested] == [1, 1, 1, 2]
        assert len({event.path for event in requested}) == 4, "each has a file of its own"
        assert [event.attempt for event in told if isinstance(event, Retrying)] == [1]

    def test_what_fails_in_the_end_has_as_many_attempts_as_it_may(self) -> None:
        steps = iter([self.HOURLY, TransportError("reset"), self.HOURLY, TransportError("reset")])
        policy = RetryPolicy(2, 0.0, 0.01, jitter=lambda: 0.0)
        with scheduler_of(DAYS[:1], at_once(lambda _: next(steps)), policy=policy) as scheduler:
            body = take(scheduler)
        assert (body.attempts, str(body.error)) == (2, "reset")

    @pytest.mark.parametrize("waits", [True, False])
    def test_a_short_wait_that_helps_no_attempt_is_that_of_the_hour(self, waits: bool) -> None:
        steps = chain(repeat(RateLimitError("HTTP 429", 0.0, span=None), 4), [None])
        policy = RetryPolicy(2, first_limited_pause=0.01, jitter=lambda: 0.0)
        told: list[FetchEvent] = []
        with scheduler_of(
            DAYS[:1],
            at_once(lambda _: next(steps)),
            policy=policy,
            notify=told.append,
            waits=waits,
        ) as scheduler:
            if waits:
                assert (take(scheduler).attempts, next(steps, "all")) == (2, "all")
            else:
                with pytest.raises(HourlyLimitError, match="on_hourly_limit is fail"):
                    take(scheduler)
        kinds = [type(event) for event in told if isinstance(event, Refused | Retrying)]
        assert kinds == [Retrying, *[Refused] * (3 if waits else 1)]

    def test_mixpanel_takes_one_of_many_now_and_then(self) -> None:
        """While that one comes, which takes half a minute, all others are refused."""
        free = [1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0]

        def answer(now: float) -> tuple[float, Exception | None]:
            if not free or now < free[0]:
                return 0.1, self.HOURLY
            del free[0]
            return 30.0, None

        mixpanel = VirtualMixpanel(answer)
        arrivals, error = mixpanel.run(6)
        assert error is None
        assert Counter(arrival.attempts for arrival in arrivals) == {1: 6}
        assert mixpanel.monotonic() > 6000
        refused = [error for _, error in mixpanel.requests if error]
        assert len(refused) < 100, "the pauses grow"

    def test_a_long_download_is_no_hour_in_vain(self) -> None:
        """Mixpanel has taken one, as shows when that has ended; then it takes the other."""

        def answer(now: float) -> tuple[float, Exception | None]:
            return (6000.0, None) if 2 < now < 7 or now > 5000 else (0.1, self.HOURLY)

        mixpanel = VirtualMixpanel(answer)
        arrivals, error = mixpanel.run(2)
        assert (error, len(arrivals)) == (None, 2)
        assert mixpanel.monotonic() > 11_000

    def test_an_hour_in_vain_ends_the_run(self) -> None:
        outcomes = chain([None], repeat(self.HOURLY))
        mixpanel = VirtualMixpanel(lambda _: (1.0, next(outcomes)))
        arrivals, error = mixpanel.run(20)
        assert isinstance(error, HourlyLimitError)
        assert str(error).startswith("Mixpanel has taken no request for over an hour (HTTP 429")
        assert len(arrivals) == 1
        assert 3700 < mixpanel.monotonic() < 3720

    def test_a_limit_of_a_moment_is_an_attempt(self) -> None:
        error = RateLimitError("HTTP 429: too many in progress", span="moment")
        with scheduler_of(DAYS[:1], at_once(lambda _: error), policy=self.POLICY) as scheduler:
            body = take(scheduler)
        assert (body.attempts, body.error) == (1, error)

    def test_nobody_waits_for_ever(self) -> None:
        policy = RetryPolicy(
            first_limited_pause=0.01, longest_limited_pause=0.05, jitter=lambda: 0.0
        )
        limited = at_once(lambda job: None if job.window == DAYS[0] else self.HOURLY)
        with scheduler_of(DAYS, limited, policy=policy) as scheduler:
            scheduler.task_done(take(scheduler))
            with pytest.raises(HourlyLimitError, match=r"no request for over an hour \(HTTP 429"):
                take(scheduler)

    def test_what_is_under_way_arrives_before_the_run_ends(self) -> None:
        workers = Workers()
        with scheduler_of(
            DAYS, workers.submit, workers=3, policy=self.POLICY, waits=False
        ) as scheduler:
            workers.wait_for(3)
            workers.end(self.HOURLY)
            assert scheduler.next(timeout=0.05) is None
            workers.end()
            workers.end()
            assert [take(scheduler).window for _ in range(2)] == DAYS[1:3]
            with pytest.raises(HourlyLimitError, match="on_hourly_limit is fail"):
                take(scheduler)
        assert len(workers.started) == 3

    def test_a_run_that_does_not_wait_ends_where_its_own_count_does(self) -> None:
        limit = RateLimit(per_second=1000, per_hour=2)
        with scheduler_of(DAYS, at_once(lambda _: None), limit=limit, waits=False) as scheduler:
            for _ in range(2):
                scheduler.task_done(take(scheduler))
            with pytest.raises(
                HourlyLimitError,
                match=r"^the hourly limit is reached; the next request may start at \S+ UTC\. on_",
            ):
                take(scheduler)

    def test_a_run_that_does_not_wait_ends_when_mixpanel_says_that_it_may_go_on(self) -> None:
        error = RateLimitError("HTTP 429", 1800.0)
        with (
            scheduler_of(DAYS, at_once(lambda _: error), waits=False) as scheduler,
            pytest.raises(HourlyLimitError, match=r"\(HTTP 429\); the next .* start at \S+ UTC\."),
        ):
            take(scheduler)


class TestThreads:
    def test_results_and_errors(self) -> None:
        executor = DaemonThreads()
        assert executor.submit(divmod, 7, 2).result(PATIENCE) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 7, 0).result(PATIENCE)

    def test_they_do_not_keep_the_process(self) -> None:
        started, may_end = threading.Event(), threading.Event()

        def work() -> bool:
            started.set()
            may_end.wait(PATIENCE)
            return threading.current_thread().daemon

        future = DaemonThreads().submit(work)
        assert started.wait(PATIENCE)
        may_end.set()
        assert future.result(PATIENCE)

    @pytest.mark.parametrize("refused", ["scheduler", "worker"])
    def test_the_machine_lets_none_start(
        self, monkeypatch: pytest.MonkeyPatch, refused: str
    ) -> None:
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if (thread.name == "scheduler") == (refused == "scheduler"):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        scheduler = scheduler_of(DAYS, lambda job: DaemonThreads().submit(id, job))
        with pytest.raises(ThreadError, match="can't start new thread; lower workers"), scheduler:
            take(scheduler)


def test_a_job_can_be_pickled_and_shows_no_secret() -> None:
    job: Any = make_job(DAYS[0], 1)
    assert pickle.loads(pickle.dumps(job)) == job  # noqa: S301 - made one line above
    assert "secret-of-it" not in repr(job)
