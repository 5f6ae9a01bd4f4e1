"""The stream's columns: one table, from which each format's form follows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from msgspec import Raw
from msgspec.structs import astuple, fields

from tap_mixpanel_parallel.convert.lifting import GREATEST, LEAST
from tap_mixpanel_parallel.convert.records import EventRecord
from tap_mixpanel_parallel.wording import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_mixpanel_parallel.settings.property_columns import ColumnType, PropertyColumn

Kind = Literal["key", "text", "time", "json", "number", "integer", "boolean"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the stream.

    Attributes:
        name: Its name in every output.
        field: The record's field that holds it.
        kind: What it holds.
        description: The same, for people.
    """

    name: str
    field: str
    kind: Kind
    description: str


def _kind(python_type: Any) -> Kind:
    if python_type is bytes:
        return "key"
    if python_type is Raw:
        return "json"
    return "time" if int in {python_type, *get_args(python_type)} else "text"


def _column(name: str, field: str, annotation: Any) -> Column:
    python_type, meta = get_args(annotation)
    return Column(name, field, _kind(python_type), meta.description)


COLUMNS: Final = tuple(_column(f.encode_name, f.name, f.type) for f in fields(EventRecord)[:-1])
"""The columns that every record has, in the order of its fields."""

_KINDS: Final[dict[ColumnType, Kind]] = {
    "string": "text",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
    "date-time": "time",
    "json": "json",
}


def all_columns(chosen: Iterable[PropertyColumn]) -> tuple[Column, ...]:
    """The columns of a record, and after them those that are properties."""
    lifted = (
        Column(each.name, "lifted", _KINDS[each.type], f"The property {shown(each.property)}")
        for each in chosen
    )
    return (*COLUMNS, *lifted)


def column_values(records: Iterable[EventRecord]) -> list[tuple[Any, ...]]:
    """The values of one or more records by column, in the order of `all_columns`."""
    *values, lifted = zip(*map(astuple, records), strict=True)
    values += zip(*lifted, strict=True)
    return values


NAMES: Final = tuple(column.name for column in COLUMNS)
"""Their names."""

KEYWORDS: Final = {"x-key-determines": "time", "x-newest-by": "processed_at"}
"""What a schema tells a loader beyond types: a key settles the time, and of several records
with one key in one batch, the latest ingested counts. Other loaders pass over it."""

KEPT_APART: Final = {"x-kept-apart": "synthetic"}
"""What the schema of a sandbox's events tells a loader besides: no table holds both them and a
project's."""


def json_schema(
    properties: dict[str, Any],
    json_text: dict[str, Any] | None = None,
    chosen: Iterable[PropertyColumn] = (),
) -> dict[str, Any]:
    """The stream's JSON schema.

    Args:
        properties: That of the column `properties`, whose form depends on settings.
        json_text: That of a text of JSON; a description would change what loaders make of it.
        chosen: The properties that become columns.
    """
    types: dict[Kind, dict[str, Any]] = {
        "key": {"type": ["string"]},
        "text": {"type": ["string", "null"]},
        "time": {"type": ["string", "null"], "format": "date-time"},
        "number": {"type": ["number", "null"]},
        "integer": {"type": ["integer", "null"], "minimum": LEAST, "maximum": GREATEST},
        "boolean": {"type": ["boolean", "null"]},
    }
    schemas = {
        column.name: types[column.kind] | {"description": column.description}
        if column.kind in types
        else json_text
        for column in all_columns(chosen)
    }
    return {
        "type": "object",
        "properties": schemas | {"properties": properties},
        "required": [column.name for column in COLUMNS if column.kind == "key"],
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }
