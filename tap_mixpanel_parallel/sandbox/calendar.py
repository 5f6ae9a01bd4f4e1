"""A day of a project in the time zone of the project."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

SECOND = 1000
HOUR = 3600 * SECOND
DAY = 24 * HOUR


def epoch_ms(moment: datetime) -> int:
    """Give a moment in whole milliseconds since 1970, UTC."""
    return int(moment.timestamp() * 1000)


@dataclass(frozen=True)
class Day:
    """A calendar day: the time between two midnights, in epoch milliseconds, UTC.

    A day on which the clocks change has 23 or 25 hours. `wall` takes this into account.

    Attributes:
        start: The first instant of the day.
        end: The first instant of the next day.
        change: The instant at which the clocks change; `start` if they do not.
        offset_before: The offset from UTC before the change.
        offset_after: The offset from UTC after the change.
    """

    start: int
    end: int
    change: int
    offset_before: int
    offset_after: int

    @classmethod
    def of(cls, day: date, zone: tzinfo) -> Day:
        """Give a day in a time zone."""
        start = _midnight(day, zone)
        end = _midnight(day + timedelta(days=1), zone)
        before, after = _offset(start, zone), _offset(end - 1, zone)
        change = start if before == after else _change(start, end, zone)
        return cls(start, end, change, before, after)

    def wall(self, instant: int) -> int:
        """Give the local time of an instant, written as if it were UTC."""
        return instant + (self.offset_before if instant < self.change else self.offset_after)


def _midnight(day: date, zone: tzinfo) -> int:
    return epoch_ms(datetime.combine(day, time.min, zone))


def _offset(instant: int, zone: tzinfo) -> int:
    offset = datetime.fromtimestamp(instant / 1000, zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds() * 1000)


def _change(start: int, end: int, zone: tzinfo) -> int:
    """Find the instant between start and end at which the clocks change."""
    before = _offset(start, zone)
    low, high = start // SECOND, end // SECOND
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle * SECOND, zone) == before:
            low = middle
        else:
            high = middle
    return high * SECOND
