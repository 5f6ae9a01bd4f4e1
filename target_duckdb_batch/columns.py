"""The columns of a stream's table: names and types as target-duckdb 0.8.0 gives them. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from target_duckdb_batch.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SEPARATOR: Final = "__"
"""Stands between the names of an object and of its field, where objects are flattened."""

_INTEGERS: Final = ((32767, "SMALLINT"), (2147483647, "INTEGER"), (9223372036854775807, "BIGINT"))


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: Its name in the table.
        path: Where its value is in a record.
        type: Its type in DuckDB.
        keeps_quotes: Whether a text in it is a JSON string, not JSON text.
    """

    name: str
    path: tuple[str, ...]
    type: str
    keeps_quotes: bool = False

    @property
    def source(self) -> str:
        """Its name in what is loaded."""
        return self.path[0] if len(self.path) == 1 else self.name


def columns_of(stream: str, schema: Mapping[str, Any], max_level: int = 0) -> tuple[Column, ...]:
    """The columns for a JSON schema, in the order of the table.

    Args:
        stream: The stream's name, for messages.
        schema: The JSON schema of a record.
        max_level: How many levels of objects become columns of their own.

    Raises:
        SchemaError: If two fields would be one column.
    """
    found = sorted(_fields(schema, (), max_level), key=lambda field: SEPARATOR.join(field[0]))
    columns = tuple(
        Column(
            SEPARATOR.join(path).lower(),
            path,
            duckdb_type(field),
            keeps_quotes=set(_types(field)) == {"null", "object", "array"},
        )
        for path, field in found
    )
    counts = Counter(column.name for column in columns)
    for column in columns:
        if counts[column.name] > 1:
            names = [".".join(other.path) for other in columns if other.name == column.name]
            raise SchemaError(
                f"stream {stream}: {' and '.join(names)} are one column in DuckDB, "
                f"{column.name}; rename or deselect one of them"
            )
    return columns


def duckdb_type(schema: Mapping[str, Any]) -> str:
    """The DuckDB type for the JSON schema of one field."""
    types = set(_types(schema))
    form = schema.get("format")
    rules = (
        (types & {"object", "array"}, "JSON"),
        (form == "date-time", "TIMESTAMP"),
        (form == "time", "TIME"),
        ("number" in types, "DOUBLE"),
        (types >= {"integer", "string"}, "VARCHAR"),
        ("integer" in types, _integer_type(schema.get("maximum"))),
        ("boolean" in types, "BOOLEAN"),
    )
    return next((name for applies, name in rules if applies), "VARCHAR")


def _integer_type(maximum: float | None) -> str:
    if maximum is None:
        return "HUGEINT"
    return next((name for top, name in _INTEGERS if maximum <= top), "VARCHAR")


def _fields(
    schema: Mapping[str, Any], parent: tuple[str, ...], levels: int
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    for name, declared in schema.get("properties", {}).items():
        path = (*parent, name)
        field = _chosen(declared)
        if levels > 0 and "object" in _types(field) and "properties" in field:
            yield from _fields(field, path, levels - 1)
        else:
            yield path, field


def _chosen(field: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of several alternatives the first that is more than null."""
    if "type" in field:
        return field
    for keyword in ("anyOf", "oneOf", "allOf"):
        for alternative in field.get(keyword, ()):
            if set(_types(alternative)) - {"null"}:
                return dict(alternative)
    return field


def _types(field: Mapping[str, Any]) -> tuple[str, ...]:
    types = field.get("type", ())
    return (types,) if isinstance(types, str) else tuple(types)
