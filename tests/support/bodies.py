"""Windows' bodies, and what a conversion makes of them."""

from __future__ import annotations

import gzip
import json
import resource
import threading
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from tap_mixpanel_parallel.convert.body import PIECE
from tap_mixpanel_parallel.convert.conversion import Conversion, ConversionOptions, Part
from tap_mixpanel_parallel.convert.files import Messages
from tap_mixpanel_parallel.convert.record_lines import message_encoder, row_maker
from tap_mixpanel_parallel.fetch.job import Download
from tap_mixpanel_parallel.plan.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.convert.files import Format
    from tap_mixpanel_parallel.convert.records import EventReader, EventRecord

NOW: Final = datetime(2025, 2, 1, tzinfo=UTC)
EXTRACTED: Final = "2025-02-01T00:00:00+00:00"
DAY: Final = Window(date(1970, 1, 1), date(1970, 1, 1))
"""The day of all events that `line` makes."""

MESSAGES: Final = Messages(
    message_encoder(row_maker(properties_as_text=False), "events", EXTRACTED)
)


def line(number: int = 0, text: str = "x") -> bytes:
    """An event's line; `text` stands in it as it is, escapes and all."""
    return (
        f'{{"event":"E","properties":{{"time":{number},"$insert_id":"i{number}","text":"{text}"}}}}'
    ).encode("utf-8", "surrogatepass")


LINES: Final = [line(n, f"text {n} é🎉") for n in range(20)]
BODY: Final = b"".join(each + b"\n" for each in LINES)
GZIP: Final = gzip.compress(BODY, mtime=0)


def read_line(reader: EventReader, text: bytes, number: int = 1) -> EventRecord:
    """The record of one line."""
    [record] = reader.read((text,), number)
    return record


def download(folder: Path, body: bytes, *, compressed: bool = False) -> Download:
    """A body on disk."""
    path = folder / "window.body"
    for suffix in (".lines", ".malformed"):  # of the conversion before
        path.with_suffix(suffix).unlink(missing_ok=True)
    path.write_bytes(body)
    return Download(path, compressed, len(body), NOW)


def conversion(
    folder: Path,
    body: bytes,
    *,
    compressed: bool = False,
    window: Window = DAY,
    form: Format = MESSAGES,
    piece: int = PIECE,
    **options: Any,
) -> Conversion:
    """The conversion of a body; nothing is done yet."""
    source = download(folder, body, compressed=compressed)
    chosen = ConversionOptions(ZoneInfo("UTC"), **options)
    return Conversion(window, source, chosen, form, piece=piece)


def convert(folder: Path, body: bytes, **options: Any) -> Part:
    """The part that a body becomes; see `conversion`."""
    whole = conversion(folder, body, **options)
    for _ in whole:
        pass
    return whole.part


def messages(part: Part) -> list[dict[str, Any]]:
    """A part's messages."""
    text = part.path.read_bytes()
    assert text == b"" or text.endswith(b"\n")
    return [json.loads(message) for message in text.split(b"\n")[:-1]]


def properties(part: Part) -> list[dict[str, Any]]:
    """The properties of a part's records."""
    return [message["record"]["properties"] for message in messages(part)]


def assert_nothing_is_left(folder: Path) -> None:
    """No file but the body is there, and no thread but the main one reads."""
    assert {path.name for path in folder.iterdir()} <= {"window.body"}
    assert [t.name for t in threading.enumerate() if t.name.startswith("decompress")] == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process grows beyond this size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
