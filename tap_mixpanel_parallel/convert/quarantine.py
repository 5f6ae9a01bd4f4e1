"""Lines that are no events, byte for byte in a file of their own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Self

from tap_mixpanel_parallel.exceptions import MalformedLineError
from tap_mixpanel_parallel.fetch.spool import spooling

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.settings.settings import Settings

Take = Callable[[bytes, MalformedLineError], None]
"""Takes a line that is no event, and why it is none."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """The lines of a window that are no events.

    Attributes:
        path: The file that holds them; for nobody else to read.
        count: How many there are.
        first: Why the first is none.
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
        self._file: BinaryIO | None = None
        self._first: MalformedLineError | None = None
        self._count = self._sum = 0

    def __enter__(self) -> Self:
        """Begin."""
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
                self._path.touch(mode=0o600)
                self._file = self._stack.enter_context(self._path.open("wb"))
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


def quarantine_path(messages: Path) -> Path:
    """Where a window's lines are until they are known to stay bad."""
    return messages.with_suffix(".quarantine")


def quarantine_name(settings: Settings, window: Window) -> str:
    """A file name that no tap with other filters, or of another project, makes.

    Args:
        settings: What the tap reads.
        window: The days.
    """
    # Without a project's id, its secret is what tells it from others. The name has 32 bits
    # of a hash, from which no secret can be found.
    secret = settings.credentials.secret if settings.credentials else None
    selection = [
        settings.region,
        settings.api_url,
        settings.project_id or secret,
        sorted(settings.events),
        settings.where,
        settings.project_timezone.key,
    ]
    digest = hashlib.sha256(json.dumps(selection).encode()).hexdigest()[:8]
    project = re.sub(r"\W", "_", settings.project_id or "")
    parts = ("tap-mixpanel-parallel-quarantine", project, digest, str(window))
    return f"{'-'.join(filter(None, parts))}.jsonl"
