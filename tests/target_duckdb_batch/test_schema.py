"""Schemas that change, versions, metadata."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
import pytest

from target_duckdb_batch.errors import SchemaError
from tests.target_duckdb_batch.harness import (
    JSON,
    TEXT,
    WHOLE,
    batch,
    record,
    schema,
    write_lines,
)

if TYPE_CHECKING:
    from tests.target_duckdb_batch.harness import Lab, Message

NUMBER = {"type": ["number", "null"]}
ACTIVATED = {"stream": "s", "version": 7}


def rec(n: int, version: int | None = None, **values: object) -> Message:
    more = {} if version is None else {"version": version}
    return record({"n": n, **values}, "s", **more)


def test_a_new_field_is_a_new_column(lab: Lab) -> None:
    lab.load(schema({"n": WHOLE}, ["n"], "s"), rec(1))
    lab.load(schema({"n": WHOLE, "a": TEXT}, ["n"], "s"), rec(2, a="x"))
    assert lab.query("SELECT n, a FROM lab.mixpanel.s ORDER BY n") == [(1, None), (2, "x")]


def test_a_schema_that_changes_within_a_run(lab: Lab) -> None:
    lab.load(
        schema({"n": WHOLE}, ["n"], "s"),
        rec(1),
        schema({"n": WHOLE, "a": TEXT}, ["n"], "s"),
        rec(1, a="x"),
        schema({"n": WHOLE}, ["n"], "s"),
        rec(2),
    )
    assert lab.query("SELECT n, a FROM lab.mixpanel.s ORDER BY n") == [(1, "x"), (2, None)]


def test_a_field_that_is_gone_leaves_its_column(lab: Lab) -> None:
    lab.load(schema({"n": WHOLE, "a": TEXT}, ["n"], "s"), rec(1, a="x"))
    lab.load(schema({"n": WHOLE}, ["n"], "s"), rec(2, a="undeclared"))
    assert lab.query("SELECT n, a FROM lab.mixpanel.s ORDER BY n") == [(1, "x"), (2, None)]


def test_another_type_moves_the_column_aside(lab: Lab) -> None:
    lab.load(schema({"n": WHOLE, "a": WHOLE}, ["n"], "s"), rec(1, a=5))
    lab.load(schema({"n": WHOLE, "a": TEXT}, ["n"], "s"), rec(2, a="x"))
    names = dict(lab.types("s"))
    (aside,) = [name for name in names if re.fullmatch(r"a_\d{8}_\d{4}", name)]
    kind = names[aside]
    assert kind == "HUGEINT"
    assert lab.query(f'SELECT n, a, "{aside}" FROM lab.mixpanel.s ORDER BY n') == [  # noqa: S608
        (1, None, 5),
        (2, "x", None),
    ]


def test_a_type_that_changes_again_and_again(lab: Lab) -> None:
    """Within a minute, so that the names of what is moved aside would be the same."""
    kinds = [TEXT, WHOLE, TEXT, {"type": "boolean"}]
    for number, kind in enumerate(kinds):
        value = "1" if kind is TEXT else 1
        lab.load(
            schema({"id": TEXT, "v": kind}, ["id"], "s"),
            record({"id": str(number), "v": value}, "s"),
        )
    types = lab.types("s")
    assert [kind for name, kind in types if name.startswith("v_")] == [
        "VARCHAR",
        "HUGEINT",
        "VARCHAR",
    ]
    assert len({name for name, _ in types}) == len(types) == 5
    values = [
        [value for value in list(row.values())[1:] if value is not None]
        for row in lab.rows("s", "id")
    ]
    assert values == [["1"], [1], ["1"], [True]]


@pytest.mark.parametrize(("one", "other"), [("Events", "events"), ("a.b", "a_b"), ("x-s", "y-s")])
def test_two_streams_of_one_table_are_refused(lab: Lab, one: str, other: str) -> None:
    """Else a row of one would take the place of a row of the other."""
    first = schema({"id": TEXT}, ["id"], one)
    with pytest.raises(SchemaError, match=f"streams {one} and {other} are one table in DuckDB"):
        lab.load(first, record({"id": "1"}, one), schema({"id": TEXT}, ["id"], other))
    mapping = {name: {"target_schema": name} for name in ("x", "y")}
    if one == "x-s":
        lab.load(first, schema({"id": TEXT}, ["id"], other), schema_mapping=mapping)


@pytest.mark.parametrize(("old", "new"), [("", "a"), ("a", ""), ("a", "b")])
def test_kinds_of_rows_that_must_not_be_in_one_table(lab: Lab, old: str, new: str) -> None:
    """Whatever else happens to the table, it keeps the kind of its first rows."""
    before, after = ({"x-kept-apart": kind} if kind else {} for kind in (old, new))
    fields, more = {"n": WHOLE}, {"n": WHOLE, "a": TEXT}
    lab.load(schema(fields, ["n"], "s", before), rec(1))
    lab.load(schema(more, ["n"], "s", before), rec(2, version=7), rec(3, a="x"))
    lab.load(schema(more, ["n"], "s", before), {"type": "ACTIVATE_VERSION"} | ACTIVATED)
    kept = lab.rows("s", "n")

    mine, theirs = new or f"not {old}", old or f"not known to be {new}"
    says = f"stream s: its rows are {mine}, those of mixpanel.s are {theirs}, .* set another"
    for fields_now in (fields, more, fields | {"b": TEXT}):
        with pytest.raises(SchemaError, match=says):
            lab.load(schema(fields_now, ["n"], "s", after), rec(4))
    assert lab.rows("s", "n") == kept

    lab.load(schema(fields, ["n"], "s", after), rec(4), default_target_schema="other")
    assert lab.query("SELECT n FROM lab.other.s") == [(4,)]


def test_records_before_a_change_of_type_go_into_the_old_column(lab: Lab) -> None:
    lab.load(
        schema({"n": WHOLE, "a": WHOLE}, ["n"], "s"),
        rec(1, a=5),
        schema({"n": WHOLE, "a": TEXT}, ["n"], "s"),
        rec(2, a="x"),
    )
    (aside,) = [name for name in dict(lab.types("s")) if name.startswith("a_")]
    assert [(row["a"], row[aside]) for row in lab.rows("s", "n")] == [(None, 5), ("x", None)]


def test_records_of_two_versions(lab: Lab) -> None:
    lab.load(schema({"n": WHOLE}, ["n"], "s"), rec(1, 6), rec(2, 7), rec(3))
    assert [row["_sdc_table_version"] for row in lab.rows("s", "n")] == [6, 7, None]


def test_a_key_of_another_type_is_refused(lab: Lab) -> None:
    lab.load(schema({"n": WHOLE}, ["n"], "s"), rec(1))
    with pytest.raises(SchemaError, match=r"stream s: n of its key is HUGEINT in mixpanel.s"):
        lab.load(schema({"n": TEXT}, ["n"], "s"), rec(2))
    assert lab.query("SELECT n FROM lab.mixpanel.s") == [(1,)]


def test_a_key_that_is_not_in_the_schema(lab: Lab) -> None:
    with pytest.raises(SchemaError, match="stream s: m of its key is not in its schema"):
        lab.load(schema({"n": WHOLE}, ["m"], "s"), rec(1))


def test_a_key_may_be_required(lab: Lab) -> None:
    with pytest.raises(SchemaError, match="primary_key_required"):
        lab.load(schema({"n": WHOLE}, (), "s"), rec(1), primary_key_required=True)


def test_a_view_of_the_name_is_refused(lab: Lab) -> None:
    with duckdb.connect(str(lab.path)) as connection:
        connection.execute("CREATE SCHEMA mixpanel; CREATE VIEW mixpanel.s AS SELECT 1 AS n")
    with pytest.raises(SchemaError, match=r"mixpanel\.s is a view"):
        lab.load(schema({"n": WHOLE}, ["n"], "s"), rec(1))


@pytest.mark.parametrize(
    ("stream", "table"),
    [
        ("Users", "mixpanel.users"),
        ("a.b", "mixpanel.a_b"),
        ("src-Users", "staging.users"),
        ("db-src-my-users", "staging.my_users"),
        ('odd "name"', 'mixpanel."odd ""name"""'),
    ],
)
def test_names_of_tables(lab: Lab, stream: str, table: str) -> None:
    mapping = {"src": {"target_schema": "staging"}}
    lab.load(schema({"n": WHOLE}, ["n"], stream), record({"n": 1}, stream), schema_mapping=mapping)
    assert lab.query(f"SELECT n FROM lab.{table}") == [(1,)]  # noqa: S608


