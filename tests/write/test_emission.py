"""A window's messages leave while the next one is prepared."""

from __future__ import annotations

import errno
import os
from collections import deque
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tap_mixpanel_parallel.write.emission import Emission

from tap_mixpanel_parallel.exceptions import AttemptError, OutputError, ReaderGoneError
from tap_mixpanel_parallel.fetch.scheduler import Fetcher
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tap_mixpanel_parallel.streams import EventsStream
from tests.support.pipeline import CollectingTap, Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Encode
    from tap_mixpanel_parallel.convert.records import EventRecord
    from tap_mixpanel_parallel.fetch.scheduler import Outcome

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


def test_a_file_that_is_not_there_ends_the_run(tmp_path: Path, reader: Reader) -> None:
    with pytest.raises(OutputError, match=r"spool_dir: .*absent can't be read back \(No such"):
        Emission(tmp_path / "absent", reader)


def test_a_file_that_fails_ends_the_run(
    emission: Emission, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the window alone: what of it is passed on would come twice, or what is left never."""
    emission.offer()
    taken = reader.taken
    monkeypatch.setattr(emission, "_lines", b"")
    monkeypatch.setattr(emission, "_start", 0)
    monkeypatch.setattr(emission, "_file", FailingFile())

    for go_on in (emission.offer, emission.advance):
        with pytest.raises(OutputError, match=r"can't be read back \(Input/output error\)"):
            go_on()

    assert reader.taken == taken
    assert not issubclass(OutputError, AttemptError)


class FailingFile:
    """A file on a disk that fails."""

    def read(self, _size: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def close(self) -> None:
        pass


def test_a_window_without_events_is_done_at_once(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "empty.messages"
    path.touch()
    emission = Emission(path, reader)

    assert emission.offer()
    assert emission.advance()
    emission.close()
    assert reader.taken == b""


class SlowCollector(Collector):
    """A reader that takes a line, then none until asked again, and may go away."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_away = False
        self._is_full = False

    def offer_lines(self, lines: bytes, start: int = 0) -> int:
        self._is_full = not self._is_full
        if not self._is_full:
            return start
        end = lines.index(b"\n", start) + 1
        self.write_lines(lines[start:end])
        return end

    def check(self) -> None:
        if self.goes_away and self.messages[-1]["type"] == "RECORD":
            raise ReaderGoneError("the reader of the pipe is gone")


class WatchedStream(EventsStream):
    """The stream, which notes what has left as each block of a window becomes messages."""

    def __init__(self, tap: CollectingTap) -> None:
        super().__init__(tap)
        self.windows: list[list[Left]] = []
        self._collected = tap

    def encoder(self, time_extracted: datetime) -> Encode:
        encode = super().encoder(time_extracted)
        blocks: list[Left] = []
        self.windows.append(blocks)

        def watched(records: list[EventRecord]) -> bytes:
            types = [message["type"] for message in self._collected.messages]
            blocks.append(Left(types.count("STATE") - 1, types.count("RECORD")))
            return encode(records)

        return watched


class Left(NamedTuple):
    """What has left so far."""

    windows: int  # the first STATE of a run follows none
    records: int


class WatchedTap(CollectingTap):
    """The tap with that stream."""

    def discover_streams(self) -> list[EventsStream]:
        return [WatchedStream(self)]


class SlowTap(WatchedTap):
    """The same with a slow reader."""

    message_writer_class = SlowCollector


WINDOWS = 4


@contextmanager
def watched(make: type[WatchedTap], *faults: Fault) -> Iterator[tuple[WatchedTap, WatchedStream]]:
    """A tap whose windows have all arrived, in order, before the first is prepared."""
    arrived: list[Outcome] = []
    next_outcome = Fetcher.next

    def patiently(fetcher: Fetcher, timeout: float) -> Outcome | None:
        if not arrived:
            while len(arrived) < WINDOWS:
                outcome = next_outcome(fetcher, 60)
                assert outcome
                arrived.append(outcome)
            waiting.extend(sorted(arrived, key=lambda outcome: outcome.task.window))
        return waiting.popleft() if waiting else next_outcome(fetcher, timeout)

    waiting: deque[Outcome] = deque()

    project = Project(events_per_day=1000)
    with (
        pytest.MonkeyPatch.context() as patch,
        Sandbox(project, limits=None, as_of=lambda: datetime(2025, 6, 1, tzinfo=UTC)) as sandbox,
    ):
        patch.setattr(Fetcher, "next", patiently)
        sandbox.faults = list(faults)
        account = sandbox.credentials
        config: dict[str, Any] = {
            "api_url": sandbox.url,
            "project_id": account.project_id,
            "service_account_username": account.username,
            "service_account_secret": account.secret,
            "start_date": "2025-01-01",
            "end_date": f"2025-01-0{WINDOWS}",
            "window_days": 1,
            "balance_windows": False,
            "requests_per_second": 1000,
            "parallel": True,
            "max_attempts": 1,
        }
        tap = make(config=config)
        stream = tap.events
        assert isinstance(stream, WatchedStream)
        yield tap, stream


def test_each_window_leaves_before_the_next_is_turned_into_messages() -> None:
    """All have arrived by then, so a run that emits only when it has nothing to do emits last."""
    with watched(WatchedTap) as (tap, stream):
        tap.run()

    assert [blocks[0].windows for blocks in stream.windows] == list(range(WINDOWS))


def test_a_window_leaves_while_the_next_is_turned_into_messages() -> None:
    with watched(SlowTap) as (tap, stream):
        tap.run()

    ended = 0
    for number, blocks in enumerate(stream.windows[1:]):
        assert len(blocks) > 1
        assert {left.windows for left in blocks} == {number}, "the one before has not left"
        assert ended < blocks[0].records < blocks[-1].records, "but parts of it have"
        types = [message["type"] for message in tap.messages]
        states = [n for n, t in enumerate(types) if t == "STATE"]
        ended = types[: states[number + 1]].count("RECORD")


def test_windows_end_in_the_order_in_which_they_arrive() -> None:
    with watched(SlowTap, Fault.parse("status=500,days=2025-01-02")) as (tap, _):
        result = tap.run()

    assert [batch.window.first.day for batch in result.batches] == [1, 2, 3, 4]
    assert [batch.success for batch in result.batches] == [True, False, True, True]


def test_a_reader_that_goes_away_ends_the_work_on_the_next_window() -> None:
    """Though nothing of the window before it is on its way just then."""
    with watched(SlowTap) as (tap, stream):
        writer = tap.writer
        assert isinstance(writer, SlowCollector)
        writer.goes_away = True
        with pytest.raises(ReaderGoneError):
            tap.run()

    assert [len(blocks) for blocks in stream.windows[1:]] in ([0], [1])
