"""Mixpanel's rate limits: counted and waited for, not run into."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from pyrate_limiter import InMemoryBucket, Rate, RateItem

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND_MS: Final = 1_250
"""A second, and what two requests' ways to Mixpanel may differ by: a first one shakes hands."""

HOUR_MS: Final = 3_602_000
"""An hour, with the same in mind."""


class RateLimit:
    """Hands out starts: so many in any second, so many in any hour. Thread-safe."""

    def __init__(
        self,
        *,
        per_second: int,
        per_hour: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count against these limits.

        Args:
            per_second: Starts in any second.
            per_hour: Starts in any hour.
            clock: Seconds that only ever grow.
        """
        rates = [Rate(per_second, SECOND_MS), Rate(per_hour, HOUR_MS)]
        # A limit that the other one keeps anyway: the library refuses to count it.
        if per_second >= per_hour:
            del rates[0]
        elif per_hour * SECOND_MS >= per_second * HOUR_MS:
            del rates[1]
        self._bucket = InMemoryBucket(rates)
        self._per_hour = per_hour if rates[-1].interval == HOUR_MS else None
        self._clock = clock
        self._lock = threading.Lock()

    def acquire(self) -> float:
        """Take a start if one is free.

        Returns:
            0 if it is taken, else the seconds until it is worth asking again.
        """
        with self._lock:
            item = RateItem("export", self._now())
            if self._bucket.put(item):
                return 0.0
            waiting = self._bucket.waiting(item)
            assert isinstance(waiting, int)  # noqa: S101 - only asynchronous buckets differ
        return max(waiting, 1) / 1000

    def seconds_until(self, starts: int) -> float:
        """Seconds before which the hourly limit does not give the last of so many starts."""
        if self._per_hour is None or starts < 1:
            return 0.0
        hours, further = divmod(starts - 1, self._per_hour)
        with self._lock:
            earlier = self._bucket.peek(self._per_hour - 1 - further)
            rest = max(earlier.timestamp + HOUR_MS - self._now(), 0) if earlier else 0
        return (hours * HOUR_MS + rest) / 1000

    def _now(self) -> int:
        return int(self._clock() * 1000)
