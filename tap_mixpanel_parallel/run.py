"""A run, the data's way: plan, fetch, emit, checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from tap_mixpanel_parallel.convert.preparation import Preparation
from tap_mixpanel_parallel.exceptions import (
    AttemptError,
    LaterThanTodayError,
    OutputError,
    ReaderGoneError,
    RefusedError,
    TapError,
    TerminatedError,
)
from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
from tap_mixpanel_parallel.fetch.redaction import Redactor
from tap_mixpanel_parallel.fetch.retries import RetryPolicy
from tap_mixpanel_parallel.fetch.scheduler import Fetcher
from tap_mixpanel_parallel.plan.state import ExportState, FailedWindow
from tap_mixpanel_parallel.plan.windows import Window, subtract
from tap_mixpanel_parallel.report.results import BatchResult, ParallelFetchResult, Reporter
from tap_mixpanel_parallel.wording import format_seconds, printable
from tap_mixpanel_parallel.write.emission import Exit, Outlet, PreparedWindow

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence
    from datetime import datetime

    from tap_mixpanel_parallel.clock import Clock
    from tap_mixpanel_parallel.convert.conversion import Encode
    from tap_mixpanel_parallel.fetch.client import ExportClient
    from tap_mixpanel_parallel.fetch.scheduler import Outcome, Task
    from tap_mixpanel_parallel.fetch.spool import Spool
    from tap_mixpanel_parallel.report.results import BatchProgress
    from tap_mixpanel_parallel.settings.settings import Settings

_LOOK_UP_SECONDS: Final = 0.5
"""How often a run that waits for windows looks whether its reader is still there."""

_LONGEST_ERROR: Final = 400
"""Characters of an error that the state keeps."""


Watch = Callable[[Fetcher, Reporter], AbstractContextManager[None]]
"""Shows what is under way and what has ended."""


class Emitter(Outlet, Protocol):
    """Makes a run's messages, and passes them on."""

    def encoder(self, time_extracted: datetime) -> Encode:
        """How the records of a window become messages."""

    def checkpoint(self, state: ExportState) -> None:
        """Pass on the state: what was emitted before is what it says."""

    def check(self) -> None:
        """Raise if the run should end: by a signal, or since nobody reads."""


