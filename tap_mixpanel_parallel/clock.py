"""The time, so that a test can hold it."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import tzinfo


class Clock:
    """The real time. A test replaces `now` and `monotonic`."""

    def now(self) -> datetime:
        """The current moment, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only ever grow."""
        return time.monotonic()

    def today(self, zone: tzinfo) -> date:
        """The current day in a time zone."""
        return self.now().astimezone(zone).date()
