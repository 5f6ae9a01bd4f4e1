"""The target: messages in, transactions and states out."""

from __future__ import annotations

import copy
import os
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final, cast

import click
from singer_sdk import Target
from singer_sdk.configuration._dict_config import (
    merge_missing_config_jsonschema,
    parse_environment_config,
)
from singer_sdk.exceptions import ConfigValidationError, RecordsWithoutSchemaException
from singer_sdk.helpers._classproperty import classproperty
from singer_sdk.helpers.capabilities import (
    STREAM_MAPS_CONFIG,
    PluginCapabilities,
    TargetCapabilities,
)
from singer_sdk.mapper import SameRecordTransform
from singer_sdk.plugin_base import JSONSchemaValidator, _ConfigInput

from target_duckdb_batch.command import exit_code, one_clear_message
from target_duckdb_batch.database import Database
from target_duckdb_batch.errors import InputError, LoaderError, TerminatedError
from target_duckdb_batch.manifest import read_encoding
from target_duckdb_batch.messages import MessageReader
from target_duckdb_batch.records import parsed
from target_duckdb_batch.settings import CONFIG_SCHEMA, WITHOUT_EFFECT, Settings
from target_duckdb_batch.sink import StreamSink

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from singer_sdk.helpers.capabilities import CapabilitiesEnum


_FALSE: Final = ("false", "0", "no", "off", "")


