"""A part leaves while the next window is converted, and its STATE follows it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections import deque
from contextlib import contextmanager, nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.convert.conversion import Part
from tap_mixpanel_parallel.convert.files import Messages
from tap_mixpanel_parallel.exceptions import (
    AttemptError,
    OutputError,
    ReaderGoneError,
    TerminatedError,
)
from tap_mixpanel_parallel.fetch.job import Arrival
from tap_mixpanel_parallel.fetch.scheduler import Scheduler
from tap_mixpanel_parallel.forms import as_messages
from tap_mixpanel_parallel.plan.state import ExportState
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.run import Way
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tap_mixpanel_parallel.streams import EventsStream
from tap_mixpanel_parallel.write import output as output_module
from tap_mixpanel_parallel.write.output import Output, Written
from tests.support.pipeline import CollectingTap, Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tap_mixpanel_parallel.convert.files import Format
    from tap_mixpanel_parallel.convert.records import EventRecord
    from tap_mixpanel_parallel.settings.settings import Settings

LINES = [b"%d %b\n" % (number, b"x" * (number * 7919 % 4000)) for number in range(400)]
FIRST = date(2025, 1, 1)


class Reader:
    """A sink that takes so many lines without waiting, then none until asked again."""

    def __init__(self, *lines_at_once: int) -> None:
        self.taken: list[bytes | ExportState] = []
        self.error: Exception | None = None
        self._lines_at_once = deque(lines_at_once)
        self._is_full = False

    @property
    def lines(self) -> bytes:
        """The lines that it has got, less the states."""
        return b"".join(item for item in self.taken if isinstance(item, bytes))

    def write(self, lines: bytes) -> None:
        assert lines.endswith(b"\n")
        self.taken.append(lines)

    def write_some(self, lines: bytes, start: int) -> int:
        self._is_full = not self._is_full
        if not self._is_full:
            return start
        end = start
        for _ in range(self._lines_at_once[0]):
            end = lines.find(b"\n", end) + 1 or len(lines)
        self._lines_at_once.rotate(-1)
        if end > start:
            self.write(lines[start:end])
        return end

    def write_state(self, state: ExportState) -> None:
        self.taken.append(state)

    def check(self) -> None:
        if self.error is not None:
            raise self.error


def part_of(folder: Path, number: int, lines: bytes) -> tuple[Arrival, Part, ExportState]:
    """A part, the body that it comes from, and the state that says that it is loaded."""
    window = Window(FIRST, FIRST + timedelta(days=number))
    path = folder / f"{number}.lines"
    path.write_bytes(lines)
    part = Part(window, path, lines.count(b"\n"))
    return Arrival(window, 1, 0.0), part, ExportState(loaded=(window,))


class Leaving:
    """An output with one part on its way."""

    def __init__(self, folder: Path) -> None:
        self.reader = Reader(3)
        self.written: list[Written] = []
        self.output = Output(self.reader, self.written.append)
        self.arrival, self.part, self.state = part_of(folder, 0, b"".join(LINES))
        self.output.begin(self.arrival, self.part, self.state)

    def assert_has_left(self) -> None:
        assert self.reader.lines == b"".join(LINES)
        assert self.reader.taken[-1] == self.state
        assert self.reader.taken.count(self.state) == 1
        assert self.written == [Written(self.arrival, self.part)]
        assert not self.part.path.exists()


@pytest.fixture
def leaving(tmp_path: Path) -> Iterator[Leaving]:
    leaving = Leaving(tmp_path)
    yield leaving
    leaving.output.close()


def test_what_is_pending_is_written_until_nothing_is_taken(leaving: Leaving) -> None:
    leaving.output.write_pending()
    assert leaving.output.is_busy
    assert leaving.reader.lines == b"".join(LINES[:3])
    assert leaving.written == []


def test_what_is_taken_without_waiting_is_written_once(leaving: Leaving) -> None:
    while leaving.output.is_busy:
        leaving.output.write_pending()

    leaving.assert_has_left()


def test_what_was_not_taken_can_be_waited_for(leaving: Leaving) -> None:
    leaving.output.write_pending()
    while leaving.output.is_busy:
        leaving.output.write_piece()

    leaving.assert_has_left()


def test_a_flush_writes_all_that_is_left(leaving: Leaving) -> None:
    leaving.output.write_pending()
    assert leaving.output.flush(), "something was on its way"
    leaving.assert_has_left()
    assert not leaving.output.flush(), "nothing was"
    leaving.output.write_pending()
    leaving.output.write_piece()
    leaving.assert_has_left()


def test_a_part_leaves_after_the_one_before_it(leaving: Leaving, tmp_path: Path) -> None:
    leaving.output.write_pending()
    _, part, state = later = part_of(tmp_path, 1, b"later\n")
    leaving.output.begin(*later)
    leaving.assert_has_left()
    leaving.output.flush()
    assert leaving.reader.taken[-2:] == [b"later\n", state]
    assert [written.part for written in leaving.written] == [leaving.part, part]


def test_what_is_left_by_a_close_has_no_state(leaving: Leaving) -> None:
    leaving.output.write_pending()
    leaving.output.close()
    assert leaving.state not in leaving.reader.taken
    assert leaving.written == []


@pytest.mark.parametrize("error", [ReaderGoneError("gone"), TerminatedError(15)])
def test_a_run_that_should_end_is_noticed(leaving: Leaving, error: Exception) -> None:
    """Though nothing is on its way just then."""
    leaving.reader.error = error
    for _ in range(2):
        with pytest.raises(type(error)):
            leaving.output.write_pending()
        leaving.output.flush()


def test_a_file_that_is_not_there_ends_the_run(leaving: Leaving, tmp_path: Path) -> None:
    body, part, state = part_of(tmp_path, 1, b"")
    part.path.unlink()
    with pytest.raises(OutputError, match=r"spool_dir: .*1\.lines can't be read back \(No such"):
        leaving.output.begin(body, part, state)
    assert state not in leaving.reader.taken


def test_a_file_that_fails_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the window alone: what of it is written would come twice, or what is left never."""
    monkeypatch.setattr(output_module, "read_back", FailingFile)
    leaving = Leaving(tmp_path)
    leaving.output.write_pending()

    for go_on in (leaving.output.write_pending, leaving.output.write_piece, leaving.output.flush):
        with pytest.raises(OutputError, match=r"0\.lines can't be read back \(Input/output error"):
            go_on()

    assert leaving.reader.lines == FailingFile.READABLE
    assert leaving.state not in leaving.reader.taken
    assert leaving.written == []
    assert not issubclass(OutputError, AttemptError)


