"""The database: each load is one transaction."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import duckdb

from target_duckdb_batch import statements
from target_duckdb_batch.connection import connect, first_line, rows
from target_duckdb_batch.errors import (
    DatabaseError,
    LoaderError,
    NullKeyError,
    SchemaError,
    ValueDoesNotFitError,
)
from target_duckdb_batch.layout import Layout
from target_duckdb_batch.spool import Spool
from target_duckdb_batch.statements import literal, qualified
from target_duckdb_batch.table import BATCHED_AT, DELETED_AT, TABLE_VERSION, Table

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from target_duckdb_batch.settings import Settings
    from target_duckdb_batch.statements import Source


REMEDY: Final = "docs/target-duckdb-batch.md says how to do without it"


class Database:
    """A DuckDB file, open for writing; no other process can open it meanwhile."""

    def __init__(self, settings: Settings, logger: logging.Logger) -> None:
        """Open it.

        Raises:
            DatabaseError: If it can't be opened.
        """
        self._settings = settings
        self._connection = connect(settings)
        self._catalog = str(self._one("SELECT current_database()")[0])
        self._logger = logger
        self._layout = Layout(self._connection, self._catalog, logger)
        self._spools = 0
        self._streams: dict[str, str] = {}

    def close(self) -> None:
        """Write everything into the file, and give it free.

        Raises:
            DatabaseError: If it can't be written.
        """
        try:
            self._connection.close()
        except duckdb.Error as error:
            raise self._explained("closing", error) from None

    def spool(self, table: Table) -> Spool:
        """A place for records that are to be loaded into a table."""
        self._spools += 1
        explained = partial(self._explained, f"stream {table.stream}", table=table)
        return Spool(self._connection, self._spools, explained)

    def prepare(self, table: Table) -> None:
        """Make the table of a stream, or give the one that is there what it lacks.

        Raises:
            SchemaError: If the table that is there can't serve, or is that of another stream.
        """
        other = self._streams.setdefault(table.label.lower(), table.stream)
        if other != table.stream:
            raise SchemaError(
                f"streams {other} and {table.stream} are one table in DuckDB, {table.label}, where "
                "rows of one would replace those of the other; rename one of them (stream_maps), "
                "or load them into different schemas"
            )
        with self._transaction(table):
            self._layout.prepare(table)
        if self._layout.has_primary_key(table):
            self._logger.warning(
                "%s has a primary key, whose upkeep grows with the table; %s", table.label, REMEDY
            )

    def parquet(self, paths: list[str]) -> Source:
        """The rows of Parquet files.

        Raises:
            duckdb.Error: If a file is not one.
        """
        bare = statements.files(paths, {})
        described = self._all(f"DESCRIBE SELECT * FROM {bare.relation}")
        return statements.files(paths, {str(row[0]): str(row[1]) for row in described})

    def load(self, table: Table, source: Source, version: int | None = None) -> int:
        """Load rows, in one transaction.

        A row takes the place of the row with its key, if there is one.

        Args:
            table: Where to.
            source: The rows.
            version: The version of the stream that they belong to.

        Returns:
            How many rows of the source are in the table now.

        Raises:
            NullKeyError: If a row has no key.
            ValueDoesNotFitError: If a value does not fit its column.
            LoaderError: If the rows can't be loaded; then none is.
        """
        now = literal(datetime.now(UTC).isoformat())
        source = replace(source, fixed={BATCHED_AT.name: f"CAST({now} AS TIMESTAMPTZ)"})
        if version is not None:
            table = replace(table, columns=(*table.columns, TABLE_VERSION))
            source = replace(source, fixed={**source.fixed, TABLE_VERSION.name: str(version)})
        with self._transaction(table, source):
            if version is not None:
                self._layout.prepare(table)
            count = self._merge(table, source) if table.keys else self._append(table, source)
            if self._settings.hard_delete:
                self._run(
                    f"DELETE FROM {qualified(self._catalog, table)} "
                    f"WHERE {DELETED_AT.name} IS NOT NULL"
                )
        return count

    def activate_version(self, table: Table, version: int) -> None:
        """Take the rows of older versions away; rows that never had a version stay."""
        target = qualified(self._catalog, table)
        older = f"WHERE {TABLE_VERSION.name} < {version:d}"
        with self._transaction(table):
            if TABLE_VERSION.name not in self._layout.columns(table):
                return
            if self._settings.hard_delete:
                self._run(f"DELETE FROM {target} {older}")
                return
            self._layout.prepare(replace(table, columns=(DELETED_AT,)))
            now = literal(datetime.now(UTC).isoformat())
            self._run(
                f"UPDATE {target} SET {DELETED_AT.name} = {now} "
                f"{older} AND {DELETED_AT.name} IS NULL"
            )

    def _append(self, table: Table, source: Source) -> int:
        target = qualified(self._catalog, table)
        return self._run(statements.insert(table, target, source, without_superseded=False))

    def _merge(self, table: Table, source: Source) -> int:
        target = qualified(self._catalog, table)
        self._run(statements.stage(table, source))
        for null in self._all(statements.null_keys(table, source)):
            raise NullKeyError(
                f"stream {table.stream}: {table.keys[null[0]].source} of its key is null or empty "
                f"in row {null[-1] + 1} of a batch; every record needs its key"
            )
        found, keys = self._one(statements.count_keys(table))
        if keys < found:
            self._run(statements.superseded(table, source))
        key_range = self._one(statements.key_range(table)) if table.range_column else None
        self._run(statements.delete(table, target, key_range))
        count = self._run(statements.insert(table, target, source, without_superseded=keys < found))
        self._run(f"DROP TABLE {statements.STAGE}")
        self._run(f"DROP TABLE IF EXISTS {statements.SUPERSEDED}")
        return count

    @contextmanager
    def _transaction(self, table: Table, source: Source | None = None) -> Iterator[None]:
        """All or nothing.

        Raises:
            LoaderError: What DuckDB has against it.
        """
        self._connection.begin()
        try:
            yield
            self._connection.commit()
        except duckdb.Error as error:
            self._roll_back()
            if source is not None:
                self._raise_if_unfit(table, source)
            raise self._explained(f"stream {table.stream}", error, table) from None
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        with suppress(duckdb.Error):  # a commit that failed has ended it
            self._connection.rollback()

    def _raise_if_unfit(self, table: Table, source: Source) -> None:
        for column in table.columns:
            statement = statements.unfit(column, source)
            if statement is None:
                continue
            try:
                unfit = self._all(statement)
            except duckdb.Error:
                continue  # the file can't be read, which is the error then
            for found in unfit:
                raise ValueDoesNotFitError(
                    f"stream {table.stream}: {found[0]!r} in row {found[-1] + 1} of a batch does "
                    f"not fit the column {column.name}, which is {column.type}; the tap's schema "
                    "and its data do not go together"
                )

    def _explained(
        self, where: str, error: duckdb.Error, table: Table | None = None
    ) -> LoaderError:
        text = first_line(error)
        if isinstance(error, duckdb.OutOfMemoryException):
            limit = self._settings.memory_limit
            key = ""
            if table is not None and self._layout.has_primary_key(table):
                key = f", or take away the primary key of {table.label}: {REMEDY}"
            return DatabaseError(
                f"{where}: memory_limit: {limit} is not enough; set a greater one{key}: {text}"
            )
        if "No space left" in text or "Could not write" in text:
            return DatabaseError(
                f"{where}: {self._settings.path} can't be written; make room on its disk: {text}"
            )
        return LoaderError(f"{where}: DuckDB says: {text}")

    def _run(self, statement: str) -> int:
        """Run a statement; how many rows it changed."""
        changed = self._all(statement)
        return int(changed[0][0]) if changed and isinstance(changed[0][0], int) else 0

    def _one(self, query: str) -> tuple[Any, ...]:
        (row,) = self._all(query)
        return row

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        return rows(self._connection, query)
