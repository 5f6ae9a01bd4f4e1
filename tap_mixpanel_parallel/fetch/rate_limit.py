"""Mixpanel's rate limits: counted and waited for, not run into."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.fetch.history import RequestHistory
from tap_mixpanel_parallel.plan.hour import HOUR, Hour, Minutes, by_minute, recent, union, unknown

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tap_mixpanel_parallel.clock import Clock
    from tap_mixpanel_parallel.settings.settings import Settings

SECOND: Final = 1.25
"""A second, and what two requests' ways to Mixpanel may differ by: a first one shakes hands."""


class RateLimit:
    """Hands out starts: so many in any second, so many in any hour. Thread-safe.

    The starts of other runs count as well, as far as a state or a history tells of them.
    """

    def __init__(
        self,
        *,
        per_second: int,
        per_hour: int,
        clock: Callable[[], float] = time.time,
        history: RequestHistory | None = None,
        earlier: Minutes = (),
    ) -> None:
        """Count against these limits.

        Args:
            per_second: Starts in any second.
            per_hour: Starts in any hour.
            clock: The time, in seconds since 1970.
            history: What this machine's runs share.
            earlier: What a state tells of earlier runs.
        """
        self._limits = ((per_second, SECOND), (per_hour, HOUR))
        self._per_hour = per_hour
        self._clock = clock
        self._history = history
        self._lock = threading.Lock()
        self._taken = 0.0
        known = history.recall() if history else ()
        self._starts = recent([*known, *unknown(earlier, known)], self._now())

    @classmethod
    def of(cls, settings: Settings, earlier: Minutes, clock: Clock) -> RateLimit:
        """The limits of a run's account.

        Args:
            settings: The checked settings.
            earlier: What a state tells of earlier runs.
            clock: The time.
        """
        return cls(
            per_second=settings.requests_per_second,
            per_hour=settings.requests_per_hour,
            clock=lambda: clock.now().timestamp(),
            history=RequestHistory(settings.account) if settings.account else None,
            earlier=earlier,
        )

    def acquire(self) -> float:
        """Take a start if one is free.

        Returns:
            0 if it is taken, else the seconds until it is worth asking again.
        """
        with self._lock, self._shared() as shared:
            now = self._now()
            starts = union(recent(self._starts, now), recent(shared, now))
            wait = max(
                starts[-limit] + span - now if len(starts) >= limit else 0.0
                for limit, span in self._limits
            )
            if wait <= 0:
                starts = (*starts, now)
                self._taken = now
            # Starts that a clock has put into the future age from now on.
            self._starts = starts
            shared[:] = starts
        return max(wait, 0.001) if wait > 0 else 0.0

    def begin(self) -> None:
        """The start that was taken last comes only now: its way to another machine was long."""
        with self._lock, self._shared() as shared:
            starts, now = [*union(self._starts, shared)], self._now()
            if self._taken in starts:
                starts[starts.index(self._taken)] = self._taken = now
            self._starts = tuple(sorted(starts))
            shared[:] = self._starts

    @property
    def hour(self) -> Hour:
        """What may still start now."""
        now = self._now()
        return Hour(self._per_hour, now, recent(self._starts, now))

    @property
    def minutes(self) -> Minutes:
        """The starts of the last hour, for the state."""
        return by_minute(self.hour.starts)

    def seconds_until(self, starts: int) -> float:
        """Seconds before which the hourly limit does not give the last of so many starts."""
        return self.hour.seconds_until(starts)

    def _shared(self) -> AbstractContextManager[list[float]]:
        return self._history.shared() if self._history else nullcontext([])

    def _now(self) -> float:
        return round(self._clock(), 3)
