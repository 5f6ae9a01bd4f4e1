"""What `deduplicate` costs in memory, since a window may hold millions of events."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tap_mixpanel_parallel.convert import duplicates
from tap_mixpanel_parallel.convert.duplicates import Repeats, find_replaced
from tap_mixpanel_parallel.convert.records import EventRecord, event_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SMALL, LARGE = 20_000, 60_000

Source = list[tuple[bytes, int]]


def window(every: int | None) -> Source:
    """Keys and times of ingestion: distinct events, or each so-manieth the one before again."""
    source = []
    for number in range(LARGE):
        sent = number - 1 if every and number % every == every - 1 else number
        key = event_key("Page View", f"user-{sent % 977}", sent, f"insert-{sent}")
        source.append((key, number // 2000))
    return source


def record(key: bytes, ingested: int | None) -> EventRecord:
    return EventRecord(key, "", 0, None, None, ingested, Raw(b"{}"))


def read(source: Source, size: int = LARGE) -> Iterator[list[EventRecord]]:
    """Records in blocks, each made when it is read, as from a body."""
    for start in range(0, size, 100):
        yield [
            record(bytes(bytearray(key)), ingested) for key, ingested in source[start : start + 100]
        ]


def find(read: Callable[[], Iterable[list[EventRecord]]]) -> bytearray:
    """What `find_replaced` returns at its end."""
    work = find_replaced(read)
    while True:
        try:
            next(work)
        except StopIteration as end:
            replaced: bytearray = end.value
            return replaced


def peak(source: Source, size: int) -> int:
    """The most bytes that are held at once; in a process that does nothing else."""
    tracemalloc.start()
    try:
        find(lambda: read(source, size))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def counted(source: Source) -> tuple[int | None, int]:
    """What `Repeats` counts, and the most bytes that it holds at once; in such a process, too."""
    blocks = list(read(source))
    tracemalloc.start()
    try:
        repeats = Repeats()
        for block in blocks:
            repeats.add(block)
        return repeats.count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def alone() -> Iterator[ProcessPoolExecutor]:
    """A process of its own: threads that other tests have left take memory too."""
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize(
    "every", [None, 50, 10, 2], ids=["all distinct", "2 % repeated", "10 %", "each twice"]
)
def test_sixteen_bytes_an_event_at_most(alone: ProcessPoolExecutor, every: int | None) -> None:
    source = window(every)
    assert sum(find(lambda: read(source))) == (LARGE // every if every else 0)

    small, large = (alone.submit(peak, source, size).result() for size in (SMALL, LARGE))

    assert large <= 16 * LARGE
    assert 8 <= (large - small) / (LARGE - SMALL) <= 16


@pytest.mark.parametrize(
    ("ingested", "replaced"),
    [
        ([1, 2, 3], [1, 1, 0]),
        ([3, 2, 1], [0, 1, 1]),
        ([2, 3, 1], [1, 0, 1]),
        ([1, 1, 1], [1, 1, 0]),
        ([None, 1, None], [1, 0, 1]),
        ([None, None], [1, 0]),
    ],
    ids=str,
)
def test_the_latest_ingested_stays(ingested: list[int | None], replaced: list[int]) -> None:
    other = record(b"e" * 16, 1)
    records = [other, *(record(b"f" * 16, time) for time in ingested)]

    assert list(find(lambda: [records])) == [0, *replaced]
    assert list(find(lambda: [[each] for each in records])) == [0, *replaced]


@pytest.mark.parametrize("early", [-(10**14), 0])
def test_an_unknown_time_of_ingestion_is_before_all(early: int) -> None:
    records = [record(b"f" * 16, early), record(b"f" * 16, None)]
    assert list(find(lambda: [records])) == [0, 1]


def test_keys_of_one_first_half_are_told_apart() -> None:
    records = [record(b"a" * 8 + end * 8, None) for end in (b"b", b"c", b"b", b"c")]

    # Of the two pairs, one is found; the other stays twice rather than loses an event.
    assert list(find(lambda: [records])) == [1, 0, 0, 0]


def test_nothing_is_replaced() -> None:
    assert find(lambda: [[record(b"%08x" % n * 2, None) for n in range(10)]]) == b""
    assert find(list) == b""
    assert find(lambda: [[], []]) == b""


def test_each_block_is_a_step() -> None:
    """So that whoever drives it does other work in between."""
    blocks = [[record(b"f" * 16, None)] for _ in range(5)]
    assert len(list(find_replaced(lambda: blocks))) == 2 * len(blocks)


@given(
    st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.none() | st.integers(-2, 2)), max_size=12
    ),
    st.integers(1, 5),
)
def test_one_of_each_stays(events: list[tuple[bytes, int | None]], size: int) -> None:
    """The latest ingested, of equals the last."""
    records = [record(name * 16, ingested) for name, ingested in events]
    expected: dict[bytes, tuple[bool, int, int]] = {}
    for place, (name, ingested) in enumerate(events):
        rank = (ingested is not None, ingested or 0, place)
        expected[name] = max(expected.get(name, rank), rank)
    blocks = [records[start : start + size] for start in range(0, len(records), size)]

    replaced = find(lambda: blocks) or bytearray(len(records))

    assert [n for n, gone in enumerate(replaced) if not gone] == sorted(
        place for *_, place in expected.values()
    )


class TestRepeats:
    """How many records repeat one of the window."""

    @given(st.lists(st.lists(st.integers(0, 40), max_size=20)))
    def test_as_many_as_are_replaced(self, numbers: list[list[int]]) -> None:
        blocks = [
            [record(event_key("x", "", number, None), None) for number in block]
            for block in numbers
        ]
        repeats = Repeats()
        for block in blocks:
            repeats.add(block)
        assert repeats.count == sum(find(lambda: blocks))

    def test_too_many_to_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(duplicates, "_MOST_COUNTED", 100)
        repeats = Repeats()
        repeats.add([record(event_key("x", "", n % 50, None), None) for n in range(100)])
        assert repeats.count == 50
        repeats.add([record(event_key("x", "", 1, None), None)])
        repeats.add([record(event_key("x", "", 2, None), None)])
        assert repeats.count is None

    def test_memory(self, alone: ProcessPoolExecutor) -> None:
        count, held = alone.submit(counted, window(every=10)).result()
        assert count == LARGE // 10
        assert held < 13 * LARGE
