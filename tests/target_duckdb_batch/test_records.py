"""A field's text is what the tap wrote, digit for digit."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_duckdb_batch.columns import Column
from target_duckdb_batch.records import encoded, parsed, repaired, texts

A = (Column("a", ("a",), "VARCHAR"),)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (b'{"a": 1.10}', "1.10"),
        (b'{"a": 123456789012345678901234567890.5}', "123456789012345678901234567890.5"),
        (b'{"a": 1E400}', "1E400"),
        (b'{"a": true}', "true"),
        (b'{"a": {"b": [1, 2.50]} }', '{"b": [1, 2.50]}'),
        (b'{"a": "\\u00e9\\n"}', "é\n"),
        ('{"a": "達成 🎉"}'.encode(), "達成 🎉"),
        (b'{"a": "x\\u0000y"}', "x\0y"),
        (b'{"a": ""}', None),
        (b'{"a": null}', None),
        (b"{}", None),
        (b'{"a": "\\ud83d"}', "\ufffd"),
        (b'{"a": "\\ud83d\\ude00"}', "😀"),
        (b'{"a": "\xed\xa0\xbd"}', "\ufffd\ufffd\ufffd"),
        (b'{"a": "\xff"}', "\ufffd"),
        (b'{"a": {"b": "\\udc00x", "c": 0.10}}', '{"b": "\\ufffdx", "c": 0.10}'),
        (b'{"a": NaN}', None),
        (b'{"a": [NaN, 1.10]}', "[null,1.10]"),
    ],
)
def test_texts(record: bytes, text: str | None) -> None:
    assert texts(record, A) == [text]


def test_a_flattened_field() -> None:
    column = Column("a__b__c", ("a", "b", "c"), "VARCHAR")
    assert texts(b'{"a": {"b": {"c": 1.10}}}', [column]) == ["1.10"]
    assert texts(b'{"a": {"b": [1]}}', [column]) == [None]
    assert texts(b'{"a": null}', [column]) == [None]


def test_a_text_that_stays_json() -> None:
    column = Column("a", ("a",), "JSON", keeps_quotes=True)
    assert texts(b'{"a": "x"}', [column]) == ['"x"']
    assert texts(b'{"a": null}', [column]) == ["null"]
    assert texts(b"{}", [column]) == [None]


@pytest.mark.parametrize("record", [b"[1]", b"1", b'{"a": ', b"", b'{"a" 1}'])
def test_what_is_not_an_object(record: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        texts(record, A)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _json, max_size=4), st.booleans())
def test_any_json_comes_through(record: dict[str, object], ascii_only: bool) -> None:
    line = json.dumps(record, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    mended = json.loads(repaired(line))
    for name, value in mended.items():
        (text,) = texts(line, [Column("c", (name,), "JSON", keeps_quotes=True)])
        assert json.loads(text or "") == value
    assert json.loads(encoded(parsed(line))) == mended
