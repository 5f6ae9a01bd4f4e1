"""When a window whose attempt failed is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.exceptions import AttemptError, LastAttemptError, RateLimitError

if TYPE_CHECKING:
    from collections.abc import Callable

_GROWTH: Final = 3.0
_STEPS: Final = 20
"""No float holds what any number of attempts would make of a pause."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a window is tried, and how long the pauses are.

    Attributes:
        max_attempts: Attempts at one window in one run.
        first_pause: Seconds; each further pause is three times as long.
        first_limited_pause: The same after a 429.
        longest_pause: Seconds.
        longest_limited_pause: Seconds, whatever a 429 says: no limit lasts over an hour.
        jitter: Seconds added to each pause, so that windows do not come back together.
    """

    max_attempts: int = 5
    first_pause: float = 1.0
    first_limited_pause: float = 5.0
    longest_pause: float = 300.0
    longest_limited_pause: float = 3700.0
    jitter: Callable[[], float] = random.random

    def pause(self, attempts: int, error: AttemptError) -> float | None:
        """Seconds to wait before the next attempt; None if there is none.

        Args:
            attempts: How often the window has been tried.
            error: Why the last attempt failed; a 429 may say how long to wait.
        """
        if attempts >= self.max_attempts or isinstance(error, LastAttemptError):
            return None
        if not isinstance(error, RateLimitError):
            pause = self._grown(self.first_pause, attempts)
        elif error.retry_after is None:
            pause = self._grown(self.first_limited_pause, attempts)
        else:
            pause = min(error.retry_after, self.longest_limited_pause)
        return pause + self.jitter()

    def hourly_pause(self, refusals: int, error: RateLimitError) -> float:
        """Seconds to wait for the hourly limit.

        Args:
            refusals: How often Mixpanel has refused since it took a request.
            error: What it says; a `Retry-After` that is short has not helped if it refuses again.
        """
        said = min(error.retry_after or 0.0, self.longest_limited_pause)
        return max(said, self._grown(self.first_limited_pause, refusals)) + self.jitter()

    def _grown(self, first: float, attempts: int) -> float:
        return min(first * _GROWTH ** min(attempts - 1, _STEPS), self.longest_pause)
