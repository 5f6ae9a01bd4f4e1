"""Values for columns, and what a column of each type holds for one."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.settings.property_columns import TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS: Final = [
    {"property": kind, "name": f"of_{kind.replace('-', '_')}", "type": kind} for kind in TYPES
]
"""A column of each type; the property has the type's name."""

_NUMBERS: Final = (
    *(
        "0",
        "-0",
        "-0.0",
        "1",
        "1.0",
        "1e2",
        "1E+2",
        "1.10",
        "10e-1",
        "0e99999999",
        "1e-400",
        "1e400",
    ),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e19"),
    *("-9223372036854775809", "9223372036854775807.0", "9.223372036854775807e18"),
    *("123456789012345678901234567890", "0.1234567890123456789012345678901", "9007199254740993"),
    *("1.7976931348623157e308", "5e-324", "1e999999", f"1{'0' * 400}", "-1.5"),
    *("1736035200", "1736035200.9999", "99999999999", "100000000000", "253402300800000"),
    *("253402300799.9999", "-62135596800", "-62135596800.0001", "1736035200000.75"),
)
_TIMES: Final = (
    *("2025-01-02", "2025-01-02T03:04:05", "2025-01-02 03:04:05", "2025-01-02T03:04:05Z"),
    *("2025-01-02T03:04:05.123456+05:30", "2025-01-02T03:04", "2025-01-02T03:04:05.9999999Z"),
    *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-00:01"),
    *("2025-02-30", "20250102", "2025-W01-1", "2025-01-02x03:04:05", "1736035200"),
    *("2025-01-02T25:00:00", "2025-01-02T03:04:05 UTC", " 2025-01-02", "2025-0102"),
    "\u0662\u0660\u0662\u0665-01-02",
)
_TEXTS: Final = ("", "a", "true", "1", "null", "{}", "\u0000", "🎉", "\u2028", 'a"b\\c\n')
_OTHERS: Final = (
    "true",
    "false",
    "null",
    "{}",
    "[]",
    '{"a" : [1, {}]}',
    '[ "x" , null ]',
    "[1e5,0.10]",
)
VALUES: Final = (
    *(*_NUMBERS, *_OTHERS, '{"c":1,"c":[2]}', r'"\ud83d\ude00"', r'"\u0041"'),
    *(json.dumps(text) for text in (*_TIMES, *_TEXTS)),
    *(json.dumps(text, ensure_ascii=False) for text in _TEXTS),
)
"""Values of all sorts, as JSON text: awkward ones."""


_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d([Tt ].*)?", re.ASCII)
MISFIT: Final = object()
"""What a value is that does not fit."""


def held(kind: str, text: str) -> Any:  # noqa: PLR0911 - one for each type
    """What a column of a type holds for a value: written apart from the code."""
    value: Any = json.loads(text, parse_float=Decimal)
    if value is None:
        return None
    is_number = isinstance(value, (int, Decimal)) and not isinstance(value, bool)
    if kind == "string":
        return value if isinstance(value, str) else text
    if kind == "json":
        return text.encode()
    if kind == "boolean":
        return value if isinstance(value, bool) else MISFIT
    if kind == "number":
        try:
            return float(value) if is_number and math.isfinite(float(value)) else MISFIT
        except OverflowError:
            return MISFIT
    if kind == "integer":
        fits = is_number and -(2**63) <= value < 2**63 and value == int(value)
        return int(value) if fits else MISFIT
    if is_number and abs(value) > 10**15:
        return MISFIT
    return _held_time(Fraction(value) if is_number else value)


def _held_time(value: Any) -> Any:
    """Milliseconds since 1970."""
    if isinstance(value, Fraction):
        ms = math.floor(value * 1000 if abs(value) < 10**11 else value)
    elif isinstance(value, str) and _ISO.fullmatch(value):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return MISFIT
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        ms = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    else:
        return MISFIT
    return ms if -62135596800000 <= ms < 253402300800000 else MISFIT


def lines() -> Iterator[bytes]:
    """An event for each of the values, which each property of `COLUMNS` has."""
    for number, text in enumerate(VALUES):
        more = ",".join(f'"{kind}":{text}' for kind in TYPES)
        yield (
            f'{{"event":"value","properties":{{"time":1738368000123,"distinct_id":"p3",'
            f'"$insert_id":"{number}",{more}}}}}'
        ).encode()


def rows() -> dict[str, tuple[Any, ...]]:
    """What the columns hold of `lines`, by `$insert_id`."""
    return {
        str(number): tuple(None if (v := held(kind, text)) is MISFIT else v for kind in TYPES)
        for number, text in enumerate(VALUES)
    }


def misfits() -> dict[str, int]:
    """How many values of `lines` do not fit, by column."""
    found = {
        column["name"]: sum(held(column["type"], text) is MISFIT for text in VALUES)
        for column in COLUMNS
    }
    return {name: count for name, count in found.items() if count}
