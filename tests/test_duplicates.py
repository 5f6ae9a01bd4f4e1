"""What `deduplicate` costs in memory, since a window may hold millions of events."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.duplicates import find_repeated
from tap_mixpanel_parallel.events import EventRecord, event_key

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
        find_repeated(lambda: islice(read(source), size))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("every", [None, 50], ids=["all distinct", "2 % repeated"])
def test_sixteen_bytes_an_event_at_most(every: int | None) -> None:
    source = window(every)
    assert len(find_repeated(lambda: read(source))) == (LARGE // every if every else 0)

    small, large = peak(source, SMALL), peak(source, LARGE)

    assert large <= 16 * LARGE
    assert 8 <= (large - small) / (LARGE - SMALL) <= 16
