"""Makes a table what its stream needs: schema, table, new columns, columns of another type."""

from __future__ import annotations

import time
from itertools import chain, count
from typing import TYPE_CHECKING

import duckdb

from target_duckdb_batch import statements
from target_duckdb_batch.connection import rows
from target_duckdb_batch.errors import SchemaError
from target_duckdb_batch.statements import identifier, literal, qualified
from target_duckdb_batch.table import KEPT_APART

if TYPE_CHECKING:
    import logging
    from collections.abc import Collection

    from target_duckdb_batch.columns import Column
    from target_duckdb_batch.table import Table

_FIRST_WITH_ZSTD = (1, 4)
_MARK = f"{KEPT_APART}: "


class Layout:
    """The tables of a database.

    Changes are part of the transaction that is under way.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, catalog: str, logger: logging.Logger
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._logger = logger

    def prepare(self, table: Table) -> None:
        """Make the table, or give the one that is there what it lacks.

        A column whose type changes is renamed, as target-duckdb does it, and made anew.

        Raises:
            SchemaError: If the table that is there can't serve.
        """
        if self._is_view(table):
            raise SchemaError(
                f"stream {table.stream}: {table.label} is a view; rename it, or load into "
                "another default_target_schema"
            )
        present = self.columns(table)
        if not present:
            self._create(table)
            return
        self._check_apart(table)
        target = qualified(self._catalog, table)
        taken = present.keys() | {column.name for column in table.columns}
        for column in table.columns:
            given = present.get(column.name)
            if given is not None and given != column.type:
                self._rename(table, column, given, taken)
            if given != column.type:
                self._logger.info("adding column %s %s to %s", column.name, column.type, target)
                rows(
                    self._connection,
                    f"ALTER TABLE {target} ADD COLUMN {identifier(column.name)} {column.type}",
                )

    def columns(self, table: Table) -> dict[str, str]:
        """The types of the columns that are there, by their names in small letters."""
        found = rows(
            self._connection,
            "SELECT lower(column_name), data_type FROM duckdb_columns() "
            "WHERE database_name = ? AND lower(schema_name) = lower(?) AND lower(table_name) = ?",
            [self._catalog, table.schema, table.name],
        )
        return dict(found)

    def has_primary_key(self, table: Table) -> bool:
        """Whether the table has a primary key, as target-duckdb makes it."""
        return bool(
            rows(
                self._connection,
                "SELECT 1 FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY' "
                "AND database_name = ? AND lower(schema_name) = lower(?) AND lower(table_name) = ?",
                [self._catalog, table.schema, table.name],
            )
        )

    def _create(self, table: Table) -> None:
        rows(
            self._connection,
            f"CREATE SCHEMA IF NOT EXISTS {identifier(self._catalog)}.{identifier(table.schema)}",
        )
        target = qualified(self._catalog, table)
        self._logger.info("creating table %s", target)
        rows(self._connection, statements.create(table, target, self._compression()))
        if table.kept_apart:
            mark = literal(_MARK + table.kept_apart)
            rows(self._connection, f"COMMENT ON TABLE {target} IS {mark}")

    def _check_apart(self, table: Table) -> None:
        """Refuse rows that are not of the kind that the table holds."""
        found = rows(
            self._connection,
            "SELECT comment FROM duckdb_tables() WHERE database_name = ? "
            "AND lower(schema_name) = lower(?) AND lower(table_name) = ?",
            [self._catalog, table.schema, table.name],
        )
        comment = next((text for (text,) in found if text and text.startswith(_MARK)), _MARK)
        held = comment.removeprefix(_MARK)
        if held != table.kept_apart:
            new = table.kept_apart or f"not {held}"
            old = held or f"not known to be {table.kept_apart}"
            raise SchemaError(
                f"stream {table.stream}: its rows are {new}, those of {table.label} are {old}, "
                "and the two must not be in one table; set another filepath or "
                "default_target_schema, or drop the table if you do not need it"
            )

    def _is_view(self, table: Table) -> bool:
        return bool(
            rows(
                self._connection,
                "SELECT 1 FROM duckdb_views() WHERE database_name = ? "
                "AND lower(schema_name) = lower(?) AND lower(view_name) = ?",
                [self._catalog, table.schema, table.name],
            )
        )

    def _compression(self) -> str | None:
        """How to compress JSON: zstd where both DuckDB and the file can."""
        version = tuple(int(part) for part in duckdb.__version__.split(".")[:2])
        if version < _FIRST_WITH_ZSTD:
            return None
        found = rows(
            self._connection,
            "SELECT element_at(tags, 'storage_version')::VARCHAR FROM duckdb_databases() "
            "WHERE database_name = ?",
            [self._catalog],
        )
        storage = str(found[0][0]).strip("[]")
        return None if storage.startswith(("v0", "v1.0", "v1.1")) else "zstd"

    def _rename(self, table: Table, column: Column, given: str, taken: Collection[str]) -> None:
        if column in table.keys:
            raise SchemaError(
                f"stream {table.stream}: {column.name} of its key is {given} in {table.label}, "
                f"and now {column.type}; load into another default_target_schema, or alter the "
                "column first"
            )
        plain = f"{column.name}_{time.strftime('%Y%m%d_%H%M')}"
        numbered = (f"{plain}_{number}" for number in count(2))
        aside = next(name for name in chain([plain], numbered) if name not in taken)
        self._logger.warning(
            "%s.%s changes from %s to %s: what it held is in %s",
            table.label, column.name, given, column.type, aside,
        )  # fmt: skip
        rows(
            self._connection,
            f"ALTER TABLE {qualified(self._catalog, table)} "
            f"RENAME COLUMN {identifier(column.name)} TO {identifier(aside)}",
        )
