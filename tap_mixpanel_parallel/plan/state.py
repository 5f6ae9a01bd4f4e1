"""What is loaded and what failed, and how a run changes it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tap_mixpanel_parallel.plan.windows import Window, intersect, merge, subtract

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tap_mixpanel_parallel.plan.hour import Minutes

_DAY: Final = timedelta(days=1)
_EVER: Final = date.max.toordinal()
_NUMBER: Final = re.compile(r"(?<!HTTP )\b\d[\d.,]*")


@dataclass(frozen=True, slots=True)
class FailedWindow:
    """A window that failed, as the state keeps it.

    Attributes:
        window: Its days.
        attempts: How often it was tried in the run that gave up.
        error: The reason, as a person reads it.
        failed_at: When it failed: UTC, RFC 3339.
    """

    window: Window
    attempts: int
    error: str
    failed_at: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Loaded days that may still get late events.

    Attributes:
        window: The days.
        read_on: The project's day on which they were last read.
    """

    window: Window
    read_on: date

    def unsettled(self, lookback_days: int) -> tuple[Window, ...]:
        """The days that were read less than `lookback_days` after their end."""
        # A day is over as the next one begins, and settled `lookback_days` after that.
        first = _days_before(self.read_on, lookback_days)
        if self.window.last < first:
            return ()
        return (Window(max(self.window.first, first), self.window.last),)


_Item = TypeVar("_Item", FailedWindow, Reading)


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests that runs have started within an hour, as the state keeps them.

    Attributes:
        account: Whose limits they count against (see `Settings.account`).
        started: When they started, by the minute.
    """

    account: str
    started: Minutes = ()


@dataclass(frozen=True, slots=True)
class ExportState:
    """What one stream has loaded, and what has failed.

    Attributes:
        loaded: The days whose events are all emitted; disjoint and sorted.
        failed: The windows that failed and are not loaded since; disjoint and sorted.
        unsettled: The loaded days that may still get late events; disjoint and sorted.
        selection: The settings that the loaded days depend on; None if they are not known.
        stored: The last window that is loaded from files, as `Storage` counts them; None if
            none ever was.
        requests: What has started within the hour before; None if no run after this one needs
            to know.
    """

    loaded: tuple[Window, ...] = ()
    failed: tuple[FailedWindow, ...] = ()
    unsettled: tuple[Reading, ...] = ()
    selection: Mapping[str, Any] | None = None
    stored: str | None = None
    requests: Requests | None = None

    def of(self, account: str | None) -> ExportState:
        """The state as this account has it: requests of another one do not count."""
        known = self.requests is not None and self.requests.account == account
        return self if known else replace(self, requests=Requests(account) if account else None)

    def finish(
        self, window: Window, *, today: date, lookback_days: int, stored: str | None = None
    ) -> ExportState:
        """The state after all of a window is emitted.

        Args:
            window: The window.
            today: The project's day on which the run began. It is never marked as loaded,
                because it is not over.
            lookback_days: For how many days after its end a day can get late events.
            stored: The window's place among those that left as files; None if it did not.
        """
        past = intersect([window], _back_from(today, _EVER))
        read = [Reading(part, today).unsettled(lookback_days) for part in past]
        return replace(
            self,
            stored=stored or self.stored,
            loaded=merge([*self.loaded, *past]),
            failed=without(self.failed, window),
            unsettled=_join_readings(
                [
                    *without(self.unsettled, window),
                    *(Reading(part, today) for parts in read for part in parts),
                ]
            ),
        )

    def fail(self, failure: FailedWindow) -> ExportState:
        """The state after a window has failed; none of its days counts as loaded."""
        others = without(self.failed, failure.window)
        return replace(
            self.forget(failure.window),
            failed=_join_failures(sorted([*others, failure], key=lambda f: f.window)),
        )

    def forget(self, window: Window) -> ExportState:
        """The state as if the days of a window had never been loaded."""
        return replace(
            self,
            loaded=subtract(self.loaded, [window]),
            unsettled=without(self.unsettled, window),
        )

    def to_reread(self, *, today: date, lookback_days: int) -> tuple[Window, ...]:
        """The loaded days that a run reads again, because they are not settled."""
        earlier = (part for reading in self.unsettled for part in reading.unsettled(lookback_days))
        # The last days are not settled whatever the state says: `lookback_days` may have grown.
        return intersect(self.loaded, [*earlier, *_back_from(today, lookback_days)])

    def remaining(
        self, wanted: Window, *, today: date, lookback_days: int, replay: Window | None = None
    ) -> tuple[Window, ...]:
        """The days that a run has to read."""
        return merge(
            [
                *subtract([wanted], self.loaded),
                # Wanted or not: a `start_date` that moves on leaves no day half read behind it.
                *self.to_reread(today=today, lookback_days=lookback_days),
                *([replay] if replay else []),
            ]
        )

    def resume(self, wanted: Window) -> Window:
        """The wanted days, and those since the newest loaded day before them.

        For a first day that moves: a schedule that paused leaves no gap.
        """
        before = [part.last for part in self.loaded if part.first < wanted.first]
        return Window(min([wanted.first, *(day + _DAY for day in before[-1:])]), wanted.last)


def without(items: Iterable[_Item], window: Window) -> tuple[_Item, ...]:
    """Failures or readings, less the days of a window."""
    left: list[_Item] = []
    for item in items:
        if item.window.overlaps(window):
            left.extend(replace(item, window=part) for part in subtract([item.window], [window]))
        else:
            left.append(item)
    return tuple(left)


def _join_failures(failed: Iterable[FailedWindow]) -> tuple[FailedWindow, ...]:
    """The failures; neighbours that failed in the same way are joined into one.

    A state follows each window, so a state that grew with each failure would fill a disk.
    """
    joined: list[FailedWindow] = []
    for failure in failed:
        before = joined[-1] if joined else failure
        if before.window.last + _DAY == failure.window.first and _kind(before) == _kind(failure):
            latest = max(before, failure, key=lambda f: f.failed_at)
            window = Window(before.window.first, failure.window.last)
            joined[-1] = replace(latest, window=window)
        else:
            joined.append(failure)
    return tuple(joined)


def _kind(failure: FailedWindow) -> str:
    """What neighbours that failed in the same way have in common: no details, no numbers."""
    return _NUMBER.sub("#", failure.error.partition(": ")[0])


def _days_before(day: date, days: int) -> date:
    return date.fromordinal(max(day.toordinal() - days, 1))


def _back_from(day: date, lookback_days: int) -> tuple[Window, ...]:
    """The days before `day` that can still get late events on it."""
    first = _days_before(day, lookback_days)
    return (Window(first, day - _DAY),) if first < day else ()


def _join_readings(readings: Iterable[Reading]) -> tuple[Reading, ...]:
    """The readings; neighbours that were read on the same day are joined into one."""
    by_day = sorted(readings, key=lambda reading: reading.read_on)
    joined = [
        Reading(window, read_on)
        for read_on, group in groupby(by_day, key=lambda reading: reading.read_on)
        for window in merge(reading.window for reading in group)
    ]
    return tuple(sorted(joined, key=lambda reading: reading.window))
