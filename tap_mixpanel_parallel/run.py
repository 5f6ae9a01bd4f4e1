"""A run, the data's way: plan, fetch, convert, write, checkpoint."""

from __future__ import annotations

from concurrent.futures import wait
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.convert.conversion import Conversion, ConversionOptions
from tap_mixpanel_parallel.convert.processes import Prepared
from tap_mixpanel_parallel.exceptions import (
    AttemptError,
    ClockError,
    LaterThanTodayError,
    OutputError,
    ReaderGoneError,
    SpoolError,
    TapError,
    TerminatedError,
)
from tap_mixpanel_parallel.fetch.client import download
from tap_mixpanel_parallel.fetch.connection import Connections
from tap_mixpanel_parallel.fetch.hourly import Limits
from tap_mixpanel_parallel.fetch.job import Job
from tap_mixpanel_parallel.fetch.retries import RetryPolicy
from tap_mixpanel_parallel.fetch.scheduler import Scheduler
from tap_mixpanel_parallel.fetch.threads import LOOK_UP_SECONDS, DaemonThreads
from tap_mixpanel_parallel.plan.state import ExportState, FailedWindow
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.observers import Converted, Failed, LeftOut
from tap_mixpanel_parallel.write.quarantine import Quarantine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from datetime import date, datetime
    from pathlib import Path

    from tap_mixpanel_parallel.clock import Clock
    from tap_mixpanel_parallel.convert.conversion import Part
    from tap_mixpanel_parallel.convert.files import Format
    from tap_mixpanel_parallel.convert.processes import Processes
    from tap_mixpanel_parallel.fetch.job import Arrival, Download, Query
    from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
    from tap_mixpanel_parallel.machines.cluster import Cluster
    from tap_mixpanel_parallel.report.observers import Observer
    from tap_mixpanel_parallel.settings.settings import Settings
    from tap_mixpanel_parallel.write.output import Output, Written

_LONGEST_ERROR: Final = 400
"""Characters of an error that the state keeps."""


