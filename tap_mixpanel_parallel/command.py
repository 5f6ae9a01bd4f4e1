"""The command line's own parts: options, files that it reads, and how it ends."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import click
from singer_sdk.exceptions import (
    ConfigValidationError,
    MapExpressionError,
    StreamMapConfigError,
)
from singer_sdk.singerlib.json import deserialize_json

from tap_mixpanel_parallel.exceptions import ReaderGoneError, TapError, TerminatedError

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Mapping


class Report(Protocol):
    """Something to print instead of running."""

    def to_text(self) -> str:
        """The report for people."""

    def to_json(self) -> dict[str, Any]:
        """The report for scripts."""


def add_options(command: click.Command) -> click.Command:
    """Add this tap's options to the SDK's."""
    for option in command.params:
        if option.name in {"state", "catalog"}:
            # Read by the tap, so that a file that can't be read ends like other bad input.
            option.type = click.STRING
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
            click.Option(
                ["--replay"],
                metavar="FIRST..LAST",
                help="Read these days again though they are loaded, e.g. "
                "2025-01-05..2025-01-11; replaces the setting `replay`.",
            ),
            click.Option(
                ["--plan"],
                is_flag=True,
                help="Print what a run would fetch and why, and request nothing. "
                "With --format json for scripts.",
            ),
            click.Option(
                ["--status"],
                is_flag=True,
                help="Print what a state (--state, or standard input) says is loaded, failed "
                "and missing. With --format json for scripts.",
            ),
        ]
    )
    return command


def read_json(path: str, what: str) -> dict[str, Any]:
    """Read a JSON file that was named on the command line; `-` is standard input.

    Raises:
        TapError: If there is none, or it holds something else.
    """
    content: object
    name = "standard input" if path == "-" else path
    if path == "-" and sys.stdin is None:
        raise TapError(f"{what}: {name} is closed; give it a file that holds a JSON object")
    try:
        with click.open_file(path, encoding="utf-8") as file:
            text = file.read()
        if not text.strip():
            hint = ", or no --state, which reads every day" if what == "state" else ""
            raise TapError(f"{what}: {name} is empty; give a file that holds a JSON object{hint}")
        content = deserialize_json(text)
    except (OSError, ValueError, RecursionError) as error:
        raise TapError(f"{what}: {name} can't be read: {error}") from None
    if not isinstance(content, dict):
        raise TapError(f"{what}: {path} holds {content!r}, not an object")
    return content


def check_environment(schema: dict[str, Any], prefix: str, environ: Mapping[str, str]) -> None:
    """Refuse variables that the SDK could not convert.

    Raises:
        ConfigValidationError: If there are any; it names each.
    """
    problems = []
    for name, setting in schema["properties"].items():
        variable = f"{prefix}{name.upper()}"
        value = environ.get(variable)
        convert: Any = {"integer": int, "object": json.loads}.get(_type(setting))
        if value is None or convert is None:
            continue
        try:
            convert(value)
        except ValueError:
            problems.append(f"{name}: {value!r} in {variable} is no {_type(setting)}")
    if problems:
        raise ConfigValidationError("Config validation failed", errors=problems, schema=schema)


def print_report(report: Report, *, as_json: bool) -> None:
    """Print a report to standard output."""
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())


@contextmanager
def one_clear_message(logger: logging.Logger) -> Iterator[None]:
    """End the process with a message and an exit code, not with a traceback."""
    try:
        yield
    except TerminatedError as error:
        name = signal.Signals(error.signum).name
        logger.warning("stopped by %s; the next run goes on from what is emitted", name)
        sys.exit(exit_code(error.signum))
    except ReaderGoneError as error:
        logger.info("stopped: %s", error)
        sys.exit(1)
    except TapError as error:
        _fail(logger, [str(error)])
    except ConfigValidationError as error:
        _fail(logger, error.errors)
    except (MapExpressionError, StreamMapConfigError) as error:
        _fail(logger, [f"stream_maps: {error}"])


def exit_code(signum: int) -> int:
    """What a shell reports for a process that a signal ended."""
    return 128 + signum


def _fail(logger: logging.Logger, problems: list[str]) -> NoReturn:
    for problem in problems:
        logger.error(problem)
    sys.exit(1)


def _type(setting: Mapping[str, Any]) -> str:
    types = setting.get("type", "string")
    return types if isinstance(types, str) else str(types[0])