class Export:
    """One run over a list of windows."""

    def __init__(
        self,
        settings: Settings,
        state: ExportState,
        emitter: Emitter,
        *,
        clock: Clock,
        logger: logging.Logger,
    ) -> None:
        """Prepare a run.

        Args:
            settings: The checked settings.
            state: What is loaded so far.
            emitter: Where the messages go.
            clock: The time.
            logger: Where the lines for people go.
        """
        self.state = state
        self._settings = settings
        self._emitter = emitter
        self._today = settings.today
        self._clock = clock
        self._logger = logger
        self._redact = Redactor(settings.credentials)
        self._exit = Exit(emitter, on_left=self._settle)
        self._preparation = Preparation(
            settings, emitter.encoder, logger, check=self._pump, make_room=self._exit.drain
        )
        self._fetcher: Fetcher | None = None
        self._reporter: Reporter | None = None

    def run(
        self,
        windows: Sequence[Window],
        client: ExportClient,
        spool: Spool,
        *,
        on_batch_complete: Callable[[BatchProgress], None] | None = None,
        watch: Watch = lambda *_: nullcontext(),
    ) -> ParallelFetchResult:
        """Fetch the windows, and emit and checkpoint each as it arrives.

        Args:
            windows: The plan.
            client: Makes the requests.
            spool: Where windows wait.
            on_batch_complete: Called as each window ends.
            watch: Shows the run while it goes on.

        Returns:
            What was loaded and what failed.

        Raises:
            TapError: If the run can't go on; what it emitted is checkpointed.
        """
        reporter = self._reporter = Reporter(
            self._logger,
            total=len(windows),
            clock=self._clock.monotonic,
            held=lambda: self._fetcher.held if self._fetcher else 0.0,
            on_batch_complete=on_batch_complete,
        )
        with self._fetch(windows, client, spool) as fetcher, watch(fetcher, reporter):
            self._drive(fetcher)
        return reporter.finish()

    def sample(self, client: ExportClient, spool: Spool, *, limit: int) -> None:
        """Fetch and emit a few events of one day, to see that it works.

        Args:
            client: Makes the requests.
            spool: Where the day waits.
            limit: How many events.

        Raises:
            TapError: If it does not work.
        """
        day = Window(self._settings.wanted.first, self._settings.wanted.first)
        with self._fetch([day], client, spool, event_limit=limit) as fetcher:
            sampled = Exit(self._emitter, on_left=lambda _: fetcher.settle())
            while not fetcher.is_done:
                self._emitter.check()
                outcome = fetcher.next(timeout=_LOOK_UP_SECONDS)
                if outcome is None:
                    continue
                if outcome.error is not None:
                    raise outcome.error
                if (window := self._prepare(outcome, fetcher)) is not None:
                    sampled.begin(window)
                    sampled.drain()
        self._emitter.checkpoint(self.state)

    def wake(self) -> None:
        """Look up from waiting for windows; safe in a signal handler."""
        if self._fetcher is not None:
            self._fetcher.wake()

    def _fetch(
        self,
        windows: Sequence[Window],
        client: ExportClient,
        spool: Spool,
        *,
        event_limit: int | None = None,
    ) -> Fetcher:
        settings = self._settings
        self._fetcher = Fetcher(
            client,
            windows,
            folder=spool.path,
            limit=RateLimit(
                per_second=settings.requests_per_second,
                per_hour=settings.requests_per_hour,
                clock=self._clock.monotonic,
                on_long_wait=self._tell_wait,
            ),
            workers=settings.concurrency,
            policy=RetryPolicy(settings.max_attempts, on_retry=self._warn),
            clock=self._clock.monotonic,
            event_limit=event_limit,
        )
        return self._fetcher

    def _warn(self, task: Task, error: BaseException, pause: float) -> None:
        self._logger.warning(
            "%s: attempt %d of %d failed: %s; again in %s",
            task.window,
            task.attempts,
            self._settings.max_attempts,
            self._reason(error),
            format_seconds(pause),
        )

    def _tell_wait(self, seconds: float) -> None:
        self._logger.info(
            "%d requests have started within an hour, as many as requests_per_hour allows: "
            "the next starts in %s",
            self._settings.requests_per_hour,
            format_seconds(seconds),
        )

    def _reason(self, error: BaseException) -> str:
        """What an error says, in one line: of a line of the export, it comes from the server."""
        return self._redact(printable(" ".join(str(error).split())))

    def _drive(self, fetcher: Fetcher) -> None:
        """Take what arrives; while nothing does, pass on what is prepared."""
        try:
            while not fetcher.is_done:
                self._emitter.check()
                if self._reporter is not None:
                    self._reporter.look(fetcher.active)
                wait = 0.0 if self._exit.is_busy else _LOOK_UP_SECONDS
                if (outcome := fetcher.next(timeout=wait)) is not None:
                    self._take(outcome, fetcher)
                else:
                    self._exit.advance()
        except (OutputError, ReaderGoneError, TerminatedError):
            raise
        except TapError:
            self._exit.drain()
            raise
        finally:
            self._exit.close()

    def _take(self, outcome: Outcome, fetcher: Fetcher) -> None:
        """Begin to emit what has come of a window, or try it again, or count it as failed."""
        task = outcome.task
        if isinstance(outcome.error, LaterThanTodayError):
            self._exit.drain()
            self._leave_out_today(task, outcome.error, fetcher)
        elif outcome.error is not None:
            self._exit.drain()  # windows end in the order in which they arrived
            self._end(self._fail(task, outcome.error))
        elif (window := self._prepare(outcome, fetcher)) is not None:
            self._exit.begin(window)

    def _leave_out_today(self, task: Task, error: LaterThanTodayError, fetcher: Fetcher) -> None:
        """Read a window without today, which has not begun by Mixpanel's clock.

        Raises:
            RefusedError: If the clocks are further apart than that.
        """
        today = self._settings.today
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        zone = self._settings.project_timezone.key
        reason = f"{self._reason(error)}: it is {now} by that clock, so {today} in {zone}"
        if task.window.last != today:
            raise RefusedError(reason)
        self._logger.warning("%s: %s is left out. %s", task.window, today, reason)
        # The day before is Mixpanel's today: it goes on, so it is not loaded.
        self._today = today - timedelta(days=1)
        loaded = subtract(self.state.loaded, [Window(self._today, today)])
        self.state = replace(self.state, loaded=loaded)
        self._emitter.checkpoint(self.state)
        if len(task.window) > 1:
            fetcher.shorten(task)
        else:
            self._end(self._result(task))

    def _pump(self) -> None:
        """While a window is prepared, the one before it leaves as fast as it is taken.

        So a loader never waits for the work on the next window.
        """
        self._emitter.check()
        self._exit.offer()

    def _settle(self, window: PreparedWindow) -> None:
        """A window is emitted: checkpoint it."""
        self.state = self.state.finish(
            window.task.window,
            today=self._today,
            lookback_days=self._settings.lookback_days,
        )
        self._emitter.checkpoint(self.state)
        self._end(
            self._result(
                window.task,
                events=window.prepared.events,
                size=window.size,
                quarantined=window.prepared.left_out,
            )
        )

    def _end(self, result: BatchResult) -> None:
        """A window has come to its end: fetch on, and tell."""
        if self._fetcher is not None:
            self._fetcher.settle()
        if self._reporter is not None:
            self._reporter.batch(result)

    def _prepare(self, outcome: Outcome, fetcher: Fetcher) -> PreparedWindow | None:
        """Turn a body into messages, or reject it."""
        task, download = outcome.task, outcome.download
        if download is None:
            raise ValueError("an outcome without an error has a download")
        try:
            prepared = self._preparation.prepare(task, download)
            return PreparedWindow(task, prepared, download.size)
        except AttemptError as error:
            fetcher.reject(task, error)
            return None

    def _fail(self, task: Task, error: BaseException) -> BatchResult:
        reason = self._reason(error)
        failure = FailedWindow(
            window=task.window,
            attempts=task.attempts,
            error=reason[:_LONGEST_ERROR],
            failed_at=self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        self.state = self.state.fail(failure)
        self._emitter.checkpoint(self.state)
        return self._result(task, error=reason)

    def _result(
        self,
        task: Task,
        *,
        events: int = 0,
        size: int = 0,
        quarantined: int = 0,
        error: str | None = None,
    ) -> BatchResult:
        return BatchResult(
            window=task.window,
            events=events,
            size=size,
            seconds=self._clock.monotonic() - task.started if task.started else 0.0,
            attempts=task.attempts,
            error=error,
            quarantined=quarantined,
        )
