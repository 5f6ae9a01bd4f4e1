"""One line of export, one record: keys that stay, properties that are not touched."""

from __future__ import annotations

import itertools
import json
import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from hashlib import md5
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.convert.records import EventReader, EventRecord, _decode_line, event_key
from tap_mixpanel_parallel.exceptions import IncompleteExportError, MalformedLineError
from tap_mixpanel_parallel.wording import printable
from tests.support.bodies import read_line
from tests.support.strategies import TEXT

UTC = ZoneInfo("UTC")
TIME = 1_735_689_600_123
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def reader(zone: str = "UTC") -> EventReader:
    return EventReader(ZoneInfo(zone))


def encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event(name: str = "Sign Up", **properties: Any) -> bytes:
    """A line; `...` leaves a property out."""
    merged = {"time": TIME, "distinct_id": "u1", "$insert_id": "i1"} | properties
    given = {key: value for key, value in merged.items() if value is not ...}
    return encode({"event": name, "properties": given})


def read(line: bytes) -> EventRecord:
    return read_line(reader(), line)


def keys(*lines: bytes) -> list[str]:
    return [record.event_id.hex() for record in reader().read(lines)]


def key(*parts: str) -> bytes:
    return md5("\x1f".join(parts).encode(), usedforsecurity=False).digest()


def ms(text: str) -> int:
    since = datetime.fromisoformat(text) - datetime.fromtimestamp(0, timezone.utc)  # noqa: UP017
    return since // timedelta(milliseconds=1)


def fields(record: EventRecord) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    return values | {"properties": bytes(record.properties)}


class TestRecord:
    def test_all_fields(self) -> None:
        line = event(mp_processing_time_ms=TIME + 1)
        assert fields(read(line)) == {
            "event_id": key("Sign Up", "u1", str(TIME), "i1"),
            "event": "Sign Up",
            "time_ms": TIME,
            "distinct_id": "u1",
            "insert_id": "i1",
            "processed_ms": TIME + 1,
            "properties": line[len(b'{"event":"Sign Up","properties":') : -1],
            "lifted": (),
        }

    @pytest.mark.parametrize("insert_id", ["i1", ...], ids=["fast", "unusual"])
    def test_properties_are_verbatim(self, insert_id: object) -> None:
        body = (
            '{ "time":1.0E0 ,"$insert_id":"i\\u0031", "n":1.10, "big":12345678901234567890123,'
            '"A":1,"a":2,"a":3,"":{"x" : [ ]},"e":"\\u00e9é🎉\u2028","t":1e400}'
        )
        if insert_id is ...:
            body = body.replace('"$insert_id"', '"other"').replace("1.0E0", "1")
        line = f'{{"properties":{body},"event":"x"}}'.encode()
        assert bytes(read(line).properties) == body.encode()

    @pytest.mark.parametrize(
        ("time", "expected"),
        [
            (TIME, "2024-12-31T18:30:00.123Z"),
            (TIME + 0.9, "2024-12-31T18:30:00.123Z"),
            ("2025-01-01T00:00:00", "2024-12-31T18:30:00.000Z"),
            ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00.000Z"),
            ("2025-01-01T00:00:00+01:00", "2024-12-31T23:00:00.000Z"),
            (-(10**15), "0001-01-01T00:00:00.000Z"),
            (10**18, "9999-12-31T23:59:59.999Z"),
        ],
    )
    def test_times_of_a_project_in_a_zone(self, time: object, expected: str) -> None:
        line = event(time=time, mp_processing_time_ms=TIME)
        record = read_line(reader("Asia/Kolkata"), line)
        assert record.time_ms == ms(expected)
        assert record.processed_ms == TIME

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (..., None),
            (None, None),
            (TIME, TIME),
            (TIME + 0.5, TIME),
            ("2025-01-01T00:00:00Z", TIME - 123),
            (-(10**15), ms("0001-01-01T00:00:00.000Z")),
            (10**18, ms("9999-12-31T23:59:59.999Z")),
            (10**300, ms("9999-12-31T23:59:59.999Z")),
            ("never", None),
            (True, None),
            ([], None),
        ],
    )
    @pytest.mark.parametrize("insert_id", ["i1", ...], ids=["fast", "unusual"])
    def test_processed_at(self, value: object, expected: int | None, insert_id: object) -> None:
        line = event(mp_processing_time_ms=value, **{"$insert_id": insert_id})
        assert read(line).processed_ms == expected

    @pytest.mark.parametrize("name", ["distinct_id", "$insert_id"])
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("", ""),
            ("東京 🎉", "東京 🎉"),
            ('a"b\\c\n', 'a"b\\c\n'),
            (None, None),
            (..., None),
            (0, "0"),
            (12345678901234567890123, "12345678901234567890123"),
            (1.50, "1.5"),
            (True, "true"),
            (["a", 1], '["a",1]'),
        ],
    )
    def test_ids_as_text(self, name: str, value: object, expected: str | None) -> None:
        record = read(event(**{name: value}))
        assert getattr(record, name.lstrip("$")) == expected

    @given(
        name=TEXT,
        time=st.integers(-(2**62), 2**62),
        ids=st.fixed_dictionaries(
            {"$insert_id": TEXT.filter(bool)},
            optional={
                "distinct_id": TEXT | st.none(),
                "$distinct_id_before_identity": TEXT | st.none(),
                "mp_processing_time_ms": st.integers(-(2**62), 2**62) | st.none(),
            },
        ),
        others=st.dictionaries(TEXT, JSON, max_size=4),
        ascii_only=st.booleans(),
        zone=st.sampled_from(["UTC", "America/Los_Angeles"]),
    )
    def test_both_paths_agree(
        self,
        name: str,
        time: int,
        ids: dict[str, Any],
        others: dict[str, Any],
        ascii_only: bool,
        zone: str,
    ) -> None:
        value = {"event": name, "properties": others | ids | {"time": time}}
        line = json.dumps(value, ensure_ascii=ascii_only).encode()
        record = read_line(reader(zone), line)
        unusual = reader(zone)._read_unusual(line, 1)
        assert fields(record) == fields(unusual)