class FailingFile:
    """A part on a disk that fails after its first lines."""

    READABLE = b"".join(LINES[:5])

    def __init__(self, _path: Path) -> None:
        self._left = [self.READABLE]

    def read(self, _size: int) -> bytes:
        if not self._left:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._left.pop()

    def close(self) -> None:
        pass


@pytest.mark.parametrize("way", ["write_pending", "write_piece", "flush"])
def test_a_window_without_events_is_done_at_once(
    leaving: Leaving, tmp_path: Path, way: str
) -> None:
    leaving.output.flush()
    _, part, state = empty = part_of(tmp_path, 1, b"")
    leaving.output.begin(*empty)
    getattr(leaving.output, way)()
    assert not leaving.output.is_busy
    assert leaving.reader.taken[-2:] == [leaving.state, state]
    assert leaving.written[-1].part == part


PARTS = st.lists(
    st.lists(st.integers(0, 40), max_size=12).map(
        lambda sizes: b"".join(b"x" * size + b"\n" for size in sizes)
    ),
    max_size=5,
)


@given(
    parts=PARTS,
    piece=st.integers(1, 60),
    taken=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    steps=st.lists(st.integers(0, 5), max_size=5),
)
def test_each_part_is_followed_by_its_state(
    parts: list[bytes], piece: int, taken: list[int], steps: list[int]
) -> None:
    """Whatever the sizes, however little is taken, and whenever it is waited for."""
    reader, written = Reader(*taken), list[Written]()
    told_after: list[object] = []

    def notify(part: Written) -> None:
        written.append(part)
        told_after.append(reader.taken[-1])

    with tempfile.TemporaryDirectory() as folder:
        output = Output(reader, notify, piece=piece)
        leaving = [part_of(Path(folder), number, lines) for number, lines in enumerate(parts)]
        ways = (output.write_pending, output.write_piece)
        for number, (body, part, state) in enumerate(leaving):
            output.begin(body, part, state)
            for step in steps:
                ways[(number + step) % 2]()
        output.flush()
        output.close()
        assert os.listdir(folder) == [], "each file goes with its part"  # noqa: PTH208

    states = [state for _, _, state in leaving]
    assert told_after == states, "it is told once the state has left"
    assert [one.part for one in written] == [part for _, part, _ in leaving]
    between: list[bytes] = [b""]
    for item in reader.taken:
        if isinstance(item, bytes):
            between[-1] += item
        else:
            between.append(b"")
    assert between == [*parts, b""]
    assert [item for item in reader.taken if not isinstance(item, bytes)] == states


