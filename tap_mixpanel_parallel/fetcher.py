"""The bounded executor: windows in, downloads out in completion order.

Worker threads do I/O only. The thread that drives the run asks for the next outcome and
settles it, or rejects a body that turns out to be incomplete; then it is fetched again.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from tenacity import Retrying, retry_if_exception_type

from tap_mixpanel_parallel.exceptions import (
    AttemptError,
    RateLimitError,
    TapError,
    ThreadError,
    drop_frames,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tenacity import RetryCallState

    from tap_mixpanel_parallel.client import Download, ExportClient
    from tap_mixpanel_parallel.limits import RateLimit
    from tap_mixpanel_parallel.windows import Window

_AHEAD: Final = 2
"""Windows that are under way or wait to be emitted, for each worker."""

_GROWTH: Final = 3


@dataclass(slots=True, eq=False)
class Task:
    """A window on its way.

    Attributes:
        window: Its days.
        attempts: How often it has been requested.
        started: When its first request began; seconds of the fetcher's clock.
        requested: When the current request began.
        received: Bytes of the current request so far.
        rejected: Why the last body was not taken, until the next attempt.
        malformed: A digest of the last body's lines that were no events, where they may be
            let pass.
    """

    window: Window
    attempts: int = 0
    started: float = 0.0
    requested: float = 0.0
    received: int = 0
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


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a window is tried, and how long the pauses are.

    Attributes:
        max_attempts: Requests for one window in one run.
        first_pause: Seconds; each further pause is three times as long.
        first_limited_pause: The same after a 429, whose hourly limit frees up slowly.
        longest_pause: Seconds.
        longest_limited_pause: Seconds, whatever a 429 says: no limit lasts over an hour.
        jitter: Seconds added to each pause, so that workers don't come back together.
        on_retry: Called, by the thread that fetches, with a task whose attempt has failed,
            why, and the seconds until the next.
    """

    max_attempts: int = 5
    first_pause: float = 1.0
    first_limited_pause: float = 5.0
    longest_pause: float = 300.0
    longest_limited_pause: float = 3700.0
    jitter: Callable[[], float] = random.random
    on_retry: Callable[[Task, BaseException, float], None] = lambda *_: None

    def pause(self, attempts: int, error: BaseException | None) -> float:
        """Seconds to wait before the next attempt.

        Args:
            attempts: How often the window has been requested.
            error: Why the last attempt failed; a 429 may say how long to wait.
        """
        first = self.first_pause
        if isinstance(error, RateLimitError):
            if error.retry_after is not None:
                return min(error.retry_after, self.longest_limited_pause) + self.jitter()
            first = self.first_limited_pause
        pause: float = first * _GROWTH ** (attempts - 1)
        return min(pause, self.longest_pause) + self.jitter()


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

    def _feed(self) -> None:
        if self._waiting:
            self._tasks.put(self._waiting.popleft())

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                outcome = Outcome(task, download=self._retrying(task)(self._attempt, task))
            except _Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - the driving thread raises it
                outcome = Outcome(task, error=error)
            self._outcomes.put(outcome)

    def _retrying(self, task: Task) -> Retrying:
        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if error is not None and not self._stop.is_set():
                self._policy.on_retry(task, error, state.upcoming_sleep)

        return Retrying(
            retry=retry_if_exception_type(AttemptError),
            stop=lambda _: task.attempts >= self._policy.max_attempts,
            wait=lambda state: self._policy.pause(
                task.attempts, state.outcome.exception() if state.outcome else None
            ),
            before_sleep=tell,
            sleep=self._sleep,
            reraise=True,
        )

    def _attempt(self, task: Task) -> Download:
        if task.rejected is not None:
            error, task.rejected = task.rejected, None
            raise error
        while wait := self._limit.acquire():
            self._sleep(wait)
        if self._stop.is_set():
            raise _Stopped
        task.attempts += 1
        task.received = 0
        task.requested = self._clock()
        task.started = task.started or task.requested
        path = self._folder / f"{task.window}.{task.attempts}.body"

        def count(size: int) -> None:
            task.received += size

        self._active.add(task)
        try:
            return self._client.download(task.window, path, limit=self._event_limit, on_bytes=count)
        except TapError:
            path.unlink(missing_ok=True)
            raise
        finally:
            self._active.discard(task)

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopped
