"""A signal that asks to stop: whole lines on standard output, and soon the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.exceptions import TerminatedError
from tap_mixpanel_parallel.write import stdout as output
from tap_mixpanel_parallel.write.stdout import LineWriter
from tests.support.pipe import PIECE as LIMIT
from tests.support.slow import SIGTERM, slow, stopping

if TYPE_CHECKING:
    from tests.support.pipe import Pipe

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux sizes a pipe"),
    pytest.mark.usefixtures("soon"),
]


def test_before(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer)
    writer.stop_signal = SIGTERM
    for stopped in (writer.check, lambda: writer.write(b"x\n")):
        with pytest.raises(TerminatedError) as caught:
            stopped()
        assert caught.value.signum == SIGTERM
    assert pipe.read() == b""


def test_while_nobody_reads(pipe: Pipe) -> None:
    lines = b"".join(b"%d\n" % number for number in range(40_000))
    writer = LineWriter(pipe.writer)
    slow(writer, stopping(writer, after=20))
    with pytest.raises(TerminatedError):
        writer.write(lines)
    written = pipe.read()
    assert written.endswith(b"\n")
    assert lines.startswith(written)
    assert 0 < len(written) <= pipe.capacity


def test_while_somebody_reads(pipe: Pipe) -> None:
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


def test_a_long_line_is_ended(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_long_line_that_nobody_reads_is_given_up(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer)
    slow(writer, stopping(writer, after=8))
    with pytest.raises(TerminatedError):
        writer.write(b"y" * (2 * pipe.capacity) + b"\n")
    half = pipe.read()
    assert half
    assert b"\n" not in half
    writer.write_last(b"{}\n")
    assert pipe.read() == b""


def test_a_long_line_is_not_begun(pipe: Pipe) -> None:
    pipe.fill()
    writer = LineWriter(pipe.writer)
    slow(writer, stopping(writer, after=3))
    with pytest.raises(TerminatedError):
        writer.write(b"y" * (2 * LIMIT) + b"\n")
    assert pipe.read().strip() == b""


@pytest.mark.parametrize("size", [1, LIMIT, 3 * LIMIT])
def test_a_last_line(pipe: Pipe, size: int) -> None:
    writer = LineWriter(pipe.writer)
    writer.stop_signal = SIGTERM
    writer.write_last(b"z" * size + b"\n")
    assert pipe.read() == b"z" * size + b"\n"


def test_a_last_line_that_does_not_fit_any_more(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer)
    writer.write(b"x" * (2 * LIMIT) + b"\n")
    writer.stop_signal = SIGTERM
    writer.write_last(b"z" * (2 * LIMIT) + b"\n")
    assert pipe.read() == b"x" * (2 * LIMIT) + b"\n"


def test_a_last_line_waits_for_its_room(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LineWriter(pipe.writer)
    writer.write(b"x" * (2 * LIMIT) + b"\n")
    writer.stop_signal = SIGTERM
    monkeypatch.setattr(output, "_GRACE_SECONDS", 60.0)
    monkeypatch.setattr(output.time, "sleep", lambda _: pipe.read())
    writer.write_last(b"z" * (2 * LIMIT) + b"\n")
    assert pipe.read() == b"z" * (2 * LIMIT) + b"\n"


def test_a_last_line_that_is_longer_than_the_pipe(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_GRACE_SECONDS", 60.0)
    writer = LineWriter(pipe.writer)
    writer.stop_signal = SIGTERM
    received: list[bytes] = []
    slow(writer, lambda _: received.append(pipe.read()))
    writer.write_last(b"z" * (2 * pipe.capacity) + b"\n")
    assert b"".join(received) + pipe.read() == b"z" * (2 * pipe.capacity) + b"\n"


def test_a_last_line_that_nobody_reads(pipe: Pipe) -> None:
    pipe.fill()
    writer = LineWriter(pipe.writer)
    writer.stop_signal = SIGTERM
    writer.write_last(b"{}\n")
    assert pipe.read().strip() == b""
