"""An export of the stream: what its run reads, how events leave, and who is told."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.exceptions import ExportFailedError, HourlyLimitError, TapError
from tap_mixpanel_parallel.fetch.redaction import Redactor
from tap_mixpanel_parallel.fetch.spool import Spool
from tap_mixpanel_parallel.forms import as_messages
from tap_mixpanel_parallel.plan.bookmark import read_state
from tap_mixpanel_parallel.plan.state import ExportState
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.log import LogLines
from tap_mixpanel_parallel.report.notebook import wanted_display
from tap_mixpanel_parallel.report.observers import notify_each
from tap_mixpanel_parallel.report.progress import Completions, Progress
from tap_mixpanel_parallel.run import Run, Surroundings
from tap_mixpanel_parallel.settings.shown import shown_settings
from tap_mixpanel_parallel.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Part
    from tap_mixpanel_parallel.fetch.job import Query
    from tap_mixpanel_parallel.report.observers import Observer
    from tap_mixpanel_parallel.report.results import ParallelFetchResult
    from tap_mixpanel_parallel.run import Way
    from tap_mixpanel_parallel.settings.settings import Settings
    from tap_mixpanel_parallel.streams import EventsStream


def load_parts(stream: EventsStream, make_way: Callable[[Path], Way]) -> Iterator[Part]:
    """Fetch everything that is left to do, for a program to take part by part.

    The tap's state says that a part is loaded once the next is asked for. If the stream is not
    selected, there is nothing to do.

    Args:
        stream: The stream.
        make_way: How events leave, by the folder where they wait.

    Raises:
        ExportFailedError: As `EventsStream.sync` does, after the last part.
        TapError: If the run can't go on.
    """
    if not stream.selected:
        return
    stream.tell_warnings()
    with reported(stream), opened(stream, stream.begin()) as export:
        yield from export.parts(nullcontext(make_way(export.folder)))


def look_at(stream: EventsStream, window: Window, way: Way) -> Iterator[Part]:
    """Fetch some days with one request, whatever is loaded, and leave the state as it is.

    Args:
        stream: The stream.
        window: The days.
        way: How events leave.

    Raises:
        TapError: If they can't be had.
    """
    stream.tell_warnings()
    with opened(stream, ExportState()) as export:
        yield from export.look(window, way)


@contextmanager
def opened(stream: EventsStream, state: ExportState) -> Iterator[Export]:
    """Open what an export reads, and the folder where windows wait.

    Args:
        stream: The stream.
        state: What is loaded.

    Raises:
        TapError: If one of them can't be opened.
    """
    settings = stream.settings
    with open_source(settings) as query, Spool(settings.spool_dir) as spool:
        yield Export(stream, settings, state, query, spool.path)


@contextmanager
def reported(stream: EventsStream) -> Iterator[None]:
    """Have the setting `report`, if it is set, tell of what the block does.

    Raises:
        TapError: If the report can't be written as the block begins.
    """
    tap, settings = stream.tap, stream.tap.settings
    if settings.report is None:
        yield
        return
    # Rarely needed, and slow to import.
    from tap_mixpanel_parallel.report.page.run_report import (  # noqa: PLC0415
        About,
        RunReport,
    )

    redact = Redactor(settings.credentials)
    report = RunReport(
        settings.report,
        About(settings, shown_settings(tap.config, settings, redact), stream.command),
        lambda: read_state(tap.state, stream.name),
        redact.reason,
        tap.clock,
        stream.logger,
    )
    with report as stream.report:
        yield


@dataclass(frozen=True)
class Export:
    """An export that can begin.

    Attributes:
        stream: The stream.
        settings: Its settings.
        state: What is loaded.
        query: What is asked of each window.
        folder: Where windows wait on disk.
    """

    stream: EventsStream
    settings: Settings
    state: ExportState
    query: Query
    folder: Path

    def load(self) -> None:
        """Load everything that is left to do, as messages or files.

        Raises:
            ExportFailedError: If windows failed and `on_failed_window` is `fail`, or if
                all failed.
            TapError: If the run can't go on.
        """
        for _ in self.parts(self.stream.way(self.settings, self.state, self.folder)):
            pass

    def parts(self, how: AbstractContextManager[Way]) -> Iterator[Part]:
        """Do the same in another way, and give each part as it begins to leave.

        Args:
            how: How events leave.
        """
        stream = self.stream
        plan = stream.plan(self.state)
        stream.logger.info(plan.summary)
        for warning in plan.warnings:
            stream.logger.warning(warning)
        if stream.report is not None:
            stream.report.plan = plan
        windows = [planned.window for planned in plan.windows]
        display = wanted_display()
        with how as way:
            progress, log, run = self._prepare(
                self.settings, windows, way, quiet=display is not None
            )
            stream.progress = progress
            with log.beating(), display(progress) if display else nullcontext():
                yield from run.parts(windows, self.query)
        log.sum_up()
        stream.result = result = progress.result
        _judge(self.settings, result)

    def look(self, window: Window, way: Way) -> Iterator[Part]:
        """Fetch some days with one request, and leave the state as it is.

        Args:
            window: The days.
            way: How events leave.

        Raises:
            TapError: If they can't be had.
        """
        # Who looks does not wait for an hour, and needs no column.
        settings = replace(self.settings, on_hourly_limit="fail", property_columns=())
        yield from self._fetch_once(settings, window, way, self.query)

    def sample(self, count: int) -> None:
        """Fetch and write a few events of one day, to see that requests work.

        Args:
            count: How many events are asked for.

        Raises:
            TapError: If they can't be had.
        """
        day = Window(self.settings.wanted.first, self.settings.wanted.first)
        # One event is not the day: a run never marks what comes after its today as loaded.
        # A test of the settings does not wait for an hour either.
        today = day.first - timedelta(days=1)
        settings = replace(self.settings, today=today, on_hourly_limit="fail")
        query = replace(self.query, event_limit=count)
        for _ in self._fetch_once(settings, day, as_messages(self.stream, settings), query):
            pass
        self.stream.logger.info("the settings and the credentials work")

    def _fetch_once(
        self, settings: Settings, window: Window, way: Way, query: Query
    ) -> Iterator[Part]:
        display = wanted_display()
        progress, _, run = self._prepare(settings, [window], way, quiet=True)
        try:
            with display(progress) if display else nullcontext():
                yield from run.parts([window], query)
        except HourlyLimitError as limit:
            raise HourlyLimitError(limit.reason, "Try again then") from None
        for batch in progress.result.failed:
            error = TapError(batch.error or "")
            error.read_on = batch.read_on or error.read_on
            raise error

    def _prepare(
        self, settings: Settings, windows: Sequence[Window], way: Way, *, quiet: bool
    ) -> tuple[Progress, LogLines, Run]:
        """A run, and the observers that others ask."""
        stream, clock = self.stream, self.stream.tap.clock
        redact = Redactor(settings.credentials).reason
        limit = stream.rate_limit(self.state)
        progress = Progress(windows, settings, limit, clock)
        log = LogLines(stream.logger, progress, settings, redact, quiet=quiet)
        observers: list[Observer] = [progress, log, Completions(progress, stream.measure)]
        if (on_batch_complete := stream.tap.on_batch_complete) is not None:
            observers.append(Completions(progress, on_batch_complete))
        if stream.report is not None:
            observers.append(stream.report)
        surroundings = Surroundings(self.folder, limit, clock, notify_each(*observers), redact)
        return progress, log, Run(settings, self.state, way, surroundings)


def _judge(settings: Settings, result: ParallelFetchResult) -> None:
    """Fail the run if it did not do what it was to do."""
    failed = len(result.failed)
    windows = "the only window" if failed == 1 else f"all {failed} windows"
    if failed and failed == len(result.batches):
        raise ExportFailedError(
            f"no data was retrieved: {windows} failed, the first with: {result.failed[0].error}",
            result,
        )
    if failed and settings.on_failed_window == "fail":
        raise ExportFailedError(
            f"{failed} of {len(result.batches)} windows failed and are not loaded; "
            "run again with this state to read them",
            result,
        )
