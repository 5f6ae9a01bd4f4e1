"""Columns to choose from, as a setting and as a view of DuckDB's, in code to paste. Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.report.census import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_mixpanel_parallel.report.census import Kind, Property

_FIELDS: Final = (
    "event_id",
    "event",
    "time",
    "distinct_id",
    "insert_id",
    "processed_at",
    "properties",
)
"""The names that every record has already."""

_OF_FIELDS: Final = {"time", "distinct_id", "$insert_id", "mp_processing_time_ms"}
"""The properties that these fields hold."""

_MOST_COLUMNS: Final = 100
_LEAST_SHARE: Final = 0.01
_LONGEST_COLUMN: Final = 60
_VIEW: Final = "mixpanel.events_wide"
_TABLE: Final = "mixpanel.events"

_TYPES: Final[list[tuple[set[Kind], str]]] = [
    ({"boolean"}, "boolean"),
    ({"integer"}, "integer"),
    ({"integer", "number"}, "number"),
    ({"date-time"}, "date-time"),
    ({"object", "array"}, "json"),
]
"""What a column holds whose values are all of these kinds; else text."""

_SQL_TYPES: Final = {
    "number": "DOUBLE",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "date-time": "TIMESTAMP",
}


@dataclass(frozen=True, slots=True)
class SuggestedColumn:
    """A property as a column.

    Attributes:
        property: The property's name.
        name: The column's name.
        type: Its type, in the words of `property_columns`.
    """

    property: str
    name: str
    type: str


def plain_name(property: str) -> str:  # noqa: A002 - Mixpanel's word
    """A column's name for a property: small letters of ASCII, digits and `_`."""
    decomposed = unicodedata.normalize("NFKD", property.casefold())
    letters = "".join(char for char in decomposed if not unicodedata.combining(char))
    plain = re.sub(r"[^a-z0-9]+", "_", letters).strip("_")
    return f"_{plain}" if plain[:1].isdigit() else plain


def suggest(properties: Iterable[tuple[str, Property]], total: int) -> list[SuggestedColumn]:
    """The columns that most events have something for, each under a name of its own.

    Args:
        properties: The properties, the most frequent first.
        total: How many events there are.
    """
    taken, columns = set(_FIELDS), []
    for name, seen in properties:
        kinds = seen.kinds.keys() - {"null"}
        is_rare = seen.count < _LEAST_SHARE * total
        if is_rare or not name or len(name) > LONGEST_NAME or name in _OF_FIELDS or not kinds:
            continue
        kind = next((word for kinds_of, word in _TYPES if kinds <= kinds_of), "string")
        column = SuggestedColumn(name, _free_name(name, taken), kind)
        taken.add(column.name)
        columns.append(column)
        if len(columns) == _MOST_COLUMNS:
            break
    return columns


def _free_name(name: str, taken: set[str]) -> str:
    plain = plain_name(name) or "property"
    wanted = plain
    if len(plain) > _LONGEST_COLUMN or plain.startswith("_sdc_"):
        wanted = f"p_{plain}"[:_LONGEST_COLUMN]
    free, number = wanted, 1
    while free in taken:
        number += 1
        free = f"{wanted[:_LONGEST_COLUMN]}_{number}"
    return free


def setting_of(column: SuggestedColumn) -> str | dict[str, str]:
    """The column in `property_columns`."""
    more = {"type": column.type} if column.type != "string" else {}
    if column.name != plain_name(column.property):
        more["name"] = column.name
    return {"property": column.property, **more} if more else column.property


def setting_text(columns: Iterable[SuggestedColumn]) -> str:
    """The value of `property_columns`, as JSON with a line for each column."""
    lines = (f"  {_json(setting_of(column))}" for column in columns)
    return "[\n" + ",\n".join(lines) + "\n]"


def view_text(columns: Iterable[SuggestedColumn]) -> str:
    """A view of DuckDB's, with a line for each column."""
    fields = [name for name in _FIELDS if name != "properties"]
    lines = [", ".join(fields), *map(_sql, columns), "properties"]
    return (
        f"CREATE OR REPLACE VIEW {_VIEW} AS\nSELECT\n  " + ",\n  ".join(lines) + f"\nFROM {_TABLE};"
    )


def _sql(column: SuggestedColumn) -> str:
    """The column in a `SELECT` of DuckDB's."""
    arrow = "->" if column.type == "json" else "->>"
    value = f"properties{arrow}{_literal(json_path(column.property))}"
    if column.type in _SQL_TYPES:
        value = f"TRY_CAST({value} AS {_SQL_TYPES[column.type]})"
    return f'{value} AS "{column.name}"'


def json_path(name: str) -> str:
    """DuckDB's path to a property: JSONPath, or for what it can't say a JSON pointer."""
    if name in {"", "*"} or '"' in name or "\\" in name:
        return "/" + name.replace("~", "~0").replace("/", "~1")
    return f'$."{name}"'


def _literal(text: str) -> str:
    """A text in SQL, of nothing but printable characters."""
    parts: list[str] = []
    for is_plain, group in groupby(text, str.isprintable):
        chars = "".join(group)
        if is_plain:
            parts.append("'" + chars.replace("'", "''") + "'")
        else:
            parts += [f"chr({ord(char)})" for char in chars]
    return parts[0] if len(parts) == 1 else f"({' || '.join(parts)})"


def _json(value: Any) -> str:
    """JSON of nothing but printable characters."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
