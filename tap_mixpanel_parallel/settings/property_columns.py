"""`property_columns`: the properties that become columns, their names and types."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from tap_mixpanel_parallel.wording import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tap_mixpanel_parallel.settings.reader import ConfigReader

SETTING: Final = "property_columns"

ColumnType = Literal["string", "number", "integer", "boolean", "date-time", "json"]

TYPES: Final[tuple[ColumnType, ...]] = get_args(ColumnType)
"""The types of a column; the first is the default."""

RECORD_FIELDS: Final = (
    "event_id",
    "event",
    "time",
    "distinct_id",
    "insert_id",
    "processed_at",
    "properties",
)
"""The names that every record has already."""

STANDARD_WORD: Final = "standard"
"""Stands for the columns of `STANDARD`."""

_KEYS: Final = {"property", "name", "type"}
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_LONGEST_NAME: Final = 63
"""PostgreSQL cuts a longer name."""

_LOADERS_PREFIX: Final = "_sdc_"
"""Begins the names of the columns that loaders add."""

_NAME_REMEDY: Final = (
    "has no name that a column can have; give a `name` of small letters, digits and _, which "
    f"begins with no digit, has at most {_LONGEST_NAME} characters, and is not one of the "
    f"loaders' ({_LOADERS_PREFIX}…)"
)

_EXAMPLE: Final = '["$os", {"property": "amount", "type": "number", "name": "amount_usd"}]'


@dataclass(frozen=True, slots=True)
class PropertyColumn:
    """A property that becomes a column.

    Attributes:
        property: The property's name at Mixpanel.
        name: The column's name.
        type: What the column holds.
    """

    property: str
    name: str
    type: ColumnType = TYPES[0]


def plain_name(property: str) -> str:  # noqa: A002 - Mixpanel's word
    """A column's name for a property: small letters of ASCII, digits and `_`.

    `$os` becomes `os`, `Page Title` becomes `page_title`, `Größe` becomes `grosse`. A name
    of nothing but other characters becomes an empty text.
    """
    decomposed = unicodedata.normalize("NFKD", property.casefold())
    letters = "".join(char for char in decomposed if not unicodedata.combining(char))
    plain = re.sub(r"[^a-z0-9]+", "_", letters).strip("_")
    return f"_{plain}" if plain[:1].isdigit() else plain


def _columns(type: ColumnType, *properties: str) -> Iterator[PropertyColumn]:  # noqa: A002
    return (PropertyColumn(name, plain_name(name), type) for name in properties)


STANDARD: Final[tuple[PropertyColumn, ...]] = (
    *_columns("string", "$user_id", "$device_id"),
    *_columns("string", "$city", "$region", "mp_country_code"),
    *_columns("string", "$os", "$os_version", "$browser", "$browser_version"),
    *_columns("string", "$device", "$manufacturer", "$brand", "$model"),
    *_columns("number", "$screen_height", "$screen_width"),
    *_columns("string", "$app_version_string", "$app_build_number", "mp_lib", "$lib_version"),
    *_columns("string", "$current_url", "$referrer", "$referring_domain"),
    *_columns("string", "$initial_referrer", "$initial_referring_domain", "$search_engine"),
    *_columns("string", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"),
)
"""The properties that Mixpanel's own libraries set (Mixpanel docs, Default Properties)."""


def read_property_columns(reader: ConfigReader) -> tuple[PropertyColumn, ...]:
    """Read `property_columns`; what is not valid is left out, and becomes a problem."""
    given = reader.value(SETTING)
    items = [given] if given == STANDARD_WORD else given
    if items is None:
        return ()
    if not isinstance(items, list):
        reader.reject(SETTING, given, f"is not a list; give e.g. {_EXAMPLE}, or {STANDARD_WORD}")
        return ()
    columns = [column for item in items if item != STANDARD_WORD for column in _read(reader, item)]
    if STANDARD_WORD in items:
        named = {column.property for column in columns}
        columns = [*(each for each in STANDARD if each.property not in named), *columns]
    reader.problems.extend(_collisions(columns))
    return tuple({column.name: column for column in columns}.values())


def _read(reader: ConfigReader, item: Any) -> Iterator[PropertyColumn]:
    """The column of an item, if it is valid."""
    parts = {"property": item} if isinstance(item, str) else item
    if not isinstance(parts, Mapping) or parts.keys() - _KEYS:
        reader.reject(
            SETTING,
            item,
            f"is neither a name nor an object of property, name and type; give e.g. {_EXAMPLE}",
        )
        return
    name, given, kind = parts.get("property"), parts.get("name"), parts.get("type")
    plain = plain_name(name) if given is None and isinstance(name, str) else given
    kind = TYPES[0] if kind is None else kind
    problems = list(_problems(name, plain, kind))
    for problem in problems:
        reader.reject(SETTING, item, problem)
    if not problems:
        yield PropertyColumn(str(name), str(plain), cast("ColumnType", kind))


def _problems(name: object, plain: object, kind: object) -> Iterator[str]:
    if not _is_text(name):
        yield "has no valid `property`; give the property's name"
    elif not _is_column_name(plain):
        yield _NAME_REMEDY
    if kind not in TYPES:
        yield f"has an unknown type; give one of {', '.join(TYPES)}"


def _is_text(name: object) -> bool:
    """Whether it is a text that is not empty, and that UTF-8 can encode."""
    return isinstance(name, str) and bool(name) and name.encode(errors="replace").decode() == name


def _is_column_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and _NAME.fullmatch(name) is not None
        and len(name) <= _LONGEST_NAME
        and not name.startswith(_LOADERS_PREFIX)
    )


def _collisions(columns: Iterable[PropertyColumn]) -> Iterator[str]:
    """A problem for each name that several columns, or a field of every record, would have."""
    by_name: dict[str, list[str]] = {}
    for column in columns:
        by_name.setdefault(column.name, []).append(shown(column.property))
    for name, properties in by_name.items():
        if name in RECORD_FIELDS:
            yield (
                f"{SETTING}: {' and '.join(properties)} would be the column {name}, which every "
                "record has already; give another `name`, or leave it out"
            )
        elif len(properties) > 1:
            yield (
                f"{SETTING}: {' and '.join(properties)} would all be the column {name}; "
                "give each another `name`"
            )
