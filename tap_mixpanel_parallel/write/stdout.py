"""Standard output: Singer messages out, whole lines only, however the run ends."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import sys
import termios
import time
from contextlib import suppress
from typing import Final

from tap_mixpanel_parallel.exceptions import OutputError, ReaderGoneError, TerminatedError

_PIECE: Final = select.PIPE_BUF
_GONE: Final = select.POLLERR | select.POLLHUP  # a pipe's, and a socket's or a terminal's
_WAKE_MS: Final = 100
_NAP_SECONDS: Final = 0.001
_GRACE_SECONDS: Final = 1.0
"""How long a slow reader may take for what is begun once a signal asks to stop."""


class LineWriter:
    """Writes whole lines to a file descriptor.

    Into a pipe it writes at once only what the kernel takes in one go, cut at line ends:
    whatever kills the process, the reader gets no half line, short of a line that is longer
    than a pipe. And it never waits for a slow reader without looking up, so a signal is
    noticed.

    Attributes:
        stop_signal: The signal that asks to stop, set by its handler; None if none does.
    """

    def __init__(self, fd: int) -> None:
        self.stop_signal: int | None = None
        if os.isatty(fd):
            fd = _unblocked(fd)
        self._fd = fd
        mode = os.fstat(fd).st_mode
        # Elsewhere a pipe tells those who write to it neither its size nor what is in it.
        self._is_sized = stat.S_ISFIFO(mode) and sys.platform == "linux"
        # Whatever has a reader that may be slow.
        self._can_wait = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._half_line = False
        self._deadline: float | None = None

    def write(self, lines: bytes) -> None:
        """Write whole lines.

        Raises:
            ReaderGoneError: If nobody reads any more.
            TerminatedError: If a signal asks to stop; a line that is begun is ended.
        """
        start = 0
        while start < len(lines):
            end = self.write_some(lines, start)
            start = end if end > start else self._wait_or_write_long(lines, start)

    def write_some(self, lines: bytes, start: int = 0) -> int:
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
        end = len(lines)
        if self._can_wait:
            room = self._room()
            end = lines.rfind(b"\n", start, start + room) + 1 if room else start
        if end > start:
            self._write(memoryview(lines)[start:end])
        return max(start, end)

    def write_last(self, line: bytes) -> None:
        """Write a line though a signal asks to stop, if the reader takes it soon."""
        if self._half_line:
            return
        while self._can_wait and not self._fits(len(line)):
            if self._is_late():
                return
            time.sleep(_NAP_SECONDS)
        with suppress(TerminatedError):  # nothing follows that could be stopped
            if len(line) <= self._capacity():
                self._write(memoryview(line))
            else:
                self._write_long(memoryview(line))

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

    def _is_late(self) -> bool:
        """Whether the time is up for what is begun, or is last, as a signal asks to stop."""
        self._deadline = self._deadline or time.monotonic() + _GRACE_SECONDS
        return time.monotonic() > self._deadline

    def _capacity(self) -> int:
        """The bytes that an empty pipe takes; a reader may change it."""
        return fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ) if self._is_sized else _PIECE

    def _is_empty(self) -> bool:
        """Whether all that was written to a pipe is read."""
        unread = fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4))
        return int.from_bytes(unread, sys.byteorder) == 0

    def _room(self) -> int:
        """Bytes that are surely taken in one go: a pipe's capacity, if it is empty.

        Otherwise it has a page, which takes at least `PIPE_BUF` bytes, or nothing (pipe(7)).
        """
        if self._is_sized and self._is_empty():
            return self._capacity()
        return _PIECE if self._poll.poll(0) else 0

    def _fits(self, size: int) -> bool:
        """Whether a line is taken in one go, or as well as can be if it never may."""
        room = self._room()
        return size <= room or (size > self._capacity() and room > 0)

    def _wait_or_write_long(self, lines: bytes, start: int) -> int:
        """Wait until the reader takes a line; one that is longer than a pipe is written.

        Returns:
            Where what is left begins.
        """
        end = lines.index(b"\n", start) + 1
        size = end - start
        while not self._fits(size):
            self.check()
            if size <= _PIECE:
                self._poll.poll(_WAKE_MS)
            else:
                time.sleep(_NAP_SECONDS)
        if size <= self._capacity():
            return start  # what follows the line may be taken with it
        self._write_long(memoryview(lines)[start:end])
        return end

    def _write_long(self, line: memoryview) -> None:
        """Write a line in pieces that are surely taken; once begun, to its end."""
        for start in range(0, len(line), _PIECE):
            while start and not self._poll.poll(_WAKE_MS):
                self._check_grace()
            self._check_grace()
            self._half_line = True
            self._write(line[start : start + _PIECE])
        self._half_line = False

    def _check_grace(self) -> None:
        if self.stop_signal is not None and self._is_late():
            raise TerminatedError(self.stop_signal)

    def _write(self, data: memoryview) -> None:
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
