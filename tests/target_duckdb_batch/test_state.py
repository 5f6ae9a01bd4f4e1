"""A STATE is passed on when all that came before it is committed, and not before."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import pytest

from target_duckdb_batch.errors import LoaderError
from target_duckdb_batch.target import TargetDuckDBBatch
from tests.target_duckdb_batch.harness import (
    EVENTS,
    WHOLE,
    batch,
    event,
    lines_of,
    record,
    schema,
    state,
    write_parquet,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.target_duckdb_batch.harness import Lab, Message

OTHER = schema({"n": WHOLE}, ["n"], "other")


class Observed(io.BytesIO):
    """Messages of which each is given only once the one before is done with."""

    def __init__(self, messages: list[Message], seen: list[Any], out: io.StringIO) -> None:
        super().__init__(lines_of(messages))
        self._seen, self._out = seen, out

    def readline(self, size: int | None = -1, /) -> bytes:
        self._seen.append([json.loads(s)["at"] for s in self._out.getvalue().splitlines()])
        return super().readline(size)


def passed_on(lab: Lab, messages: list[Message], **settings: Any) -> Iterator[list[Any]]:
    """The states that are passed on after each message, and at the end."""
    out = io.StringIO()
    seen: list[list[Any]] = []
    target = TargetDuckDBBatch(config=lab.config(**settings))
    with redirect_stdout(out):
        target.listen(Observed(messages, seen, out))
    yield from seen[1:]
    yield [json.loads(s)["at"] for s in out.getvalue().splitlines()]


def test_right_after_a_batch(lab: Lab) -> None:
    paths = [write_parquet(lab.folder / f"{n}.parquet", [event(n)]) for n in range(2)]
    messages = [EVENTS, batch(paths[:1]), state(1), batch(paths[1:]), state(2)]
    assert list(passed_on(lab, messages)) == [[], [], [1], [1], [1, 2], [1, 2]]


def test_not_while_a_record_waits(lab: Lab) -> None:
    messages = [EVENTS, record(event(1)), state(1), record(event(2)), state(2)]
    assert list(passed_on(lab, messages)) == [[], [], [], [], [], [2]]


def test_not_while_a_record_of_another_stream_waits(lab: Lab) -> None:
    path = write_parquet(lab.folder / "a.parquet", [event(1)])
    messages = [EVENTS, OTHER, record({"n": 1}, "other"), state(1), batch([path]), state(2)]
    assert list(passed_on(lab, messages)) == [[], [], [], [], [1], [1, 2], [1, 2]]
    assert lab.query("SELECT * FROM lab.mixpanel.other") == [(1,)]


def test_when_a_stream_is_full_all_are_loaded(lab: Lab) -> None:
    messages = [EVENTS, OTHER, record({"n": 1}, "other"), state(1), record(event(1)), state(2)]
    messages += [record(event(2)), state(3), record(event(3)), state(4)]
    *_, third, fourth, end = passed_on(lab, messages, batch_size_rows=2)
    assert (third, fourth, end) == ([2, 3], [2, 3], [2, 3, 4])


def test_mapped_records_too(lab: Lab) -> None:
    messages = [EVENTS, record(event(1)), state(1), record(event(2)), record(event(3)), state(2)]
    seen = list(
        passed_on(lab, messages, batch_size_rows=2, stream_maps={"events": {"x": "event_id"}})
    )
    assert seen == [[], [], [], [1], [1], [1], [1, 2]]
    assert [row["x"] for row in lab.rows()] == [f"{n:032x}" for n in (1, 2, 3)]


def test_a_state_without_anything_before_it(lab: Lab) -> None:
    assert lab.load(state(1)) == [1]


def test_a_failed_batch_keeps_its_state_back(lab: Lab) -> None:
    good = write_parquet(lab.folder / "a.parquet", [event(1)])
    bad = lab.folder / "b.parquet"
    bad.write_bytes(b"not parquet")
    out = io.StringIO()
    target = TargetDuckDBBatch(config=lab.config())
    messages = [EVENTS, batch([good]), state(1), batch([bad]), state(2)]
    with redirect_stdout(out), pytest.raises(LoaderError):
        target.listen(io.BytesIO(lines_of(messages)))
    target.database.close()
    assert out.getvalue() == '{"at": 1}\n'
    assert len(lab.rows()) == 1
