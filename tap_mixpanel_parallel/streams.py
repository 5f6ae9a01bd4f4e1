"""The stream `events`: its schema, and a run of it through the SDK."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from singer_sdk import Stream
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import SameRecordTransform
from singer_sdk.metrics import Metric, Point, Status, Tag

from tap_mixpanel_parallel.catalog import select
from tap_mixpanel_parallel.convert.columns import KEYWORDS, json_schema
from tap_mixpanel_parallel.exceptions import ExportFailedError, TapError, TerminatedError
from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
from tap_mixpanel_parallel.fetch.redaction import Redactor
from tap_mixpanel_parallel.fetch.spool import Spool
from tap_mixpanel_parallel.forms import as_files, as_messages
from tap_mixpanel_parallel.messages import StreamSink
from tap_mixpanel_parallel.plan.bookmark import check_fits, read_state, to_bookmark
from tap_mixpanel_parallel.plan.state import ExportState
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.log import LogLines
from tap_mixpanel_parallel.report.notebook import wanted_display
from tap_mixpanel_parallel.report.observers import notify_each
from tap_mixpanel_parallel.report.progress import Progress
from tap_mixpanel_parallel.run import Run, Surroundings
from tap_mixpanel_parallel.settings.reader import ConfigReader
from tap_mixpanel_parallel.settings.shown import shown_settings
from tap_mixpanel_parallel.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from singer_sdk.singerlib import Catalog, RecordMessage, SchemaMessage

    from tap_mixpanel_parallel.convert.conversion import Part
    from tap_mixpanel_parallel.fetch.job import Query
    from tap_mixpanel_parallel.forms import Way
    from tap_mixpanel_parallel.plan.plan import Plan
    from tap_mixpanel_parallel.report.observers import Observer
    from tap_mixpanel_parallel.report.page.run_report import RunReport
    from tap_mixpanel_parallel.report.results import BatchProgress, BatchResult, ParallelFetchResult
    from tap_mixpanel_parallel.settings.settings import Settings
    from tap_mixpanel_parallel.tap import TapMixpanelParallel

STREAM: Final = "events"


def properties_schema(config: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of `properties`."""
    if ConfigReader(config).choice("properties_format") == "object":
        return {"type": ["object", "null"], "description": "Every property, as Mixpanel exports it"}
    if config.get("flattening_enabled"):  # it would make an object of what follows
        return {"type": ["string", "null"], "description": "Every property, as JSON text"}
    # So that every loader keeps the text as it is. target-duckdb, and those that read schemas as
    # it does, go by the first keyword and its first type, and make a JSON column. The SDK's
    # loaders find no `type`, and make a text column; of a `type` with both names, target-postgres
    # makes jsonb, and encodes the text once more. No null: a stream map adds one.
    return {"oneOf": [{"type": "object"}, {"type": "string"}]}


