"""Decides which request starts when, and hands out what comes of it.

All waiting and trying again is done here. A worker makes one attempt and returns.
"""

from __future__ import annotations

import heapq
import queue
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.exceptions import (
    AttemptError,
    RateLimitError,
    TapError,
    ThreadError,
    UnknownError,
    drop_frames,
)
from tap_mixpanel_parallel.fetch.events import Ended, Refused, Requested, Retrying, Waiting
from tap_mixpanel_parallel.fetch.hourly import Refusals, at_the_limit, in_vain
from tap_mixpanel_parallel.fetch.job import Arrival

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from tap_mixpanel_parallel.exceptions import HourlyLimitError
    from tap_mixpanel_parallel.fetch.events import FetchEvent
    from tap_mixpanel_parallel.fetch.hourly import Limits
    from tap_mixpanel_parallel.fetch.job import Download, Job
    from tap_mixpanel_parallel.plan.windows import Window

_AHEAD: Final = 2
"""Windows that are under way or wait for the run, for each worker."""

_SLOT_SECONDS: Final = 1.0
"""How often a run that has fewer slots than workers looks for more."""

_LONG_SECONDS: Final = 10.0
"""A wait for the limits that people should know of."""


@dataclass(order=True, slots=True)
class _Task:
    """A window on its way; ordered by when it may be requested again."""

    due: float
    window: Window
    requests: int = 0
    refused: int = 0
    started: float = field(default=0.0, compare=False)
    requested: float = field(default=0.0, compare=False)

    @property
    def attempts(self) -> int:
        return self.requests - self.refused


