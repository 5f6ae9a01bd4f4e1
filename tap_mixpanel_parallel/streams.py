"""The stream `events`: its schema, and a run of it through the SDK."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from singer_sdk import Stream
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import SameRecordTransform
from singer_sdk.metrics import Metric, Point, Status, Tag

from tap_mixpanel_parallel.catalog import select
from tap_mixpanel_parallel.convert.columns import (
    KEPT_APART,
    KEYWORDS,
    NAMES,
    all_columns,
    json_schema,
)
from tap_mixpanel_parallel.exceptions import TerminatedError
from tap_mixpanel_parallel.export import opened
from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
from tap_mixpanel_parallel.forms import as_files, as_messages
from tap_mixpanel_parallel.messages import StreamSink
from tap_mixpanel_parallel.plan.bookmark import check_fits, read_state, to_bookmark
from tap_mixpanel_parallel.plan.filled import Choice, choose
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.settings.property_columns import read_property_columns
from tap_mixpanel_parallel.settings.reader import ConfigReader

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from singer_sdk.singerlib import Catalog, RecordMessage, SchemaMessage

    from tap_mixpanel_parallel.convert.columns import Column
    from tap_mixpanel_parallel.plan.plan import Plan
    from tap_mixpanel_parallel.plan.state import ExportState
    from tap_mixpanel_parallel.report.page.run_report import RunReport
    from tap_mixpanel_parallel.report.progress import Progress
    from tap_mixpanel_parallel.report.results import BatchProgress, ParallelFetchResult
    from tap_mixpanel_parallel.run import Way
    from tap_mixpanel_parallel.settings.settings import Settings
    from tap_mixpanel_parallel.tap import TapMixpanelParallel

_NULL: Final = {"type": "null"}
STREAM: Final = "events"


def properties_schema(config: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of `properties`."""
    told = {"description": "Every property, as Mixpanel exports it"}
    if ConfigReader(config).choice("properties_format") == "object":
        return {"type": ["object", "null"]} | told
    return json_text_schema(config) | (told if config.get("flattening_enabled") else {})


def json_text_schema(config: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a text that holds JSON.

    Args:
        config: The tap's configuration.
    """
    if config.get("flattening_enabled"):  # it would make an object of what follows
        return {"type": ["string", "null"]}
    # So that every loader keeps the text as it is. target-duckdb, and those that read schemas as
    # it does, go by the first keyword and its first type, and make a JSON column. The SDK's
    # loaders find no `type`, and make a text column; of a `type` with both names, target-postgres
    # makes jsonb, and encodes the text once more. No null: some stream maps add one, and two of
    # them would be no null. The message has it where there may be one.
    return {"oneOf": [{"type": "object"}, {"type": "string"}]}


class EventsStream(Stream):
    """All events of a project.

    Attributes:
        result: The outcome of the last `sync`; None before it.
        progress: Where the last `sync` stands, or has ended; None before its plan.
        is_running: Whether `sync` is under way.
        command: What a person types to run the same once more; empty if it is not known.
        report: Written while something is under way that is to be reported.
        tap: The tap.
    """

    # Records are built to the schema; conforming them once more would only cost time.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(self, tap: TapMixpanelParallel) -> None:
        schema = json_schema(
            properties_schema(tap.config),
            json_text_schema(tap.config),
            read_property_columns(ConfigReader(tap.config)),
        )
        super().__init__(tap, schema=schema, name=STREAM)
        self.tap = tap
        self.primary_keys = ["event_id"]
        self.replication_key = "time"
        self.result: ParallelFetchResult | None = None
        self.progress: Progress | None = None
        self.is_running = False
        self.command = ""
        self._limit: RateLimit | None = None
        self.report: RunReport | None = None

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
            if self.settings.account is None:
                told |= KEPT_APART
            message.schema = message.schema | told
            for name, schema in message.schema["properties"].items():
                options = schema.get("oneOf", [_NULL])
                if name not in NAMES and _NULL not in options:
                    schema["oneOf"] = [*options, _NULL]
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
        self.tell_warnings()
        known = self.tap.state.get("bookmarks", {}).get(self.name)
        state = self.begin()
        self._write_schema_message()
        if to_bookmark(state) != known:
            self.sink.write_state(state)
        self.is_running = True
        try:
            with opened(self, state) as export:
                if self.ABORT_AT_RECORD_COUNT is None:
                    export.load()
                else:
                    export.sample(self.ABORT_AT_RECORD_COUNT)
        except TerminatedError:
            self.sink.write_last_state()
            raise
        finally:
            self.is_running = False

    @property
    def settings(self) -> Settings:
        """The tap's settings, without the columns that are deselected: they are not made."""
        settings = self.tap.settings
        chosen = settings.property_columns
        selected = tuple(each for each in chosen if self.mask["properties", each.name])
        return replace(settings, property_columns=selected)

    def tell_warnings(self) -> None:
        """Log what should be known of the settings."""
        for warning in self.settings.warnings:
            self.logger.warning(warning)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of a record, before a selection."""
        return all_columns(self.settings.property_columns)

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
        if (replay := self.settings.replay) is not None:
            state = state.forget(replay)
        self.rate_limit(state)
        self.sink.keep(state)
        return state

    def saved_state(self) -> ExportState:
        """What earlier runs have loaded.

        Raises:
            StateError: If the state does not fit the settings.
        """
        settings = self.settings
        state = read_state(self.tap.state, self.name)
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
        choices = [
            Choice(each.name, each.property, each.type) for each in settings.property_columns
        ]
        columns = choose(state.columns, choices)
        return replace(state.of(settings.account), selection=settings.selection, columns=columns)

    def plan(self, state: ExportState) -> Plan:
        """What a run fetches.

        Args:
            state: What is loaded.
        """
        return self.tap.settings.plan(state, self.rate_limit(state).hour)

    def rate_limit(self, state: ExportState) -> RateLimit:
        """Counts requests from here on, and those of earlier runs that are known."""
        if self._limit is None:
            earlier = state.requests.started if state.requests else ()
            settings, clock = self.tap.settings, self.tap.clock
            self._limit = RateLimit.of(settings, earlier, clock)
        return self._limit

    def way(
        self, settings: Settings, state: ExportState, folder: Path
    ) -> AbstractContextManager[Way]:
        """How events leave: as messages, or as files.

        Args:
            settings: The run's.
            state: What is loaded.
            folder: Where windows wait on disk.
        """
        config = settings.batch_config
        if config is None:
            return nullcontext(as_messages(self, settings))
        return as_files(self, settings, config, state.stored, folder)

    @property
    def sink(self) -> StreamSink:
        """Where the stream's messages go."""
        return StreamSink(self.tap.writer, self.tap.state, self.name, self._limit)

    def measure(self, progress: BatchProgress) -> None:
        """Measure a window as the SDK measures streams, for who has the log show it.

        Args:
            progress: The window that has ended, and where the run stands.
        """
        window, result = progress.window, progress.result
        tags: dict[str, Any] = {
            Tag.STREAM: self.name,
            Tag.CONTEXT: {"from_date": str(window.first), "to_date": str(window.last)},
            Tag.STATUS: Status.SUCCEEDED if result.success else Status.FAILED,
        }
        point = Point("counter", Metric.RECORD_COUNT, result.events, tags)
        # In the SDK's words, which its formatter knows, but not at its level: a line says it.
        self.metrics_logger.debug("METRIC: %s", point)
