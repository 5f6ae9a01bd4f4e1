"""The events of a run for the program that uses the tap, and nothing on standard output."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tap_mixpanel_parallel.exceptions import OutputError, TapError
from tap_mixpanel_parallel.export import load_parts, look_at
from tap_mixpanel_parallel.fetch.spool import read_back
from tap_mixpanel_parallel.forms import as_rows, as_tables, file_factory
from tap_mixpanel_parallel.report.census import Census, Counting
from tap_mixpanel_parallel.report.description import Description
from tap_mixpanel_parallel.run import Way
from tap_mixpanel_parallel.write.output import Handover

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyarrow import RecordBatch, RecordBatchReader, Schema

    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.streams import EventsStream

_BATCH_ROWS: Final = 65_536
_MOST_DIGITS: Final = 4_000
"""Python makes no `int` of many more."""

_decode = msgspec.json.Decoder().decode


def read_events(stream: EventsStream) -> Iterator[dict[str, Any]]:
    """The events as dictionaries: what a RECORD message holds, with `datetime`s.

    Raises:
        TapError: If a setting would change records.
    """
    _check(stream, "events()")
    return _events(stream)


def read_batches(stream: EventsStream) -> RecordBatchReader:
    """The events as Arrow has them.

    Raises:
        TapError: If a setting would change records, or pyarrow is not installed.
    """
    _check(stream, "arrow()")
    if find_spec("pyarrow") is None:
        raise TapError(
            "arrow() needs pyarrow, which is not installed; install tap-mixpanel-parallel[files]"
        )
    from pyarrow import RecordBatchReader  # noqa: PLC0415 - an extra

    schema = _schema(stream)
    return RecordBatchReader.from_batches(schema, _batches(stream, schema))


def _check(stream: EventsStream, what: str) -> None:
    if set_ := [name for name in ("stream_maps", "flattening_enabled") if stream.config.get(name)]:
        raise TapError(
            f"{' and '.join(set_)}: {what} gives events as they are; leave it out, and change "
            "them in Python"
        )


def _events(stream: EventsStream) -> Iterator[dict[str, Any]]:
    columns = stream.schema["properties"]
    times = [name for name in stream.selected_names if columns[name].get("format") == "date-time"]
    for part in load_parts(stream, lambda _: as_rows(stream)):
        for line in _lines(part.path):
            record = _parsed(line)
            for name in times:
                if record[name] is not None:
                    record[name] = datetime.fromisoformat(record[name])
            yield record


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with read_back(path) as file:
            yield from file
    except OSError as error:
        raise OutputError(f"spool_dir: {path} can't be read back ({error.strerror})") from None


def _parsed(line: bytes) -> Any:
    """A record, whatever numbers are in it."""
    try:
        return _decode(line)
    except msgspec.ValidationError:  # a number is beyond what it knows
        return json.loads(line, parse_int=_whole)


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _MOST_DIGITS else Decimal(digits)


def _batches(stream: EventsStream, schema: Schema) -> Iterator[RecordBatch]:
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - an extra

    for part in load_parts(stream, lambda folder: as_tables(stream, folder)):
        for path in part.files:
            with ParquetFile(path) as file:
                for batch in file.iter_batches(_BATCH_ROWS):
                    yield batch.cast(schema)
            path.unlink(missing_ok=True)


def _schema(stream: EventsStream) -> Schema:
    """What a file has for columns, as text where it has JSON: few readers know Arrow's JSON."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow.parquet import read_schema  # noqa: PLC0415

    file = BytesIO()
    file_factory("parquet", stream.columns, stream.selected_names, as_text=True)(file).close()
    found = read_schema(file)
    return pa.schema(
        [(field.name, getattr(field.type, "storage_type", field.type)) for field in found]
    )


def describe(stream: EventsStream, window: Window) -> Description:
    """What the events of some days hold; it takes one request.

    Raises:
        TapError: If they can't be had.
    """
    form = Counting()
    way = Way(lambda _: form, partial(Handover, lambda _: None))
    for _ in look_at(stream, window, way):
        pass
    return Description(window, stream.settings.selection, form.census or Census())
