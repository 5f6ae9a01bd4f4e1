"""How fast a run fetches, and what it does where Mixpanel's hourly limit is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.exceptions import HourlyLimitError
from tap_mixpanel_parallel.wording import format_moment

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tap_mixpanel_parallel.exceptions import RateLimitError
    from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
    from tap_mixpanel_parallel.fetch.retries import RetryPolicy


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast a run fetches.

    Attributes:
        workers: How many requests run at once.
        limit: Counts the requests' starts.
        retries: When a window is tried again.
        waits: Whether a run waits for the hourly limit; otherwise it ends there.
        slots: How many requests can run at once just now; None if any number can.
    """

    workers: int
    limit: RateLimit
    retries: RetryPolicy
    waits: bool = True
    slots: Callable[[], int] | None = None


class Refusals:
    """Mixpanel refuses requests because of the hourly limit: no further one starts meanwhile.

    Requests of others count, so nobody knows when the limit lets the next one pass. It is asked
    again after pauses that grow, by one request before the others, and for a bit over an hour.
    Whether it has taken a request shows only when that has ended, which may be after a later one
    was refused.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        """Know of no refusal yet.

        Args:
            policy: How long the pauses are.
        """
        self._policy = policy
        self._count = 0
        self._first = self._last = 0.0
        self._until = 0.0

    def refuse(
        self, started: float, now: float, error: RateLimitError, *, others: int = 0
    ) -> float | None:
        """A request was refused.

        Args:
            started: When it started.
            now: When it was refused.
            error: What Mixpanel says.
            others: How many requests are under way, so that Mixpanel may have taken one of them.

        Returns:
            Seconds until the next may start: 0 if that is known already, None if there is no use
            in waiting longer.
        """
        if self._count and started <= self._last:
            return 0.0
        if not self._count:
            self._first = now
        left = self._first + self._policy.longest_limited_pause - now
        if left <= 0 and not others:
            return None
        self._count += 1
        self._last = now
        pause = self._policy.hourly_pause(self._count, error)
        if left > 0:  # one comes when an hour is over, whatever the pauses before were
            pause = max(min(pause, left), self._policy.first_limited_pause)
        self._until = now + pause
        return pause

    def accept(self, started: float) -> None:
        """A request that started then was not refused."""
        if started > self._last:
            self._count = 0
            self._until = 0.0
        elif self._count and started > self._first:
            self._count = 1
            self._first = started

    def start(self, now: float) -> None:
        """A request starts; if it is the first after a pause, the others wait for what it meets."""
        if self._count:
            self._until = now + self._policy.first_limited_pause

    def seconds(self, now: float) -> float:
        """Seconds until a request may start."""
        return max(self._until - now, 0.0)


def at_the_limit(until: datetime, error: RateLimitError | None) -> HourlyLimitError:
    """The end of a run that does not wait.

    Args:
        until: When the next request may start.
        error: What Mixpanel says; None if the tap has counted so many requests itself.
    """
    who = f"Mixpanel takes no request for now ({error})" if error else "the hourly limit is reached"
    is_known = error is None or (error.span == "hour" and error.retry_after is not None)
    when = f"at {format_moment(until)}" if is_known else "within an hour"
    return HourlyLimitError(
        f"{who}; the next request may start {when}",
        "on_hourly_limit is fail, so the run ends here. What has arrived is loaded. Run again "
        "with this state then, or set on_hourly_limit: wait",
    )


def in_vain(error: RateLimitError) -> HourlyLimitError:
    """The end of a run that has waited for over an hour."""
    return HourlyLimitError(
        f"Mixpanel has taken no request for over an hour ({error})",
        "What has arrived is loaded. Run again later with this state, or find out who else uses "
        "the project's requests",
    )