class TargetDuckDBBatch(Target):
    """Loads BATCH files and RECORD messages into DuckDB, each batch in one transaction."""

    name = "target-duckdb-batch"
    package_name = "tap-mixpanel-parallel"
    config_jsonschema: ClassVar[dict[str, Any]] = CONFIG_SCHEMA
    default_sink_class = StreamSink
    message_reader_class = MessageReader
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        PluginCapabilities.ABOUT,
        PluginCapabilities.ACTIVATE_VERSION,
        PluginCapabilities.BATCH,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.STRUCTURED_LOGGING,
        TargetCapabilities.HARD_DELETE,
        TargetCapabilities.VALIDATE_RECORDS,
    ]

    def __init__(self, **kwargs: Any) -> None:
        """Make a target.

        Args:
            kwargs: What every SDK target takes: `config` and so on.

        Raises:
            ConfigValidationError: If a setting is not valid.
        """
        self._settings: Settings | None = None
        super().__init__(**kwargs)
        self.max_parallelism = 1  # one connection, one transaction at a time
        self._schemas: dict[str, dict[str, Any]] = {}
        self._passed_on: dict[str, Any] | None = None

    @property
    def settings(self) -> Settings:
        """The checked settings.

        Raises:
            ConfigValidationError: If one is not valid.
        """
        if self._settings is None:
            self._settings = Settings.from_config(self.config)
        return self._settings

    @cached_property
    def database(self) -> Database:
        """The database, opened when it is first needed.

        Raises:
            DatabaseError: If it can't be opened.
        """
        return Database(self.settings, self.logger)

    @property
    def _all_sinks(self) -> Iterable[StreamSink]:
        return cast("list[StreamSink]", [*self._sinks_to_clear, *self._sinks_active.values()])

    @property
    def _is_settled(self) -> bool:
        """Whether everything that was read is committed."""
        return not any(sink.current_size for sink in self._all_sinks)

    def process_endofpipe(self) -> None:
        """Commit what is left, pass on the last state, close the database."""
        super().process_endofpipe()
        if "database" in self.__dict__:
            self.database.close()

    # Messages

    def _process_schema_message(self, message_dict: dict[str, Any]) -> None:
        stream = message_dict.get("stream", "")
        if self._schemas.get(stream) == message_dict:
            return
        self._drain_if_needed()
        remembered = copy.deepcopy(message_dict)  # the SDK changes what it is given
        super()._process_schema_message(message_dict)
        self._schemas[stream] = remembered

    def _process_record_message(self, message_dict: dict[str, Any]) -> None:
        sink = self._plain_sink(message_dict.get("stream", ""))
        version = message_dict.get("version")
        if sink is None:
            self._process_through_sdk(message_dict, version)
            return
        self._assert_line_requires(message_dict, {"record"})
        if not sink.takes(version):
            self.drain_all()
        sink.append(message_dict["record"], version, message_dict.get("time_extracted"))
        sink.tally_record_read()
        sink.record_counter_metric.increment()
        if sink.is_full:
            self.drain_all()
        self._handle_max_record_age()

    def _process_through_sdk(self, message_dict: dict[str, Any], version: int | None) -> None:
        """Take a record that is mapped or checked first."""
        if not all(sink.takes(version) for sink in self._all_sinks):
            self.drain_all()
        if "record" in message_dict:
            message_dict["record"] = parsed(message_dict["record"])
        super()._process_record_message(message_dict)
        self._pass_on_state()

    def _process_batch_message(self, message_dict: dict[str, Any]) -> None:
        self._assert_line_requires(message_dict, {"stream", "encoding", "manifest"})
        stream = message_dict["stream"]
        self._assert_schema_came(stream)
        sink = self._plain_sink(stream)
        if sink is None:
            raise InputError(
                f"stream {stream}: stream_maps and validate_records do not go with BATCH messages; "
                "remove the setting, or batch_config in the tap"
            )
        encoding = read_encoding(stream, message_dict["encoding"])
        self._drain_if_needed()
        sink.process_batch_files(encoding, message_dict["manifest"], message_dict.get("version"))

    def _process_activate_version_message(self, message_dict: dict[str, Any]) -> None:
        self._assert_line_requires(message_dict, {"stream", "version"})
        self._assert_schema_came(message_dict["stream"])
        self._drain_if_needed()
        super()._process_activate_version_message(message_dict)

    def _process_state_message(self, message_dict: dict[str, Any]) -> None:
        super()._process_state_message(message_dict)
        self._pass_on_state()

    def _write_state_message(self, state: dict[str, Any]) -> None:
        if state == self._passed_on:
            return
        try:
            super()._write_state_message(state)
        except BrokenPipeError:
            raise LoaderError(
                "nobody reads the states any more: standard output is closed"
            ) from None
        self._passed_on = state

    def _pass_on_state(self) -> None:
        """Pass on the state, if all that came before it is committed."""
        if self._latest_state and self._is_settled:
            self._write_state_message(self._latest_state)

    def _assert_schema_came(self, stream: str) -> None:
        if stream not in self.mapper.stream_maps:
            raise RecordsWithoutSchemaException(
                f"A message about the stream '{stream}' came before its SCHEMA"
            )

    def _drain_if_needed(self) -> None:
        if not self._is_settled:
            self.drain_all()

    def _plain_sink(self, stream: str) -> StreamSink | None:
        """The sink of a stream whose records need no work of the SDK; None for another."""
        maps = self.mapper.stream_maps.get(stream, [])
        if self.settings.validate_records or len(maps) != 1:
            return None
        if type(maps[0]) is not SameRecordTransform or not self.sink_exists(stream):
            return None
        return cast("StreamSink", self.get_sink(stream))

    # The command line

    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Check everything that was set, and name every problem at once."""
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        problems = [
            # A text that is nearly JSON may hold secrets.
            f"{'.'.join(map(str, error.path))}: "
            + ("is not an object" if error.schema.get("secret") else error.message)
            for error in JSONSchemaValidator(schema).iter_errors(self._config)
        ]
        if not problems:
            try:
                self._settings = Settings.from_config(self._config)
            except ConfigValidationError as error:
                problems = list(error.errors)
        if problems and raise_errors:
            raise ConfigValidationError("; ".join(problems), errors=problems, schema=schema)
        for name in self._config.keys() - schema["properties"].keys():
            self.logger.warning(
                "%s has no effect: it is a setting of target-duckdb only"
                if name in WITHOUT_EFFECT
                else "%s is not a setting, and has no effect",
                name,
            )
        return problems

    @classproperty
    def _env_var_config(cls) -> dict[str, Any]:  # noqa: N805
        """The settings of the environment, each in its type.

        Raises:
            ConfigValidationError: If some can't be; it names them, and not what they hold.
        """
        schema = cls.config_jsonschema
        cls.append_builtin_config(schema)
        found: dict[str, Any] = {}
        problems = []
        for name, kind in schema["properties"].items():
            variable = f"{cls._env_var_prefix}{name.upper()}"
            try:
                found |= parse_environment_config({"properties": {name: kind}}, cls._env_var_prefix)
            except ValueError as error:
                problems.append(f"{name}: what {variable} holds is not valid: {error}")
            # The SDK takes any other word for false.
            if found.get(name) is False and os.environ[variable].lower() not in _FALSE:
                problems.append(f"{name}: what {variable} holds is neither true nor false")
        if problems:
            raise ConfigValidationError("; ".join(problems), errors=problems, schema=schema)
        return found

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        """Add the settings of the SDK that this target has."""
        merge_missing_config_jsonschema(STREAM_MAPS_CONFIG, config_jsonschema)

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """End after the message under way; the second time, end at once."""
        interrupt = cast("MessageReader", self.message_reader).interrupt
        if interrupt.signum is not None:
            os._exit(exit_code(signum))
        interrupt.request(signum)

    @classmethod
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: _ConfigInput | None = None,
        file_input: IO[bytes] | None = None,
    ) -> None:
        """Run the command line.

        Args:
            about: Print what the target is and can.
            about_format: `json` or `markdown`; text by default.
            config: The configuration, from files and the environment.
            file_input: Where to read messages from, in place of standard input.
        """
        super(Target, cls).invoke(about=about, about_format=about_format)
        cls.print_version(print_fn=cls.logger.info)
        config = config or _ConfigInput()
        with one_clear_message(cls.logger):
            target = cls(config=config.config, parse_env_config=config.parse_env)
            _ = target.database  # a file that can't be opened is said before anything is read
            try:
                target.listen(file_input)  # type: ignore[arg-type]
            except TerminatedError:
                target.process_endofpipe()
                raise

    @classmethod
    def cb_config(
        cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]
    ) -> _ConfigInput:
        """Read the configuration files.

        Returns:
            Their settings, merged.
        """
        with one_clear_message(cls.logger):
            try:
                return super().cb_config(ctx, param, value)
            except (OSError, ValueError, TypeError, RecursionError) as error:
                raise LoaderError(f"config: {', '.join(value)} can't be read: {error}") from None

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """The command line of every SDK target.

        Returns:
            The command.
        """
        command = super().get_singer_command()
        for option in command.params:
            if option.name == "file_input":
                option.type = click.File("rb")
        return command
