"""Whether a body is the one that was asked for: its events tell. Pure.

Exports are by `time`, so the events of a window lie on its days, in the project's own way to
count them. A cache, a proxy or a connection that is out of step may answer with the body of
another window, which is whole and right in every other way.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final, NoReturn

from tap_mixpanel_parallel.convert.times import format_utc
from tap_mixpanel_parallel.exceptions import AnotherBodyError
from tap_mixpanel_parallel.wording import counted

if TYPE_CHECKING:
    from tap_mixpanel_parallel.plan.windows import Window

_EPOCH: Final = date(1970, 1, 1)
_DAY: Final = timedelta(days=1)
_MS: Final = timedelta(milliseconds=1)
_ZONE_MS: Final = timedelta(hours=14) // _MS
"""What no two time zones differ by more: nearer events may be a matter of zones."""

_FEW: Final = 10
"""Events: so many are no longer the odd ones of broken clocks."""

_SHARE: Final = 100
"""One event in so many is no longer an odd one either, where a body is large."""

_ALWAYS_MS: Final = 1 << 62


class Strays:
    """Counts a window's events that lie outside its days.

    Attributes:
        first_ms: The first millisecond of the window.
        last_ms: Its last.
        count: How many events lie outside.
    """

    def __init__(self, window: Window | None = None) -> None:
        """Count what lies outside this window; nothing lies outside None."""
        self.first_ms, self.last_ms = -_ALWAYS_MS, _ALWAYS_MS
        if window is not None:
            self.first_ms = (window.first - _EPOCH) // _MS
            self.last_ms = (window.last - _EPOCH + _DAY) // _MS - 1
        self.count = 0
        self._far = 0
        self._first_ms = self._first_far_ms = 0

    def add(self, time_ms: int) -> None:
        """Count an event if it lies outside.

        Args:
            time_ms: Its `time` in milliseconds, as exported: old projects store wall time.
        """
        if self.first_ms <= time_ms <= self.last_ms:
            return
        self._first_ms = self._first_ms if self.count else time_ms
        self.count += 1
        if not self.first_ms - _ZONE_MS <= time_ms <= self.last_ms + _ZONE_MS:
            self._first_far_ms = self._first_far_ms if self._far else time_ms
            self._far += 1

    def check(self, events: int) -> None:
        """Refuse the body of another window; a few odd events do not count.

        Raises:
            AnotherBodyError: If time zones can't be the reason that none lies on the
                window's days, or if too many lie far from them.
        """
        if self.count == events and (self._far or events >= _FEW):
            first_ms = self._first_far_ms if self._far else self._first_ms
            self._refuse(f"none of its {counted(events, 'event')} lies on these days", first_ms)
        if self._far >= max(_FEW, events / _SHARE):
            far = f"{self._far:,} of its {counted(events, 'event')} lie far from these days"
            self._refuse(far, self._first_far_ms)

    @staticmethod
    def _refuse(reason: str, first_ms: int) -> NoReturn:
        raise AnotherBodyError(
            f"the answer belongs to another request: {reason}; the first of them is of "
            f"{format_utc(first_ms)}"
        )
