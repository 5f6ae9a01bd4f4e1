"""How long the rest of a run may take. Pure.

Windows are weighed by their days: those that have come show how long a day takes to fetch, and
how many bytes it has. So a request that is under way counts by its age, or by its bytes if it is
older than expected. The rest is dealt out to the workers as they will be free.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Fetched:
    """A window that has come whole: its days, how long its request took, its bytes."""

    days: int
    seconds: float
    size: int


@dataclass(frozen=True, slots=True)
class Expected:
    """A window that is yet to come, or on its way.

    Attributes:
        days: How many days it has.
        age: For how long its request has been under way.
        received: How many bytes have come.
        pause: Seconds before which it is not requested.
    """

    days: int
    age: float = 0.0
    received: int = 0
    pause: float = 0.0


@dataclass(slots=True)
class Pace:
    """What the windows so far have shown.

    Attributes:
        workers: How many windows are fetched at once.
        interval: Seconds between the starts of two requests, by the limits.
        fetched: The latest windows that have come.
    """

    workers: int
    interval: float
    fetched: deque[Fetched] = field(init=False)

    def __post_init__(self) -> None:
        """Keep some for each worker, so that the pace follows the data."""
        self.fetched = deque(maxlen=3 * self.workers)

    def add(self, window: Fetched) -> None:
        """A window has come."""
        self.fetched.append(window)

    def is_credible(self, windows: int) -> bool:
        """Whether enough windows have come: the first of them are the fastest.

        Args:
            windows: How many the run has.
        """
        return len(self.fetched) >= min(self.workers, max(windows // 4, 1))

    def seconds_of(self, days: int) -> float:
        """How long it takes to fetch so many days with one request."""
        fetched = list(self.fetched)
        return sum(w.seconds for w in fetched) / max(sum(w.days for w in fetched), 1) * days

    def seconds_to_fetch(self, under_way: Iterable[Expected], to_come: Iterable[Expected]) -> float:
        """How long it takes to fetch the rest.

        Args:
            under_way: What is requested.
            to_come: What is not, in its order.
        """
        ends = [self._rest_of(window) for window in under_way]
        ends += [0.0] * (self.workers - len(ends))
        heapq.heapify(ends)
        last = max(ends)
        for number, window in enumerate(to_come):
            start = max(ends[0], window.pause, number * self.interval)
            end = start + self.seconds_of(window.days)
            last = max(last, end)
            heapq.heapreplace(ends, end)
        return last

    def _rest_of(self, window: Expected) -> float:
        """How long a request that is under way takes from now on."""
        expected = self.seconds_of(window.days)
        if window.age < expected:
            return expected - window.age
        fetched = list(self.fetched)
        size = sum(w.size for w in fetched) / max(sum(w.days for w in fetched), 1) * window.days
        share = min(window.received / size, 1.0) if size else 0.0
        # It is slower than the others; with bytes it goes on as it has gone so far.
        return window.age * (1 - share) / share if share else expected
