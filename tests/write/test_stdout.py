"""Whole lines on standard output, into a real pipe, however the run ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap_mixpanel_parallel.exceptions import ReaderGoneError, TerminatedError
from tap_mixpanel_parallel.write import stdout as output
from tap_mixpanel_parallel.write.stdout import LineWriter
from tests.support.pipe import PIECE, Pipe

if TYPE_CHECKING:
    import select
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux sizes a pipe")

LIMIT = PIECE
SIGTERM = int(signal.SIGTERM)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with Pipe() as pipe:
        yield pipe


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
        writer.stop_signal = signal.SIGTERM
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


LAST = b'{"type":"STATE"}\n'


class Turns:
    """Stands in for `select.poll` and for `time`: whenever one is used, others have a turn.

    Then the reader takes some bytes, and a signal may come. Time passes only as it is waited
    for. Each single write is checked: SIGKILL may come after any.
    """

    def __init__(
        self, pipe: Pipe, lines: bytes, reads: list[int], signal_turn: int, rest: int
    ) -> None:
        """Write lines into the pipe.

        Args:
            pipe: The pipe.
            lines: What is to be written.
            reads: Bytes that the reader takes at each turn, over and over.
            signal_turn: The turn at which SIGTERM comes.
            rest: The bytes that the reader takes at each turn from then on.
        """
        self.now = 1.0
        self.signalled: float | None = None
        self.written = b""
        self.writes = 0
        self._pipe, self._lines = pipe, lines
        self._reads, self._signal_turn, self._rest = reads, signal_turn, rest
        self._turn = 0
        os.set_blocking(pipe.writer, False)
        self.writer = LineWriter(pipe.writer)
        self._poll = self.writer._poll
        self._write = os.write

    def take_turns(self) -> None:
        """Let the others do what they do between two steps of the writer."""
        size = self._rest if self.signalled else self._reads[self._turn % len(self._reads)]
        self._pipe.read(size)
        if self._turn == self._signal_turn:
            self.signal()
        self._turn += 1

    def signal(self) -> None:
        """SIGTERM comes."""
        self.signalled = self.now
        self.writer.stop_signal = SIGTERM

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        self.take_turns()
        events = self._poll.poll(0)
        if not events:
            self.now += timeout / 1000
        return events

    def sleep(self, seconds: float) -> None:
        self.take_turns()
        self.now += seconds

    def monotonic(self) -> float:
        return self.now

    def write(self, fd: int, data: bytes) -> int:
        size = self._write(fd, data)
        assert size == len(data), "the pipe takes all of it at once"
        self.written += bytes(data)
        self.writes += 1
        self.assert_whole()
        return size

    def assert_whole(self) -> None:
        """What has left ends at a line end, or within a line that is longer than the pipe."""
        assert self._lines.startswith(self.written)
        if not self.ends_whole:
            start = self.written.rfind(b"\n") + 1
            assert self._lines.index(b"\n", start) + 1 - start > self._pipe.capacity

    @property
    def ends_whole(self) -> bool:
        """Whether what has left ends at a line end."""
        return self.written.endswith(b"\n") or not self.written

    def run(self, last: bytes = LAST) -> None:
        """Write all of it, then a last line, as a run does."""
        self.writer._poll = self  # type: ignore[assignment]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in REAL.items():
                patch.setattr(output, name, value)
            patch.setattr(output, "time", self)
            patch.setattr(output.os, "write", self.write)
            try:
                self.writer.write(self._lines)
            except TerminatedError:
                assert self.signalled
            if not self.signalled:
                self.signal()
            written, whole = self.written, self.ends_whole
            self._lines = written + last
            self.writer.write_last(last)
            assert whole or self.written == written, "nothing follows half a line"


REAL = {name: getattr(output, name) for name in ("_WAKE_MS", "_GRACE_SECONDS", "_NAP_SECONDS")}
CAPACITY = 4 * LIMIT
SIZES = (
    st.integers(0, 200)
    | st.integers(LIMIT - 3, LIMIT + 1)
    | st.integers(CAPACITY - 3, CAPACITY + 1)
    | st.integers(0, 3 * CAPACITY)
)
READS = (
    st.just(0)
    | st.integers(0, 200)
    | st.integers(LIMIT - 1, LIMIT + 1)
    | st.integers(0, 2 * CAPACITY)
)


class TestEveryMoment:
    """Whatever the sizes of lines are, and however slowly a reader reads."""

    @given(
        sizes=st.lists(SIZES, min_size=1, max_size=20),
        reads=st.lists(READS, min_size=1, max_size=8),
        signal_turn=st.integers(0, 100),
        rest=READS,
        last=SIZES,
    )
    @example(sizes=[3 * CAPACITY] * 40, reads=[CAPACITY], signal_turn=3, rest=1, last=9)
    @example(sizes=[100 * CAPACITY], reads=[CAPACITY], signal_turn=6, rest=0, last=9)
    @example(sizes=[200] * 500, reads=[0], signal_turn=30, rest=0, last=9)
    @example(sizes=[2 * LIMIT], reads=[0], signal_turn=30, rest=0, last=2 * LIMIT)
    @example(sizes=[9], reads=[0], signal_turn=30, rest=1, last=4 * CAPACITY)
    def test_a_stop(
        self, sizes: list[int], reads: list[int], signal_turn: int, rest: int, last: int
    ) -> None:
        """SIGKILL at any write leaves whole lines, and after SIGTERM it ends so, and soon."""
        lines = b"".join(b"x" * size + b"\n" for size in sizes)
        with Pipe() as pipe:
            turns = Turns(pipe, lines, [*reads, 1], signal_turn, rest)
            turns.run(b"x" * last + b"\n")

        assert turns.signalled
        assert turns.now - turns.signalled < 1.5, "of two seconds; the rest is the process's"

    def test_a_long_line_that_is_read_slowly_does_not_keep_it(self) -> None:
        """Though its reader takes a page of it in time, again and again."""
        with Pipe() as pipe:
            turns = Turns(pipe, b"x" * (1000 * LIMIT) + b"\n", [0, 0, LIMIT], 40, 0)
            take_turns = turns.take_turns

            def take_turns_slowly() -> None:
                turns.now += 0.09
                turns._rest = LIMIT
                take_turns()

            turns.take_turns = take_turns_slowly  # type: ignore[method-assign]
            turns.run()
        assert turns.signalled
        assert turns.now - turns.signalled < 1.5
        assert not turns.ends_whole

    @given(sizes=st.lists(SIZES, min_size=1, max_size=10), reads=st.lists(READS, min_size=1))
    def test_all_arrives(self, sizes: list[int], reads: list[int]) -> None:
        lines = b"".join(b"x" * size + b"\n" for size in sizes)
        with Pipe() as pipe:
            turns = Turns(pipe, lines, [*reads, 2000], signal_turn=-1, rest=LIMIT)
            turns.run()
        assert turns.written == lines + LAST

    def test_a_reader_that_is_stuck_is_waited_for_at_rest(self) -> None:
        with Pipe() as pipe:
            turns = Turns(pipe, b"12345678\n" * 20_000, [0], signal_turn=1000, rest=0)
            turns.run()
        assert turns.signalled
        assert turns.signalled > 1000 / 4 * REAL["_WAKE_MS"] / 1000, "no busy loop"

    @pytest.mark.parametrize("read", [0, 1, 9, 100_000, 500_001])
    @pytest.mark.parametrize("size", [0, 3000, 4095, 5000, 65_535])
    def test_a_real_sigkill(self, size: int, read: int) -> None:
        """The reader stops to read after so many bytes, and then the writer is killed."""
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS_LINES, str(size)], stdout=subprocess.PIPE
        )
        with process:
            try:
                assert process.stdout is not None
                received = process.stdout.read(read) + process.stdout.read1()
                process.kill()
                received += process.stdout.read()
            finally:
                process.kill()
        assert received
        assert received.endswith(b"\n")


ENDLESS_LINES = """
import sys
from tap_mixpanel_parallel.write.stdout import LineWriter

writer, size = LineWriter(1), int(sys.argv[1])
while True:
    writer.write(b"".join(b"x" * (size - n % 2 * size // 3) + b"\\n" for n in range(100)))
"""


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

    def test_a_long_line_is_ended(self, pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
        writer = LineWriter(pipe.writer)
        long = b"y" * (2 * pipe.capacity) + b"\n"
        received: list[bytes] = []
        stop = stopping(writer, after=3)

        def read(calls: int) -> None:
            received.append(pipe.read())
            stop(calls)

        monkeypatch.setattr(output, "_GRACE_SECONDS", 60.0)
        slow(writer, read)
        writer.write(long)
        with pytest.raises(TerminatedError):
            writer.write(b"x\n")
        assert b"".join(received) + pipe.read() == long
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

    def test_a_last_line_that_is_longer_than_the_pipe(
        self, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(output, "_GRACE_SECONDS", 60.0)
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