class TestKey:
    @given(TEXT, st.none() | TEXT, st.integers(-(10**15), 10**15), st.none() | TEXT)
    def test_formula(
        self, name: str, sent_id: str | None, time: int, insert_id: str | None
    ) -> None:
        expected = key(name, sent_id or "", str(time), insert_id or "")
        assert event_key(name, sent_id, time, insert_id) == expected

    @pytest.mark.parametrize(
        ("properties", "parts"),
        [
            ({}, ("u1", str(TIME), "i1")),
            ({"distinct_id": ...}, ("", str(TIME), "i1")),
            ({"distinct_id": None}, ("", str(TIME), "i1")),
            ({"distinct_id": ""}, ("", str(TIME), "i1")),
            ({"distinct_id": 42}, ("42", str(TIME), "i1")),
            ({"$insert_id": 0}, ("u1", str(TIME), "0")),
            ({"$insert_id": 1.5}, ("u1", str(TIME), "1.5")),
            ({"time": TIME + 0.75}, ("u1", str(TIME), "i1")),
            ({"time": "2025-01-01T00:00:00.123"}, ("u1", str(TIME), "i1")),
            ({"time": "2025-01-01T00:00:00.123Z"}, ("u1", str(TIME), "i1")),
            ({"$distinct_id_before_identity": "anon"}, ("anon", str(TIME), "i1")),
            ({"$distinct_id_before_identity": ""}, ("", str(TIME), "i1")),
            ({"$distinct_id_before_identity": None}, ("u1", str(TIME), "i1")),
            ({"$distinct_id_before_identity": 7}, ("7", str(TIME), "i1")),
        ],
    )
    def test_parts(self, properties: dict[str, Any], parts: tuple[str, ...]) -> None:
        assert read(event(**properties)).event_id == key("Sign Up", *parts)

    def test_the_zone_leaves_it_alone(self) -> None:
        line = event()
        assert read_line(reader("Asia/Kolkata"), line).event_id == read(line).event_id

    @pytest.mark.parametrize("insert_id", ["i1", ..., None, ""])
    @pytest.mark.parametrize("sent_id", ["anon", 7, ""])
    def test_a_merged_user_keeps_it(self, insert_id: object, sent_id: object) -> None:
        before = event(distinct_id=sent_id, **{"$insert_id": insert_id})
        after = event(
            distinct_id="merged",
            **{"$insert_id": insert_id, "$distinct_id_before_identity": sent_id},
        )
        assert keys(before) == keys(after)

    @pytest.mark.parametrize("missing", [..., None, ""])
    def test_without_insert_id(self, missing: object) -> None:
        def line(**properties: Any) -> bytes:
            return event(**{"$insert_id": missing}, **properties)

        lines = [
            line(),
            line(plan="free"),
            line(plan="pro"),
            line(plan=None),
            line(time=TIME + 1),
            line(distinct_id="u2"),
            line(),
            line(),
            event("Other", **{"$insert_id": missing}),
        ]
        first = keys(*lines)
        assert len(set(first)) == len(lines)
        assert keys(*lines) == first

    def test_byte_identical_ones_are_told_apart_in_any_order(self) -> None:
        one, other = event(**{"$insert_id": ...}), event(**{"$insert_id": ...}, plan="pro")
        found = {frozenset(keys(*order)) for order in itertools.permutations([one, one, other])}
        assert len(found) == 1
        assert len(next(iter(found))) == 3

    def test_their_keys_are_those_of_tables_that_are_loaded(self) -> None:
        """Written out, since tables that exist hold them."""
        one = b'{"event":"E","properties":{"time":1735689600000,"distinct_id":"u","plan":"pro"}}'
        assert keys(one, one, one) == [
            "e6e35e1534bae556c279024553a9ff83",
            "5f0c88049c0d4473dcb5502bc3276104",
            "79322577e59906b84845393fcbef6cf8",
        ]

    def test_events_of_different_names_do_not_count_for_each_other(self) -> None:
        one, other = (event(name, **{"$insert_id": ...}) for name in ("View", "Click"))
        assert keys(one, other) == keys(other, one)[::-1]

    def test_identical_ones_after_a_merge(self) -> None:
        before = event(distinct_id="anon", **{"$insert_id": ...})
        after = event(
            distinct_id="merged",
            **{"$insert_id": ..., "$distinct_id_before_identity": "anon"},
        )
        assert (
            keys(before, before, before) == keys(after, after, after) == keys(before, after, before)
        )

    def test_neighbouring_values_are_not_taken_together(self) -> None:
        one = event(**{"$insert_id": ..., "a": "b", "c": "d"})
        other = event(**{"$insert_id": ..., "a": 'b","c":"d'})
        assert keys(one) != keys(other)