class EventsStream(Stream):
    """All events of a project.

    Attributes:
        result: The outcome of the last `sync`; None before it.
        progress: Where the last `sync` stands, or has ended; None before its plan.
        is_running: Whether `sync` is under way.
        command: What a person types to run the same once more; empty if it is not known.
    """

    # Records are built to the schema; conforming them once more would only cost time.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(self, tap: TapMixpanelParallel) -> None:
        super().__init__(tap, schema=json_schema(properties_schema(tap.config)), name=STREAM)
        self.primary_keys = ["event_id"]
        self.replication_key = "time"
        self.result: ParallelFetchResult | None = None
        self.progress: Progress | None = None
        self.is_running = False
        self.command = ""
        self._mixpanel = tap
        self._limit: RateLimit | None = None
        self._report: RunReport | None = None

    def apply_catalog(self, catalog: Catalog) -> None:
        """Select what a catalog selects, and nothing else: see `read_catalog`."""
        select(self.metadata, catalog[self.name].metadata)

    def get_records(self, context: Mapping[str, Any] | None) -> Iterable[dict[str, Any]]:
        """Not used: windows arrive concurrently, so the stream has a `sync` of its own."""
        raise NotImplementedError

    def map_record(self, record: dict[str, Any]) -> Iterable[RecordMessage]:
        """The messages that the SDK makes of a record."""
        return self._generate_record_messages(record)

    # The SDK makes the schema from a catalog, which knows no other keywords than its own.
    def _generate_schema_messages(self) -> Generator[SchemaMessage, None, None]:
        """The SCHEMA messages, with what this stream tells loaders beyond types."""
        is_own = [type(stream_map) for stream_map in self.stream_maps] == [SameRecordTransform]
        for message in super()._generate_schema_messages():
            columns = message.schema["properties"] if is_own else {}
            told = {word: name for word, name in KEYWORDS.items() if name in columns}
            message.schema = message.schema | told
            yield message

    # The SDK's own `sync` reads partitions one after another, keeps a bookmark that knows
    # one position only, and logs every error as unhandled.
    def sync(self, context: Mapping[str, Any] | None = None) -> None:  # type: ignore[misc]  # noqa: ARG002
        """Fetch, write and checkpoint everything that is left to do.

        Raises:
            ExportFailedError: If windows failed and `on_failed_window` is `fail`, or if
                all failed.
            TerminatedError: If a signal asked to stop.
            TapError: If the run can't go on.
        """
        settings = self._settings_told()
        known = self._mixpanel.state.get("bookmarks", {}).get(self.name)
        state = self.begin()
        self._write_schema_message()
        if to_bookmark(state) != known:
            self.sink.write_state(state)
        self.is_running = True
        try:
            with open_source(settings) as query, Spool(settings.spool_dir) as spool:
                if self.ABORT_AT_RECORD_COUNT is None:
                    way = self._way(settings, state, spool.path)
                    for _ in self._load(settings, state, query, spool.path, way):
                        pass
                else:
                    self._sample(settings, state, query, spool.path)
        except TerminatedError:
            self.sink.write_last_state()
            raise
        finally:
            self.is_running = False

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Have the setting `report`, if it is set, tell of what the block does.

        Raises:
            TapError: If the report can't be written as the block begins.
        """
        settings = self._mixpanel.settings
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
            About(settings, shown_settings(self._mixpanel.config, settings, redact), self.command),
            lambda: read_state(self._mixpanel.state, self.name),
            redact.reason,
            self._mixpanel.clock,
            self.logger,
        )
        with report as self._report:
            yield

    def parts(self, make_way: Callable[[Path], Way]) -> Iterator[Part]:
        """Fetch everything that is left to do, for a program to take part by part.

        The tap's state says that a part is loaded once the next is asked for.

        Args:
            make_way: How events leave, by the folder where they wait.

        Raises:
            ExportFailedError: As `sync` does, after the last part.
            TapError: If the run can't go on.
        """
        settings, state = self._settings_told(), self.begin()
        with (
            self.reported(),
            open_source(settings) as query,
            Spool(settings.spool_dir) as spool,
        ):
            way = nullcontext(make_way(spool.path))
            yield from self._load(settings, state, query, spool.path, way)

    def look(self, window: Window, way: Way) -> Iterator[Part]:
        """Fetch some days with one request, whatever is loaded, and leave the state as it is.

        Args:
            window: The days.
            way: How events leave.

        Raises:
            TapError: If they can't be had.
        """
        # Who looks does not wait for an hour.
        settings = replace(self._settings_told(), on_hourly_limit="fail")
        display = wanted_display()
        with open_source(settings) as query, Spool(settings.spool_dir) as spool:
            progress, _, run = self._make_run(
                settings, ExportState(), [window], spool.path, way, quiet=True
            )
            with display(progress) if display else nullcontext():
                yield from run.parts([window], query)
        _raise_first_of(progress.result.failed)

    @property
    def settings(self) -> Settings:
        """The tap's settings."""
        return self._mixpanel.settings

    def _settings_told(self) -> Settings:
        """The settings, with what should be known of them told."""
        settings = self.settings
        for warning in settings.warnings:
            self.logger.warning(warning)
        return settings

    @property
    def selected_names(self) -> tuple[str, ...]:
        """The columns that are selected."""
        return tuple(name for name in self.schema["properties"] if self.mask["properties", name])

    def begin(self) -> ExportState:
        """The state that a run starts from, as the run's first STATE has to tell it.

        A loader may report the first STATE of a run and no later one. So it is whole, which
        replaces all of a state of other settings, and days that are read again on request
        count as not loaded until they are.

        Raises:
            StateError: If the saved state does not fit the settings.
        """
        state = self.saved_state()
        if (replay := self._mixpanel.settings.replay) is not None:
            state = state.forget(replay)
        self._rate_limit(state)
        self.sink.keep(state)
        return state

    def saved_state(self) -> ExportState:
        """What earlier runs have loaded.

        Raises:
            StateError: If the state does not fit the settings.
        """
        settings = self._mixpanel.settings
        state = read_state(self._mixpanel.state, self.name)
        check_fits(state, selection=settings.selection)
        if state.loaded and state.loaded[-1].last >= settings.today:
            early = Window(settings.today, state.loaded[-1].last)
            self.logger.warning(
                "state: it says that %s is loaded, but today is %s in the project's time zone. "
                "A clock is or was wrong; the days from today on are read again",
                early.last,
                settings.today,
            )
            state = state.forget(early)
        return replace(state.of(settings.account), selection=settings.selection)

    def plan(self, state: ExportState) -> Plan:
        """What a run fetches.

        Args:
            state: What is loaded.
        """
        return self._mixpanel.settings.plan(state, self._rate_limit(state).hour)

    def _rate_limit(self, state: ExportState) -> RateLimit:
        """Counts requests from here on, and those of earlier runs that are known."""
        if self._limit is None:
            earlier = state.requests.started if state.requests else ()
            settings, clock = self._mixpanel.settings, self._mixpanel.clock
            self._limit = RateLimit.of(settings, earlier, clock)
        return self._limit

    @property
    def sink(self) -> StreamSink:
        """Where the stream's messages go."""
        return StreamSink(self._mixpanel.writer, self._mixpanel.state, self.name, self._limit)

    def _load(
        self,
        settings: Settings,
        state: ExportState,
        query: Query,
        folder: Path,
        how: AbstractContextManager[Way],
    ) -> Iterator[Part]:
        """Load everything that is left to do, and give each part as it begins to leave."""
        plan = self.plan(state)
        self.logger.info(plan.summary)
        for warning in plan.warnings:
            self.logger.warning(warning)
        if self._report is not None:
            self._report.plan = plan
        windows = [planned.window for planned in plan.windows]
        display = wanted_display()
        with how as way:
            progress, log, run = self._make_run(
                settings, state, windows, folder, way, quiet=display is not None
            )
            self.progress = progress
            with log.beating(), display(progress) if display else nullcontext():
                yield from run.parts(windows, query)
        log.sum_up()
        self.result = progress.result
        _judge(settings, self.result)

    def _sample(self, settings: Settings, state: ExportState, query: Query, folder: Path) -> None:
        """Fetch and write an event of one day, to see that requests work."""
        day = Window(settings.wanted.first, settings.wanted.first)
        # One event is not the day: a run never marks what comes after its today as loaded.
        # Nor does anybody who tries the settings wait for an hour.
        today = day.first - timedelta(days=1)
        settings = replace(settings, today=today, on_hourly_limit="fail")
        way = as_messages(self, self._mixpanel.writer, settings)
        progress, _, run = self._make_run(settings, state, [day], folder, way, quiet=True)
        run.run([day], replace(query, event_limit=self.ABORT_AT_RECORD_COUNT))
        _raise_first_of(progress.result.failed)
        self.logger.info("the settings and the credentials work")

    def _way(
        self, settings: Settings, state: ExportState, folder: Path
    ) -> AbstractContextManager[Way]:
        """How events leave."""
        writer = self._mixpanel.writer
        if settings.batch_config is None:
            return nullcontext(as_messages(self, writer, settings))
        now = self._mixpanel.clock.now()
        return as_files(self, writer, settings, settings.batch_config, state.stored, folder, now)

    def _make_run(
        self,
        settings: Settings,
        state: ExportState,
        windows: Sequence[Window],
        folder: Path,
        way: Way,
        *,
        quiet: bool,
    ) -> tuple[Progress, LogLines, Run]:
        """A run, and the observers that others ask."""
        clock, redact = self._mixpanel.clock, Redactor(settings.credentials).reason
        limit = self._rate_limit(state)

        def tell(done: BatchProgress) -> None:
            self._measure(done)
            if self._mixpanel.on_batch_complete is not None:
                self._mixpanel.on_batch_complete(done)

        progress = Progress(windows, settings, limit, clock, tell)
        log = LogLines(self.logger, progress, settings, redact, quiet=quiet)
        observers: list[Observer] = [progress, log, *([self._report] if self._report else [])]
        surroundings = Surroundings(
            way.output,
            folder,
            limit,
            clock,
            notify_each(*observers),
            redact,
            way.store,
            way.processes,
            way.cluster,
        )
        return progress, log, Run(settings, state, way.form, surroundings)

    def _measure(self, progress: BatchProgress) -> None:
        """Measure a window as the SDK measures streams, for who has the log show it."""
        window, result = progress.window, progress.result
        tags: dict[str, Any] = {
            Tag.STREAM: self.name,
            Tag.CONTEXT: {"from_date": str(window.first), "to_date": str(window.last)},
            Tag.STATUS: Status.SUCCEEDED if result.success else Status.FAILED,
        }
        point = Point("counter", Metric.RECORD_COUNT, result.events, tags)
        # In the SDK's words, which its formatter knows, but not at its level: a line says it.
        self.metrics_logger.debug("METRIC: %s", point)


def _raise_first_of(failed: Sequence[BatchResult]) -> None:
    for batch in failed:
        error = TapError(batch.error or "")
        error.read_on = batch.read_on or error.read_on
        raise error


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
