"""What is in a table after loads."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from target_duckdb_batch.errors import NullKeyError
from tests.target_duckdb_batch.harness import (
    EVENT_FIELDS,
    EVENTS,
    TEXT,
    TIME,
    WHOLE,
    Lab,
    batch,
    event,
    record,
    schema,
    state,
    write_lines,
    write_parquet,
)

if TYPE_CHECKING:
    from tests.target_duckdb_batch.harness import Message, Row

DIGITS = '{"a": 1.10, "b": 12345678901234567890123}'
FORMS = ["record", "parquet", "jsonl"]


def messages(lab: Lab, form: str, rows: list[Row], name: str = "part") -> list[Message]:
    """Rows in one of the forms that a tap has for them."""
    if form == "record":
        return [record(row) for row in rows]
    if form == "parquet":
        return [batch([write_parquet(lab.folder / f"{name}.parquet", rows)])]
    return [batch([write_lines(lab.folder / f"{name}.jsonl.gz", rows)], "jsonl")]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_makes_the_same_table(lab: Lab, form: str) -> None:
    rows = [
        event(1),
        event(2, event=None, distinct_id="", processed_at=None),
        event(3, time="2025-01-01T23:30:00.123+00:00", properties=DIGITS),
    ]  # fmt: skip
    assert lab.load(EVENTS, *messages(lab, form, rows), state(1)) == [1]
    assert lab.types() == [
        ("distinct_id", "VARCHAR"),
        ("event", "VARCHAR"),
        ("event_id", "VARCHAR"),
        ("processed_at", "TIMESTAMP"),
        ("properties", "JSON"),
        ("time", "TIMESTAMP"),
    ]
    first, second, third = lab.rows(order="event_id")
    assert first == {
        "distinct_id": "user-1",
        "event": "Sign Up",
        "event_id": f"{1:032x}",
        "processed_at": datetime(2025, 1, 1, 13),  # noqa: DTZ001
        "properties": '{"n": 1}',
        "time": datetime(2025, 1, 1, 12, 0, 1, 5000),  # noqa: DTZ001
    }
    assert second["event"] is second["distinct_id"] is second["processed_at"] is None
    assert third["time"] == datetime(2025, 1, 1, 23, 30, 0, 123000)  # noqa: DTZ001
    assert third["properties"] == DIGITS


@pytest.mark.parametrize(
    "text",
    [
        "2025-01-01T01:00:00+02:00",
        "2024-12-31T23:00:00Z",
        "2024-12-31T23:00:00",
        "2024-12-31 18:00:00-05",
    ],
)
@pytest.mark.parametrize("zone", [None, "America/New_York"])
def test_times_are_utc(lab: Lab, text: str, zone: str | None) -> None:
    more = {"settings": {"TimeZone": zone}} if zone else {}
    lab.load(EVENTS, record(event(1, time=text)), **more)
    assert lab.rows()[0]["time"] == datetime(2024, 12, 31, 23)  # noqa: DTZ001


@pytest.mark.parametrize("form", FORMS)
def test_of_duplicates_in_a_batch_the_newer_stays_then_the_later(lab: Lab, form: str) -> None:
    newer, older = "2025-01-02T00:00:00+00:00", "2025-01-01T00:00:00+00:00"
    rows = [
        event(1, event="newer", processed_at=newer),
        event(1, event="older", processed_at=older),
        event(2, event="first"),
        event(2, event="last"),
        event(3, event="known", processed_at=older),
        event(3, event="unknown", processed_at=None),
    ]
    lab.load(EVENTS, *messages(lab, form, rows))
    assert [row["event"] for row in lab.rows(order="event_id")] == ["newer", "last", "known"]


@pytest.mark.parametrize("form", FORMS)
def test_against_the_table_what_comes_later_wins(lab: Lab, form: str) -> None:
    old = event(1, event="later", processed_at="2024-01-01T00:00:00+00:00")
    lab.load(EVENTS, *messages(lab, form, [event(1), event(2)]))
    lab.load(EVENTS, *messages(lab, form, [old]))
    assert [row["event"] for row in lab.rows(order="event_id")] == ["later", "Sign Up"]


def test_records_before_a_batch_are_loaded_before_it(lab: Lab) -> None:
    path = write_parquet(lab.folder / "a.parquet", [event(1, event="batch")])
    again = write_parquet(lab.folder / "b.parquet", [event(2, event="batch")])
    lab.load(
        EVENTS,
        record(event(1, event="record")),
        batch([path]),
        batch([again]),
        record(event(2, event="record")),
    )
    assert [row["event"] for row in lab.rows(order="event_id")] == ["batch", "record"]


def test_files_of_a_batch_are_in_order(lab: Lab) -> None:
    paths = [
        write_parquet(lab.folder / f"{name}.parquet", [event(1, event=name)]) for name in "cab"
    ]
    lab.load(EVENTS, batch(paths))
    assert [row["event"] for row in lab.rows()] == ["b"]


@pytest.mark.parametrize("hours", [-14, 14])
def test_a_change_of_time_zone_moves_a_row(lab: Lab, hours: int) -> None:
    row = event(1)
    moved = datetime.fromisoformat(row["time"]) + timedelta(hours=hours)
    lab.load(EVENTS, record(row))
    lab.load(EVENTS, record(row | {"time": moved.isoformat()}))
    assert [r["time"] for r in lab.rows()] == [moved.replace(tzinfo=None)]


def test_a_row_without_a_time_is_found_again(lab: Lab) -> None:
    for name in ("first", "last"):
        lab.load(EVENTS, record(event(1, time=None, event=name)), record(event(2)))
    assert [row["event"] for row in lab.rows(order="event_id")] == ["last", "Sign Up"]


def test_only_the_range_is_looked_at(lab: Lab) -> None:
    """A key that appears with a time of another week would be a second row."""
    lab.load(EVENTS, record(event(1, day=1)))
    lab.load(EVENTS, record(event(1, day=9)))
    assert len(lab.rows()) == 2


def test_without_the_hint_rows_are_found_by_key_alone(lab: Lab) -> None:
    plain = schema(EVENT_FIELDS, ["event_id"])
    lab.load(plain, record(event(1, day=1)))
    lab.load(plain, record(event(1, day=9)))
    assert [row["time"].day for row in lab.rows()] == [9]


@pytest.mark.parametrize("hints", [{"x-key-determines": "gone"}, {"x-newest-by": "gone"}])
def test_a_hint_about_a_deselected_field_is_passed_over(lab: Lab, hints: dict[str, str]) -> None:
    plain = schema(EVENT_FIELDS, ["event_id"], hints=hints)
    lab.load(plain, record(event(1, day=1)), record(event(1, day=9)))
    assert [row["time"].day for row in lab.rows()] == [9]


def test_several_key_columns(lab: Lab) -> None:
    both = schema({"A": WHOLE, "b": TEXT, "v": WHOLE}, ["A", "b"], "pairs")
    rows = [{"A": a, "b": b, "v": n} for n, (a, b) in enumerate([(1, "x"), (1, "y"), (1, "x")])]
    lab.load(both, *(record(row, "pairs") for row in rows))
    lab.load(both, record({"A": 1, "b": "y", "v": 9}, "pairs"))
    assert lab.query("SELECT a, b, v FROM lab.mixpanel.pairs ORDER BY b") == [
        (1, "x", 2),
        (1, "y", 9),
    ]


def test_without_a_key_rows_are_appended(lab: Lab) -> None:
    log = schema({"n": WHOLE}, (), "log")
    path = write_lines(lab.folder / "log.jsonl.gz", [{"n": 3}, {"n": 3}])
    lab.load(log, record({"n": 1}, "log"), record({"n": 1}, "log"), batch([path], "jsonl", "log"))
    assert lab.query("SELECT n FROM lab.mixpanel.log ORDER BY n") == [(1,), (1,), (3,), (3,)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", [None, ""])
def test_a_null_key_loads_nothing(lab: Lab, form: str, key: str | None) -> None:
    with pytest.raises(NullKeyError, match="stream events: event_id of its key is"):
        lab.load(EVENTS, *messages(lab, form, [event(1), event(2, event_id=key)]))
    assert lab.rows() == []


def test_more_than_one_chunk_of_records(lab: Lab) -> None:
    rows = [record({"n": n, "t": "x"}, "many") for n in range(25_000)]
    many = schema({"n": WHOLE, "t": TEXT}, ["n"], "many")
    lab.load(many, *rows, record({"n": 0, "t": "y"}, "many"))
    assert lab.query("SELECT count(*), count(DISTINCT n), max(t) FROM lab.mixpanel.many") == [
        (25_000, 25_000, "y")
    ]


_row = st.fixed_dictionaries(
    {
        "key": st.integers(0, 4),
        "event": st.sampled_from(["a", "b", "c"]),
        "processed": st.none() | st.integers(0, 3),
    }
)
_load = st.tuples(st.sampled_from(FORMS), st.lists(_row, min_size=1, max_size=5))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_load, min_size=1, max_size=4))
def test_any_loads_end_as_the_rules_say(lab: Lab, loads: list[tuple[str, list[Row]]]) -> None:
    lab.path.unlink(missing_ok=True)
    expected: dict[int, str] = {}
    sent: list[Any] = []
    for number, (form, rows) in enumerate(loads):
        best: dict[int, tuple[int, str]] = {}
        events = []
        for row in rows:
            rank = -1 if row["processed"] is None else row["processed"]
            if rank >= best.get(row["key"], (-1, ""))[0]:
                best[row["key"]] = (rank, row["event"])
            at = None if rank < 0 else f"2025-01-02T00:00:0{rank}+00:00"
            events.append(event(row["key"], event=row["event"], processed_at=at))
        expected |= {key: name for key, (_, name) in best.items()}
        sent += [*messages(lab, form, events, str(number)), state(number)]
        # A SCHEMA ends a batch of records.
        sent.append(schema(EVENT_FIELDS | {f"f{number}": TIME}, ["event_id"], hints=_hints()))
    lab.load(EVENTS, *sent)
    found = {int(row["event_id"], 16): row["event"] for row in lab.rows()}
    assert found == expected


def _hints() -> dict[str, str]:
    return {name: value for name, value in EVENTS["schema"].items() if name.startswith("x-")}
