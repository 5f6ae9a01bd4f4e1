"""The tap: its settings, its command line, and how it ends."""

from __future__ import annotations

import copy
import gc
import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from singer_sdk import Tap
from singer_sdk.cli import plugin_cli
from singer_sdk.exceptions import ConfigValidationError, MapExpressionError, StreamMapConfigError
from singer_sdk.helpers._classproperty import classproperty
from singer_sdk.helpers.capabilities import PluginCapabilities, TapCapabilities
from singer_sdk.metrics import get_metrics_logger
from singer_sdk.plugin_base import _ConfigInput

from tap_mixpanel_parallel.answers import print_description, print_plan, print_status
from tap_mixpanel_parallel.catalog import read_catalog
from tap_mixpanel_parallel.cli import (
    add_options,
    check_one_answer,
    command_again,
    exit_code,
    log_set_up,
    one_clear_message,
    read_json,
    warnings_only,
)
from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.exceptions import ExportFailedError, SettingsError, TapError
from tap_mixpanel_parallel.export import reported
from tap_mixpanel_parallel.iteration import read_batches, read_events
from tap_mixpanel_parallel.messages import MessageWriter
from tap_mixpanel_parallel.plan.bookmark import read_state, to_bookmark
from tap_mixpanel_parallel.plan.state import ExportState
from tap_mixpanel_parallel.report.display import release_terminal
from tap_mixpanel_parallel.report.results import ParallelFetchResult
from tap_mixpanel_parallel.report.summary import numbers_at_the_end, numbers_of
from tap_mixpanel_parallel.sdk_settings import (
    read_environment,
    sdk_problems,
    take,
    unknown_settings,
)
from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA
from tap_mixpanel_parallel.settings.settings import Settings
from tap_mixpanel_parallel.streams import STREAM, EventsStream
from tap_mixpanel_parallel.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    import click
    from pyarrow import RecordBatchReader
    from singer_sdk.helpers.capabilities import CapabilitiesEnum
    from singer_sdk.singerlib import Catalog

    from tap_mixpanel_parallel.report.results import BatchProgress

_ENVIRONMENT: Final = "ENV"


