"""The time, so that a test can hold it."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import tzinfo
    from threading import Condition


class Clock:
    """The real time. A test may replace each method."""

    def now(self) -> datetime:
        """The current moment, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only ever grow."""
        return time.monotonic()

    def today(self, zone: tzinfo) -> date:
        """The current day in a time zone."""
        return self.now().astimezone(zone).date()

    def wait(self, condition: Condition, seconds: float | None) -> None:
        """Wait until somebody notifies of a condition, or so many seconds have passed.

        Args:
            condition: What to wait for; the caller holds it.
            seconds: The longest wait; None waits for as long as it takes.
        """
        condition.wait(seconds)
