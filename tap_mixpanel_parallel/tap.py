"""The tap: its settings, its command line, and its end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import click
from singer_sdk import Tap
from singer_sdk.exceptions import ConfigValidationError
from singer_sdk.helpers.capabilities import PluginCapabilities, TapCapabilities
from singer_sdk.plugin_base import JSONSchemaValidator, _ConfigInput
from singer_sdk.singerlib.json import deserialize_json

from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.config_schema import CONFIG_SCHEMA
from tap_mixpanel_parallel.exceptions import (
    ExportFailedError,
    ReaderGoneError,
    StateError,
    TapError,
    TerminatedError,
)
from tap_mixpanel_parallel.output import MessageWriter
from tap_mixpanel_parallel.progress import ParallelFetchResult
from tap_mixpanel_parallel.settings import Settings
from tap_mixpanel_parallel.state import REMEDY, ExportState
from tap_mixpanel_parallel.streams import STREAM, EventsStream

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator
    from types import FrameType

    from singer_sdk.helpers.capabilities import CapabilitiesEnum

    from tap_mixpanel_parallel.progress import BatchProgress


_OWN_SETTINGS: Final = frozenset(CONFIG_SCHEMA["properties"])


class TapMixpanelParallel(Tap):
    """Exports Mixpanel events by fetching date windows concurrently."""

    name = "tap-mixpanel-parallel"
    config_jsonschema: ClassVar[dict[str, Any]] = CONFIG_SCHEMA
    message_writer_class = MessageWriter
    # BATCH is left out: its files would be announced after the state that covers them.
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        TapCapabilities.CATALOG,
        TapCapabilities.STATE,
        TapCapabilities.DISCOVER,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        on_batch_complete: Callable[[BatchProgress], None] | None = None,
        **kwargs: Any,
    ) -> None:
        """Make a tap.

        Args:
            clock: The time.
            on_batch_complete: Called as each window ends.
            kwargs: What every SDK tap takes: `config`, `state`, `catalog` and so on.

        Raises:
            ConfigValidationError: If a setting makes no sense.
            StateError: If the state makes no sense.
        """
        self.clock = clock or Clock()
        self.on_batch_complete = on_batch_complete
        self._settings: Settings | None = None
        super().__init__(**kwargs)

    @property
    def settings(self) -> Settings:
        """The checked settings.

        Raises:
            ConfigValidationError: If one makes no sense.
        """
        if self._settings is None:
            self._settings = Settings.from_config(self.config, today=self.clock.today)
        return self._settings

    @property
    def writer(self) -> MessageWriter:
        """Standard output."""
        return cast("MessageWriter", self.message_writer)

    @property
    def events(self) -> EventsStream:
        """The stream `events`."""
        return cast("EventsStream", self.streams[STREAM])

    def load_state(self, state: dict[str, Any]) -> None:
        """Take a saved state.

        Raises:
            StateError: If it is of another shape, or makes no sense.
        """
        if not isinstance(state, Mapping):
            raise StateError(f"state: it is {state!r}, not an object. {REMEDY}")
        bookmarks = state.get("bookmarks", {})
        if not isinstance(bookmarks, Mapping):
            raise StateError(f"state: 'bookmarks' is {bookmarks!r}, not an object. {REMEDY}")
        ExportState.from_bookmark(bookmarks.get(STREAM))
        super().load_state({"bookmarks": {STREAM: bookmarks.get(STREAM) or {}}})

    def discover_streams(self) -> list[EventsStream]:
        """The streams: `events`."""
        return [EventsStream(self)]

    def run(self) -> ParallelFetchResult:
        """Run the tap from Python; windows that failed are in the result, not raised.

        Raises:
            TapError: If the run can't go on.
        """
        try:
            self.sync_all()
        except ExportFailedError as error:
            return error.result
        return self.events.result or ParallelFetchResult((), 0.0)

    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Check everything that was set, and name every problem at once."""
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        problems = [
            f"{'.'.join(map(str, error.path))}: {error.message}"
            for error in JSONSchemaValidator(schema).iter_errors(self._config)
            if error.path and error.path[0] not in _OWN_SETTINGS
        ]
        if self._config.get("batch_config"):
            problems.append("batch_config: BATCH messages are not supported; remove it")
        if raise_errors:
            try:
                self._settings = Settings.from_config(self._config, today=self.clock.today)
            except ConfigValidationError as error:
                problems = [*error.errors, *problems]
            if problems:
                raise ConfigValidationError(
                    "Config validation failed", errors=problems, schema=schema
                )
            self._warn_unknown(schema["properties"])
        return problems

    def _warn_unknown(self, known: Mapping[str, Any]) -> None:
        for name in self._config.keys() - known.keys():
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.logger.warning("%s: there is no such setting, so it does nothing%s", name, hint)

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """End the run at the next line end; the second time, end at once."""
        if self.writer.stop_signal is not None:
            os._exit(_exit_code(signum))
        self.writer.stop(signum)
        if self._streams is None or not self.events.is_running:
            sys.exit(_exit_code(signum))
        self.events.wake()

    @classmethod
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: _ConfigInput | None = None,
        state: str | None = None,
        catalog: str | None = None,
        parallel: bool | None = None,
        workers: int | None = None,
    ) -> None:
        """Run the command line.

        Args:
            about: Print what the tap is and can.
            about_format: In which form.
            config: The configuration, from files and the environment.
            state: Path of a state file.
            catalog: Path of a catalog file.
            parallel: Replaces the setting.
            workers: Replaces the setting.
        """
        super(Tap, cls).invoke(about=about, about_format=about_format)
        cls.print_version(print_fn=cls.logger.info)
        options = {"parallel": parallel, "workers": workers}
        config = config or _ConfigInput()
        with _one_clear_message(cls.logger):
            tap = cls(
                config=config.config | {k: v for k, v in options.items() if v is not None},
                state=_read_json(state, "state"),
                catalog=_read_json(catalog, "catalog"),
                parse_env_config=config.parse_env,
            )
            tap.sync_all()

    @classmethod
    def cb_config(
        cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]
    ) -> _ConfigInput:
        """Read the configuration files.

        Returns:
            Their settings, merged.
        """
        try:
            return super().cb_config(ctx, param, value)
        except (OSError, ValueError, TypeError) as error:
            cls.logger.error("config: %s can't be read: %s", ", ".join(value), error)  # noqa: TRY400
            ctx.exit(1)

    @classmethod
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        """Run the tap in test mode: credentials and settings, with one small request."""
        with _one_clear_message(cls.logger):
            super().cb_test(ctx, param, value)

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """The command line of every SDK tap, with this tap's options.

        Returns:
            The command.
        """
        command = super().get_singer_command()
        for param in command.params:
            if param.name in {"state", "catalog"}:
                # Read by the tap, so that a file that can't be read ends like other bad input.
                param.type = click.STRING
        command.params.extend(
            [
                click.Option(
                    ["--parallel"],
                    is_flag=True,
                    default=None,
                    help="Fetch windows concurrently; replaces the setting `parallel`.",
                ),
                click.Option(
                    ["--workers"],
                    type=click.INT,
                    metavar="N",
                    help="Concurrent requests, 1 to 100; replaces the setting `workers`.",
                ),
            ]
        )
        return command


@contextmanager
def _one_clear_message(logger: logging.Logger) -> Iterator[None]:
    """End the process with a message and an exit code, not with a traceback."""
    try:
        yield
    except TerminatedError as error:
        name = signal.Signals(error.signum).name
        logger.warning("stopped by %s; the next run goes on from what is emitted", name)
        sys.exit(_exit_code(error.signum))
    except ReaderGoneError as error:
        logger.info("stopped: %s", error)
        sys.exit(1)
    except TapError as error:
        logger.error("%s", error)  # noqa: TRY400 - a traceback tells a user nothing
        sys.exit(1)


def _exit_code(signum: int) -> int:
    """What a shell reports for a process that a signal ended."""
    return 128 + signum


def _read_json(path: str | None, what: str) -> dict[str, Any] | None:
    """Read a JSON file that was named on the command line.

    Raises:
        TapError: If there is none, or it holds something else.
    """
    if path is None:
        return None
    content: object
    try:
        with click.open_file(path, encoding="utf-8") as file:
            content = deserialize_json(file.read())
    except (OSError, ValueError) as error:
        raise TapError(f"{what}: {path} can't be read: {error}") from None
    if not isinstance(content, dict):
        raise TapError(f"{what}: {path} holds {content!r}, not an object")
    return content