@dataclass(frozen=True, slots=True)
class Way:
    """How events leave.

    Attributes:
        form: What the records of a window become, by when it was received.
        output: Where parts and states go; told whom to notify of each.
        store: Has the files of a part stored; None if records leave as messages.
        processes: Convert bodies as they arrive; None leaves it to the run's own process.
        cluster: Makes attempts on other machines; None leaves them to this one.
    """

    form: Callable[[datetime], Format]
    output: Callable[[Callable[[Written], None]], Output]
    store: Callable[[Part], Part] | None = None
    processes: Processes | None = None
    cluster: Cluster | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run works with.

    Attributes:
        folder: Where windows wait on disk.
        limit: Counts the starts of requests.
        clock: The time.
        notify: Told of what happens.
        redact: What an error says, in a line without secrets.
    """

    folder: Path
    limit: RateLimit
    clock: Clock
    notify: Observer
    redact: Callable[[BaseException], str]


class Run:
    """One run over a list of windows.

    Attributes:
        state: What is loaded, once all that is on its way has left.
    """

    def __init__(
        self, settings: Settings, state: ExportState, way: Way, surroundings: Surroundings
    ) -> None:
        """Prepare a run.

        Args:
            settings: The checked settings.
            state: What is loaded so far.
            way: How events leave.
            surroundings: What the run works with.
        """
        self.state = state
        self._settings = settings
        self._way = way
        self._with = surroundings
        self._today = settings.today
        self._output = way.output(surroundings.notify)
        self._connections = Connections()
        self._quarantine = Quarantine(settings)
        self._options = ConversionOptions.of(settings)

    def parts(self, windows: Sequence[Window], query: Query) -> Iterator[Part]:
        """Fetch the windows; convert, write and checkpoint each as it arrives.

        Args:
            windows: The plan.
            query: What is asked of each window.

        Yields:
            Each part, as it begins to leave.

        Raises:
            TapError: If the run can't go on; what it has written is checkpointed.
        """
        with (
            closing(self._output),
            self._connections,
            self._fetch(windows, query) as scheduler,
        ):
            try:
                for arrival in self._arrivals(scheduler):
                    if arrival.download is None:
                        self._output.flush()  # windows end in the order in which they arrive
                        self._fail(arrival, scheduler)
                        continue
                    try:
                        part = self._convert(arrival.window, arrival.download)
                    except AttemptError as error:
                        scheduler.retry(arrival, error)
                        continue
                    self.state = self.state.finish(
                        part.window,
                        today=self._day_of(arrival.download),
                        lookback_days=self._settings.lookback_days,
                        stored=part.stored,
                    )
                    self._output.begin(arrival, part, self.state)
                    scheduler.task_done(arrival)
                    yield part
                self._output.flush()
            except (OutputError, ReaderGoneError, TerminatedError):
                raise
            except TapError:
                self._output.flush()
                raise

    def _arrivals(self, scheduler: Scheduler) -> Iterator[Arrival]:
        """Windows as they come; while none comes, what is on its way is written."""
        while not scheduler.is_done:
            self._output.check()
            arrival = scheduler.next(timeout=0.0 if self._output.is_busy else LOOK_UP_SECONDS)
            if arrival is not None:
                yield arrival
            else:
                self._output.write_piece()

    def _fetch(self, windows: Sequence[Window], query: Query) -> Scheduler:
        def make_job(window: Window, attempt: int) -> Job:
            return Job(window, query, self._with.folder / f"{window}.{attempt}.body")

        submit: Callable[[Job], Future[Download]] = partial(DaemonThreads().submit, self._attempt)
        slots: Callable[[], int] | None = None
        if (cluster := self._way.cluster) is not None:
            cluster.watch(self._with.notify, self._with.limit.begin)
            submit, slots = cluster.submit, cluster.slots
        return Scheduler(
            windows,
            make_job,
            submit,
            Limits(
                self._settings.concurrency,
                self._with.limit,
                RetryPolicy(self._settings.max_attempts),
                waits=self._settings.on_hourly_limit == "wait",
                slots=slots,
            ),
            notify=self._with.notify,
            clock=self._with.clock,
        )

    def _attempt(self, job: Job) -> Download:
        """One attempt at a window; done by a thread, and by a process that it waits for."""
        body = download(job, self._connections)
        if self._way.processes is None:
            return body
        form = self._way.form(body.received_at)
        return self._way.processes.convert(job.window, body, self._options, form)

    def _convert(self, window: Window, body: Download) -> Part:
        """Turn a body into a part, while the part before it leaves."""
        started = self._with.clock.monotonic()
        try:
            try:
                part = self._work_through(window, body)
            except SpoolError:
                if not self._output.flush():  # what has left makes room
                    raise
                part = self._work_through(window, body)
        finally:
            body.path.unlink(missing_ok=True)
        try:
            quarantine = self._quarantine.keep(part)
        except AttemptError:
            part.discard()
            raise
        part = self._store(part)
        self._with.notify(Converted(part, quarantine, self._with.clock.monotonic() - started))
        return part

    def _work_through(self, window: Window, body: Download) -> Part:
        if isinstance(body, Prepared):
            return body.part
        conversion = Conversion(window, body, self._options, self._way.form(body.received_at))
        for _ in conversion:
            self._output.write_pending()
        return conversion.part

    def _store(self, part: Part) -> Part:
        """Have a part's files stored, while the part before it leaves."""
        if self._way.store is None:
            return part
        stored: Future[Part] = DaemonThreads().submit(self._way.store, part)
        while not wait([stored], LOOK_UP_SECONDS).done:
            self._output.write_pending()
        return stored.result()

    def _day_of(self, body: Download) -> date:
        """The project's day on which a body was made, by this clock or by Mixpanel's.

        The earlier one counts: a day that is not over must not count as loaded.
        """
        if body.answered_at is None:
            return self._today
        return min(self._today, body.answered_at.astimezone(self._settings.project_timezone).date())

    def _fail(self, arrival: Arrival, scheduler: Scheduler) -> None:
        """Count a window as failed, or fetch it without a day that has not begun."""
        if isinstance(arrival.error, LaterThanTodayError):
            self._leave_out_today(arrival, arrival.error, scheduler)
            return
        reason = self._with.redact(arrival.error) if arrival.error else ""
        failure = FailedWindow(
            window=arrival.window,
            attempts=arrival.attempts,
            error=reason[:_LONGEST_ERROR],
            failed_at=f"{self._with.clock.now():%Y-%m-%dT%H:%M:%SZ}",
        )
        self.state = self.state.fail(failure)
        self._output.write_state(self.state)
        self._with.notify(Failed(arrival, reason))
        scheduler.task_done(arrival)

    def _leave_out_today(
        self, arrival: Arrival, error: LaterThanTodayError, scheduler: Scheduler
    ) -> None:
        """Read a window without today, which has not begun by Mixpanel's clock.

        Raises:
            ClockError: If the clocks are further apart than that.
        """
        today, window = self._settings.today, arrival.window
        now = f"{self._with.clock.now():%Y-%m-%dT%H:%M:%SZ}"
        zone = self._settings.project_timezone
        reason = (
            f"{self._with.redact(error)}: it is {now} by that clock, "
            f"so {self._with.clock.today(zone)} in {zone.key}"
        )
        if window.last != today:
            raise ClockError(reason)
        # The day before is Mixpanel's today: it goes on, so it is not loaded.
        self._today = today - timedelta(days=1)
        self.state = self.state.forget(Window(self._today, today))
        self._output.write_state(self.state)
        rest = Window(window.first, self._today) if len(window) > 1 else None
        self._with.notify(LeftOut(arrival, rest, reason))
        if rest is not None:
            scheduler.shorten(arrival, rest)
        else:
            scheduler.task_done(arrival)
