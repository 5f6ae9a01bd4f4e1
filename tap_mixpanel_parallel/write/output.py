"""Parts on their way out, one at a time, each with the STATE that says that it is loaded."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from tap_mixpanel_parallel.exceptions import OutputError
from tap_mixpanel_parallel.fetch.spool import read_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from tap_mixpanel_parallel.convert.conversion import Part
    from tap_mixpanel_parallel.fetch.job import Arrival
    from tap_mixpanel_parallel.plan.state import ExportState

_PIECE: Final = 1 << 18
"""Bytes of a part that are read at a time."""


class Sink(Protocol):
    """Where messages go."""

    def write(self, lines: bytes) -> None:
        """Pass on whole lines, however long their reader takes."""

    def write_some(self, lines: bytes, start: int) -> int:
        """Pass on what is taken without waiting; where the rest begins."""

    def write_state(self, state: ExportState) -> None:
        """Pass on a STATE: what was written before is what it says."""

    def check(self) -> None:
        """Raise if the run should end: by a signal, or since nobody reads."""


@dataclass(frozen=True, slots=True)
class Written:
    """A window is written, and its STATE."""

    arrival: Arrival
    part: Part


class Output:
    """Writes parts as they are taken, so that a reader never waits for the next conversion."""

    def __init__(
        self, sink: Sink, notify: Callable[[Written], None], *, piece: int = _PIECE
    ) -> None:
        """Write to this sink, and tell of each part that is written.

        Args:
            sink: Where parts and states go.
            notify: Told of each part that is written.
            piece: How many bytes of a part are read at a time.
        """
        self._sink = sink
        self._notify = notify
        self._piece = piece
        self._leaving: tuple[Written, ExportState] | None = None
        self._file: BinaryIO | None = None
        self._lines = b""
        self._start = 0

    @property
    def is_busy(self) -> bool:
        """Whether a part is on its way."""
        return self._leaving is not None

    def begin(self, arrival: Arrival, part: Part, state: ExportState) -> None:
        """Have a part leave, after the one before it.

        Args:
            arrival: What the part was made of.
            part: What leaves.
            state: What is loaded once it has left.

        Raises:
            OutputError: If its file can't be read; so do the other methods.
        """
        self.flush()
        self._leaving = Written(arrival, part), state
        self._open(part)

    def check(self) -> None:
        """Notice that the run should end."""
        self._sink.check()

    def write_state(self, state: ExportState) -> None:
        """Write a STATE that no part needs."""
        self._sink.write_state(state)

    def write_pending(self) -> None:
        """Write what is taken without waiting; notice that the run should end."""
        self._sink.check()
        while self.is_busy:
            if not self._has_lines():
                self._end()
                return
            end = self._sink.write_some(self._lines, self._start)
            if end == self._start:
                return
            self._start = end

    def write_piece(self) -> None:
        """Write a piece of what is on its way, however long its reader takes."""
        if not self.is_busy:
            return
        if self._has_lines():
            self._sink.write(self._lines[self._start :])
            self._start = len(self._lines)
        else:
            self._end()

    def flush(self) -> bool:
        """Write all that is on its way.

        Returns:
            Whether anything was.
        """
        was_busy = self.is_busy
        while self.is_busy:
            self.write_piece()
        return was_busy

    def close(self) -> None:
        """Leave what is not written."""
        if self._file is not None:
            self._file.close()

    def _open(self, part: Part) -> None:
        try:
            self._file = read_back(part.path)
        except OSError as error:
            raise self._unreadable(error) from None

    def _end(self) -> None:
        if self._leaving is None:
            return
        (written, state), self._leaving = self._leaving, None
        self.close()
        with suppress(OSError):  # the spool goes with the run
            written.part.path.unlink()
        self._sink.write_state(state)
        self._notify(written)

    def _has_lines(self) -> bool:
        """Have whole lines at hand, if any are left."""
        if self._start == len(self._lines) and self._file is not None:
            try:
                self._lines = self._file.read(self._piece)
                if self._lines and not self._lines.endswith(b"\n"):
                    self._lines += self._file.readline()
            except OSError as error:
                raise self._unreadable(error) from None
            self._start = 0
        return bool(self._lines)

    def _unreadable(self, error: OSError) -> OutputError:
        """Why the run ends: some of the window may be written, so no other attempt mends it."""
        path = self._leaving[0].part.path if self._leaving else None
        return OutputError(
            f"spool_dir: {path} can't be read back ({error.strerror}), so the run ends; "
            "the next run reads its window again"
        )


class Handover(Output):
    """Leaves each part to whoever drives the run, and its state follows as they come back."""

    def __init__(
        self, keep: Callable[[ExportState], None], notify: Callable[[Written], None]
    ) -> None:
        """Hand parts over.

        Args:
            keep: Takes the states.
            notify: Told of each part that was taken.
        """
        super().__init__(_States(keep), notify)

    def _open(self, part: Part) -> None:
        """Leave the part's files alone."""


class _States:
    """A sink of nothing but states."""

    def __init__(self, keep: Callable[[ExportState], None]) -> None:
        self.write_state = keep

    def write(self, lines: bytes) -> None:
        raise NotImplementedError

    def write_some(self, lines: bytes, start: int) -> int:
        raise NotImplementedError

    def check(self) -> None:
        """Go on: a program's signals are its own."""
