"""Standard output: Singer messages out, whole lines only, however the run ends."""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from typing import TYPE_CHECKING, Final

from singer_sdk.singerlib.encoding import SimpleSingerWriter

from tap_mixpanel_parallel.exceptions import OutputError, ReaderGoneError, TerminatedError
from tap_mixpanel_parallel.write.pipe import PipeRoom

if TYPE_CHECKING:
    from singer_sdk.singerlib.encoding.simple import Message

_PIECE: Final = select.PIPE_BUF
_GONE: Final = select.POLLERR | select.POLLHUP  # a pipe's, and a socket's or a terminal's
_WAKE_MS: Final = 100
_NAP_SECONDS: Final = 0.001
_GRACE_SECONDS: Final = 1.0
"""How long a slow reader may take for what is begun once a signal asks to stop."""


class LineWriter:
    """Writes whole lines to a file descriptor.

    Into a pipe it never writes more at once than the kernel takes in one go, cut at line
    ends: whatever kills the process, the reader gets no half line, short of a line that is
    longer than that. And it never waits for a slow reader without looking up, so a signal
    is noticed.

    Attributes:
        stop_signal: The signal that asks to stop, set by its handler; None if none does.
    """

    def __init__(self, fd: int) -> None:
        """Write to this file descriptor."""
        self.stop_signal: int | None = None
        if os.isatty(fd):
            fd = _unblocked(fd)
        self._fd = fd
        mode = os.fstat(fd).st_mode
        # Whatever has a reader that may be slow.
        self._can_wait = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._room = PipeRoom(fd) if stat.S_ISFIFO(mode) else None
        self._half_line = False

    def write(self, lines: bytes) -> None:
        """Write whole lines.

        Raises:
            ReaderGoneError: If nobody reads any more.
            TerminatedError: If a signal asks to stop; a line that is begun is ended.
        """
        start = 0
        while start < len(lines):
            end = self.offer(lines, start)
            start = self._write_waiting(lines, start) if end == start else end

    def offer(self, lines: bytes, start: int = 0) -> int:
        """Write as many whole lines as are taken without waiting.

        Args:
            lines: The lines.
            start: Where what is to be written begins.

        Returns:
            Where what is left begins.

        Raises:
            ReaderGoneError: If nobody reads any more.
            TerminatedError: If a signal asks to stop.
        """
        self._check_stop()
        if not self._can_wait:
            self._write(memoryview(lines)[start:])
            return len(lines)
        free = self._room.bytes_free() if self._room else 0
        end = lines.rfind(b"\n", start, start + max(free, _PIECE)) + 1
        if not end or (end - start > free and not self._poll.poll(0)):
            return start
        self._write(memoryview(lines)[start:end])
        return end

    def write_last(self, line: bytes) -> None:
        """Write a line though a signal asks to stop, if the reader takes it soon."""
        if self._half_line or (self._can_wait and not self._poll.poll(_GRACE_SECONDS * 1000)):
            return
        if len(line) <= _PIECE or not self._can_wait:
            self._write(memoryview(line))
        elif self._room is None or len(line) > self._room.capacity:
            self._write_long(memoryview(line))
        elif self._comes_room_soon(self._room, len(line)):
            self._write(memoryview(line))

    def check(self) -> None:
        """Notice a signal to stop, or that nobody reads any more, without writing.

        Raises:
            TerminatedError: If a signal asks to stop.
            ReaderGoneError: If nobody reads.
        """
        self._check_stop()
        if self._can_wait and any(event & _GONE for _, event in self._poll.poll(0)):
            raise ReaderGoneError("the reader of the pipe is gone")

    def _check_stop(self) -> None:
        if self.stop_signal is not None:
            raise TerminatedError(self.stop_signal)

    def _wait_for_reader(self) -> None:
        self._check_stop()
        while not self._poll.poll(_WAKE_MS):
            self._check_stop()

    def _write_waiting(self, lines: bytes, start: int) -> int:
        """Wait for the reader; a line that no write takes at once, write as well as can be."""
        end = lines.index(b"\n", start) + 1
        if end - start <= _PIECE:
            self._wait_for_reader()
            return start
        line = memoryview(lines)[start:end]
        if self._room and self._comes_room(self._room, len(line)):
            self._write(line)
        else:
            self._write_long(line)
        return end

    def _comes_room(self, room: PipeRoom, size: int) -> bool:
        """Wait until a pipe takes so many bytes in one go; False if it never may."""
        while room.bytes_free() < size:
            if size > room.capacity or room.is_shared:
                return False
            self.check()
            time.sleep(_NAP_SECONDS)
        return True

    @staticmethod
    def _comes_room_soon(room: PipeRoom, size: int) -> bool:
        deadline = time.monotonic() + _GRACE_SECONDS
        while room.bytes_free() < size:
            if time.monotonic() > deadline:
                return False
            time.sleep(_NAP_SECONDS)
        return True

    def _write_long(self, line: memoryview) -> None:
        """Write a line in several pieces, and once begun, to its end."""
        if self.stop_signal is None:
            self._wait_for_reader()
        deadline = None
        self._half_line = True
        for start in range(0, len(line), _PIECE):
            while not self._poll.poll(_WAKE_MS):
                if self.stop_signal is not None:
                    deadline = deadline or time.monotonic() + _GRACE_SECONDS
                    if time.monotonic() > deadline:
                        raise TerminatedError(self.stop_signal)
            self._write(line[start : start + _PIECE])
        self._half_line = False

    def _write(self, data: memoryview) -> None:
        if self._room is not None:
            self._room.add(len(data))
        try:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:  # whoever made the descriptor does not let it wait
                    if not self._poll.poll(_WAKE_MS) and self.stop_signal is not None:
                        self._half_line = True
                        raise TerminatedError(self.stop_signal) from None
        except BrokenPipeError:
            raise ReaderGoneError("the reader of the pipe is gone") from None
        except OSError as error:
            raise OutputError(f"standard output can't be written: {error.strerror}") from None


