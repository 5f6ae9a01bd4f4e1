"""Records as lines of JSON: a JSONL row each, or Singer's RECORD around it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw, Struct

from tap_mixpanel_parallel.convert.columns import COLUMNS, column_values
from tap_mixpanel_parallel.convert.times import UtcText

if TYPE_CHECKING:
    from tap_mixpanel_parallel.convert.columns import Column, Kind
    from tap_mixpanel_parallel.convert.records import EventRecord

Rows = Callable[[list["EventRecord"]], Iterator[Struct]]
"""Records in, and out the object of JSON that each becomes."""

Encode = Callable[[list["EventRecord"]], bytes]
"""Records in, whole lines out."""

encode_row: Final = msgspec.json.encode
"""An object of JSON in, its text out."""

_encode_lines: Final = msgspec.json.Encoder().encode_lines


class _Message(Struct, tag_field="type", tag="RECORD", gc=False):
    """Singer's RECORD."""

    stream: str
    record: Struct
    time_extracted: str


def row_maker(
    columns: Sequence[Column] = COLUMNS,
    *,
    properties_as_text: bool,
    selected: Collection[str] | None = None,
) -> Rows:
    """Make each record an object of JSON.

    Args:
        columns: The columns of a record.
        properties_as_text: Whether `properties` is a string of JSON instead of an object.
        selected: The columns that are taken; None takes all.
    """
    forms: dict[Kind, Callable[[Iterable[Any]], Iterable[Any]]] = {
        "key": partial(map, bytes.hex),
        "time": UtcText().write,
        "json": partial(map, _text),
    }

    def form(column: Column) -> Callable[[Iterable[Any]], Iterable[Any]]:
        as_it_is = column.field == "properties" and not properties_as_text
        return iter if as_it_is else forms.get(column.kind, iter)

    taken = [
        (place, form(column))
        for place, column in enumerate(columns)
        if selected is None or column.name in selected
    ]
    names = {f"column_{place}": columns[place].name for place, _ in taken}
    row = msgspec.defstruct("_Row", [(name, Any) for name in names], rename=names, gc=False)

    def rows(records: list[EventRecord]) -> Iterator[Struct]:
        if not records:
            return iter(())
        values = column_values(records)
        return map(row, *(form(values[place]) for place, form in taken))

    return rows


def row_encoder(rows: Rows) -> Encode:
    """Encode each record as an object of JSON, in a line."""
    # Lists, since msgspec takes longer with an iterator.
    return lambda records: _encode_lines(list(rows(records)))


def message_encoder(rows: Rows, stream: str, time_extracted: str) -> Encode:
    """Encode each record as a RECORD message, in a line."""
    names, times = repeat(stream), repeat(time_extracted)
    return lambda records: _encode_lines(list(map(_Message, names, rows(records), times)))


def _text(raw: Raw | bytes | None) -> str | None:
    return None if raw is None else str(raw, "utf-8")
