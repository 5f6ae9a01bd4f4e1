"""Opens the DuckDB file, and says why it can't be opened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import duckdb

from target_duckdb_batch.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from target_duckdb_batch.settings import Settings

STORAGE_VERSION: Final = "v1.2.0"
"""The format of new files: the oldest that compresses with zstd, and that DuckDB 1.2 reads."""

CHECKPOINT_THRESHOLD: Final = "256MB"
"""How long the log grows: checkpoints of small transactions cost more than the data."""

_HOLDER: Final = re.compile(r"held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")


def connect(settings: Settings) -> duckdb.DuckDBPyConnection:
    """Open the file, and make it if there is none.

    Raises:
        DatabaseError: If it can't be opened for writing.
    """
    path = settings.path
    if path.is_dir():
        raise DatabaseError(f"filepath: {path} is a directory; give the path of a file")
    if not path.parent.is_dir():
        raise DatabaseError(f"filepath: there is no directory {path.parent}; make it first")
    config = {
        "memory_limit": settings.memory_limit,
        "checkpoint_threshold": CHECKPOINT_THRESHOLD,
        "storage_compatibility_version": STORAGE_VERSION,
    }
    if settings.temp_dir is not None:
        config["temp_directory"] = str(settings.temp_dir)
    was_killed = path.with_name(f"{path.name}.wal").exists()
    try:
        connection = duckdb.connect(str(path), config=config)
        if was_killed:
            # The log may end within a transaction. DuckDB 1.2 would write on behind that, and
            # could not read the log again.
            rows(connection, "CHECKPOINT")
    except duckdb.Error as error:
        raise DatabaseError(f"filepath: {_reason(str(path), error)}") from None
    try:
        for name, value in settings.duckdb.items():
            _set(connection, name, value)
    except DatabaseError:
        connection.close()
        raise
    # A text without an offset is UTC, and so is what a text or a file with one becomes.
    rows(connection, "SET TimeZone = 'UTC'")
    rows(connection, "SET enable_progress_bar = false")
    return connection


def rows(
    connection: duckdb.DuckDBPyConnection, statement: str, values: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Run a statement, and take all of its result: DuckDB 2 does nothing else before that."""
    return connection.execute(statement, list(values)).fetchall()


def first_line(error: BaseException) -> str:
    """An error of DuckDB in one line."""
    return str(error).split("\n", 1)[0].strip()


def _set(connection: duckdb.DuckDBPyConnection, name: str, value: object) -> None:
    text = str(value).replace("'", "''")
    try:
        rows(connection, f"SET {name} = '{text}'")
    except duckdb.Error as error:
        raise DatabaseError(f"settings: {name} = {value!r}: {first_line(error)}") from None


def _reason(path: str, error: duckdb.Error) -> str:
    text = first_line(error)
    if "Could not set lock" in text or "already open" in text or "being used by another" in text:
        holder = _HOLDER.search(text)
        who = f"process {holder['pid']} ({holder['program']})" if holder else "another process"
        return f"{path} is open in {who}; close it there, and run again"
    if "newer version" in text or "with version number" in text:
        return (
            f"{path} was made by another version of DuckDB than this one, {duckdb.__version__}, "
            f"which can't read it; install a later DuckDB: {text}"
        )
    if "not a valid DuckDB database" in text:
        return f"{path} is not a DuckDB file; give another path, or move it away"
    return f"{path} can't be opened for writing: {text}"
