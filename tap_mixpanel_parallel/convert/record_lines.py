"""Records as lines of JSON: a JSONL row each, or Singer's RECORD around it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from itertools import compress
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from tap_mixpanel_parallel.convert.columns import NAMES
from tap_mixpanel_parallel.convert.times import UtcText

if TYPE_CHECKING:
    from tap_mixpanel_parallel.convert.records import EventRecord

Encode = Callable[[list["EventRecord"]], bytes]
"""Records in, whole lines out."""

_ROW_ENDS = b"\n"


def row_encoder(*, properties_as_text: bool, selected: Collection[str] = NAMES) -> Encode:
    """Encode each record as an object of JSON with the selected columns, in a line."""
    make = _row(selected)
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


def _row(selected: Collection[str]) -> Callable[..., Any]:
    """Makes a record in the form in which JSON has it, of the values of all columns."""
    kept = [name for name in NAMES if name in selected]
    row: Callable[..., Any] = msgspec.defstruct("_Row", [(name, Any) for name in kept], gc=False)
    if len(kept) == len(NAMES):
        return row
    is_kept = [name in selected for name in NAMES]
    return lambda *values: row(*compress(values, is_kept))


def _text(raw: Raw) -> str:
    return str(raw, "utf-8")


def _as_it_is(raw: Raw) -> Raw:
    return raw
