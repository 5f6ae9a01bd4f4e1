"""Columns are those of target-duckdb, for any schema."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_duckdb_batch.columns import columns_of
from target_duckdb_batch.errors import SchemaError

db_sync = pytest.importorskip("target_duckdb.db_sync", reason="target-duckdb is not installed")

_names = st.text("abXY_ .$-é", min_size=1, max_size=4)
_types = st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array"])
_leaf = st.fixed_dictionaries(
    {"type": _types | st.lists(_types, min_size=1, max_size=3, unique=True)},
    optional={
        "format": st.sampled_from(["date-time", "date", "time", "uuid"]),
        "maximum": st.sampled_from([1, 32767, 32768, 2147483648, 2**63 - 1, 2**63, 1.5]),
    },
)
_any_of = st.builds(
    lambda kind, more: {"anyOf": [{"type": "null"}, {"type": kind, **more}, {"type": "string"}]},
    _types.filter("null".__ne__),
    st.sampled_from([{}, {"format": "date-time"}]),
)
_object = st.builds(
    lambda fields: {"type": ["object", "null"], "properties": fields},
    st.dictionaries(_names, _leaf, max_size=3),
)
_schemas = st.builds(
    lambda fields: {"type": "object", "properties": fields},
    st.dictionaries(_names, _leaf | _any_of | _object, min_size=1, max_size=6),
)


@given(_schemas, st.integers(0, 2))
def test_columns_are_those_of_target_duckdb(schema: dict[str, Any], level: int) -> None:
    try:
        theirs = db_sync.flatten_schema(copy.deepcopy(schema), max_level=level)
    except ValueError:  # two fields of one name
        with pytest.raises(SchemaError, match=" are one column "):
            columns_of("s", schema, level)
        return
    expected = [
        (name.lower(), db_sync.column_type(field).upper()) for name, field in theirs.items()
    ]
    if len({name for name, _ in expected}) < len(expected):
        with pytest.raises(SchemaError, match=" are one column "):
            columns_of("s", schema, level)
    else:
        assert [(c.name, c.type) for c in columns_of("s", schema, level)] == expected


def test_two_that_differ_in_case_are_named() -> None:
    schema = {"properties": {"Plan": {"type": "string"}, "plan": {"type": "string"}}}
    with pytest.raises(SchemaError, match="stream s: Plan and plan are one column in DuckDB, plan"):
        columns_of("s", schema)
