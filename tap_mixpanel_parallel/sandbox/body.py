"""The body of an export: lines turned into the bytes to send, in bounded memory."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from tap_mixpanel_parallel.sandbox.effects import Effect
    from tap_mixpanel_parallel.sandbox.export import Sendable
    from tap_mixpanel_parallel.sandbox.steps import Step

_BLOCK = 256 * 1024
_SMALL = 1400  # smaller bodies are not compressed (Mixpanel's OpenAPI text)
_GZIP_LEVEL = 2
_GZIP_FORMAT = 31


class Body:
    """The body of one answer, changed by the effect of a fault."""

    def __init__(
        self, lines: Callable[[], Iterator[bytes]], effect: Effect, *, gzip_accepted: bool
    ) -> None:
        """Make a body from lines.

        Args:
            lines: Gives the event lines, without line ends. It is called more than once: some
                faults measure the body before they change it.
            effect: How the body is changed.
            gzip_accepted: Whether the client accepts gzip.
        """
        self._lines = lines
        self._effect = effect
        self.events = 0
        self.gzip = gzip_accepted and effect.gzip and self._is_large()

    def steps(self) -> Iterator[Step]:
        """Give the steps in which the server sends the body."""
        return self._effect.wire(self._encoded)

    def _encoded(self) -> Iterator[bytes]:
        blocks = _blocks(self._text())
        return compressed(blocks) if self.gzip else blocks

    def _text(self) -> Iterator[bytes]:
        return self._effect.lines(self._counted)

    def _counted(self) -> Iterator[bytes]:
        self.events = 0
        for line in self._lines():
            self.events += 1
            yield line + b"\n"

    def _is_large(self) -> bool:
        size = 0
        for line in self._text():
            size += len(line)
            if size > _SMALL:
                return True
        return False


def compressed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Give the blocks as one gzip member; the same blocks always give the same bytes."""
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
    for block in blocks:
        if piece := compressor.compress(block):
            yield piece
    yield compressor.flush()


def _blocks(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Join lines into blocks of about equal size."""
    pending: list[bytes] = []
    size = 0
    for line in lines:
        pending.append(line)
        size += len(line)
        if size >= _BLOCK:
            yield b"".join(pending)
            pending.clear()
            size = 0
    if pending:
        yield b"".join(pending)


class Cache:
    """Keeps complete bodies in memory to serve them again quickly. Threads share it."""

    def __init__(self) -> None:
        """Start empty."""
        self._stored: dict[Hashable, _Stored] = {}

    def body(self, key: Hashable, body: Body) -> Sendable:
        """Give the stored body, or a body that is stored when it has been sent."""
        return self._stored.get(key) or _Recording(body, key, self._stored)


class _Stored:
    """A stored body."""

    def __init__(self, body: Body, pieces: list[bytes]) -> None:
        self.gzip = body.gzip
        self.events = body.events
        self._pieces = pieces

    def steps(self) -> Iterator[Step]:
        return iter(self._pieces)


class _Recording:
    """A body that is stored when it has been sent."""

    def __init__(self, body: Body, key: Hashable, stored: dict[Hashable, _Stored]) -> None:
        self._body = body
        self._key = key
        self._stored = stored

    @property
    def gzip(self) -> bool:
        return self._body.gzip

    @property
    def events(self) -> int:
        return self._body.events

    def steps(self) -> Iterator[Step]:
        pieces: list[bytes] = []
        for step in self._body.steps():
            if isinstance(step, bytes):
                pieces.append(step)
            yield step
        self._stored[self._key] = _Stored(self._body, pieces)
