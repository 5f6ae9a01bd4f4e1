"""A window's messages leave while the next one is prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.emission import Emission

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINES = [b"%d %b\n" % (number, b"x" * (number * 7919 % 4000)) for number in range(400)]


class Reader:
    """Takes so many lines at an offer, then none until asked again."""

    def __init__(self, lines_at_once: int) -> None:
        self.taken = b""
        self._lines_at_once = lines_at_once
        self._is_full = False

    def emit(self, lines: bytes) -> None:
        self.taken += lines

    def offer(self, lines: bytes, start: int) -> int:
        self._is_full = not self._is_full
        if not self._is_full:
            return start
        end = start
        for _ in range(self._lines_at_once):
            end = lines.find(b"\n", end) + 1 or len(lines)
        self.taken += lines[start:end]
        return end


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "window.messages"
    path.write_bytes(b"".join(LINES))
    return path


@pytest.fixture
def reader() -> Reader:
    return Reader(lines_at_once=3)


@pytest.fixture
def emission(path: Path, reader: Reader) -> Iterator[Emission]:
    emission = Emission(path, reader)
    yield emission
    emission.close()


def test_an_offer_ends_as_soon_as_nothing_is_taken(emission: Emission, reader: Reader) -> None:
    assert not emission.offer()
    assert reader.taken == b"".join(LINES[:3])


def test_offers_pass_everything_on_once(emission: Emission, reader: Reader) -> None:
    while not emission.offer():
        assert reader.taken.endswith(b"\n")

    assert reader.taken == b"".join(LINES)


def test_what_was_not_taken_can_be_waited_for(emission: Emission, reader: Reader) -> None:
    emission.offer()
    while not emission.advance():
        assert reader.taken.endswith(b"\n")

    assert reader.taken == b"".join(LINES)


def test_a_window_without_events_is_done_at_once(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "empty.messages"
    path.touch()
    emission = Emission(path, reader)

    assert emission.offer()
    assert emission.advance()
    emission.close()
    assert reader.taken == b""
