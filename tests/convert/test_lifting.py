"""Values of columns: those of `properties` as JSON reads it, under the rule of the type."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap_mixpanel_parallel.convert.records import EventReader
from tap_mixpanel_parallel.settings.property_columns import ColumnType, PropertyColumn

TYPES: Final[tuple[ColumnType, ...]] = get_args(ColumnType)
ISO = re.compile(r"\d{4}-\d\d-\d\d([Tt ].*)?", re.ASCII)
MISFIT = object()


def expected(kind: str, text: str) -> Any:  # noqa: PLR0911 - one for each type
    """What a column of a type holds for a value: written apart from the code."""
    value = json.loads(text, parse_float=Decimal)
    if value is None:
        return None
    number = value if isinstance(value, (int, Decimal)) and not isinstance(value, bool) else None
    if kind == "string":
        return value if isinstance(value, str) else text
    if kind == "json":
        return text.encode()
    if kind == "boolean":
        return value if isinstance(value, bool) else MISFIT
    if kind == "number":
        try:
            return float(value) if number is not None and math.isfinite(float(value)) else MISFIT
        except OverflowError:
            return MISFIT
    if kind == "integer":
        fits = number is not None and -(2**63) <= value < 2**63 and value == int(value)
        return int(value) if fits else MISFIT
    if number is not None and abs(number) > 10**15:
        return MISFIT
    return expected_time(value if number is None else Fraction(number))


def expected_time(value: Any) -> Any:
    """Milliseconds since 1970."""
    if isinstance(value, Fraction):
        ms = math.floor(value * 1000 if abs(value) < 10**11 else value)
    elif isinstance(value, str) and ISO.fullmatch(value):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return MISFIT
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        ms = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    else:
        return MISFIT
    return ms if -62135596800000 <= ms < 253402300800000 else MISFIT


def event(*pairs: tuple[str, str]) -> bytes:
    """A line; the names and the values of the properties are JSON text."""
    fixed = '"time":1736035200000,"distinct_id":"u1","$insert_id":"i1"'
    more = "".join(f" ,{name} :\t{value} " for name, value in pairs)
    return f'{{"event":"Sign Up","properties":{{{fixed}{more}}}}}'.encode()


def lifted(reader: EventReader, line: bytes) -> tuple[Any, ...]:
    return reader.read(line, 1).lifted


NUMBERS = (
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
TIMES = (
    *("2025-01-02", "2025-01-02T03:04:05", "2025-01-02 03:04:05", "2025-01-02T03:04:05Z"),
    *("2025-01-02T03:04:05.123456+05:30", "2025-01-02T03:04", "2025-01-02T03:04:05.9999999Z"),
    *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-00:01"),
    *("2025-02-30", "20250102", "2025-W01-1", "2025-01-02x03:04:05", "1736035200"),
    *("2025-01-02T25:00:00", "2025-01-02T03:04:05 UTC", " 2025-01-02", "2025-0102"),
    "\u0662\u0660\u0662\u0665-01-02",
)
TEXTS = ("", "a", "true", "1", "null", "{}", "\u0000", "🎉", "\u2028", 'a"b\\c\n')
OTHERS = ("true", "false", "null", "{}", "[]", '{"a" : [1, {}]}', '[ "x" , null ]', "[1e5,0.10]")
VALUES = (
    *(*NUMBERS, *OTHERS, '{"c":1,"c":[2]}', r'"\ud83d\ude00"', r'"\u0041"'),
    *(json.dumps(text) for text in (*TIMES, *TEXTS)),
    *(json.dumps(text, ensure_ascii=False) for text in TEXTS),
)
ANY_VALUE = (
    st.sampled_from(VALUES)
    | st.integers().map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(json.dumps)
    | st.datetimes(timezones=st.none() | st.just(UTC)).map(lambda time: json.dumps(str(time)))
    | st.text(st.characters(exclude_categories=["Cs"])).map(json.dumps)
)


@pytest.mark.parametrize("before", [None, *VALUES[::9]], ids=str)
@pytest.mark.parametrize("kind", TYPES)
def test_each_type_and_each_value(kind: ColumnType, before: str | None) -> None:
    """Each value alone, and after another that may have changed the way to decode."""
    for text in VALUES:
        reader = EventReader(ZoneInfo("UTC"), columns=[PropertyColumn("v", "v", kind)])
        if before is not None:
            reader.read(event(('"v"', before)), 1)
            reader.lifter.misfits.clear()
        wanted = expected(kind, text)
        values = lifted(reader, event(('"v"', text)))
        assert repr(values) == repr((None if wanted is MISFIT else wanted,)), text
        assert reader.lifter.misfits == ({"v": 1} if wanted is MISFIT else {}), text


NAMES = st.sampled_from(("$os", "Plan", "plan", "a.b", 'a"b', "a\\b", "🎉", "\u0085", "a\nb"))
COLUMNS = st.lists(st.tuples(NAMES, st.sampled_from(TYPES)), min_size=1, max_size=4)
PLACES = st.tuples(st.integers(0, 5), st.booleans(), ANY_VALUE)
LINES = st.lists(st.lists(PLACES, max_size=6), min_size=1, max_size=4)


@given(COLUMNS, LINES)
@example([("$os", "integer")], [[(0, True, "1.0")], [(0, True, "2")], [(0, True, '"x"')]])
@example([("$os", "json"), ("$os", "number")], [[(0, True, "1"), (0, False, "2.50")]])
@example([("time", "date-time"), ("distinct_id", "string")], [[]])
@example([("time", "string"), ("distinct_id", "integer")], [[]])
@example([("$os", "json"), ("distinct_id", "string"), ("distinct_id", "json")], [[]])
def test_a_value_is_what_json_reads(
    chosen: list[tuple[str, ColumnType]], lines: list[list[tuple[int, bool, str]]]
) -> None:
    """Whatever the names, with names that occur twice, and one reader for several events."""
    columns = [PropertyColumn(name, f"c{n}", kind) for n, (name, kind) in enumerate(chosen)]
    reader = EventReader(ZoneInfo("UTC"), columns=columns)
    other, plain = EventReader(ZoneInfo("UTC"), columns=columns), EventReader(ZoneInfo("UTC"))
    misfits: Counter[str] = Counter()
    for places in lines:
        named = [((*chosen, ("other", ""))[place % (len(chosen) + 1)][0], *more)
                 for place, *more in places]  # fmt: skip
        line = event(*((json.dumps(name, ensure_ascii=a), text) for name, a, text in named))
        texts = {"time": "1736035200000", "distinct_id": '"u1"'}
        texts |= {name: text for name, _, text in named}
        wanted = [expected(each.type, texts.get(each.property, "null")) for each in columns]
        misfits.update(each.name for each, v in zip(columns, wanted, strict=True) if v is MISFIT)
        assert repr(lifted(reader, line)) == repr(
            tuple(None if v is MISFIT else v for v in wanted)
        ), line
        record = other.read(line, 1)
        record.lifted = ()
        assert record == plain.read(line, 1)
    assert reader.lifter.misfits == misfits


@pytest.mark.parametrize("missing", ["$insert_id", "distinct_id"])
def test_an_unusual_event_has_its_columns_too(missing: str) -> None:
    columns = [PropertyColumn("$os", "os"), PropertyColumn("amount", "amount", "number")]
    reader = EventReader(ZoneInfo("UTC"), columns=columns)
    line = event(('"$os"', '"iOS"'), ('"amount"', '"x"'))
    line = line.replace(f'"{missing}"'.encode(), b'"other"')
    assert lifted(reader, line) == ("iOS", None)
    assert reader.lifter.misfits == {"amount": 1}


def test_a_lone_surrogate_is_mended_in_columns_and_in_names() -> None:
    columns = [PropertyColumn("v", "v"), PropertyColumn("na\ufffdme", "n", "integer")]
    reader = EventReader(ZoneInfo("UTC"), columns=columns)
    assert lifted(reader, event(('"v"', r'"a\ud83d"'), (r'"na\ud83dme"', "1"))) == ("a\ufffd", 1)
