"""Records as lines of JSON: a JSONL row each, or Singer's RECORD around it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from tap_mixpanel_parallel.convert.columns import COLUMNS
from tap_mixpanel_parallel.convert.times import UtcText

if TYPE_CHECKING:
    from tap_mixpanel_parallel.convert.columns import Column, Kind
    from tap_mixpanel_parallel.convert.lifting import Value
    from tap_mixpanel_parallel.convert.records import EventRecord

Encode = Callable[[list["EventRecord"]], bytes]
"""Records in, whole lines out."""

_ROW_ENDS = b"\n"


def row_encoder(
    columns: Sequence[Column] = COLUMNS,
    *,
    properties_as_text: bool,
    selected: Collection[str] | None = None,
) -> Encode:
    """Encode each record as an object of JSON, in a line.

    Args:
        columns: The columns of a record.
        properties_as_text: Whether `properties` is a string of JSON instead of an object.
        selected: The columns that are taken; None takes all.
    """
    names = [column.name for column in columns]
    make = _row(names, names if selected is None else selected)
    lifted = _lifted([column.kind for column in columns[len(COLUMNS) :]])
    encode_lines, utc = msgspec.json.Encoder().encode_lines, UtcText().write
    form: Callable[[Raw], Any] = _text if properties_as_text else _as_it_is

    def encode(records: list[EventRecord]) -> bytes:
        return encode_lines(
            [
                make(
                    record.event_id.hex(),
                    record.event,
                    utc(record.time_ms),
                    record.distinct_id,
                    record.insert_id,
                    None if record.processed_ms is None else utc(record.processed_ms),
                    form(record.properties),
                    *lifted(record.lifted),
                )
                for record in records
            ]
        )

    return encode


def message_encoder(encode_rows: Encode, stream: str, time_extracted: str) -> Encode:
    """Encode each record as a RECORD message, in a line."""
    before = f'{{"type":"RECORD","stream":{json.dumps(stream)},"record":'.encode()
    after = f',"time_extracted":{json.dumps(time_extracted)}}}\n'.encode()

    def encode(records: list[EventRecord]) -> bytes:
        rows = encode_rows(records)
        # A row has no line end but its own: JSON escapes them.
        return before + rows[:-1].replace(b"\n", after + before) + after if rows else b""

    return encode


def _row(names: Sequence[str], selected: Collection[str]) -> Callable[..., Any]:
    """Makes a record in the form in which JSON has it, of the values of all columns."""
    kept = [name for name in names if name in selected]
    fields = [(f"column_{place}", Any) for place in range(len(kept))]
    row: Callable[..., Any] = msgspec.defstruct(
        "_Row", fields, rename=dict(zip((name for name, _ in fields), kept, strict=True)), gc=False
    )
    if len(kept) == len(names):
        return row
    is_kept = [name in selected for name in names]
    return lambda *values: row(*compress(values, is_kept))


def _lifted(kinds: Sequence[Kind]) -> Callable[[tuple[Value, ...]], Iterable[Any]]:
    """The values of columns of these kinds, in the form in which JSON has them."""
    utc = UtcText().write
    forms: dict[Kind, Callable[[Any], str]] = {"time": utc, "json": _text}
    places = [(place, forms[kind]) for place, kind in enumerate(kinds) if kind in forms]

    def write(values: tuple[Value, ...]) -> Iterable[Any]:
        written = list(values)
        for place, form in places:
            if values[place] is not None:
                written[place] = form(values[place])
        return written

    return write if places else tuple  # which gives a tuple back as it is, and is fast


def _text(raw: Raw | bytes) -> str:
    return str(raw, "utf-8")


def _as_it_is(raw: Raw) -> Raw:
    return raw
