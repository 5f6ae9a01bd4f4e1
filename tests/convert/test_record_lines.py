"""Records as lines: a row of JSON each, or Singer's RECORD around the same bytes."""

from __future__ import annotations

import json
from hashlib import md5
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from tap_mixpanel_parallel.convert.columns import COLUMNS
from tap_mixpanel_parallel.convert.record_lines import message_encoder, row_encoder, row_maker
from tap_mixpanel_parallel.convert.records import EventReader, EventRecord
from tap_mixpanel_parallel.convert.surrogates import mend
from tests.support.bodies import EXTRACTED, LINES, line
from tests.support.strategies import FRAGMENTS, TEXT

BEFORE = b'{"type":"RECORD","stream":"events","record":'
AFTER = b',"time_extracted":"2025-02-01T00:00:00+00:00"}'
ESCAPES = r"a\nb\r\n\u000a\u2028\\n"
SEPARATORS = "\u2028\u2029\x85"
FORMS = pytest.mark.parametrize("as_text", [False, True], ids=["object", "text"])


def records(*lines: bytes) -> list[EventRecord]:
    reader = EventReader(ZoneInfo("UTC"))
    return list(reader.read(lines))


def lines_of(data: bytes) -> list[bytes]:
    """The lines, each of which is ended."""
    *lines, rest = data.split(b"\n")
    assert rest == b""
    return lines


@FORMS
def test_a_message_is_what_it_should_be(as_text: bool) -> None:
    body = b'{ "time":1.0 ,"$insert_id":"i", "n":1.50,"mp_processing_time_ms":2}'
    encode = message_encoder(row_maker(properties_as_text=as_text), "events", EXTRACTED)
    key = md5(b"E\x1f\x1f1\x1fi", usedforsecurity=False).hexdigest().encode()
    assert encode(records(b'{"event":"E","properties":%b}' % body)) == (
        b'{"type":"RECORD","stream":"events","record":{"event_id":"%b","event":"E",'
        b'"time":"1970-01-01T00:00:00.001Z","distinct_id":null,"insert_id":"i",'
        b'"processed_at":"1970-01-01T00:00:00.002Z","properties":%b},'
        b'"time_extracted":"2025-02-01T00:00:00+00:00"}\n'
    ) % (key, json.dumps(body.decode()).encode() if as_text else body)


@FORMS
def test_what_is_not_known_is_null(as_text: bool) -> None:
    [row] = lines_of(row_encoder(row_maker(properties_as_text=as_text))(records(line())))
    assert json.loads(row)["processed_at"] is None
    assert json.loads(row)["distinct_id"] is None


def test_a_row_has_the_columns_in_their_order() -> None:
    [row] = lines_of(row_encoder(row_maker(properties_as_text=False))(records(line())))
    assert list(json.loads(row)) == [column.name for column in COLUMNS]


def test_properties_as_text() -> None:
    [row] = lines_of(row_encoder(row_maker(properties_as_text=True))(records(line(1, "é\\n"))))
    assert json.loads(row)["properties"] == '{"time":1,"$insert_id":"i1","text":"é\\n"}'


@FORMS
def test_no_record_is_no_line(as_text: bool) -> None:
    rows_of = row_maker(properties_as_text=as_text)
    assert row_encoder(rows_of)([]) == b""
    assert message_encoder(rows_of, "events", EXTRACTED)([]) == b""


@given(st.lists(FRAGMENTS, max_size=5), st.booleans())
@example([ESCAPES, SEPARATORS, ESCAPES], False)
@example([ESCAPES, SEPARATORS, ESCAPES], True)
def test_a_message_is_its_row_and_what_is_around_it(texts: list[str], as_text: bool) -> None:
    found = records(*(mend(line(n, text)) for n, text in enumerate(texts)))
    rows_of = row_maker(properties_as_text=as_text)

    rows = lines_of(row_encoder(rows_of)(found))
    messages = lines_of(message_encoder(rows_of, "events", EXTRACTED)(found))

    assert messages == [BEFORE + row + AFTER for row in rows]
    assert len(rows) == len(texts)
    for record, row in zip(found, rows, strict=True):
        properties = bytes(record.properties)
        kept = json.dumps(properties.decode(), ensure_ascii=False).encode()
        if as_text:
            assert json.loads(row)["properties"] == properties.decode()
        assert row.endswith(b'"properties":%b}' % (kept if as_text else properties))


@given(
    st.lists(
        st.builds(
            EventRecord,
            event_id=st.binary(min_size=16, max_size=16),
            event=TEXT | st.just("a\nb\u2028"),
            time_ms=st.integers(0, 10**13),
            distinct_id=st.none() | TEXT | st.just("\n"),
            insert_id=st.none() | TEXT | st.just('"\n}'),
            processed_ms=st.none() | st.integers(0, 10**13),
            properties=st.dictionaries(TEXT, TEXT).map(lambda d: Raw(json.dumps(d).encode())),
        ),
        max_size=4,
    ),
    st.sampled_from(["events", 'ev"ents\n', "イベント"]),
)
def test_line_ends_in_any_field(found: list[EventRecord], stream: str) -> None:
    rows_of = row_maker(properties_as_text=True)
    rows = [json.loads(row) for row in lines_of(row_encoder(rows_of)(found))]

    messages: list[dict[str, Any]] = [
        json.loads(message)
        for message in lines_of(message_encoder(rows_of, stream, EXTRACTED)(found))
    ]

    assert messages == [
        {"type": "RECORD", "stream": stream, "record": row, "time_extracted": EXTRACTED}
        for row in rows
    ]
    fields = ("event", "distinct_id", "insert_id")
    assert [[row[name] for name in fields] for row in rows] == [
        [getattr(record, name) for name in fields] for record in found
    ]
    assert [bytes.fromhex(row["event_id"]) for row in rows] == [r.event_id for r in found]


def test_blocks_are_encoded_as_one() -> None:
    encode_rows = row_encoder(row_maker(properties_as_text=False))
    found = records(*LINES)
    assert encode_rows(found) == b"".join(encode_rows([record]) for record in found)
