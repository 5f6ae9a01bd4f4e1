"""This loader and target-duckdb 0.8.0 take over from each other, on one table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.target_duckdb_batch.harness import (
    EVENT_FIELDS,
    EVENTS,
    LOADER,
    TARGET_DUCKDB,
    TEXT,
    TIME,
    WHOLE,
    Lab,
    batch,
    event,
    record,
    schema,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.target_duckdb_batch.harness import Message, Row

pytest.importorskip("target_duckdb", reason="target-duckdb is not installed")

FIRST = [
    EVENTS,
    *(record(event(n)) for n in range(1, 6)),
    record(event(6, event="", distinct_id=None, time="2025-01-01T01:00:00+02:00")),
]
SECOND = [
    EVENTS,
    record(event(3, event="changed", properties={"a": [1, "é", None, {"b": 1.5}]})),
    record(event(6)),
    record(event(7, day=2)),
]
THIRD = [
    schema(EVENT_FIELDS | {"insert_id": TEXT}, ["event_id"]),
    record(event(7, day=2, insert_id="new")),
    record(event(8, day=2, insert_id="")),
]

MANY_TYPES = {
    "Id": {"type": "integer"},
    "small": {"type": "integer", "maximum": 100},
    "ratio": {"type": ["number", "null"]},
    "flag": {"type": ["boolean", "null"]},
    "day": {"type": ["string", "null"], "format": "date"},
    "clock": {"type": ["string", "null"], "format": "time"},
    "At": TIME,
    "mixed": {"type": ["integer", "string", "null"]},
    "list": {"type": ["array", "null"], "items": TEXT},
    "text.in": {"type": ["object", "string", "null"]},
    "either": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
    "n": WHOLE,
}
OTHER = [
    schema(MANY_TYPES, ["Id"], "Many-Types"),
    record({"Id": 1, "small": 5, "ratio": 1.5, "flag": False, "mixed": 7, "n": 0}, "Many-Types"),
    record(
        {
            "Id": 2,
            "day": "2025-01-01",
            "clock": "12:30:00",
            "At": "2025-01-01T00:00:00.5Z",
            "mixed": "x",
            "list": [],
            "text.in": '{"a": 1}',
            "either": "2025-01-01T00:00:00-03:00",
            "n": 12345678901234567890123,
            "undeclared": 1,
        },
        "Many-Types",
    ),
]


def _comparable(rows: list[Row]) -> list[Row]:
    def plain(value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value

    return [{name: plain(value) for name, value in row.items()} for row in rows]


def _play(folder: Path, loads: list[tuple[str, list[Message]]], python_path: str) -> Lab:
    folder.mkdir()
    lab = Lab(folder)
    for name, messages in loads:
        ours = name == LOADER
        ended = lab.run(*messages, name=name, python_path=python_path if ours else "")
        assert ended.code == 0, ended.errors
    return lab


@pytest.mark.slow
@pytest.mark.parametrize("ours", ["first", "second", "both", "between"])
def test_events(tmp_path: Path, ours: str, python_path: str) -> None:
    names = {
        "first": [LOADER, TARGET_DUCKDB, TARGET_DUCKDB],
        "second": [TARGET_DUCKDB, LOADER, LOADER],
        "both": [LOADER, LOADER, LOADER],
        "between": [TARGET_DUCKDB, LOADER, TARGET_DUCKDB],
    }[ours]
    feeds = [FIRST, SECOND, THIRD]
    theirs = _play(tmp_path / "theirs", [(TARGET_DUCKDB, feed) for feed in feeds], "")
    mixed = _play(tmp_path / "mixed", list(zip(names, feeds, strict=True)), python_path)
    assert mixed.types() == theirs.types()
    rows = _comparable(mixed.rows(order="event_id"))
    assert rows == _comparable(theirs.rows(order="event_id"))
    assert len(rows) == 8


@pytest.mark.slow
def test_every_type(tmp_path: Path, python_path: str) -> None:
    theirs = _play(tmp_path / "theirs", [(TARGET_DUCKDB, OTHER)], "")
    ours = _play(tmp_path / "ours", [(LOADER, OTHER)], python_path)
    assert ours.types("types") == theirs.types("types")
    assert ours.rows("types", "id") == theirs.rows("types", "id")


def test_files_are_for_this_loader_only(lab: Lab) -> None:
    ended = lab.run(EVENTS, batch([lab.folder / "a.parquet"]), name=TARGET_DUCKDB)
    assert ended.code == 1
    assert "Unknown message type BATCH" in ended.errors
