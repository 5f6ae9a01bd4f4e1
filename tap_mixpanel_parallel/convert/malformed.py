"""Lines that are not events, byte for byte in a file of their own."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedWriter
from typing import TYPE_CHECKING, Self

from tap_mixpanel_parallel.fetch.spool import create, spooling

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from tap_mixpanel_parallel.exceptions import MalformedLineError


@dataclass(frozen=True, slots=True)
class Malformed:
    """The lines of a window that are not events.

    Attributes:
        path: The file that holds them; nobody else can read it.
        count: How many there are.
        first: Why the first is not an event.
        digest: The same for the same lines in any order, since an export has none.
    """

    path: Path
    count: int
    first: MalformedLineError
    digest: bytes


class Sieve:
    """Puts lines into a file, however many. Context manager."""

    def __init__(self, path: Path) -> None:
        """Put them into this file, which is made for the first."""
        self._path = path
        self._stack = ExitStack()
        self._file: BufferedWriter[FileIO] | None = None
        self._first: MalformedLineError | None = None
        self._count = self._sum = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file.

        Raises:
            SpoolError: If it can't be written.
        """
        with spooling(self._path):
            self._stack.close()

    def add(self, line: bytes, error: MalformedLineError) -> None:
        """Put a line into the file.

        Raises:
            SpoolError: If it can't be written.
        """
        with spooling(self._path):
            if self._file is None:
                self._file = self._stack.enter_context(BufferedWriter(create(self._path)))
                self._first = error
            self._file.write(line + b"\n")
        self._count += 1
        self._sum += int.from_bytes(hashlib.sha256(line).digest())

    @property
    def malformed(self) -> Malformed | None:
        """What is in the file; None if nothing is."""
        if self._first is None:
            return None
        digest = (self._sum % (1 << 256)).to_bytes(32)
        return Malformed(self._path, self._count, self._first, digest)
