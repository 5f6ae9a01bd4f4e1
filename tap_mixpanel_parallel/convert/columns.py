"""The stream's columns: one table, from which each format's form follows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from msgspec import Raw
from msgspec.structs import fields

from tap_mixpanel_parallel.convert.records import EventRecord

Kind = Literal["key", "text", "time", "json"]


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


COLUMNS: Final = tuple(_column(f.encode_name, f.name, f.type) for f in fields(EventRecord))
"""The columns, in the order of a record's fields."""


NAMES: Final = tuple(column.name for column in COLUMNS)
"""Their names."""

KEYWORDS: Final = {"x-key-determines": "time", "x-newest-by": "processed_at"}
"""What a schema tells a loader beyond types: a key settles the time, and of several records
with one key in one batch, the latest ingested counts. Other loaders pass over it."""


def json_schema(properties: dict[str, Any]) -> dict[str, Any]:
    """The stream's JSON schema, in which `properties` has this one."""
    keys = [column.name for column in COLUMNS if column.kind == "key"]
    types: dict[Kind, dict[str, Any]] = {
        "key": {"type": ["string"]},
        "text": {"type": ["string", "null"]},
        "time": {"type": ["string", "null"], "format": "date-time"},
    }
    return {
        "type": "object",
        "properties": {
            column.name: properties
            if column.kind == "json"
            else {**types[column.kind], "description": column.description}
            for column in COLUMNS
        },
        "required": keys,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }
