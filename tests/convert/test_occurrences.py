"""Counting digests: as a `Counter` does, in a fifth of its memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from hashlib import md5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.convert import occurrences
from tap_mixpanel_parallel.convert.occurrences import Occurrences

EDGES = [0, 1, 2**62, 2**63 - 1, 2**63, 2**64 - 2**52, 2**64 - 1]
HALVES = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1))
"""Few values, so that halves come again, alone and together."""


def digest(first: int, second: int) -> bytes:
    return first.to_bytes(8, "big") + second.to_bytes(8, "big")


def hashed(number: int) -> bytes:
    return md5(str(number).encode(), usedforsecurity=False).digest()


def check(digests: list[bytes]) -> None:
    """Each is counted as a `Counter` counts it."""
    counted, expected = Occurrences(), Counter[bytes]()
    for each in digests:
        assert counted.add(each) == expected[each]
        expected[each] += 1


@pytest.fixture
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few digests are enough to split them."""
    monkeypatch.setattr(occurrences, "_BUCKET_SIZE", 2)


@pytest.mark.usefixtures("small_buckets")
def test_a_few_of_any_kind() -> None:
    @given(st.lists(st.builds(digest, HALVES, HALVES), max_size=60))
    def every_one_is_counted(digests: list[bytes]) -> None:
        check(digests)

    every_one_is_counted()


def test_many() -> None:
    distinct = [hashed(number) for number in range(6_000)]
    one_half = [digest(7, number) for number in range(2_000)]
    check([*distinct, *one_half, *distinct[::-2], *one_half[::3]])


@pytest.mark.parametrize("size", [8_192, 8_193, 12_000])
@pytest.mark.parametrize("times", [1, 2])
def test_thirty_two_bytes_a_digest_at_most(size: int, times: int) -> None:
    """Just before all buckets are split, and just after."""
    tracemalloc.start()
    try:
        counted = Occurrences()
        for number in range(size * times):
            counted.add(hashed(number % size))
        assert tracemalloc.get_traced_memory()[1] <= 32 * size
    finally:
        tracemalloc.stop()
