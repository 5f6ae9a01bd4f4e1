"""A pipe whose both ends are the test's."""

from __future__ import annotations

import fcntl
import os
import select
from contextlib import suppress
from typing import Final, Self

PIECE: Final = select.PIPE_BUF
"""The most that a pipe takes in one go or not at all."""


class Pipe:
    """A pipe, small enough to be full soon. It is a context manager."""

    def __init__(self) -> None:
        """Open it."""
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.capacity = fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4 * PIECE)

    def read(self, size: int = 1 << 20) -> bytes:
        """What is in the pipe, or the first bytes of it."""
        found = b""
        with suppress(BlockingIOError):
            while size > len(found) and (piece := os.read(self.reader, size - len(found))):
                found += piece
        return found

    def fill(self) -> None:
        """Leave no room for a piece."""
        os.write(self.writer, b"\n" * self.capacity)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self.reader, self.writer):
            with suppress(OSError):
                os.close(fd)
