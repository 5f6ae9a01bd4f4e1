"""The command line: its options, the files that it reads, its log, and how it ends."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
from singer_sdk.exceptions import ConfigValidationError, MapExpressionError, StreamMapConfigError

from tap_mixpanel_parallel.exceptions import (
    ReaderGoneError,
    SettingsError,
    TapError,
    TerminatedError,
)
from tap_mixpanel_parallel.report.terminal import shorten_lines
from tap_mixpanel_parallel.settings.values import parse_json
from tap_mixpanel_parallel.wording import printable, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence

LAST_WEEK: Final = "last week"
"""The days of `--describe` if none are given."""

_LOG_CONFIG: Final = "SINGER_SDK_LOG_CONFIG"


def add_options(command: click.Command) -> click.Command:
    """Add this tap's options to the SDK's."""
    for option in command.params:
        if option.name in {"state", "catalog"}:
            # The tap reads the file, so that one that can't be read ends like other bad input.
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
                ["--report"],
                metavar="FILE",
                help="Write an HTML report of the run, or with --status of the state; replaces "
                "the setting `report`.",
            ),
            click.Option(
                ["--plan"],
                is_flag=True,
                help="Print what a run would fetch and why, and request nothing. "
                "With --format json for scripts.",
            ),
            click.Option(
                ["--describe"],
                is_flag=False,
                flag_value=LAST_WEEK,
                metavar="[FIRST..LAST]",
                help="Make one request, and print which events and properties these days "
                "have, and how to make columns of them. Default: the last week, up to "
                "yesterday. With --format json for scripts.",
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


def check_one_answer(options: Mapping[str, Any]) -> None:
    """Check that the command line asks for one answer at most.

    Raises:
        TapError: If it asks for several.
    """
    asked = [f"--{name}" for name in ("plan", "describe", "status") if options[name]]
    if len(asked) > 1:
        raise TapError(f"{' and '.join(asked)}: each prints an answer of its own; give one")


def read_json(path: str, what: str) -> dict[str, Any]:
    """Read a JSON file that the command line names; `-` is standard input.

    Raises:
        TapError: If it can't be read, or does not contain a JSON object.
    """
    name = "standard input" if path == "-" else path
    if path == "-" and sys.stdin is None:
        raise TapError(f"{what}: {name} is closed; give it a file that holds a JSON object")
    try:
        with click.open_file(path, encoding="utf-8-sig") as file:
            text = file.read()
        if not text.strip():
            hint = ", or no --state, which reads every day" if what == "state" else ""
            raise TapError(f"{what}: {name} is empty; give a file that holds a JSON object{hint}")
        content: object = parse_json(text)
    except RecursionError:
        raise TapError(f"{what}: {name} is nested too deeply; give a flatter one") from None
    except (OSError, ValueError) as error:
        raise TapError(f"{what}: {name} can't be read: {error}") from None
    if not isinstance(content, dict):
        # Not quoted: it may hold a secret.
        raise TapError(f"{what}: {name} holds a {type(content).__name__}, not an object")
    return content


@contextmanager
def log_set_up(variables: tuple[str, ...], environ: MutableMapping[str, str]) -> Iterator[None]:
    """Check the log's settings, let the block set it up, and escape what comes from outside.

    On a terminal its lines are short, unless the log has a configuration of its own.

    Args:
        variables: Those that may name a level; one that is empty counts as not set.
        environ: The environment.

    Raises:
        TapError: If a level does not exist, or the log's configuration can't be used.
    """
    for name in (*variables, _LOG_CONFIG):
        if not environ.get(name, "").strip():
            environ.pop(name, None)
    levels = logging.getLevelNamesMapping()
    for name in variables:
        if (level := environ.get(name, "INFO")).upper() not in levels:
            remedy = f"is not a level; give one of {', '.join(levels)}"
            raise TapError(f"{name}: {shown(level)} {remedy}")
    path = environ.get(_LOG_CONFIG)
    try:
        if path is not None:
            Path(path).read_bytes()
        yield
    except Exception as error:  # noqa: BLE001 - the file may name classes, which raise anything
        raise TapError(f"{_LOG_CONFIG}: {path} can't be used: {error}") from None
    if path is None:
        shorten_lines()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_escape)


def _escape(record: logging.LogRecord) -> bool:
    """Make a log record printable, whoever wrote it; its line breaks stay."""
    try:
        message = record.getMessage()
    except (TypeError, ValueError):
        return True  # a library calls the log wrongly, and the handler says so
    escaped = "\n".join(map(printable, message.split("\n")))
    if escaped != message:
        record.msg, record.args = escaped, ()
    return True


@contextmanager
def warnings_only(logger: logging.Logger) -> Iterator[None]:
    """Leave out what a library tells of itself."""
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def one_clear_message(logger: logging.Logger) -> Iterator[None]:
    """End the process with a message and an exit code, not with a traceback."""
    try:
        yield
    except TerminatedError as error:
        name = signal.Signals(error.signum).name
        text = f"stopped by {name}; the next run continues after what is emitted"
        logger.warning("%s", _with_page(text, error.read_on))
        sys.exit(exit_code(error.signum))
    except ReaderGoneError as error:
        logger.info("%s", _with_page(f"stopped: {error}", error.read_on))
        sys.exit(1)
    except SettingsError as error:
        _fail(logger, error.problems)
    except TapError as error:
        _fail(logger, [str(error)], error.read_on)
    except ConfigValidationError as error:
        _fail(logger, error.errors or [str(error)])
    except (MapExpressionError, StreamMapConfigError) as error:
        _fail(logger, [f"stream_maps: {error}"])
    except RecursionError:
        _fail(logger, ["config, state or catalog: is nested too deeply; give a flatter one"])


def command_again(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """What a person types to run the same once more.

    Args:
        arguments: How this process was started.
        environ: Its environment; Meltano says there that it is Meltano.
    """
    if extractor := environ.get("MELTANO_EXTRACTOR_NAME"):
        environment = environ.get("MELTANO_ENVIRONMENT")
        option = ["--environment", environment] if environment else []
        return f"{shlex.join(['meltano', *option, 'run', extractor])} <your loader>"
    path = Path(arguments[0])
    is_module = path.name == "__main__.py"
    program = ["python", "-m", path.parent.name] if is_module else [path.name]
    has_state = any(argument.split("=")[0] == "--state" for argument in arguments)
    state = "" if has_state else " --state <the saved state>"
    return printable(f"{shlex.join([*program, *arguments[1:]])}{state} | <your loader>")


def exit_code(signum: int) -> int:
    """The code that a shell reports for a process that a signal ended."""
    return 128 + signum


def _fail(
    logger: logging.Logger, problems: Sequence[str], read_on: str = SettingsError.read_on
) -> NoReturn:
    for problem in (*problems[:-1], _with_page(problems[-1], read_on)):
        logger.error("%s", printable(problem))
    sys.exit(1)


def _with_page(text: str, read_on: str) -> str:
    """A message, and where to read on."""
    return f"{text} (see {read_on})"
