"""How many events each day has, as the project counts its days. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import tzinfo

    from tap_mixpanel_parallel.convert.records import EventRecord
    from tap_mixpanel_parallel.plan.windows import Window

_QUARTER_MS: Final = 900_000
"""Days begin at a quarter of an hour in every zone, so quarters are what is counted."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DayCounts:
    """Counts the events of a window by their days."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self._quarters: Counter[int] = Counter()

    def add(self, records: Iterable[EventRecord]) -> None:
        """Count some events."""
        self._quarters.update([record.time_ms // _QUARTER_MS for record in records])

    def within(self, window: Window, zone: tzinfo) -> dict[date, int]:
        """The counts of a window's days; events outside have none.

        Args:
            window: The days.
            zone: The zone in which the project cuts its days.
        """
        first = datetime(*window.first.timetuple()[:3], tzinfo=UTC) - timedelta(days=1)
        last = datetime(*window.last.timetuple()[:3], tzinfo=UTC) + timedelta(days=2)
        quarter = timedelta(milliseconds=_QUARTER_MS)
        low, high = (first - _EPOCH) // quarter, (last - _EPOCH) // quarter
        counts: Counter[date] = Counter()
        for number, events in self._quarters.items():
            if low <= number < high:  # far from there, no zone makes a date of it
                counts[(_EPOCH + number * quarter).astimezone(zone).date()] += events
        return {day: counts[day] for day in window.days() if day in counts}