def test_a_schema_named_like_the_file(lab: Lab) -> None:
    lab.load(schema({"n": WHOLE}, ["n"], "s"), rec(1), default_target_schema="lab")
    assert lab.query("SELECT n FROM lab.lab.s") == [(1,)]


def test_levels_of_objects_become_columns(lab: Lab) -> None:
    inner = {"type": "object", "properties": {"X": WHOLE, "y": JSON}}
    lab.load(
        schema({"n": WHOLE, "o": inner}, ["n"], "s"),
        rec(1, o={"X": 2, "y": {"z": 3}}),
        rec(2, o=None),
        data_flattening_max_level=1,
    )
    assert lab.query("SELECT n, o__x, o__y FROM lab.mixpanel.s ORDER BY n") == [
        (1, 2, '{"z": 3}'),
        (2, None, None),
    ]


def test_metadata_columns(lab: Lab) -> None:
    path = write_lines(lab.folder / "a.jsonl.gz", [{"n": 2}])
    at = "2025-01-01T10:00:00+02:00"
    lab.load(
        schema({"n": WHOLE}, ["n"], "s"),
        record({"n": 1}, "s", time_extracted=at),
        batch([path], "jsonl", "s"),
        add_metadata_columns=True,
    )
    assert lab.types("s") == [
        ("_sdc_batched_at", "TIMESTAMP"),
        ("_sdc_deleted_at", "VARCHAR"),
        ("_sdc_extracted_at", "TIMESTAMP"),
        ("n", "HUGEINT"),
    ]
    first, second = lab.rows("s", "n")
    assert first["_sdc_extracted_at"] == datetime(2025, 1, 1, 8)  # noqa: DTZ001
    assert second["_sdc_extracted_at"] is None
    for row in (first, second):
        assert row["_sdc_deleted_at"] is None
        age = datetime.now(UTC).replace(tzinfo=None) - row["_sdc_batched_at"]
        assert timedelta() <= age < timedelta(minutes=5)


