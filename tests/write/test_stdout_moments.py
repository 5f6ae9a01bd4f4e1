"""Whole lines on standard output, at whatever moment a run is stopped or killed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap_mixpanel_parallel.exceptions import TerminatedError
from tap_mixpanel_parallel.write import stdout as output
from tap_mixpanel_parallel.write.stdout import LineWriter
from tests.support.pipe import PIECE as LIMIT
from tests.support.pipe import Pipe
from tests.support.slow import SIGTERM

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux sizes a pipe")

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
        assert turns.signalled > 1000 / 4 * output._WAKE_MS / 1000, "no busy loop"

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
