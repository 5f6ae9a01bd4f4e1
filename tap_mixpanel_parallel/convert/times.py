"""Mixpanel's times, as RFC 3339 in UTC. Pure.

Projects created before 2023-01-01 store the local wall time of their zone as if it were
UTC (Mixpanel docs, Raw Event Export); later ones store UTC.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

_EPOCH: Final = date(1970, 1, 1)
_DAY_MS: Final = 86_400_000
_FIRST_MS: Final = (date.min - _EPOCH).days * _DAY_MS
_LAST_MS: Final = ((date.max - _EPOCH).days + 1) * _DAY_MS - 1
_HOUR_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000
_MINUTES: Final = [f"{minute:02}:" for minute in range(60)]
_SECONDS: Final = [f"{second:02}." for second in range(60)]
_MILLISECONDS: Final = [f"{ms:03}Z" for ms in range(1000)]
_MOST_MINUTES: Final = 1 << 16
"""A month and a half of them are remembered."""


def format_utc(time_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339: `2025-01-31T23:59:59.999Z`.

    RFC 3339 has no years beyond 0001 to 9999: a time out there becomes the nearest one.
    """
    if not _FIRST_MS <= time_ms <= _LAST_MS:
        time_ms = _FIRST_MS if time_ms < _FIRST_MS else _LAST_MS
    seconds = time_ms // 1000
    minutes = seconds // 60
    return (
        f"{_hour(minutes // 60)}{_MINUTES[minutes % 60]}"
        f"{_SECONDS[seconds % 60]}{_MILLISECONDS[time_ms % 1000]}"
    )


def _hour(number: int) -> str:
    """The text of an hour since 1970, without its minutes: `2025-01-31T23:`."""
    days, hour = divmod(number, 24)
    return f"{_EPOCH + timedelta(days=days)}T{hour:02}:"


class LocalTime:
    """Converts the times of one project to UTC."""

    def __init__(self, zone: tzinfo) -> None:
        """Convert from this zone's wall time."""
        self._zone = zone
        self._minutes: dict[int, str] = {}

    def to_utc(self, time_ms: int) -> str:
        """A wall time, in milliseconds as if it were UTC, as RFC 3339 in UTC.

        A wall time that occurs twice, as clocks go back, is taken for the first.
        """
        minute = self._minutes.get(time_ms // _MINUTE_MS)
        if minute is None:
            self._learn(time_ms // _HOUR_MS)
            return format_utc(time_ms - self._offset_ms(time_ms))
        rest = time_ms % _MINUTE_MS
        return f"{minute}{_SECONDS[rest // 1000]}{_MILLISECONDS[rest % 1000]}"

    def _learn(self, hour: int) -> None:
        """Remember the minutes of an hour, if they are whole minutes in UTC as well."""
        start = hour * _HOUR_MS
        offset = self._offset_ms(start)
        is_common = _FIRST_MS + _DAY_MS <= start <= _LAST_MS - _DAY_MS
        if offset % _MINUTE_MS or self._offset_ms(start + _HOUR_MS - 1) != offset or not is_common:
            return
        if len(self._minutes) >= _MOST_MINUTES:
            self._minutes.clear()
        first = (start - offset) // _MINUTE_MS
        hours = {number: _hour(number) for number in (first // 60, first // 60 + 1)}
        self._minutes.update(
            (hour * 60 + n, hours[(first + n) // 60] + _MINUTES[(first + n) % 60])
            for n in range(60)
        )

    def _offset_ms(self, wall_ms: int) -> int:
        wall_ms = min(max(wall_ms, _FIRST_MS + _DAY_MS), _LAST_MS - _DAY_MS)
        wall = datetime(1970, 1, 1) + timedelta(milliseconds=wall_ms)  # noqa: DTZ001
        offset = wall.replace(tzinfo=self._zone).utcoffset() or timedelta()
        return offset // timedelta(milliseconds=1)


@lru_cache
def local_time(zone: tzinfo) -> LocalTime:
    """The one converter of a zone: what it has learned serves every window."""
    return LocalTime(zone)


def parse_time(value: object) -> tuple[int, bool]:
    """Read `time` in any of the forms that Mixpanel exports.

    Args:
        value: Milliseconds since 1970, whole or not or as text, or ISO text (some old
            accounts).

    Returns:
        Whole milliseconds, rounded down, and whether the text itself names its offset
        from UTC, so that no zone is left to apply.

    Raises:
        ValueError: If it is no time.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"time is {value!r}")  # noqa: TRY004
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value), False
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        named = moment.tzinfo is not None
        since = (moment if named else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        return since // timedelta(milliseconds=1), named
    if not math.isfinite(value):
        raise ValueError(f"time is {value!r}")
    return math.floor(value), False