def test_hard_delete(lab: Lab) -> None:
    fields = schema({"n": WHOLE}, ["n"], "s")
    lab.load(fields, rec(1), rec(2), hard_delete=True)
    lab.load(fields, rec(1, _sdc_deleted_at="2025-01-01"), hard_delete=True)
    assert [row["n"] for row in lab.rows("s")] == [2]


@pytest.mark.parametrize("hard", [False, True])
def test_activate_version(lab: Lab, hard: bool) -> None:
    fields = schema({"n": WHOLE}, ["n"], "s")
    activate = {"type": "ACTIVATE_VERSION", "stream": "s", "version": 7}
    lab.load(fields, rec(0))  # of no version: stays
    lab.load(fields, rec(1, 6), rec(2, 6), hard_delete=hard)
    lab.load(fields, rec(2, 7), rec(3, 7), activate, rec(4, 8), hard_delete=hard)
    rows = {int(row["n"]): row for row in lab.rows("s")}
    assert {n: row["_sdc_table_version"] for n, row in rows.items() if n != 1} == {
        0: None,
        2: 7,
        3: 7,
        4: 8,
    }
    deleted = {n for n, row in rows.items() if row["_sdc_deleted_at"] is not None}
    assert deleted == (set() if hard else {1})
    assert (1 in rows) is not hard


def test_activate_version_of_a_stream_that_has_none(lab: Lab) -> None:
    activate = {"type": "ACTIVATE_VERSION", "stream": "s", "version": 7}
    lab.load(schema({"n": WHOLE}, ["n"], "s"), rec(1), activate)
    assert lab.types("s") == [("n", "HUGEINT")]


def test_activate_version_may_be_passed_over(lab: Lab) -> None:
    activate = {"type": "ACTIVATE_VERSION", "stream": "s", "version": 7}
    off = {"process_activate_version_messages": False}
    lab.load(schema({"n": WHOLE}, ["n"], "s"), rec(1, 6), activate, **off)
    assert [row["n"] for row in lab.rows("s")] == [1]
    assert "_sdc_deleted_at" not in lab.rows("s")[0]
