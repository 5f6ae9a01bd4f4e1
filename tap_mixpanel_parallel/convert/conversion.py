"""A window's body in, its RECORD messages out, in a file: all of them or an error.

Nothing of a window leaves before all of it is here. The body is read once: decompressed,
split into lines, checked line by line, turned into messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from gzip import BadGzipFile
from io import FileIO
from itertools import chain, count, islice
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from isal import igzip
from isal.igzip_lib import IsalError
from msgspec import Struct
from msgspec.json import Encoder

from tap_mixpanel_parallel.convert.duplicates import find_replaced
from tap_mixpanel_parallel.convert.quarantine import Malformed, Sieve, quarantine_path
from tap_mixpanel_parallel.convert.records import EventReader, EventRecord
from tap_mixpanel_parallel.convert.surrogates import mend
from tap_mixpanel_parallel.exceptions import (
    IncompleteExportError,
    MalformedLineError,
    ThreadError,
    drop_frames,
)
from tap_mixpanel_parallel.fetch.spool import spooling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.convert.quarantine import Take
    from tap_mixpanel_parallel.fetch.client import Download

_PIECE: Final = 1 << 17
_AHEAD: Final = 8
"""Pieces that are decompressed ahead: enough that handing them over costs nothing."""

_BLANKS: Final = b" \t\r"
_LONGEST_LINE: Final = 1 << 24
"""Sixteen times the largest event that Mixpanel ingests (Mixpanel docs, Import Events)."""


class _RecordMessage(Struct, gc=False, tag_field="type", tag="RECORD"):
    """Singer's RECORD."""

    stream: str
    record: EventRecord
    time_extracted: str


Encode = Callable[[list[EventRecord]], bytes]
"""Records in, lines of RECORD messages out."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines of a body, without their line ends.

    Attributes:
        lines: The lines.
        is_utf8: Whether all of them are UTF-8.
    """

    lines: list[bytes]
    is_utf8: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """A window's messages, ready to be emitted.

    Attributes:
        path: The file of messages.
        events: How many there are.
        malformed: Lines that are no events; None if there are none.
        strays: How many events of the body lie outside the window's days.
    """

    path: Path
    events: int
    malformed: Malformed | None = None
    strays: int = 0

    @property
    def left_out(self) -> int:
        """How many lines are no events."""
        return self.malformed.count if self.malformed else 0


