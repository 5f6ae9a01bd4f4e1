"""Whole lines on standard output, into a real pipe, however the run ends."""

from __future__ import annotations

import fcntl
import io
import json
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singer_sdk.singerlib.encoding.simple import StateMessage

from tap_mixpanel_parallel.exceptions import OutputError, ReaderGoneError, TerminatedError
from tap_mixpanel_parallel.write import stdout as output
from tap_mixpanel_parallel.write.pipe import PipeRoom
from tap_mixpanel_parallel.write.stdout import LineWriter, MessageWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux sizes a pipe")

LIMIT = select.PIPE_BUF
SIGTERM = int(signal.SIGTERM)


class Pipe:
    """A pipe, small enough to be full soon."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.capacity = fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4 * LIMIT)

    def read(self) -> bytes:
        """All that is in the pipe."""
        found = b""
        with suppress(BlockingIOError):
            while piece := os.read(self.reader, 1 << 20):
                found += piece
        return found

    def fill(self) -> None:
        """Leave no room for a piece."""
        os.write(self.writer, b"\n" * self.capacity)

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wake up often, and grant little grace."""
    monkeypatch.setattr(output, "_WAKE_MS", 1)
    monkeypatch.setattr(output, "_GRACE_SECONDS", 0.01)
    monkeypatch.setattr(output, "_NAP_SECONDS", 0)


class SlowReader:
    """Stands in for `select.poll`: does something each time the reader is waited for."""

    def __init__(self, poll: select.poll, act: Callable[[int], None]) -> None:
        self._poll = poll
        self._act = act
        self.calls = 0

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        self.calls += 1
        self._act(self.calls)
        return self._poll.poll(timeout)


def slow(writer: LineWriter, act: Callable[[int], None]) -> SlowReader:
    reader = SlowReader(writer._poll, act)
    writer._poll = reader  # type: ignore[assignment]
    return reader


def stopping(writer: LineWriter, after: int) -> Callable[[int], None]:
    """A signal that comes as the reader is waited for the n-th time."""

    def act(calls: int) -> None:
        if calls == after:
            writer.stop_signal = SIGTERM

    return act


