"""The stream `events`: its schema, and a run of it through the SDK."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
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
from tap_mixpanel_parallel.fetch.job import Query
from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
from tap_mixpanel_parallel.fetch.redaction import Redactor
from tap_mixpanel_parallel.fetch.spool import Spool
from tap_mixpanel_parallel.forms import as_files, as_messages
from tap_mixpanel_parallel.messages import StreamSink
from tap_mixpanel_parallel.plan.bookmark import check_fits, read_state, to_bookmark
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.display import is_wanted, live_display
from tap_mixpanel_parallel.report.log import LogLines
from tap_mixpanel_parallel.report.observers import notify_each
from tap_mixpanel_parallel.report.progress import Progress
from tap_mixpanel_parallel.run import Run, Surroundings
from tap_mixpanel_parallel.settings.credentials import Credentials
from tap_mixpanel_parallel.settings.network import stays_here
from tap_mixpanel_parallel.settings.reader import ConfigReader
from tap_mixpanel_parallel.settings.schema import API_URLS, SANDBOX

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from singer_sdk.singerlib import Catalog, RecordMessage, SchemaMessage

    from tap_mixpanel_parallel.forms import Way
    from tap_mixpanel_parallel.plan.state import ExportState
    from tap_mixpanel_parallel.report.results import BatchProgress, ParallelFetchResult
    from tap_mixpanel_parallel.settings.settings import Settings
    from tap_mixpanel_parallel.tap import TapMixpanelParallel

STREAM: Final = "events"


def properties_schema(config: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of `properties`.

    Args:
        config: The tap's configuration.
    """
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
        is_running: Whether `sync` is under way.
    """

    # Records are built to the schema; conforming them once more would only cost time.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(self, tap: TapMixpanelParallel) -> None:
        """Make the stream of a tap."""
        super().__init__(tap, schema=json_schema(properties_schema(tap.config)), name=STREAM)
        self.primary_keys = ["event_id"]
        self.replication_key = "time"
        self.result: ParallelFetchResult | None = None
        self.is_running = False
        self._mixpanel = tap

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
        settings = self._mixpanel.settings
        for warning in settings.warnings:
            self.logger.warning(warning)
        known = self._mixpanel.state.get("bookmarks", {}).get(self.name)
        state = self.begin()
        self._write_schema_message()
        if to_bookmark(state) != known:
            self.sink.write_state(state)
        self.is_running = True
        try:
            with ExitStack() as stack:
                query = _query(settings, stack)
                spool = stack.enter_context(Spool(settings.spool_dir))
                if self.ABORT_AT_RECORD_COUNT is None:
                    self.result = self._load(settings, state, query, spool.path)
                else:
                    self._sample(settings, state, query, spool.path)
        except TerminatedError:
            self.sink.write_last_state()
            raise
        finally:
            self.is_running = False

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
        return replace(state, selection=settings.selection)

    @property
    def sink(self) -> StreamSink:
        """Where the stream's messages go."""
        return StreamSink(self._mixpanel.writer, self._mixpanel.state, self.name)

    def _load(
        self, settings: Settings, state: ExportState, query: Query, folder: Path
    ) -> ParallelFetchResult:
        """Load everything that is left to do."""
        plan = settings.plan(state)
        self.logger.info(plan.summary)
        for warning in plan.warnings:
            self.logger.warning(warning)
        windows = [planned.window for planned in plan.windows]
        shows = is_wanted()
        with self._way(settings, state, folder) as way:
            progress, log, run = self._make_run(settings, state, windows, folder, way, quiet=shows)
            with live_display(progress) if shows else nullcontext():
                run.run(windows, query)
        log.sum_up()
        _judge(settings, progress.result)
        return progress.result

    def _sample(self, settings: Settings, state: ExportState, query: Query, folder: Path) -> None:
        """Fetch and write an event of one day, to see that requests work."""
        day = Window(settings.wanted.first, settings.wanted.first)
        # One event is not the day: a run never marks what comes after its today as loaded.
        settings = replace(settings, today=day.first - timedelta(days=1))
        way = as_messages(self, self._mixpanel.writer, settings)
        progress, _, run = self._make_run(settings, state, [day], folder, way, quiet=True)
        run.run([day], replace(query, event_limit=self.ABORT_AT_RECORD_COUNT))
        for failed in progress.result.failed:
            raise TapError(failed.error or "")
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
        """A run, and the observers that others ask.

        Args:
            settings: The checked settings.
            state: What is loaded.
            windows: The plan.
            folder: Where windows wait.
            way: How events leave.
            quiet: Whether a display shows what is under way, so that no line need.
        """
        clock, redact = self._mixpanel.clock, Redactor(settings.credentials).reason
        limit = RateLimit(
            per_second=settings.requests_per_second,
            per_hour=settings.requests_per_hour,
            clock=clock.monotonic,
        )

        def tell(done: BatchProgress) -> None:
            if not quiet:  # where metrics would scroll the display away
                self._measure(done)
            if self._mixpanel.on_batch_complete is not None:
                self._mixpanel.on_batch_complete(done)

        progress = Progress(len(windows), limit, clock, tell)
        log = LogLines(self.logger, progress, settings, redact, quiet=quiet)
        surroundings = Surroundings(
            self.sink,
            folder,
            limit,
            clock,
            notify_each(progress, log),
            redact,
            way.store,
            way.processes,
            way.cluster,
        )
        return progress, log, Run(settings, state, way.form, surroundings)

    def _measure(self, progress: BatchProgress) -> None:
        """Measure a window as the SDK measures streams."""
        window, result = progress.window, progress.result
        tags: dict[str, Any] = {
            Tag.STREAM: self.name,
            Tag.CONTEXT: {"from_date": str(window.first), "to_date": str(window.last)},
            Tag.STATUS: Status.SUCCEEDED if result.success else Status.FAILED,
        }
        self._log_metric(Point("counter", Metric.RECORD_COUNT, result.events, tags))


def _query(settings: Settings, stack: ExitStack) -> Query:
    """What is asked of each window; for the sandbox, after starting it."""
    credentials = settings.credentials
    url = settings.api_url or API_URLS.get(settings.region)
    if settings.region == SANDBOX and (url is None or credentials is None):
        from tap_mixpanel_parallel.sandbox import Project, Sandbox  # noqa: PLC0415 - rarely needed

        sandbox = Sandbox(Project(timezone=settings.project_timezone.key))
        account = sandbox.credentials
        credentials = Credentials(account.username, account.secret, account.project_id)
        url = url or stack.enter_context(sandbox).url
    if url is None or credentials is None:
        raise ValueError("only the sandbox runs without a URL and credentials")
    return Query(
        url,
        credentials,
        events=settings.events,
        where=settings.where,
        timeout=settings.request_timeout,
        attempt_timeout=settings.attempt_timeout,
        most_bytes=settings.max_window_mb * 1_000_000,
        trust_env=not stays_here(url),
    )


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