class Scheduler:
    """Fetches windows, a bounded number at a time. Context manager."""

    def __init__(
        self,
        windows: Iterable[Window],
        make_job: Callable[[Window, int], Job],
        submit: Callable[[Job], Future[Download]],
        limits: Limits,
        *,
        notify: Callable[[FetchEvent], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare to fetch; entering the context starts.

        Args:
            windows: What to fetch, first things first.
            make_job: The job for a window's request, counted from 1.
            submit: Has a job done, by whatever executor.
            limits: How fast to go.
            notify: Told of what happens.
            clock: The time.
        """
        self._make_job = make_job
        self._submit = submit
        self._limits = limits
        self._notify = notify
        self._clock = clock or Clock()
        self._waiting = deque(_Task(0.0, window) for window in windows)
        self._pausing: list[_Task] = []
        self._open: dict[Window, _Task] = {}
        self._under_way = 0
        self._refusals = Refusals(limits.retries)
        self._final: HourlyLimitError | None = None
        self._arrivals: queue.SimpleQueue[Arrival | TapError] = queue.SimpleQueue()
        # It guards all of the above, and tells the scheduler's thread of each change.
        self._changed = threading.Condition(threading.RLock())
        self._stopped = False

    def __enter__(self) -> Self:
        """Start to fetch.

        Raises:
            ThreadError: If the machine lets no further thread start.
        """
        # A daemon, as the workers are: nothing that waits may keep the process.
        thread = threading.Thread(target=self._start_jobs, name="scheduler", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise ThreadError(error) from None
        return self

    def __exit__(self, *_error: object) -> None:
        """Start no further request; what is under way is left behind."""
        self._stop()

    @property
    def is_done(self) -> bool:
        """Whether every window is done."""
        return not self._waiting and not self._open

    def next(self, timeout: float) -> Arrival | None:
        """The next body, or the next window that has failed.

        Whoever takes one calls `task_done`, `retry` or `shorten` with it.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            None if there is none yet.

        Raises:
            TapError: If an error makes all other windows pointless.
        """
        try:
            found = self._arrivals.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(found, TapError):
            raise found
        return found

    def task_done(self, arrival: Arrival) -> None:
        """A window has been dealt with: another window may start."""
        with self._changed:
            del self._open[arrival.window]
            self._changed.notify_all()

    def retry(self, arrival: Arrival, error: AttemptError) -> None:
        """A body is not what it should be: try again, or fail with this error."""
        self._end_task(self._open[arrival.window], error)

    def shorten(self, arrival: Arrival, window: Window) -> None:
        """Fetch fewer days in place of a window that has failed."""
        with self._changed:
            del self._open[arrival.window]
            task = self._open[window] = _Task(0.0, window, started=arrival.started)
            heapq.heappush(self._pausing, task)
            self._changed.notify_all()

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _start_jobs(self) -> None:
        """Start what is due, as long as the run goes on; the work of the scheduler's thread."""
        try:
            while self._wait_for_task() and self._acquire_start():
                self._start(self._take_task())
            with self._changed:
                while self._under_way and not self._stopped:
                    self._clock.wait(self._changed, None)
            if self._final is not None and not self._stopped:
                self._end_run("the hourly limit", self._final)
        except Exception as error:  # noqa: BLE001 - the run's own thread raises it
            self._end_run("the scheduler", error)

    def _wait_for_task(self) -> bool:
        """Wait for a window that may be requested; False once no further request starts."""
        with self._changed:
            while not self._is_over:
                slots = self._limits.slots() if self._limits.slots else self._limits.workers
                # What follows tells of no slot that comes.
                pause = None if slots >= self._limits.workers else _SLOT_SECONDS
                if self._under_way < min(self._limits.workers, slots):
                    if self._pausing:
                        pause = self._pausing[0].due - self._clock.monotonic()
                        if pause <= 0:
                            return True
                    if self._waiting and len(self._open) < self._limits.workers * _AHEAD:
                        return True
                self._clock.wait(self._changed, pause)
        return False

    def _take_task(self) -> _Task:
        """The window that goes first: one that is tried again, or else a new one."""
        with self._changed:
            if self._pausing and self._pausing[0].due <= self._clock.monotonic():
                return heapq.heappop(self._pausing)
            task = self._waiting.popleft()
            self._open[task.window] = task
            return task

    def _acquire_start(self) -> bool:
        """Wait until the limits let a request start; False if none does any more."""
        told = 0.0
        while seconds := self._seconds_refused() or self._limits.limit.acquire():
            end = self._clock.monotonic() + seconds
            if seconds >= _LONG_SECONDS and end >= told + _LONG_SECONDS:
                told = end
                if not self._seconds_refused():  # which is told of already
                    self._wait_for_hour(seconds)
            with self._changed:
                if not self._is_over:
                    self._clock.wait(self._changed, seconds)
                if self._is_over:
                    return False
        return not self._is_over

    def _seconds_refused(self) -> float:
        with self._changed:
            return self._refusals.seconds(self._clock.monotonic())

    @property
    def _is_over(self) -> bool:
        """Whether no further request starts."""
        return self._stopped or self._final is not None

    def _wait_for_hour(self, seconds: float, error: RateLimitError | None = None) -> None:
        """Have people know that the run waits for the hourly limit, or have it end there."""
        until = self._clock.now() + timedelta(seconds=seconds)
        if self._limits.waits:
            self._notify(Waiting(until, seconds, error))
            return
        with self._changed:
            self._final = at_the_limit(until, error)
            self._changed.notify_all()

    def _start(self, task: _Task) -> None:
        now = self._clock.monotonic()
        with self._changed:
            self._under_way += 1
            self._refusals.start(now)
            task.requests += 1
            task.requested = now
            task.started = task.started or now
        job = self._make_job(task.window, task.requests)
        self._notify(Requested(task.window, task.attempts, job.path))
        try:
            future = self._submit(job)
        except RuntimeError as error:
            raise ThreadError(error) from None
        future.add_done_callback(partial(self._end_attempt, task))

    def _end_attempt(self, task: _Task, future: Future[Download]) -> None:
        """Take what came of an attempt; called by whichever thread made it."""
        error = future.exception()
        if error is not None and not isinstance(error, AttemptError):
            # At once, so that no other request starts.
            self._end_run(str(task.window), error)
        self._notify(Ended(task.window))
        if error is None:
            self._arrivals.put(
                Arrival(task.window, task.attempts, task.started, download=future.result())
            )
        elif isinstance(error, AttemptError):
            self._end_task(task, error)
        with self._changed:
            if not isinstance(error, RateLimitError):
                self._refusals.accept(task.requested)
            self._under_way -= 1
            self._changed.notify_all()

    def _end_task(self, task: _Task, error: AttemptError) -> None:
        """Have a window wait for its next attempt, or fail with this error."""
        drop_frames(error)
        pause = self._limits.retries.pause(task.attempts, error)
        # A short wait that Mixpanel names may be untrue.
        hourly = ("hour",) if pause is not None else ("hour", None)
        if isinstance(error, RateLimitError) and error.span in hourly:
            self._hold(task, error)
            return
        if pause is None:
            self._arrivals.put(Arrival(task.window, task.attempts, task.started, error=error))
            return
        if not self._stopped:
            self._notify(Retrying(task.window, task.attempts, error, pause))
        with self._changed:
            task.due = self._clock.monotonic() + pause
            heapq.heappush(self._pausing, task)
            self._changed.notify_all()

    def _hold(self, task: _Task, error: RateLimitError) -> None:
        """Have a refused window go first, once Mixpanel takes requests again."""
        if not self._stopped:
            self._notify(Refused(task.window, error))
        with self._changed:
            now, others = self._clock.monotonic(), self._under_way - 1
            pause = self._refusals.refuse(task.requested, now, error, others=others)
            task.due = 0.0
            task.refused += 1
            heapq.heappush(self._pausing, task)
            if pause is None:
                self._final = in_vain(error)
            self._changed.notify_all()
        if pause and not self._stopped:
            self._wait_for_hour(pause, error)

    def _end_run(self, where: str, error: BaseException) -> None:
        """Start nothing any more, and have the run end with this error."""
        self._stop()
        if not isinstance(error, TapError):
            unknown = UnknownError(where, error)
            unknown.__cause__ = error
            error = unknown
        self._arrivals.put(error)
