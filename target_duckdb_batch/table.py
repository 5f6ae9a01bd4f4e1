"""A stream's table: where it is, what it holds, and how its rows are found again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from target_duckdb_batch.columns import SEPARATOR, Column, columns_of
from target_duckdb_batch.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_duckdb_batch.settings import Settings

KEY_DETERMINES: Final = "x-key-determines"
"""Keyword of a stream's schema: the column whose value never changes for a key."""

NEWEST_BY: Final = "x-newest-by"
"""Keyword of a stream's schema: of two rows of one key in a batch, the greater one here stays."""

KEPT_APART: Final = "x-kept-apart"
"""Keyword of a stream's schema: what its rows are, if they must not be in one table with others."""

EXTRACTED_AT: Final = Column("_sdc_extracted_at", ("_sdc_extracted_at",), "TIMESTAMP")
BATCHED_AT: Final = Column("_sdc_batched_at", ("_sdc_batched_at",), "TIMESTAMP")
DELETED_AT: Final = Column("_sdc_deleted_at", ("_sdc_deleted_at",), "VARCHAR")
TABLE_VERSION: Final = Column("_sdc_table_version", ("_sdc_table_version",), "BIGINT")

_ORDERED: Final = frozenset({"TIMESTAMP", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"})


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        stream: The stream that it holds.
        schema: The schema of the database that it is in.
        name: Its name.
        columns: Its columns, in order.
        keys: The columns that tell its rows apart; without any, rows are only appended.
        range_column: The column whose value a key determines, so that a merge looks only at
            the batch's range of it.
        newest_by: The column that decides between rows of one key in one batch.
        kept_apart: What its rows are, if no other row may be among them; empty otherwise.
    """

    stream: str
    schema: str
    name: str
    columns: tuple[Column, ...]
    keys: tuple[Column, ...] = ()
    range_column: Column | None = None
    newest_by: Column | None = None
    kept_apart: str = ""

    @property
    def label(self) -> str:
        """The table's name, for people."""
        return f"{self.schema}.{self.name}"


def table_of(
    stream: str, schema: Mapping[str, Any], key_properties: Sequence[str], settings: Settings
) -> Table:
    """The table for a stream.

    Args:
        stream: The stream's name.
        schema: The JSON schema of its records.
        key_properties: The fields that tell its records apart.
        settings: The loader's settings.

    Raises:
        SchemaError: If the schema can't be a table.
    """
    namespace, name = _names(stream)
    columns = columns_of(stream, schema, settings.data_flattening_max_level)
    if not columns:
        raise SchemaError(f"stream {stream}: its schema declares no field; select at least one")
    if settings.primary_key_required and not key_properties:
        raise SchemaError(
            f"stream {stream} has no key; without one its rows are appended, never updated: "
            "set primary_key_required to false if that is what you want"
        )
    by_field = {column.path[0]: column for column in columns if len(column.path) == 1}
    missing = [key for key in key_properties if key not in by_field]
    if missing:
        raise SchemaError(
            f"stream {stream}: {', '.join(missing)} of its key is not in its schema; "
            "select every key field in the tap"
        )
    if settings.has_metadata_columns:
        own = (BATCHED_AT, DELETED_AT, EXTRACTED_AT)
        names = {column.name for column in own}
        kept = [column for column in columns if column.name not in names]
        columns = tuple(sorted((*kept, *own), key=lambda column: SEPARATOR.join(column.path)))
    determined = by_field.get(schema.get(KEY_DETERMINES, ""))
    return Table(
        stream,
        settings.schema_for(namespace),
        name,
        columns,
        tuple(by_field[key] for key in key_properties),
        determined if determined is not None and determined.type in _ORDERED else None,
        by_field.get(schema.get(NEWEST_BY, "")),
        str(schema.get(KEPT_APART, "")),
    )


def _names(stream: str) -> tuple[str | None, str]:
    """The schema and the table that a stream's name speaks of.

    A hyphen separates them: `<schema>-<table>`, or `<catalog>-<schema>-<table>`.
    """
    parts = stream.split("-")
    if len(parts) == 1:
        namespace, table = None, stream
    elif len(parts) == 2:  # noqa: PLR2004
        namespace, table = parts
    else:
        namespace, table = parts[1], "_".join(parts[2:])
    return namespace, table.replace(".", "_").lower()