def prepare(
    download: Download,
    path: Path,
    *,
    reader: EventReader,
    encode: Encode,
    tolerant: bool = False,
    deduplicate: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Prepared:
    """Turn a body into a file of messages.

    Args:
        download: The body.
        path: The file to write.
        reader: Turns lines into records; a new one for each window.
        encode: Turns records into messages.
        tolerant: Whether lines that are no events go to a file of their own instead of an
            error. The last line never does: with it, the export may have ended early.
        deduplicate: Whether only the latest of several lines of one event is taken.
        check: Called now and then; what it raises ends the work.

    Raises:
        IncompleteExportError: If the body is damaged, ends before the export does, or is
            that of another window.
        MalformedLineError: If a line is no event.
        SpoolError: If the file can't be written.
    """

    def read(reader: EventReader, take: Take | None) -> Iterator[list[EventRecord]]:
        return read_records(download, reader, take if tolerant else None, check)

    replaced = bytearray()
    if deduplicate:
        replaced = find_replaced(
            lambda: chain.from_iterable(read(reader.restart(), lambda *_: None))
        )
    ordinal = events = 0
    with Sieve(quarantine_path(path)) as sieve, _open(path) as file:
        for block in read(reader := reader.restart(), sieve.add):
            records = block
            if replaced:
                numbered = enumerate(block, ordinal)
                records = [r for n, r in numbered if not any(replaced[n : n + 1])]
            ordinal += len(block)
            events += len(records)
            _write(path, file, encode(records))
    malformed = sieve.malformed
    if malformed and not events:
        raise malformed.first
    if replaced and ordinal != len(replaced):
        raise IncompleteExportError("the body could not be read twice alike")
    reader.strays.check(ordinal)
    return Prepared(path, events, malformed, reader.strays.count)


def read_records(
    download: Download,
    reader: EventReader,
    take: Take | None,
    check: Callable[[], None],
) -> Iterator[list[EventRecord]]:
    """The records of a body, a few hundred at a time.

    Args:
        download: The body.
        reader: Turns lines into records.
        take: Takes the lines that are no events; None makes such a line an error.
        check: Called now and then; what it raises ends the work.

    Raises:
        IncompleteExportError: If the body is damaged, or ends before the export does.
        MalformedLineError: If a line is no event.
    """
    numbers, last = count(1), 0
    malformed: MalformedLineError | None = None
    for block in read_blocks(download):
        check()
        records: list[EventRecord] = []
        # Looked up once: this loop is where the time goes.
        read, append, is_utf8 = reader.read, records.append, block.is_utf8
        for line, number in zip(block.lines, numbers, strict=False):
            try:
                append(read(line if is_utf8 else _as_utf8(line, number), number))
            except MalformedLineError as error:
                if not line.strip(_BLANKS):
                    continue
                if take is None:
                    raise
                drop_frames(error)
                take(line, error)
                malformed = error
            last = number
        yield records
    if malformed and malformed.line_number == last:
        raise malformed  # the export may well have ended in its midst


def fast_encoder(stream: str, time_extracted: str) -> Encode:
    """Encode records as they are, natively.

    Args:
        stream: The stream's name.
        time_extracted: When the window was received: RFC 3339.
    """
    encode_lines = Encoder().encode_lines

    def encode(records: list[EventRecord]) -> bytes:
        return encode_lines([_RecordMessage(stream, r, time_extracted) for r in records])

    return encode


def read_blocks(download: Download) -> Iterator[Block]:
    r"""The lines of a body, a few hundred at a time.

    Lines end at `\n` alone; other separators of Unicode occur inside events.

    Raises:
        IncompleteExportError: If the compression is damaged or does not end, or a line
            is longer than any event.
    """
    rest = b""
    for piece in _read_ahead(_read_pieces(download)):
        lines = piece.split(b"\n")
        lines[0] = rest + lines[0]
        rest = lines.pop()
        if lines:
            yield Block(lines, (piece.isascii() and lines[0].isascii()) or _are_utf8(lines))
        elif len(rest) > _LONGEST_LINE:
            raise IncompleteExportError(
                f"a line of over {_LONGEST_LINE:,} bytes is no event: {rest[:200]!r}"
            )
    if rest:
        yield Block([rest], _are_utf8([rest]))


def _open(path: Path) -> FileIO:
    with spooling(path):
        return FileIO(path, "wb")


def _write(path: Path, file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    with spooling(path):
        while view:
            view = view[file.write(view) :]


def _read_pieces(download: Download) -> Iterator[bytes]:
    with spooling(download.path), download.path.open("rb") as file:
        body = cast("BinaryIO", igzip.open(file) if download.compressed else file)
        try:
            while piece := body.read(_PIECE):
                yield piece
        # The stub takes IsalError for an instance.
        except (EOFError, BadGzipFile, IsalError) as error:  # type: ignore[misc]
            raise IncompleteExportError(
                f"the answer's compression is cut or damaged: {error}"
            ) from None


def _read_ahead(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces; while some are worked on, a thread decompresses the next.

    That is the one part of the work that needs no interpreter, so it fights with nobody
    over it.
    """

    def take() -> tuple[list[bytes], Exception | None]:
        taken: list[bytes] = []
        try:
            taken.extend(islice(pieces, _AHEAD))
        except Exception as error:  # noqa: BLE001 - raised again, after what came before it
            return taken, error
        return taken, None

    with ThreadPoolExecutor(1, "decompress") as executor:
        try:
            ahead = executor.submit(take)
        except RuntimeError as error:
            raise ThreadError(error) from None
        while True:
            taken, failure = ahead.result()
            if failure is None and taken:
                ahead = executor.submit(take)
            yield from taken
            if failure is not None:
                raise failure
            if not taken:
                return


def _are_utf8(lines: list[bytes]) -> bool:
    """Whether all lines are UTF-8; decoding them singly is faster than all at once."""
    try:
        deque(map(bytes.decode, lines), maxlen=0)
    except UnicodeDecodeError:
        return False
    return True


def _as_utf8(line: bytes, number: int) -> bytes:
    """The line, with encoded surrogates mended.

    Raises:
        MalformedLineError: If it is no UTF-8 even then.
    """
    if _are_utf8([line]):
        return line
    mended = mend(line)
    if not _are_utf8([mended]):
        raise MalformedLineError(number, line, "it is not UTF-8")
    return mended