def observed(lines: bytes) -> list[bytes]:
    """What stands in the pipe after each single write."""
    pipe = Pipe()
    found: list[bytes] = []
    write = os.write

    def spy(fd: int, data: bytes) -> int:
        size = write(fd, data)
        assert size == len(data), "the pipe takes all of it at once"
        found.append(pipe.read())
        return size

    os.set_blocking(pipe.writer, False)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(output.os, "write", spy)
            LineWriter(pipe.writer).write(lines)
    finally:
        pipe.close()
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
        slow(writer, lambda _: received.append(os.read(pipe.reader, 5000)))
        os.set_blocking(pipe.reader, True)
        writer.write(b"begun\n")
        writer.write(lines)
        os.set_blocking(pipe.reader, False)
        assert b"".join(received) + pipe.read() == b"begun\n" + lines

    def test_an_offer_takes_what_there_is_room_for(self, pipe: Pipe) -> None:
        lines = b"%b\n" % (b"x" * 999) * 200
        writer = LineWriter(pipe.writer)
        end = writer.offer(lines)
        assert 0 < end < len(lines)
        assert end % 1000 == 0
        assert writer.offer(lines, end) == end, "it is full, and nobody reads"
        assert pipe.read() == lines[:end]
        assert writer.offer(lines, end) > end
        assert (lines[:end] + pipe.read())[-1:] == b"\n"

    def test_an_offer_begins_no_line_that_may_not_fit(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        long = b"x" * 2 * fcntl.fcntl(pipe.writer, fcntl.F_GETPIPE_SZ) + b"\n"
        assert writer.offer(b"short\n" + long) == len(b"short\n")
        assert writer.offer(long) == 0
        assert pipe.read() == b"short\n"

    def test_an_offer_to_nobody(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        os.close(pipe.reader)
        with pytest.raises(ReaderGoneError):
            writer.offer(b"x\n")

    def test_an_offer_after_a_signal(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        writer.stop_signal = signal.SIGTERM
        with pytest.raises(TerminatedError):
            writer.offer(b"x\n")
        assert pipe.read() == b""

    def test_where_the_room_is_not_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(PipeRoom, "bytes_free", lambda _: 0)
        pieces = observed(b"12345678\n" * 4000)
        assert {len(piece) for piece in pieces[:-1]} == {LIMIT // 9 * 9}

    def test_nothing(self, pipe: Pipe) -> None:
        LineWriter(pipe.writer).write(b"")
        assert pipe.read() == b""

    def test_a_reader_that_is_stuck_is_waited_for_at_rest(self, pipe: Pipe) -> None:
        """The second look at least waits: no busy loop."""
        pipe.fill()
        writer = LineWriter(pipe.writer)
        writer._room = None
        patience: list[float] = []

        class Poll:
            def poll(self, timeout: float) -> list[tuple[int, int]]:
                patience.append(timeout)
                if len(patience) < 7:
                    return []
                pipe.read()
                return [(pipe.writer, select.POLLOUT)]

        writer._poll = Poll()  # type: ignore[assignment]
        writer.write(b"x\n")
        assert patience == [0] + [output._WAKE_MS] * 6 + [0]

    def test_a_slow_reader(self, pipe: Pipe) -> None:
        lines = b"".join(b"%d\n" % number for number in range(40_000))
        received: list[bytes] = []
        writer = LineWriter(pipe.writer)
        slow(writer, lambda calls: received.append(pipe.read()) if calls % 5 == 0 else None)
        writer.write(lines)
        received.append(pipe.read())
        assert b"".join(received) == lines
        assert all(piece.endswith(b"\n") for piece in received)


class TestStop:
    def test_before(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        writer.stop_signal = SIGTERM
        for stopped in (writer.check, lambda: writer.write(b"x\n")):
            with pytest.raises(TerminatedError) as caught:
                stopped()
            assert caught.value.signum == SIGTERM
        assert pipe.read() == b""

    def test_while_nobody_reads(self, pipe: Pipe) -> None:
        lines = b"".join(b"%d\n" % number for number in range(40_000))
        writer = LineWriter(pipe.writer)
        slow(writer, stopping(writer, after=20))
        with pytest.raises(TerminatedError):
            writer.write(lines)
        written = pipe.read()
        assert written.endswith(b"\n")
        assert lines.startswith(written)
        assert 0 < len(written) <= pipe.capacity

    def test_while_somebody_reads(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        seen: list[bytes] = []
        stop = stopping(writer, after=3)

        def read(calls: int) -> None:
            seen.append(pipe.read())
            stop(calls)

        slow(writer, read)
        with pytest.raises(TerminatedError):
            writer.write(b"12345678\n" * 20_000)
        written = b"".join(seen) + pipe.read()
        assert written.endswith(b"\n")
        assert pipe.capacity < len(written) < 9 * 20_000

    def test_a_long_line_is_ended(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        long = b"y" * (3 * LIMIT) + b"\n"
        slow(writer, stopping(writer, after=3))
        writer.write(long)
        with pytest.raises(TerminatedError):
            writer.write(b"x\n")
        assert pipe.read() == long
        writer.write_last(b"{}\n")
        assert pipe.read() == b"{}\n"

    def test_a_long_line_that_nobody_reads_is_given_up(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        slow(writer, stopping(writer, after=8))
        with pytest.raises(TerminatedError):
            writer.write(b"y" * (2 * pipe.capacity) + b"\n")
        half = pipe.read()
        assert half
        assert b"\n" not in half
        writer.write_last(b"{}\n")
        assert pipe.read() == b""

    def test_a_long_line_is_not_begun(self, pipe: Pipe) -> None:
        pipe.fill()
        writer = LineWriter(pipe.writer)
        slow(writer, stopping(writer, after=3))
        with pytest.raises(TerminatedError):
            writer.write(b"y" * (2 * LIMIT) + b"\n")
        assert pipe.read().strip() == b""

    @pytest.mark.parametrize("size", [1, LIMIT, 3 * LIMIT])
    def test_a_last_line(self, pipe: Pipe, size: int) -> None:
        writer = LineWriter(pipe.writer)
        writer.stop_signal = SIGTERM
        writer.write_last(b"z" * size + b"\n")
        assert pipe.read() == b"z" * size + b"\n"

    def test_a_last_line_that_does_not_fit_any_more(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        writer.write(b"x" * (2 * LIMIT) + b"\n")
        writer.stop_signal = SIGTERM
        writer.write_last(b"z" * (2 * LIMIT) + b"\n")
        assert pipe.read() == b"x" * (2 * LIMIT) + b"\n"

    def test_a_last_line_waits_for_its_room(
        self, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer = LineWriter(pipe.writer)
        writer.write(b"x" * (2 * LIMIT) + b"\n")
        writer.stop_signal = SIGTERM
        monkeypatch.setattr(output, "_GRACE_SECONDS", 60.0)
        monkeypatch.setattr(output.time, "sleep", lambda _: pipe.read())
        writer.write_last(b"z" * (2 * LIMIT) + b"\n")
        assert pipe.read() == b"z" * (2 * LIMIT) + b"\n"

    def test_a_last_line_that_is_longer_than_the_pipe(self, pipe: Pipe) -> None:
        writer = LineWriter(pipe.writer)
        writer.stop_signal = SIGTERM
        received: list[bytes] = []
        slow(writer, lambda _: received.append(pipe.read()))
        writer.write_last(b"z" * (2 * pipe.capacity) + b"\n")
        assert b"".join(received) + pipe.read() == b"z" * (2 * pipe.capacity) + b"\n"

    def test_a_last_line_that_nobody_reads(self, pipe: Pipe) -> None:
        pipe.fill()
        writer = LineWriter(pipe.writer)
        writer.stop_signal = SIGTERM
        writer.write_last(b"{}\n")
        assert pipe.read().strip() == b""


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
        assert (tmp_path / "out").read_bytes() == lines + b"{}\n"


class TestSocket:
    @pytest.mark.parametrize("waits", [True, False])
    def test_a_reader_that_is_stuck_does_not_keep_it(self, waits: bool) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(waits)
            writer = LineWriter(ours.fileno())
            slow(writer, stopping(writer, after=2000))
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


class TestMessages:
    STATE = StateMessage(value={"bookmarks": {"events": {"name": "東京"}}})

    def test_standard_output_without_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        writer = MessageWriter()
        writer.write_message(self.STATE)
        writer.write_lines(b'{"type":"RECORD"}\n')
        writer.check()
        writer.write_last(self.STATE)
        state, record = out.getvalue().splitlines()
        assert json.loads(state) == {"type": "STATE", "value": self.STATE.value}
        assert json.loads(record) == {"type": "RECORD"}

    def test_no_standard_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", None)
        with pytest.raises(OutputError, match="standard output is closed"):
            MessageWriter().write_message(self.STATE)

    @pytest.mark.parametrize("begun", [True, False])
    def test_into_a_pipe(self, pipe: Pipe, monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
        writer = MessageWriter()
        with os.fdopen(os.dup(pipe.writer), "w") as out:
            monkeypatch.setattr(sys, "stdout", out)
            if begun:
                writer.write_message(self.STATE)
                assert json.loads(pipe.read())["value"] == self.STATE.value
            writer.stop(SIGTERM)
            assert writer.stop_signal == SIGTERM
            with pytest.raises(TerminatedError):
                writer.write_lines(b"x\n")
            with pytest.raises(TerminatedError):
                writer.check()
            writer.write_last(self.STATE)
            assert pipe.read() == writer.line(self.STATE)

    def test_check_before_anything_is_written(self) -> None:
        MessageWriter().check()