class TestSurrogates:
    @pytest.mark.parametrize(
        "place", ['"x":"%s"', '"%s":0', '"x":{"%s":["%s"]}', '"distinct_id":"%s"', '"time":"%s"']
    )
    @pytest.mark.parametrize("form", ["%s", "a%s", "%sa", r"%s\u0041", r"\\%s", "é%s"])
    def test_the_decoder_accepts_no_lone_one(self, place: str, form: str) -> None:
        """What it accepts is emitted as it is, so it must refuse every one, used or not."""
        accepted = []
        for unit in range(0xD800, 0xE000):
            text = form % f"\\u{unit:04x}"
            line = f'{{"event":"E","properties":{{{place.replace("%s", text)}}}}}'
            with suppress(msgspec.DecodeError):
                accepted.append(_decode_line(line))
        assert accepted == []

    def test_they_are_mended_wherever_they_are(self) -> None:
        record = read(rb'{"event":"\ud83d","properties":{"time":1,"\ude00":["\ud83d"]}}')
        assert record.event == "\ufffd"
        assert bytes(record.properties) == rb'{"time":1,"\ufffd":["\ufffd"]}'


NO_EVENTS = [
    b"",
    b" ",
    b"x",
    b"null",
    b"1",
    b'"event"',
    b"[]",
    b"{}",
    b"{",
    event()[:-1],
    event()[:60],
    event() + b"x",
    event() + event(),
    b"\xef\xbb\xbf" + event(),
    b"\x00" + event(),
    b'{"event":"a"}',
    b'{"properties":{"time":1}}',
    b'{"event":1,"properties":{"time":1}}',
    b'{"event":null,"properties":{"time":1}}',
    b'{"event":"a","properties":null}',
    b'{"event":"a","properties":[]}',
    b'{"event":"a","properties":"{}"}',
    b'{"event":"a","properties":{}}',
    b'{"event":"a","properties":{"time":null}}',
    b'{"event":"a","properties":{"time":true}}',
    b'{"event":"a","properties":{"time":"soon"}}',
    b'{"event":"a","properties":{"time":[1]}}',
    b'{"event":"a","properties":{"time":NaN}}',
    b'{"event":"a","properties":{"time":1e999}}',
    b'{"event":"a","properties":{"time":' + b"9" * 5000 + b"}}",
    b'{"event":"a","properties":{"time":1,}}',
    b"{'event':'a','properties':{'time':1}}",
    b"[" * 100_000,
    b'{"event":"a","properties":{"time":1,"x":' + b"[" * 100_000,
    b"<html>terminated early</html>",
    b'"terminated early"',
    b"the export was terminated early, sorry",
]


