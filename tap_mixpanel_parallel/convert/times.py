"""Mixpanel's times, in UTC. Pure.

Projects created before 2023-01-01 store the local wall time of their zone as if it were
UTC (Mixpanel docs, Raw Event Export); later ones store UTC.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def bounded(time_ms: int) -> int:
    """The nearest time that RFC 3339 knows: its years are 0001 to 9999."""
    if _FIRST_MS <= time_ms <= _LAST_MS:  # nearly always, and faster than min and max
        return time_ms
    return _FIRST_MS if time_ms < _FIRST_MS else _LAST_MS


class UtcText:
    """Writes milliseconds since 1970 as RFC 3339: `2025-01-31T23:59:59.999Z`.

    It remembers the beginnings of the minutes that it has seen: that is several times as
    fast as writing each time anew.
    """

    def __init__(self) -> None:
        self._minutes: dict[int, str] = {}

    def write(self, times: Iterable[int | None]) -> list[str | None]:
        """The texts of times that are `bounded`; None stays None."""
        texts: list[str | None] = []
        for time_ms in times:
            if time_ms is None:
                texts.append(None)
                continue
            minute = self._minutes.get(time_ms // _MINUTE_MS)
            if minute is None:
                minute = self._learn(time_ms // _MINUTE_MS)
            rest = time_ms % _MINUTE_MS
            texts.append(f"{minute}{_SECONDS[rest // 1000]}{_MILLISECONDS[rest % 1000]}")
        return texts

    def _learn(self, minute: int) -> str:
        """Remember the minutes of an hour."""
        if len(self._minutes) >= _MOST_MINUTES:
            self._minutes.clear()
        hours = minute // 60
        days, hour = divmod(hours, 24)
        start = f"{_EPOCH + timedelta(days=days)}T{hour:02}:"
        self._minutes.update((hours * 60 + n, start + _MINUTES[n]) for n in range(60))
        return self._minutes[minute]


def format_utc(time_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339, or the nearest time that it knows."""
    [text] = UtcText().write((bounded(time_ms),))
    return str(text)


class LocalTime:
    """Converts the times of one project to UTC."""

    def __init__(self, zone: tzinfo) -> None:
        """Convert from this zone's wall time."""
        self._zone = zone
        self._offsets: dict[int, int] = {}

    def to_utc(self, time_ms: int) -> int:
        """A wall time, in milliseconds as if it were UTC, in milliseconds since 1970.

        A wall time that occurs twice, as clocks go back, is taken for the first. A time
        that RFC 3339 does not know becomes the nearest one that it knows.
        """
        offset = self._offsets.get(time_ms // _HOUR_MS)
        if offset is None:
            offset = self._learn(time_ms)
        return time_ms - offset

    def _learn(self, time_ms: int) -> int:
        """The offset of a time; it is remembered for its hour, if the whole hour has it."""
        start = time_ms // _HOUR_MS * _HOUR_MS
        offset = self._offset_ms(start)
        if not _FIRST_MS + _DAY_MS <= start <= _LAST_MS - _DAY_MS:
            return time_ms - bounded(time_ms - self._offset_ms(time_ms))
        # Clocks change at a minute at the least, so its two ends tell of an hour.
        if self._offset_ms(start + _HOUR_MS - 1) != offset:
            return self._offset_ms(time_ms)
        if len(self._offsets) >= _MOST_MINUTES:
            self._offsets.clear()
        self._offsets[time_ms // _HOUR_MS] = offset
        return offset

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
        ValueError: If it is not a time.
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
