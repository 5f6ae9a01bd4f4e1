"""A window's body as lines: decompressed, split, and known to be UTF-8 or not."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from gzip import BadGzipFile
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from isal import igzip
from isal.igzip_lib import IsalError

from tap_mixpanel_parallel.exceptions import IncompleteExportError, ThreadError
from tap_mixpanel_parallel.fetch.spool import read_back, spooling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mixpanel_parallel.fetch.job import Download

PIECE: Final = 1 << 17
"""Bytes of a body that are worked on at a time."""

_AHEAD: Final = 8
"""Pieces that are decompressed at once: enough that handing them over costs little."""

_KEPT: Final = 1 << 20
"""Bytes that the C library keeps at hand once it has seen so many freed at once, and does not give
back to the system after each piece (mallopt(3), M_MMAP_THRESHOLD)."""

_LONGEST_LINE: Final = 1 << 24
"""Sixteen times the largest event that Mixpanel ingests (Mixpanel docs, Import Events)."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines of a body, without their line ends.

    Attributes:
        lines: The lines.
        is_utf8: Whether all of them are UTF-8.
    """

    lines: list[bytes]
    is_utf8: bool


def read_blocks(
    download: Download, *, piece: int = PIECE, longest_line: int = _LONGEST_LINE
) -> Iterator[Block]:
    r"""The lines of a body, a few hundred at a time.

    Lines end at `\n` alone; other separators of Unicode occur inside events.

    Args:
        download: The body.
        piece: How many bytes are worked on at a time; some more are read.
        longest_line: How many bytes an event has at most.

    Raises:
        IncompleteExportError: If the compression is damaged or does not end, or a line
            is longer than any event.
        SpoolError: If the file can't be read.
        ThreadError: If the machine lets no further thread start.
    """
    bytes(_KEPT)
    rest = b""
    for data in _cut(_read_ahead(_decompressed(download, piece)), piece):
        lines = data.split(b"\n")
        lines[0] = rest + lines[0]
        rest = lines.pop()
        if lines:
            yield Block(lines, (data.isascii() and lines[0].isascii()) or are_utf8(lines))
        elif len(rest) > longest_line:
            raise IncompleteExportError(
                f"a line of over {longest_line:,} bytes is not an event: {rest[:200]!r}"
            )
    if rest:
        yield Block([rest], are_utf8([rest]))


def are_utf8(lines: list[bytes]) -> bool:
    """Whether all lines are UTF-8; decoding them singly is faster than all at once."""
    try:
        deque(map(bytes.decode, lines), maxlen=0)
    except UnicodeDecodeError:
        return False
    return True


def _decompressed(download: Download, piece: int) -> Iterator[bytes]:
    """The body, several pieces at a time; just before a damage, one at a time.

    The pieces before the one that is damaged may tell why: Mixpanel writes an error into the
    export, and ends.
    """
    done = 0
    try:
        for data in _read_from(0, download, _AHEAD * piece):
            done += len(data)
            yield data
    except IncompleteExportError:
        yield from _read_from(done, download, piece)


def _read_from(start: int, download: Download, size: int) -> Iterator[bytes]:
    with spooling(download.path), read_back(download.path) as file:
        body = cast("BinaryIO", igzip.open(file) if download.compressed else file)
        try:
            body.seek(start)
            yield from iter(lambda: body.read(size), b"")
        # The stub takes IsalError for an instance.
        except (EOFError, BadGzipFile, IsalError) as error:  # type: ignore[misc]
            raise IncompleteExportError(
                f"the answer's compression is cut or damaged: {error}"
            ) from None


def _read_ahead(body: Iterator[bytes]) -> Iterator[bytes]:
    """The same; while some of it is worked on, a thread decompresses the next.

    That is the one part of the work that needs no interpreter. `isal.igzip_threaded` does
    not serve: its reader may take a thread that ends between two looks for the end of the
    body, and what comes before a damage is lost.
    """
    with ThreadPoolExecutor(1, "decompress") as executor:
        try:
            ahead = executor.submit(next, body, b"")
        except RuntimeError as error:
            raise ThreadError(error) from None
        while data := ahead.result():
            ahead = executor.submit(next, body, b"")
            yield data


def _cut(body: Iterator[bytes], size: int) -> Iterator[bytes]:
    for data in body:
        for start in range(0, len(data), size):
            yield data[start : start + size]
