"""The bounded executor: windows in, downloads out in completion order.

Worker threads do I/O only. The thread that drives the run asks for the next outcome and
settles it, or rejects a body that turns out to be incomplete; then it is fetched again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self

from tenacity import Retrying, retry_if_exception_type

from tap_mixpanel_parallel.exceptions import (
    AttemptError,
    TapError,
    ThreadError,
    UnknownError,
    drop_frames,
)
from tap_mixpanel_parallel.plan.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tenacity import RetryCallState

    from tap_mixpanel_parallel.fetch.client import Download, ExportClient
    from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
    from tap_mixpanel_parallel.fetch.retries import RetryPolicy

_AHEAD: Final = 2
"""Windows that are under way or wait to be emitted, for each worker."""

_DOUBT_SECONDS: Final = 0.05


@dataclass(slots=True, eq=False)
class Task:
    """A window on its way.

    Attributes:
        window: Its days.
        attempts: How often it has been requested.
        started: When its first request began; seconds of the fetcher's clock.
        requested: When the current request began.
        received: Bytes of the current request so far.
        told: How often a person was told that the current request takes long.
        rejected: Why the last body was not taken, until the next attempt.
        malformed: A digest of the last body's lines that were no events, where they may be
            let pass.
    """

    window: Window
    attempts: int = 0
    started: float = 0.0
    requested: float = 0.0
    received: int = 0
    told: int = 0
    rejected: AttemptError | None = None
    malformed: bytes = b""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task: a download, or the error of its last attempt."""

    task: Task
    download: Download | None = None
    error: BaseException | None = None


class _Stopped(BaseException):
    """The fetcher is closed; the thread ends."""


class Fetcher:
    """Fetches windows with a bounded number of threads. Context manager."""

    def __init__(
        self,
        client: ExportClient,
        windows: Sequence[Window],
        *,
        folder: Path,
        limit: RateLimit,
        workers: int,
        policy: RetryPolicy,
        clock: Callable[[], float] = time.monotonic,
        event_limit: int | None = None,
    ) -> None:
        """Prepare to fetch; entering the context starts.

        Args:
            client: Makes the requests.
            windows: What to fetch, first things first.
            folder: Where bodies are written.
            limit: Counts the requests' starts.
            workers: How many requests run at once.
            policy: When to try again.
            clock: Seconds that only ever grow.
            event_limit: At most so many events of each window.
        """
        self._client = client
        self._folder = folder
        self._limit = limit
        self._policy = policy
        self._clock = clock
        self._event_limit = event_limit
        self._all = [Task(window) for window in windows]
        self._waiting = deque(self._all)
        self._unsettled = len(self._all)
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._active: set[Task] = set()
        self._doubtful: set[Task] = set()
        self._stop = threading.Event()
        self._workers = min(workers, len(self._waiting))

    def __enter__(self) -> Self:
        """Start fetching.

        Raises:
            ThreadError: If not all threads can be started.
        """
        for _ in range(self._workers * _AHEAD):
            self._feed()
        for number in range(self._workers):
            # Daemons: a request that waits for its first byte must not keep the process.
            thread = threading.Thread(target=self._work, name=f"fetch-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self.__exit__()
                raise ThreadError(error) from None
        return self

    def __exit__(self, *_error: object) -> None:
        """Start no further request; what is under way is left behind."""
        self._stop.set()
        for _ in range(self._workers):
            self._tasks.put(None)

    @property
    def is_done(self) -> bool:
        """Whether every window is settled."""
        return self._unsettled == 0

    @property
    def active(self) -> list[Task]:
        """The tasks whose requests are under way."""
        return list(self._active)

    @property
    def held(self) -> float:
        """Seconds for which the hourly limit holds back the last first request at least."""
        return self._limit.seconds_until(sum(not task.attempts for task in self._all))

    @property
    def next_start(self) -> float:
        """Seconds until the hourly limit lets the next request start."""
        return self._limit.seconds_until(1)

    def next(self, timeout: float) -> Outcome | None:
        """The next outcome.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            None if there is none yet, or if `wake` was called.

        Raises:
            TapError: If an error makes all other windows pointless.
        """
        try:
            outcome = self._outcomes.get(timeout=timeout)
        except queue.Empty:
            return None
        if outcome is not None and not isinstance(outcome.error, (AttemptError, type(None))):
            raise outcome.error
        return outcome

    def wake(self) -> None:
        """Make `next` return; safe in a signal handler."""
        self._outcomes.put(None)

    def settle(self) -> None:
        """A window is emitted, or has failed for good: fetch on."""
        self._unsettled -= 1
        self._feed()

    def reject(self, task: Task, error: AttemptError) -> None:
        """A body is not what it should be: try again, or fail with this error."""
        drop_frames(error)
        task.rejected = error
        self._tasks.put(task)

    def shorten(self, task: Task) -> None:
        """Fetch a window of several days again, without its last day."""
        task.window = Window(task.window.first, task.window.last - timedelta(days=1))
        task.attempts = 0
        self._tasks.put(task)

    def _feed(self) -> None:
        if self._waiting:
            self._tasks.put(self._waiting.popleft())

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                outcome = Outcome(task, download=self._retrying(task)(self._attempt, task))
            except _Stopped:
                return
            except AttemptError as error:
                outcome = Outcome(task, error=error)
            except BaseException as error:  # noqa: BLE001 - the driving thread raises it
                self._stop.set()  # before that thread gets to it, others would start requests
                outcome = Outcome(task, error=_known(task, error))
            self._outcomes.put(outcome)

    def _retrying(self, task: Task) -> Retrying:
        policy = self._policy

        def tell(state: RetryCallState) -> None:
            error = _error(state)
            if error is not None and not self._stop.is_set():
                policy.on_retry(task, error, state.upcoming_sleep)

        return Retrying(
            retry=retry_if_exception_type(AttemptError),
            stop=lambda state: policy.ends_with(task.attempts, _error(state)),
            wait=lambda state: policy.pause(task.attempts, _error(state)),
            before_sleep=tell,
            sleep=self._sleep,
            reraise=True,
        )

    def _seconds_to_start(self) -> float:
        """0 if a start is taken; none is while an answer is read that may refuse them all."""
        return _DOUBT_SECONDS if self._doubtful else self._limit.acquire()

    def _attempt(self, task: Task) -> Download:
        if task.rejected is not None:
            error, task.rejected = task.rejected, None
            raise error
        while wait := self._seconds_to_start():
            self._sleep(wait)
        if self._stop.is_set():
            raise _Stopped
        task.attempts += 1
        task.received = task.told = 0
        task.requested = self._clock()
        task.started = task.started or task.requested
        path = self._folder / f"{task.window}.{task.attempts}.body"

        def count(size: int) -> None:
            task.received += size

        self._active.add(task)
        try:
            return self._client.download(
                task.window,
                path,
                limit=self._event_limit,
                on_bytes=count,
                on_error=lambda: self._doubtful.add(task),
            )
        except TapError as error:
            if not isinstance(error, AttemptError):
                self._stop.set()  # at once: before the doubt goes, or others would start
            path.unlink(missing_ok=True)
            raise
        finally:
            self._active.discard(task)
            self._doubtful.discard(task)

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopped


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _known(task: Task, error: BaseException) -> TapError:
    """The error itself if it says what happened, else one that does."""
    if isinstance(error, TapError):
        return error
    unknown = UnknownError(str(task.window), error)
    unknown.__cause__ = error
    return unknown
