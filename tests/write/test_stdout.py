"""Whole lines on standard output, into a real pipe, a terminal, a file and a socket."""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.exceptions import ReaderGoneError, TerminatedError
from tap_mixpanel_parallel.write import stdout as output
from tap_mixpanel_parallel.write.stdout import LineWriter
from tests.support.pipe import PIECE as LIMIT
from tests.support.pipe import Pipe
from tests.support.slow import SIGTERM, slow, stopping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux sizes a pipe"),
    pytest.mark.usefixtures("soon"),
]


def observed(lines: bytes, *, is_sized: bool = True) -> list[bytes]:
    """What stands in the pipe after each single write."""
    found: list[bytes] = []
    write = os.write

    def spy(fd: int, data: bytes) -> int:
        size = write(fd, data)
        assert size == len(data), "the pipe takes all of it at once"
        found.append(pipe.read())
        return size

    with Pipe() as pipe, pytest.MonkeyPatch.context() as patch:
        os.set_blocking(pipe.writer, False)
        patch.setattr(output.os, "write", spy)
        writer = LineWriter(pipe.writer)
        writer._is_sized = is_sized
        writer.write(lines)
    return found


LINES = st.lists(
    st.integers(0, 200) | st.integers(LIMIT - 3, LIMIT - 1), min_size=1, max_size=100
).map(lambda sizes: b"".join(b"x" * size + b"\n" for size in sizes))


