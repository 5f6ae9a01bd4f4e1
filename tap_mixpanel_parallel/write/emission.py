"""A window's messages on their way out, while the next window is prepared."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from tap_mixpanel_parallel.exceptions import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Prepared
    from tap_mixpanel_parallel.fetch.scheduler import Task

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
        """Pass on this file.

        Raises:
            OutputError: If it can't be read; so do the other methods.
        """
        self._path = path
        with _reading(path):
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
            with _reading(self._path):
                self._lines = self._file.read(_PIECE)
                self._start = 0
                if self._lines and not self._lines.endswith(b"\n"):
                    self._lines += self._file.readline()
        return bool(self._lines)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """End the run if a file fails: some of its window may be passed on, so no try mends it."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"spool_dir: {path} can't be read back ({error.strerror}), so the run ends; "
            "the next one reads its window again"
        ) from None


@dataclass(frozen=True, slots=True)
class PreparedWindow:
    """A window whose messages are ready.

    Attributes:
        task: The window.
        prepared: Its messages.
        size: The bytes received, compressed.
    """

    task: Task
    prepared: Prepared
    size: int


class Exit:
    """Where windows leave, one at a time."""

    def __init__(self, outlet: Outlet, on_left: Callable[[PreparedWindow], None]) -> None:
        """Let windows out.

        Args:
            outlet: Where their messages go.
            on_left: Called as soon as all of a window is out.
        """
        self._outlet = outlet
        self._on_left = on_left
        self._window: PreparedWindow | None = None
        self._emission: Emission | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a window is leaving."""
        return self._emission is not None

    def begin(self, window: PreparedWindow) -> None:
        """Have a window leave, once the one before it has.

        Raises:
            OutputError: If its messages can't be read.
        """
        self.drain()
        self._emission = Emission(window.prepared.path, self._outlet)
        self._window = window

    def offer(self) -> None:
        """Pass on what is taken without waiting, if a window is leaving."""
        if self._emission is not None and self._emission.offer():
            self._end()

    def advance(self) -> None:
        """Pass on a piece, however long its reader takes, if a window is leaving."""
        if self._emission is not None and self._emission.advance():
            self._end()

    def drain(self) -> bool:
        """Pass on all that is left of a window, if one is leaving.

        Returns:
            Whether one was.
        """
        was_busy = self.is_busy
        while self.is_busy:
            self.advance()
        return was_busy

    def close(self) -> None:
        """Leave what is not passed on."""
        if self._emission is not None:
            self._emission.close()

    def _end(self) -> None:
        window, emission = self._window, self._emission
        self._window = self._emission = None
        if window is not None and emission is not None:
            emission.close()
            with suppress(OSError):  # the spool goes with the run
                window.prepared.path.unlink()
            self._on_left(window)
