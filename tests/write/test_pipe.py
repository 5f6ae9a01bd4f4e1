"""How much a pipe takes at once: never less than is said."""

from __future__ import annotations

import fcntl
import os
import select
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.write.pipe import PipeRoom

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

PAGE = select.PIPE_BUF
CAPACITY = 4 * PAGE
STEPS = st.lists(
    st.tuples(
        st.integers(1, 200) | st.integers(PAGE - 2, PAGE + 2) | st.integers(1, CAPACITY),
        st.integers(0, 200) | st.integers(PAGE - 2, PAGE + 2) | st.integers(0, CAPACITY),
    ),
    max_size=30,
)


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of four pages, neither end of which waits."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, CAPACITY)
    for end in ends:
        os.set_blocking(end, False)
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


@given(STEPS)
def test_what_is_free_is_taken_in_one_go(steps: list[tuple[int, int]]) -> None:
    with pipe() as (reader, writer):
        room = PipeRoom(writer)
        filled = 0
        for size, read in steps:
            piece = min(size, room.bytes_free())
            if piece:
                assert os.write(writer, bytes(piece)) == piece
                room.add(piece)
                filled += piece
            if read and filled:
                filled -= len(os.read(reader, read))
        free = room.bytes_free()
        assert free == 0 or os.write(writer, bytes(free)) == free


def test_an_empty_pipe_is_all_free_whatever_went_through() -> None:
    with pipe() as (reader, writer):
        room = PipeRoom(writer)
        for size in (1, PAGE, 1, 3 * PAGE, CAPACITY):
            assert room.bytes_free() == CAPACITY
            os.write(writer, bytes(size))
            room.add(size)
            assert room.bytes_free() == CAPACITY - -(-size // PAGE) * PAGE
            os.read(reader, size)


def test_what_another_writer_wrote_takes_an_unknown_room() -> None:
    with pipe() as (reader, writer):
        room = PipeRoom(writer)
        os.write(writer, b"x")
        assert room.bytes_free() == 0
        os.read(reader, 1)
        assert room.bytes_free() == CAPACITY