class SlowCollector(Collector):
    """A reader that takes a line, then none until asked again, and may go away."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_away = False
        self._is_full = False

    def write_some_lines(self, lines: bytes, start: int = 0) -> int:
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
    """The stream, which notes what has left as each block of a window becomes lines."""

    def __init__(self, tap: CollectingTap) -> None:
        super().__init__(tap)
        self.windows: list[list[Left]] = []
        self._collected = tap

    def way(
        self,
        settings: Settings,
        state: ExportState,  # noqa: ARG002
        folder: Path,  # noqa: ARG002
    ) -> AbstractContextManager[Way]:
        way = as_messages(self, settings)

        def watching(received_at: datetime) -> Format:
            form = way.form(received_at)
            assert isinstance(form, Messages)
            blocks: list[Left] = []
            self.windows.append(blocks)

            def watched(records: list[EventRecord]) -> bytes:
                types = [message["type"] for message in self._collected.messages]
                blocks.append(Left(types.count("STATE") - 1, types.count("RECORD")))
                return form.encode(records)

            return Messages(watched)

        return nullcontext(Way(watching, way.output))


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
    arrived: list[Arrival] = []
    next_body = Scheduler.next

    def patiently(scheduler: Scheduler, timeout: float) -> Arrival | None:
        if not arrived:
            while len(arrived) < WINDOWS:
                body = next_body(scheduler, 60)
                assert body
                arrived.append(body)
            waiting.extend(sorted(arrived, key=lambda body: body.window))
        return waiting.popleft() if waiting else next_body(scheduler, timeout)

    waiting: deque[Arrival] = deque()

    project = Project(events_per_day=1000)
    with (
        pytest.MonkeyPatch.context() as patch,
        Sandbox(project, limits=None, as_of=lambda: datetime(2025, 6, 1, tzinfo=UTC)) as sandbox,
    ):
        patch.setattr(Scheduler, "next", patiently)
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
        stream = tap.stream
        assert isinstance(stream, WatchedStream)
        yield tap, stream


def test_each_window_leaves_after_the_first_block_of_the_next() -> None:
    """All have arrived by then, so a run that writes only when it has nothing to do writes last."""
    with watched(WatchedTap) as (tap, stream):
        tap.run()

    assert [blocks[1].windows for blocks in stream.windows] == list(range(WINDOWS))


def test_a_window_leaves_while_the_next_is_converted() -> None:
    with watched(SlowTap) as (tap, stream):
        tap.run()

    ended = 0
    for number, blocks in enumerate(stream.windows[1:]):
        assert len(blocks) > 1
        assert {left.windows for left in blocks} == {number}, "the one before has not left"
        assert ended == blocks[0].records < blocks[-1].records, "but parts of it have"
        types = [message["type"] for message in tap.messages]
        states = [n for n, t in enumerate(types) if t == "STATE"]
        ended = types[: states[number + 1]].count("RECORD")


def test_windows_end_in_the_order_in_which_they_arrive() -> None:
    with watched(SlowTap, Fault.parse("status=500,days=2025-01-02")) as (tap, _):
        result = tap.run()

    assert [batch.window.first.day for batch in result.batches] == [1, 2, 3, 4]
    assert [batch.success for batch in result.batches] == [True, False, True, True]


def test_a_reader_that_goes_away_ends_the_work_on_the_next_window() -> None:
    with watched(SlowTap) as (tap, stream):
        writer = tap.writer
        assert isinstance(writer, SlowCollector)
        writer.goes_away = True
        with pytest.raises(ReaderGoneError):
            tap.run()

    first, *others = (len(blocks) for blocks in stream.windows)
    assert others == [2], "a line has left after one block, and no other is taken after the next"
    assert first > 2, "a window has more blocks"