def _unblocked(fd: int) -> int:
    """A descriptor of this terminal that never blocks, as Ctrl-S would have it do.

    It is one of its own, since the given one's mode is shared with other processes.
    """
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return fd


class MessageWriter(SimpleSingerWriter):
    """Writes Singer messages to standard output, singly or as lines.

    Attributes:
        stop_signal: The signal that asked to stop; None if none did.
    """

    def __init__(self) -> None:
        """Write to whatever standard output is by the first message."""
        super().__init__()
        self._writer: LineWriter | None = None
        self.stop_signal: int | None = None

    def line(self, message: Message) -> bytes:
        """A message as a line."""
        return f"{self.format_message(message)}\n".encode()

    def write_message(self, message: Message) -> None:
        """Write one message."""
        self.write_lines(self.line(message))

    def write_lines(self, lines: bytes) -> None:
        """Write messages that are lines already."""
        if (writer := self._line_writer()) is not None:
            writer.write(lines)
        else:
            sys.stdout.write(lines.decode())

    def offer_lines(self, lines: bytes, start: int = 0) -> int:
        """Write what is taken without waiting (see `LineWriter.offer`)."""
        if (writer := self._line_writer()) is not None:
            return writer.offer(lines, start)
        self.write_lines(lines[start:])
        return len(lines)

    def write_last(self, message: Message) -> None:
        """Write a message after a signal asked to stop (see `LineWriter.write_last`)."""
        if (writer := self._line_writer()) is not None:
            writer.write_last(self.line(message))

    def stop(self, signum: int) -> None:
        """Stop at the next line end, since this signal asks to."""
        self.stop_signal = signum
        if self._writer is not None:
            self._writer.stop_signal = signum

    def check(self) -> None:
        """Notice a signal to stop, or that nobody reads any more.

        Raises:
            TerminatedError: If a signal asks to stop.
            ReaderGoneError: If nobody reads.
        """
        if self._writer is not None:
            self._writer.check()

    def _line_writer(self) -> LineWriter | None:
        """None where standard output has no file, as inside a test runner.

        Raises:
            OutputError: If the process has no standard output.
        """
        if sys.stdout is None:
            raise OutputError("standard output is closed; give the messages a reader, or a file")
        if self._writer is None:
            try:
                self._writer = LineWriter(sys.stdout.fileno())
            except (OSError, ValueError):
                return None
            self._writer.stop_signal = self.stop_signal
        return self._writer
