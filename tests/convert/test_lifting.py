"""Values of columns: those of `properties` as JSON reads it, under the rule of the type."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from tap_mixpanel_parallel.convert.records import EventReader
from tap_mixpanel_parallel.settings.property_columns import TYPES, ColumnType, PropertyColumn
from tests.support.bodies import read_line
from tests.support.columns import MISFIT, VALUES, held


def event(*pairs: tuple[str, str]) -> bytes:
    """A line; the names and the values of the properties are JSON text."""
    fixed = '"time":1736035200000,"distinct_id":"u1","$insert_id":"i1"'
    more = "".join(f" ,{name} :\t{value} " for name, value in pairs)
    return f'{{"event":"Sign Up","properties":{{{fixed}{more}}}}}'.encode()


def lifted(reader: EventReader, line: bytes) -> tuple[Any, ...]:
    return read_line(reader, line).lifted


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
            read_line(reader, event(('"v"', before)))
            reader.lifter.misfits.clear()
        wanted = held(kind, text)
        values = lifted(reader, event(('"v"', text)))
        assert repr(values) == repr((None if wanted is MISFIT else wanted,)), text
        assert reader.lifter.misfits == ({"v": 1} if wanted is MISFIT else {}), text


def test_a_value_of_another_type_is_decoded_the_slow_way_once() -> None:
    """There will be more of them, and a decoding that fails takes longer than one that looks."""
    reader = EventReader(ZoneInfo("UTC"), columns=[PropertyColumn("v", "v", "number")])
    odd = Raw(b'{"time":1736035200000,"v":"1"}')
    with pytest.raises(msgspec.ValidationError, match=r"\$\.v"):
        reader.lifter.decode(odd)
    read_line(reader, event(('"v"', '"1"')))

    decoded = reader.lifter.decode(odd)
    assert reader.lifter.lift is not None
    assert reader.lifter.lift(decoded) == (None,)


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
        names = [*(name for name, _ in chosen), "other"]
        named = [(names[place % len(names)], escaped, text) for place, escaped, text in places]
        line = event(
            *((json.dumps(name, ensure_ascii=escaped), text) for name, escaped, text in named)
        )
        texts = {"time": "1736035200000", "distinct_id": '"u1"'}
        texts |= {name: text for name, _, text in named}
        wanted = [held(each.type, texts.get(each.property, "null")) for each in columns]
        misfits.update(each.name for each, v in zip(columns, wanted, strict=True) if v is MISFIT)
        assert repr(lifted(reader, line)) == repr(
            tuple(None if v is MISFIT else v for v in wanted)
        ), line
        record = read_line(other, line)
        record.lifted = ()
        assert record == read_line(plain, line)
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