class TestWholeLines:
    @given(LINES)
    def test_nothing_but_whole_lines_is_ever_in_the_pipe(self, lines: bytes) -> None:
        pieces = observed(lines)
        assert b"".join(pieces) == lines
        assert all(piece.endswith(b"\n") for piece in pieces)

    @pytest.mark.parametrize("size", [4 * LIMIT, 4 * LIMIT + 1, 10 * LIMIT])
    def test_a_line_longer_than_the_pipe(self, size: int) -> None:
        long = b"y" * size + b"\n"
        pieces = observed(b"a\nb\n" + long + b"c\n")
        assert b"".join(pieces) == b"a\nb\n" + long + b"c\n"
        assert all(len(piece) <= LIMIT for piece in pieces)
        assert pieces[0] == b"a\nb\n"
        assert pieces[-1] == b"c\n"

    def test_few_writes(self) -> None:
        assert len(observed(b"12345678\n" * 4000)) == 3

    def test_a_line_that_fits_into_the_pipe_waits_for_its_room(self, pipe: Pipe) -> None:
        lines = b"".join(b"%d" % (n % 10) * (n % 3 * LIMIT) + b"\n" for n in range(30))
        received: list[bytes] = []
        writer = LineWriter(pipe.writer)
        slow(writer, lambda _: received.append(pipe.read(5000)))
        writer.write(b"begun\n")
        writer.write(lines)
        assert b"".join(received) + pipe.read() == b"begun\n" + lines

    def test_some_lines_are_written_at_once(self, pipe: Pipe) -> None:
        """As many as an empty pipe takes, then none, then a page of them once one is read."""
        lines = b"%b\n" % (b"x" * 999) * 200
        writer = LineWriter(pipe.writer)
        end = writer.write_some(lines)
        assert end == 16_000, "as many as fit into 16,384 bytes"
        assert writer.write_some(lines, end) == end, "it is full, and nobody reads"
        assert pipe.read(LIMIT) == lines[:LIMIT]
        assert writer.write_some(lines, end) == end + 4000
        assert pipe.read() == lines[LIMIT : end + 4000]
        assert writer.write_some(lines, end + 4000) == end + 20_000

    def test_a_reader_that_makes_room_for_a_page_gets_a_page(self, pipe: Pipe) -> None:
        """Not a line alone, though it was one that had to wait."""
        lines = b"12345678\n" * 20_000
        sizes: list[int] = []
        writer = LineWriter(pipe.writer)
        slow(writer, lambda calls: pipe.read(LIMIT) if calls % 9 == 0 else None)
        write = writer._write

        def spy(data: memoryview) -> None:
            sizes.append(len(data))
            write(data)

        writer._write = spy  # type: ignore[method-assign]
        writer.write(lines)
        assert set(sizes[1:-1]) == {LIMIT // 9 * 9}

    def test_no_line_is_begun_that_may_not_fit(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        long = b"x" * 2 * pipe.capacity + b"\n"
        assert writer.write_some(b"short\n" + long) == len(b"short\n")
        assert writer.write_some(long) == 0
        assert writer.write_some(b"x" * LIMIT + b"\n") == 0
        assert pipe.read() == b"short\n"

    def test_some_lines_for_nobody(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        os.close(pipe.reader)
        with pytest.raises(ReaderGoneError):
            writer.write_some(b"x\n")

    def test_some_lines_after_a_signal(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        writer.stop_signal = SIGTERM
        with pytest.raises(TerminatedError):
            writer.write_some(b"x\n")
        assert pipe.read() == b""

    def test_where_the_size_of_a_pipe_is_not_known(self) -> None:
        pieces = observed(b"12345678\n" * 4000, is_sized=False)
        assert {len(piece) for piece in pieces[:-1]} == {LIMIT // 9 * 9}

    def test_where_the_size_of_a_pipe_is_not_known_a_full_one_is_waited_for(
        self, pipe: Pipe
    ) -> None:
        pipe.fill()
        writer = LineWriter(pipe.writer)
        writer._is_sized = False
        writer._is_empty = lambda: True  # type: ignore[method-assign]  # as the BSDs answer
        assert writer.write_some(b"x\n") == 0

    def test_nothing(self, pipe: Pipe) -> None:
        LineWriter(pipe.writer).write(b"")
        assert pipe.read() == b""

    def test_a_slow_reader(self, pipe: Pipe) -> None:
        lines = b"".join(b"%d\n" % number for number in range(40_000))
        received: list[bytes] = []
        writer = LineWriter(pipe.writer)
        slow(writer, lambda calls: received.append(pipe.read()) if calls % 5 == 0 else None)
        writer.write(lines)
        received.append(pipe.read())
        assert b"".join(received) == lines
        assert all(piece.endswith(b"\n") for piece in received)


class TestReaderGone:
    @pytest.mark.parametrize("size", [1, 5 * LIMIT])
    def test_write(self, pipe: Pipe, size: int) -> None:
        writer = LineWriter(pipe.writer)
        os.close(pipe.reader)
        with pytest.raises(ReaderGoneError, match="the reader of the pipe is gone"):
            writer.write(b"x" * size + b"\n")

    def test_check(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        writer.check()
        pipe.fill()
        writer.check()
        os.close(pipe.reader)
        with pytest.raises(ReaderGoneError):
            writer.check()

    def test_while_it_is_waited_for(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        slow(writer, lambda calls: os.close(pipe.reader) if calls == 20 else None)
        with pytest.raises(ReaderGoneError):
            writer.write(b"12345678\n" * 20_000)

    def test_a_socket_s(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            writer = LineWriter(ours.fileno())
            writer.check()
            theirs.close()
            with pytest.raises(ReaderGoneError):
                writer.check()


class TestTerminal:
    @pytest.fixture
    def terminal(self) -> Iterator[tuple[int, int]]:
        keyboard, screen = os.openpty()
        yield keyboard, screen
        os.close(keyboard)
        os.close(screen)

    def test_one_that_is_stopped_does_not_keep_it(self, terminal: tuple[int, int]) -> None:
        """As Ctrl-S does."""
        writer = LineWriter(terminal[1])
        slow(writer, stopping(writer, after=200))
        with pytest.raises(TerminatedError):
            writer.write(b"12345678\n" * 100_000)
        assert os.get_blocking(terminal[1]), "other processes write to it, too"

    def test_lines(self, terminal: tuple[int, int]) -> None:
        keyboard, screen = terminal
        received: list[bytes] = []
        writer = LineWriter(screen)
        os.set_blocking(keyboard, False)

        def read(_: int = 0) -> None:
            with suppress(BlockingIOError):
                received.append(os.read(keyboard, 10_000))

        slow(writer, read)
        writer.write(b"12345678\n" * 10_000)
        while len(b"".join(received)) < 10 * 10_000:
            read()
        assert b"".join(received) == b"12345678\r\n" * 10_000


class TestFile:
    def test_lines(self, tmp_path: Path) -> None:
        lines = b"12345678\n" * 20_000
        with (tmp_path / "out").open("wb") as file:
            writer = LineWriter(file.fileno())
            writer.write(lines)
            writer.check()
            writer.stop_signal = SIGTERM
            with pytest.raises(TerminatedError):
                writer.write(b"x\n")
            writer.write_last(b"{}\n")
            writer.write_last(lines.replace(b"\n", b" ") + b"\n")
        written = (tmp_path / "out").read_bytes()
        assert written == lines + b"{}\n" + lines.replace(b"\n", b" ") + b"\n"


class TestSocket:
    @pytest.mark.parametrize("waits", [True, False])
    def test_a_reader_that_is_stuck_does_not_keep_it(self, waits: bool) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(waits)
            writer = LineWriter(ours.fileno())
            slow(writer, stopping(writer, after=500))
            with pytest.raises(TerminatedError):
                writer.write(b"12345678\n" * 2_000_000)

    def test_a_stop_while_a_descriptor_takes_nothing(self, pipe: Pipe) -> None:
        pipe.fill()
        os.set_blocking(pipe.writer, False)
        writer = LineWriter(pipe.writer)

        def act(calls: int) -> None:
            assert calls < 20, "the signal is not noticed"
            stopping(writer, after=5)(calls)

        slow(writer, act)
        with pytest.raises(TerminatedError):
            writer._write(memoryview(b"x\n"))

    def test_a_descriptor_that_does_not_wait(self) -> None:
        ours, theirs = socket.socketpair()
        lines = b"12345678\n" * 50_000
        received: list[bytes] = []
        with ours, theirs:
            ours.setblocking(False)
            reader = threading.Thread(
                target=lambda: received.extend(iter(lambda: theirs.recv(1000), b"")), daemon=True
            )
            reader.start()
            LineWriter(ours.fileno()).write(lines)
            ours.shutdown(socket.SHUT_WR)
            reader.join()
        assert b"".join(received) == lines