class TapMixpanelParallel(Tap):
    """Exports Mixpanel events by fetching date windows concurrently."""

    name = "tap-mixpanel-parallel"
    config_jsonschema: ClassVar[dict[str, Any]] = copy.deepcopy(CONFIG_SCHEMA)  # the SDK adds to it
    message_writer_class = MessageWriter
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        TapCapabilities.CATALOG,
        TapCapabilities.STATE,
        TapCapabilities.DISCOVER,
        PluginCapabilities.ABOUT,
        PluginCapabilities.BATCH,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init__(
        self,
        config: dict[str, Any] | None = None,
        *,
        clock: Clock | None = None,
        on_batch_complete: Callable[[BatchProgress], None] | None = None,
        **kwargs: Any,
    ) -> None:
        """Make a tap.

        Args:
            config: The settings.
            clock: The time.
            on_batch_complete: Called as each window ends.
            kwargs: What else every SDK tap takes: `state`, `catalog` and so on.

        Raises:
            ConfigValidationError: If a setting is not valid.
            StateError: If the state is not valid.
            TapError: If the catalog or a stream map is not valid.
        """
        if isinstance(kwargs.get("catalog"), dict):
            kwargs["catalog"] = read_catalog(kwargs["catalog"], STREAM)
        self.clock = clock or Clock()
        self.on_batch_complete = on_batch_complete
        self._settings: Settings | None = None
        metrics = get_metrics_logger()
        level = metrics.level
        with warnings_only(self.logger):
            super().__init__(config=config, **kwargs)
        metrics.setLevel(level)  # the log's configuration decides, not only variables

    @property
    def settings(self) -> Settings:
        """The validated settings.

        Raises:
            SettingsError: If the tap was made without validation, and one is not valid.
        """
        if self._settings is None:
            self._settings = Settings.from_config(self.config, today=self.clock.today)
        return self._settings

    @property
    def writer(self) -> MessageWriter:
        """Standard output."""
        return cast("MessageWriter", self.message_writer)

    @property
    def stream(self) -> EventsStream:
        """The stream `events`."""
        return cast("EventsStream", self.streams[STREAM])

    def load_state(self, state: dict[str, Any]) -> None:
        """Take a saved state.

        Raises:
            StateError: If it has another shape, or is not valid.
        """
        saved = read_state(state, STREAM)
        if saved != ExportState():
            super().load_state({"bookmarks": {STREAM: to_bookmark(saved)}})

    @property
    def catalog(self) -> Catalog:
        """The streams, and what the given catalog selects of them."""
        return self._singer_catalog

    def setup_mapper(self) -> None:
        """Prepare the stream maps.

        Raises:
            TapError: If they are not valid.
        """
        try:
            super().setup_mapper()
            aliases = [each.stream_alias for each in self.mapper.stream_maps[STREAM]]
        except (ConfigValidationError, MapExpressionError, StreamMapConfigError, TapError):
            raise
        except Exception as error:  # noqa: BLE001 - the SDK evaluates what a map says
            raise TapError(f"stream_maps: {type(error).__name__}: {error}") from None
        for alias in aliases:
            if not isinstance(alias, str):
                raise TapError(f"stream_maps: the alias {shown(alias)} is not text")

    def discover_streams(self) -> list[EventsStream]:
        """The streams: `events`."""
        return [EventsStream(self)]

    @property
    def result(self) -> ParallelFetchResult | None:
        """The outcome of the last run, or of the last iteration; None before it has ended."""
        return self.stream.result

    def events(self) -> Iterator[dict[str, Any]]:
        """The events, window by window as they arrive; see docs/python.md.

        After each window, `state` says that it is loaded.

        Raises:
            ExportFailedError: After all others, if windows failed.
            TapError: If the run can't go on.
        """
        return read_events(self.stream)

    def arrow(self) -> RecordBatchReader:
        """The same as `pyarrow.RecordBatch`es; it needs the extra `files`.

        Raises:
            TapError: As `events` does, or if pyarrow is not installed.
        """
        return read_batches(self.stream)

    def run(self) -> ParallelFetchResult:
        """Run the tap from Python; windows that failed are in the result, not raised.

        Raises:
            TapError: If the run can't go on.
        """
        try:
            self.run_sync()
        except ExportFailedError as error:
            return error.result
        return self.stream.result or ParallelFetchResult((), 0.0)

    def run_sync(self) -> None:
        """Emit everything that is left to do.

        Raises:
            TapError: If the run can't go on, or if windows failed.
        """
        with reported(self.stream):
            if self.state and self.stream.selected:
                self.stream.begin()  # the SDK's first message is the state
            self.sync_all()

    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Check all that is set, and name every problem at once."""
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        self._config = take(self._config, schema)
        problems = sdk_problems(self._config, schema, CONFIG_SCHEMA["properties"])
        if raise_errors:
            for warning in unknown_settings(self._config, schema):
                self.logger.warning("%s", warning)
            try:
                self._settings = Settings.from_config(self._config, today=self.clock.today)
            except SettingsError as error:
                problems = [*error.problems, *problems]
            if problems:
                raise ConfigValidationError("; ".join(problems), errors=problems, schema=schema)
        return problems

    def _setup_signal_handlers(self) -> None:
        """Leave the handlers to the program, of which the tap is a part; see `invoke`."""

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """End the run at the next line end; the second time, end at once."""
        if self.writer.stop_signal is not None:
            release_terminal()
            os._exit(exit_code(signum))
        self.writer.stop(signum)
        if self._streams is None or not self.stream.is_running:
            sys.exit(exit_code(signum))

    @classmethod
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: _ConfigInput | None = None,
        state: str | None = None,
        catalog: str | None = None,
        **options: Any,
    ) -> None:
        """Run the command line."""
        super(Tap, cls).invoke(about=about, about_format=about_format)
        config = config or _ConfigInput()
        as_json = about_format == "json"
        with one_clear_message(cls.logger):
            check_one_answer(options)
            if options.pop("status"):
                print_status(STREAM, state, options["report"], as_json=as_json)
                return
            plan_only, days = options.pop("plan"), options.pop("describe")
            if not plan_only and days is None:
                cls.print_version(print_fn=cls.logger.info)
            given = {name: value for name, value in options.items() if value is not None}
            tap = cls(
                config=config.config | given,
                state=read_json(state, "state") if state else None,
                catalog=read_json(catalog, "catalog") if catalog else None,
                parse_env_config=config.parse_env,
            )
            super(TapMixpanelParallel, tap)._setup_signal_handlers()
            if plan_only:
                print_plan(tap.stream, as_json=as_json)
            elif days is not None:
                print_description(tap.stream, days, as_json=as_json)
            else:
                tap.stream.command = command_again(sys.argv, os.environ)
                gc.freeze()  # what is imported stays, so no collection needs to look at it again
                is_told = tap.settings.summary_format == "json"
                told = numbers_at_the_end(lambda: numbers_of(tap.stream.progress))
                with told if is_told else nullcontext(), one_clear_message(cls.logger):
                    tap.run_sync()

    @classmethod
    def cb_config(
        cls,
        ctx: click.Context,  # noqa: ARG003
        param: click.Option,  # noqa: ARG003
        value: tuple[str, ...],
    ) -> _ConfigInput:
        """Merge the configuration files, and the environment if it is named among them."""
        config: dict[str, Any] = {}
        with one_clear_message(cls.logger):
            for path in value:
                config |= {} if path == _ENVIRONMENT else read_json(path, "config")
            if _ENVIRONMENT in value:
                config |= cls._env_var_config
        return _ConfigInput(config)

    @classproperty
    def _env_var_config(cls) -> dict[str, Any]:  # noqa: N805
        """The settings of the environment, as text, which `_validate_config` converts."""
        schema = cls.config_jsonschema
        cls.append_builtin_config(schema)
        return read_environment(schema, cls._env_var_prefix)

    @classmethod
    def cb_discover(cls, ctx: click.Context, param: click.Option, value: bool) -> None:  # noqa: FBT001
        """Print the catalog; it needs no settings and no request."""
        with one_clear_message(cls.logger):
            super().cb_discover(ctx, param, value)

    @classmethod
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        """Try the settings and the credentials with one small request."""
        with one_clear_message(cls.logger):
            super().cb_test(ctx, param, value)

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """The command line of every SDK tap, and this tap's own options."""
        return add_options(super().get_singer_command())

    @plugin_cli
    def cli(cls) -> click.Command:  # noqa: N805
        """The command; to make it sets up the log."""
        levels = (f"{cls._env_var_prefix}LOGLEVEL", "LOGLEVEL")
        with one_clear_message(cls.logger), log_set_up(levels, os.environ):
            command: click.Command = super(TapMixpanelParallel, cls).cli  # noqa: UP008 - it is not a method
        return command
