"""The files that BATCH messages announce, read back."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

from tap_mixpanel_parallel.convert.times import format_utc
from tests.support.exact import digits, parsed

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMATS: Final = ("jsonl", "parquet")

Event = dict[str, Any]


def batch_config(form: str, root: Path, **more: Any) -> dict[str, Any]:
    """The setting for files of a format in a folder."""
    storage = {"root": f"file://{root}", "prefix": more.pop("prefix", "")}
    return {"batch_config": {"encoding": {"format": form}, "storage": storage, **more}}


def manifest(messages: Iterable[dict[str, Any]]) -> list[Path]:
    """All files that are announced, in order."""
    return [
        Path(url.removeprefix("file://"))
        for message in messages
        if message["type"] == "BATCH"
        for url in message["manifest"]
    ]


def events_of(messages: Iterable[dict[str, Any]]) -> list[Event]:
    """The events of all files that are announced, in order, exact."""
    return [event for path in manifest(messages) for event in events_in(path)]


def events_in(path: Path) -> list[Event]:
    """The events of a file, in an exact form that is the same for each format."""
    form = as_event if path.suffix == ".gz" else exact
    return list(map(form, rows_in(path)))


def rows_in(path: Path) -> list[Event]:
    """The rows of a file, as its format has them."""
    if path.suffix == ".gz":
        return [json.loads(line) for line in gzip.open(path)]
    columns = pq.read_table(path).to_pydict()
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def exact(row: Event) -> Event:
    """A row with times as a RECORD has them, and `properties` digit for digit."""
    event = dict(row)
    for name in ("time", "processed_at"):
        if event.get(name) is not None:
            moment = event[name]
            event[name] = format_utc(
                (moment.toordinal() - 719_163) * 86_400_000
                + (moment.hour * 3600 + moment.minute * 60 + moment.second) * 1000
                + moment.microsecond // 1000
            )
    return as_event(event)


def as_event(record: Event) -> Event:
    """A RECORD's record with `properties` digit for digit; its own must be text."""
    if "properties" not in record:
        return record
    return record | {"properties": digits(parsed(record["properties"]))}
