"""How the command line ends."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from singer_sdk.exceptions import (
    ConfigValidationError,
    InvalidJSONSchema,
    MapExpressionError,
    RecordsWithoutSchemaException,
    StreamMapConfigError,
)
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_duckdb_batch.errors import LoaderError, TerminatedError

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator


READ_ON: Final = "docs/target-duckdb-batch.md#errors"
"""The part of the documents about what a user can cause."""


@contextmanager
def one_clear_message(logger: logging.Logger) -> Iterator[None]:
    """End the process with a message and an exit code, not with a traceback."""
    try:
        yield
    except TerminatedError as error:
        name = signal.Signals(error.signum).name
        logger.warning("stopped by %s; what was read is committed", name)
        sys.exit(exit_code(error.signum))
    except ConfigValidationError as error:
        _fail(logger, error.errors or [str(error)])
    except (MapExpressionError, StreamMapConfigError) as error:
        _fail(logger, [f"stream_maps: {error}"])
    except (
        InvalidInputLine,
        InvalidJSONSchema,
        LoaderError,
        RecordsWithoutSchemaException,
    ) as error:
        _fail(logger, [str(error)])


def exit_code(signum: int) -> int:
    """What a shell reports for a process that a signal ended."""
    return 128 + signum


def _fail(logger: logging.Logger, problems: list[str]) -> NoReturn:
    for problem in (*problems[:-1], f"{problems[-1]} (see {READ_ON})"):
        logger.error("%s", problem)
    sys.exit(1)