class TestNoEvent:
    @pytest.mark.parametrize("line", NO_EVENTS, ids=lambda line: line[:50].decode("latin-1"))
    def test_it_is_malformed(self, line: bytes) -> None:
        with pytest.raises(MalformedLineError) as caught:
            read_line(reader(), line, 17)
        assert caught.value.line_number == 17
        text = str(caught.value)
        assert text.startswith("line 17 is no")
        assert text.endswith(printable(line[:200].decode("utf-8", "backslashreplace")))
        assert len(text) < 700

    @given(TEXT | JSON.map(json.dumps))
    def test_any_text(self, line: str) -> None:
        with pytest.raises(IncompleteExportError):
            read(line.encode())

    @given(st.integers(0, 200))
    def test_any_beginning_of_a_line(self, size: int) -> None:
        line = event(mp_processing_time_ms=TIME, text="é🎉\\ud83d\\ude00")
        with pytest.raises(MalformedLineError):
            read(line[: size % len(line)])


class TestAborted:
    @pytest.mark.parametrize(
        "line",
        [
            b"terminated early",
            b"export terminated early",
            b"Terminated Early",
            b" EXPORT terminated early \r",
        ],
    )
    def test_text(self, line: bytes) -> None:
        with pytest.raises(
            IncompleteExportError, match=r"ended the export early: line 3 is '.*(?i:early)'$"
        ) as caught:
            read_line(reader(), line, 3)
        assert type(caught.value) is IncompleteExportError

    @pytest.mark.parametrize(
        "line",
        [
            b'{"error": "too much"}',
            b'{"error":null}',
            b'{"error": {"code": 1}, "request": "x"}',
            b'{"status": "error", "error": "x"}\r',
            b'{"error": "' + "é".encode() * 200 + b'"}',
            b'{"error": {"error": "x"}}',
        ],
    )
    def test_error(self, line: bytes) -> None:
        with pytest.raises(
            IncompleteExportError, match=r"ended the export with an error: line 3 is '\{.*error"
        ) as caught:
            read_line(reader(), line, 3)
        assert type(caught.value) is IncompleteExportError

    @pytest.mark.parametrize("begun", [b'{"event":"Sign', event()])
    @pytest.mark.parametrize("said", [b"terminated early", b'{"error": "x"}'])
    def test_within_a_line(self, begun: bytes, said: bytes) -> None:
        with pytest.raises(
            IncompleteExportError, match=re.escape(f" is {said.decode()!r}")
        ) as caught:
            read(begun + said)
        assert type(caught.value) is IncompleteExportError
