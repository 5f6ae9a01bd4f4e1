"""What `deduplicate` costs in memory, since a window may hold millions of events."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.convert.duplicates import find_replaced
from tap_mixpanel_parallel.convert.records import EventRecord, event_key

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL, LARGE = 30_000, 90_000

Source = list[tuple[bytes, bytes]]


def window(every: int | None) -> Source:
    """Keys and times of ingestion: distinct events, or each so-manieth the one before again."""
    source = []
    for number in range(LARGE):
        sent = number - 1 if every and number % every == every - 1 else number
        key = event_key("Page View", f"user-{sent % 977}", sent, f"insert-{sent}")
        source.append((key.encode(), f"2025-01-01T00:{number // 2000:02}:00.000Z".encode()))
    return source


def read(source: Source) -> Iterator[EventRecord]:
    """Records, each made when it is read, as from a body."""
    for key, ingested in source:
        yield EventRecord(key.decode(), "", "", None, None, ingested.decode(), "")


def peak(source: Source, size: int) -> int:
    """The most bytes that are held at once."""
    tracemalloc.start()
    try:
        find_replaced(lambda: islice(read(source), size))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "every", [None, 50, 10, 2], ids=["all distinct", "2 % repeated", "10 %", "each twice"]
)
def test_sixteen_bytes_an_event_at_most(every: int | None) -> None:
    source = window(every)
    assert sum(find_replaced(lambda: read(source))) == (LARGE // every if every else 0)

    small, large = peak(source, SMALL), peak(source, LARGE)

    assert large <= 16 * LARGE
    assert 8 <= (large - small) / (LARGE - SMALL) <= 16


def record(key: str, ingested: str | None) -> EventRecord:
    return EventRecord(key * 2, "", "", None, None, ingested, "")


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
    times = [n and f"2025-01-0{n}T00:00:00.000Z" for n in ingested]
    other = record("e" * 16, "2025-01-01T00:00:00.000Z")
    records = [other, *(record("f" * 16, time) for time in times)]

    assert list(find_replaced(lambda: records)) == [0, *replaced]


def test_keys_of_one_first_half_are_told_apart() -> None:
    keys = ["a" * 16 + end * 16 for end in "bcbc"]
    records = [EventRecord(key, "", "", None, None, None, "") for key in keys]

    # Of the two pairs, one is found; the other stays twice rather than loses an event.
    assert list(find_replaced(lambda: records)) == [1, 0, 0, 0]


def test_nothing_is_replaced() -> None:
    assert find_replaced(lambda: [record(f"{n:016x}", None) for n in range(10)]) == b""
    assert find_replaced(list) == b""
