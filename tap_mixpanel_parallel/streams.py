"""The stream `events`: its schema, and how a run's messages leave through the SDK."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from singer_sdk import Stream
from singer_sdk import typing as th
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import SameRecordTransform
from singer_sdk.metrics import Metric, Point, Status, Tag
from singer_sdk.singerlib.encoding.simple import StateMessage
from singer_sdk.singerlib.json import deserialize_json

from tap_mixpanel_parallel.catalog import select
from tap_mixpanel_parallel.convert.conversion import Encode, fast_encoder
from tap_mixpanel_parallel.exceptions import (
    ExportFailedError,
    OutputError,
    ReaderGoneError,
    TapError,
    TerminatedError,
)
from tap_mixpanel_parallel.fetch.client import ExportClient
from tap_mixpanel_parallel.fetch.spool import Spool
from tap_mixpanel_parallel.plan.bookmark import check_fits, read_state, to_bookmark
from tap_mixpanel_parallel.report import display
from tap_mixpanel_parallel.run import Export
from tap_mixpanel_parallel.settings.credentials import Credentials
from tap_mixpanel_parallel.settings.reader import ConfigReader
from tap_mixpanel_parallel.settings.schema import API_URLS, SANDBOX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from singer_sdk.singerlib import Catalog

    from tap_mixpanel_parallel.convert.records import EventRecord
    from tap_mixpanel_parallel.fetch.scheduler import Fetcher
    from tap_mixpanel_parallel.plan.state import ExportState
    from tap_mixpanel_parallel.report.results import BatchProgress, ParallelFetchResult, Reporter
    from tap_mixpanel_parallel.settings.settings import Settings
    from tap_mixpanel_parallel.tap import TapMixpanelParallel

STREAM: Final = "events"


def events_schema(properties: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of the stream.

    Args:
        properties: That of `properties`.
    """
    schema = th.PropertiesList(
        th.Property(
            "event_id",
            th.StringType(nullable=False),
            required=True,
            description="MD5 over event, sent id, time in milliseconds and $insert_id, "
            "joined by U+001F",
        ),
        th.Property("event", th.StringType, description="The event's name"),
        th.Property("time", th.DateTimeType, description="When it happened, in UTC"),
        th.Property("distinct_id", th.StringType, description="The user, as known today"),
        th.Property("insert_id", th.StringType, description="$insert_id"),
        th.Property("processed_at", th.DateTimeType, description="When Mixpanel took it in, UTC"),
    ).to_dict()
    schema["properties"]["properties"] = properties
    return schema


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
    """

    # Records are built to the schema; conforming them once more would only cost time.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(self, tap: TapMixpanelParallel) -> None:
        """Make the stream of a tap."""
        super().__init__(tap, schema=events_schema(properties_schema(tap.config)), name=STREAM)
        self.primary_keys = ["event_id"]
        self.replication_key = "time"
        self.result: ParallelFetchResult | None = None
        self._mixpanel = tap
        self._export: Export | None = None
        self._is_fast = False

    def apply_catalog(self, catalog: Catalog) -> None:
        """Select what a catalog selects, and nothing else: see `read_catalog`."""
        select(self.metadata, catalog[self.name].metadata)

    def get_records(self, context: Mapping[str, Any] | None) -> Iterable[dict[str, Any]]:
        """Not used: windows arrive concurrently, so the stream has a `sync` of its own."""
        raise NotImplementedError

    # The SDK's own `sync` reads partitions one after another, keeps a bookmark that knows
    # one position only, and logs every error as unhandled.
    def sync(self, context: Mapping[str, Any] | None = None) -> None:  # type: ignore[misc]  # noqa: ARG002
        """Fetch, emit and checkpoint everything that is left to do.

        Raises:
            ExportFailedError: If windows failed and `on_failed_window` is `fail`, or if
                all failed.
            TerminatedError: If a signal asked to stop.
            TapError: If the run can't go on.
        """
        settings = self._mixpanel.settings
        for warning in settings.warnings:
            self.logger.warning(warning)
        self._is_fast = self._is_unchanged()
        self.logger.info(
            "the fast record path serves"
            if self._is_fast
            else "the SDK's record path serves: a stream map, flattening or a selection "
            "changes records"
        )
        known = self._mixpanel.state.get("bookmarks", {}).get(self.name)
        state = self.begin()
        export = Export(
            settings,
            state,
            self,
            clock=self._mixpanel.clock,
            logger=self.logger,
        )
        self._write_schema_message()
        if to_bookmark(state) != known:
            self.checkpoint(state)
        self._export = export
        with ExitStack() as stack:
            stack.callback(self._end)
            client = self._client(settings, stack)
            spool = stack.enter_context(Spool(settings.spool_dir))
            if self.ABORT_AT_RECORD_COUNT is not None:
                export.sample(client, spool, limit=self.ABORT_AT_RECORD_COUNT)
                self.logger.info("the settings and the credentials work")
                return
            plan = settings.plan(export.state)
            self.logger.info(plan.summary)
            for warning in plan.warnings:
                self.logger.warning(warning)
            try:
                windows = [planned.window for planned in plan.windows]
                self.result = export.run(
                    windows,
                    client,
                    spool,
                    on_batch_complete=self._on_batch_complete,
                    watch=self._watch,
                )
            except TerminatedError:
                with suppress(OutputError, ReaderGoneError):  # it may have got the signal too
                    self._mixpanel.writer.write_last(StateMessage(value=self._mixpanel.state))
                raise
        self._judge(settings, self.result)

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
        self._keep(state)
        return state

    def saved_state(self) -> ExportState:
        """What earlier runs have loaded.

        Raises:
            StateError: If the state does not fit the settings.
        """
        settings = self._mixpanel.settings
        state = read_state(self._mixpanel.state, self.name)
        check_fits(state, selection=settings.selection, today=settings.today)
        return replace(state, selection=settings.selection)

    @property
    def is_running(self) -> bool:
        """Whether `sync` is under way."""
        return self._export is not None

    def wake(self) -> None:
        """Look up from waiting for windows; safe in a signal handler."""
        if self._export is not None:
            self._export.wake()

    def encoder(self, time_extracted: datetime) -> Encode:
        """How the records of a window become messages.

        The SDK's way is needed only where it changes a record: by stream maps, flattening
        or deselected fields. Both ways give the same messages.
        """
        if self._is_fast:
            return fast_encoder(self.name, time_extracted.isoformat())
        return lambda records: b"".join(self._sdk_lines(records, time_extracted))

    def emit(self, lines: bytes) -> None:
        """Pass on whole lines of messages."""
        self._mixpanel.writer.write_lines(lines)

    def offer(self, lines: bytes, start: int) -> int:
        """Pass on what is taken without waiting; where the rest begins."""
        return self._mixpanel.writer.offer_lines(lines, start)

    def checkpoint(self, state: ExportState) -> None:
        """Pass on the state: what was emitted before is what it says."""
        self._keep(state)
        # Not through the SDK's state writer: it keeps a state that repeats to itself.
        self._mixpanel.writer.write_message(StateMessage(value=self._mixpanel.state))

    def check(self) -> None:
        """Raise if the run should end: by a signal, or since nobody reads."""
        self._mixpanel.writer.check()

    def _keep(self, state: ExportState) -> None:
        self._mixpanel.state.setdefault("bookmarks", {})[self.name] = to_bookmark(state)

    def _on_batch_complete(self, progress: BatchProgress) -> None:
        """Measure the window as the SDK measures streams, and tell the caller."""
        if not display.is_wanted():  # where metrics would scroll the display away
            window, result = progress.window, progress.result
            tags: dict[str, Any] = {
                Tag.STREAM: self.name,
                Tag.CONTEXT: {"from_date": str(window.first), "to_date": str(window.last)},
                Tag.STATUS: Status.SUCCEEDED if result.success else Status.FAILED,
            }
            self._log_metric(Point("counter", Metric.RECORD_COUNT, result.events, tags))
        if self._mixpanel.on_batch_complete is not None:
            self._mixpanel.on_batch_complete(progress)

    def _watch(self, fetcher: Fetcher, reporter: Reporter) -> AbstractContextManager[None]:
        if not display.is_wanted():
            return nullcontext()
        return display.live_display(fetcher, reporter, self._mixpanel.clock.monotonic)

    def _end(self) -> None:
        self._export = None

    def _is_unchanged(self) -> bool:
        """Whether the SDK would pass every record on as it is."""
        maps = self.stream_maps
        return (
            len(maps) == 1
            and type(maps[0]) is SameRecordTransform
            and not maps[0].flattening_enabled
            and all(self.mask[("properties", name)] for name in self.schema["properties"])
        )

    def _sdk_lines(self, records: list[EventRecord], time_extracted: datetime) -> Iterable[bytes]:
        as_text = self._mixpanel.settings.properties_format == "string"
        for record in records:
            fields = {name: getattr(record, name) for name in record.__struct_fields__}
            try:
                if not as_text:
                    fields["properties"] = deserialize_json(bytes(fields["properties"]))
                messages = list(self._generate_record_messages(fields))
            except Exception as error:  # noqa: BLE001 - a map's expression raises anything
                raise TapError(
                    f"stream_maps: event {record.event_id} can't be mapped: "
                    f"{type(error).__name__}: {error}"
                ) from None
            for message in messages:
                message.time_extracted = time_extracted
                yield self._mixpanel.writer.line(message)

    def _client(self, settings: Settings, stack: ExitStack) -> ExportClient:
        """The client of the region; for the sandbox, after starting it."""
        credentials = settings.credentials
        url = settings.api_url or API_URLS.get(settings.region)
        is_own = url is None
        if settings.region == SANDBOX and (url is None or credentials is None):
            from tap_mixpanel_parallel.sandbox import Project, Sandbox  # noqa: PLC0415 - rarely needed

            sandbox = Sandbox(Project(timezone=settings.project_timezone.key))
            account = sandbox.credentials
            credentials = Credentials(account.username, account.secret, account.project_id)
            url = url or stack.enter_context(sandbox).url
        if url is None or credentials is None:
            raise ValueError("only the sandbox runs without a URL and credentials")
        return ExportClient(
            url,
            credentials,
            events=settings.events,
            where=settings.where,
            timeout=settings.request_timeout,
            attempt_timeout=settings.attempt_timeout,
            most_bytes=settings.max_window_mb * 1_000_000,
            trust_env=not is_own,  # no proxy reaches into this process
        )

    @staticmethod
    def _judge(settings: Settings, result: ParallelFetchResult) -> None:
        """Fail the run if it did not do what it was to do."""
        failed = len(result.failed)
        windows = "the only window" if failed == 1 else f"all {failed} windows"
        if failed and failed == len(result.batches):
            raise ExportFailedError(
                f"no data was retrieved: {windows} failed, "
                f"the first with: {result.failed[0].error}",
                result,
            )
        if failed and settings.on_failed_window == "fail":
            raise ExportFailedError(
                f"{failed} of {len(result.batches)} windows failed and are not loaded; "
                "run again with this state to read them",
                result,
            )
