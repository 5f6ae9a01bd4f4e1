"""A window's messages on their way out, while the next window is prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pathlib import Path

_PIECE: Final = 1 << 18


class Outlet(Protocol):
    """Where messages go."""

    def emit(self, lines: bytes) -> None:
        """Pass on whole lines of messages, however long it takes."""

    def offer(self, lines: bytes, start: int) -> int:
        """Pass on what is taken without waiting; where the rest begins."""


class Emission:
    """Passes a file of messages on, in whole lines."""

    def __init__(self, path: Path, outlet: Outlet) -> None:
        """Pass on this file."""
        self._file = path.open("rb")
        self._outlet = outlet
        self._lines = b""
        self._start = 0

    def close(self) -> None:
        """Leave what is not passed on."""
        self._file.close()

    def offer(self) -> bool:
        """Pass on as much as is taken without waiting.

        Returns:
            Whether that was all.
        """
        while self._has_lines():
            end = self._outlet.offer(self._lines, self._start)
            if end == self._start:
                return False
            self._start = end
        return True

    def advance(self) -> bool:
        """Pass on a piece, however long its reader takes.

        Returns:
            Whether that was the last.
        """
        if self._has_lines():
            self._outlet.emit(self._lines[self._start :])
            self._start = len(self._lines)
        return not self._has_lines()

    def _has_lines(self) -> bool:
        """Have whole lines at hand, if any are left."""
        if self._start == len(self._lines):
            self._lines = self._file.read(_PIECE)
            self._start = 0
            if self._lines and not self._lines.endswith(b"\n"):
                self._lines += self._file.readline()
        return bool(self._lines)
