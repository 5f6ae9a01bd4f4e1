"""Counts how often each of millions of digests occurs, exactly and in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

_BITS: Final = 64
_HALVES: Final = Struct(">QQ")
_BUCKET_SIZE: Final = 1024
"""Digests of a bucket, on average, before all are split: few enough to insert in their midst."""


@dataclass(slots=True)
class _Bucket:
    """Digests, sorted by their first halves; each has the same place in all three arrays."""

    firsts: array[int] = field(default_factory=lambda: array("Q"))
    seconds: array[int] = field(default_factory=lambda: array("Q"))
    counts: array[int] = field(default_factory=lambda: array("I"))

    def split(self, middle: int) -> tuple[_Bucket, _Bucket]:
        """Those whose first halves are less than `middle`, and the rest."""
        at = bisect_left(self.firsts, middle)
        return (
            _Bucket(self.firsts[:at], self.seconds[:at], self.counts[:at]),
            _Bucket(self.firsts[at:], self.seconds[at:], self.counts[at:]),
        )


class Occurrences:
    """Counts digests of 128 bits, for some 25 bytes of memory each.

    All bits are compared, so two digests are never taken for one.
    """

    def __init__(self) -> None:
        self._buckets = [_Bucket()]
        self._shift = _BITS  # what is left of a first half is the number of its bucket
        self._size = 0

    def add(self, digest: bytes) -> int:
        """Count a digest, and say how often it has been counted before."""
        first: int
        second: int
        first, second = _HALVES.unpack(digest)
        bucket = self._buckets[first >> self._shift]
        firsts, seconds, counts = bucket.firsts, bucket.seconds, bucket.counts
        at, end = bisect_left(firsts, first), len(firsts)
        while at < end and firsts[at] == first:
            if seconds[at] == second:
                counts[at] += 1
                return counts[at] - 1
            at += 1
        firsts.insert(at, first)
        seconds.insert(at, second)
        counts.insert(at, 1)
        self._size += 1
        if self._size > _BUCKET_SIZE * len(self._buckets):
            self._split()
        return 0

    def _split(self) -> None:
        """Have twice as many buckets, each with half the digests."""
        self._shift -= 1
        buckets, self._buckets = self._buckets, []
        for number, bucket in enumerate(buckets):
            self._buckets += bucket.split((2 * number + 1) << self._shift)
            buckets[number] = _Bucket()
