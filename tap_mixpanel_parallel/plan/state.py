"""What is loaded and what failed; to and from a Singer bookmark. Pure.

The bookmark of the stream `events`:

    {"replication_key": "time",
     "loaded": [["2025-01-01", "2025-02-04"], ["2025-02-12", "2025-03-30"]],
     "partitions": [{"context": {"from_date": "2025-02-05", "to_date": "2025-02-11"},
                     "status": "failed", "attempts": 5, "error": "HTTP 500 …",
                     "failed_at": "2025-04-01T02:03:04Z"}],
     "unsettled": [["2025-03-27", "2025-03-30", "2025-04-01"]],
     "selection": {"region": null, "project_id": "1234", "events": ["Sign Up"],
                   "where": null, "project_timezone": null}}

`loaded` and `unsettled` decide what is left to do. A day is settled once it was read at
least `lookback_days` after its end. `unsettled` holds the loaded days that are not, with
the day on which they were last read. `partitions` are the windows that failed, for people.
`selection` holds the settings that decide which events a day has.

Meltano merges a new state into the saved one, key by key. So every key is written each
time, and a setting that is not set is null: a key that is left out would keep its old value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.exceptions import StateError
from tap_mixpanel_parallel.plan.windows import EARLIEST_DAY, Window, intersect, merge, subtract

if TYPE_CHECKING:
    from collections.abc import Iterable

_DAY: Final = timedelta(days=1)
_EVER: Final = date.max.toordinal()
_NUMBER: Final = re.compile(r"\d[\d.,]*")

Bookmark = dict[str, Any]
"""One stream's part of a Singer state."""

REMEDY: Final = (
    "Use the state that belongs to this configuration, another state id, or none at all "
    "(`meltano run --full-refresh`, or no --state), which reads every day again."
)


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


@dataclass(frozen=True, slots=True)
class ExportState:
    """What one stream has loaded, and what has failed.

    Attributes:
        loaded: The days whose events are all emitted; disjoint and sorted.
        failed: The windows that failed and are not loaded since; disjoint and sorted.
        unsettled: The loaded days that may still get late events; disjoint and sorted.
        selection: The settings that the loaded days depend on; None where it is not known.
    """

    loaded: tuple[Window, ...] = ()
    failed: tuple[FailedWindow, ...] = ()
    unsettled: tuple[Reading, ...] = ()
    selection: Mapping[str, Any] | None = field(default=None)

    def finish(self, window: Window, *, today: date, lookback_days: int) -> ExportState:
        """The state once all of a window is emitted.

        Args:
            window: The window.
            today: The project's day on which the run began. It is never marked as loaded,
                since it goes on.
            lookback_days: For how many days after its end a day can get late events.
        """
        past = intersect([window], _back_from(today, _EVER))
        readings = [
            *_reread(self.unsettled, window),
            *(Reading(part, today) for part in past),
        ]
        return replace(
            self,
            loaded=merge([*self.loaded, *past]),
            failed=_without(self.failed, window),
            unsettled=_join_readings(
                Reading(part, reading.read_on)
                for reading in readings
                for part in reading.unsettled(lookback_days)
            ),
        )

    def fail(self, failure: FailedWindow) -> ExportState:
        """The state once a window has failed; none of its days counts as loaded."""
        others = _without(self.failed, failure.window)
        return replace(
            self.forget(failure.window),
            failed=_join_failures(sorted([*others, failure], key=lambda f: f.window)),
        )

    def forget(self, window: Window) -> ExportState:
        """The state as if the days of a window had never been loaded."""
        return replace(
            self,
            loaded=subtract(self.loaded, [window]),
            unsettled=_reread(self.unsettled, window),
        )

    def to_reread(self, *, today: date, lookback_days: int) -> tuple[Window, ...]:
        """The loaded days that a run reads again, since they are not settled.

        Args:
            today: The project's current day.
            lookback_days: For how many days after its end a day can get late events.
        """
        earlier = (part for reading in self.unsettled for part in reading.unsettled(lookback_days))
        # The last days are not settled whatever the state says: `lookback_days` may have grown.
        return intersect(self.loaded, [*earlier, *_back_from(today, lookback_days)])

    def remaining(
        self, wanted: Window, *, today: date, lookback_days: int, replay: Window | None = None
    ) -> tuple[Window, ...]:
        """What a run has to read.

        Args:
            wanted: The days that are to be loaded.
            today: The project's current day.
            lookback_days: For how many days after its end a day can get late events.
            replay: Days to read again, wanted or not.
        """
        again = self.to_reread(today=today, lookback_days=lookback_days)
        return merge(
            [
                *subtract([wanted], self.loaded),
                *intersect([wanted], again),
                *([replay] if replay else []),
            ]
        )

    def to_bookmark(self) -> Bookmark:
        """The Singer bookmark that holds this state."""
        return {
            "replication_key": "time",
            "loaded": [[str(part.first), str(part.last)] for part in self.loaded],
            "partitions": [
                {
                    "context": {
                        "from_date": str(failure.window.first),
                        "to_date": str(failure.window.last),
                    },
                    "status": "failed",
                    "attempts": failure.attempts,
                    "error": failure.error,
                    "failed_at": failure.failed_at,
                }
                for failure in self.failed
            ],
            "unsettled": [
                [str(reading.window.first), str(reading.window.last), str(reading.read_on)]
                for reading in self.unsettled
            ],
            "selection": None if self.selection is None else dict(self.selection),
        }

    @classmethod
    def from_bookmark(cls, bookmark: object) -> ExportState:
        """Read a Singer bookmark.

        Raises:
            StateError: If it is of another shape, or makes no sense.
        """
        if bookmark is None or bookmark == {}:
            return cls()
        if not isinstance(bookmark, Mapping):
            raise _nonsense(f"the bookmark of 'events' is {bookmark!r}, not an object")
        if "loaded" not in bookmark:
            raise _nonsense(
                "the bookmark of 'events' has no 'loaded', so it is of another tap or version: "
                f"it has {', '.join(sorted(map(str, bookmark)))}"
            )
        selection = bookmark.get("selection")
        if selection is not None and not isinstance(selection, Mapping):
            raise _nonsense(f"'selection' is {selection!r}, not an object")
        loaded = merge(_read_range(item) for item in _items(bookmark, "loaded"))
        return cls(
            loaded=loaded,
            failed=_read_failures(_items(bookmark, "partitions")),
            unsettled=_read_readings(bookmark, loaded),
            selection=selection,
        )


def read_state(content: object, stream: str) -> ExportState:
    """A stream's state, from a Singer state, or from what `meltano state get` prints.

    Raises:
        StateError: If it is of another shape, makes no sense, or is of another tap.
    """
    if isinstance(content, Mapping) and "singer_state" in content:
        content = content["singer_state"]
    if not isinstance(content, Mapping):
        raise _nonsense(f"it is {content!r}, not an object")
    bookmarks = content.get("bookmarks", {})
    if not isinstance(bookmarks, Mapping):
        raise _nonsense(f"'bookmarks' is {bookmarks!r}, not an object")
    if content and "bookmarks" not in content:
        raise _nonsense(f"it has no 'bookmarks' but {', '.join(sorted(map(str, content)))}")
    if bookmarks and stream not in bookmarks:
        raise _nonsense(
            f"it knows no stream {stream!r} but {', '.join(sorted(map(str, bookmarks)))}, "
            "so it is of another tap"
        )
    return ExportState.from_bookmark(bookmarks.get(stream))


def check_fits(state: ExportState, *, selection: Mapping[str, Any], today: date) -> None:
    """Refuse a state whose loaded days mean something else than this run's would.

    Args:
        state: The saved state.
        selection: This run's settings that decide what a day holds.
        today: The project's current day.

    Raises:
        StateError: If the days were loaded with other settings, or lie in the future.
    """
    if not state.loaded:
        return
    if state.loaded[-1].last >= today:
        raise _nonsense(
            f"it says that {state.loaded[-1].last} is loaded, but today is {today} in the project"
        )
    if state.selection is None:
        return
    names = dict.fromkeys([*state.selection, *selection])
    for name in names:
        saved, current = state.selection.get(name), selection.get(name)
        known = name != "project_id" or (saved is not None and current is not None)
        if known and saved != current:
            raise StateError(
                f"state: its days were loaded with {name} {_shown(name, saved)}, but {name} is "
                f"now {_shown(name, current)}, so they are not loaded for this configuration. "
                f"{REMEDY}"
            )


def _without(failed: tuple[FailedWindow, ...], window: Window) -> tuple[FailedWindow, ...]:
    """The failures less the days of a window."""
    left: list[FailedWindow] = []
    for failure in failed:
        if failure.window.overlaps(window):
            parts = subtract([failure.window], [window])
            left.extend(replace(failure, window=part) for part in parts)
        else:
            left.append(failure)
    return tuple(left)


def _join_failures(failed: Iterable[FailedWindow]) -> tuple[FailedWindow, ...]:
    """The failures, with neighbours that failed in the same way as one.

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
    """The failure's reason without what differs between windows: lines, sizes, times."""
    return _NUMBER.sub("#", failure.error)


def _days_before(day: date, days: int) -> date:
    return date.fromordinal(max(day.toordinal() - days, 1))


def _back_from(day: date, lookback_days: int) -> tuple[Window, ...]:
    """The days before `day` that can still get late events on it."""
    first = _days_before(day, lookback_days)
    return (Window(first, day - _DAY),) if first < day else ()


def _reread(unsettled: Iterable[Reading], window: Window) -> tuple[Reading, ...]:
    """The readings less the days of a window."""
    return tuple(
        Reading(part, reading.read_on)
        for reading in unsettled
        for part in subtract([reading.window], [window])
    )


def _join_readings(readings: Iterable[Reading]) -> tuple[Reading, ...]:
    """The readings, with neighbours of the same day as one."""
    by_day = sorted(readings, key=lambda reading: reading.read_on)
    joined = [
        Reading(window, read_on)
        for read_on, group in groupby(by_day, key=lambda reading: reading.read_on)
        for window in merge(reading.window for reading in group)
    ]
    return tuple(sorted(joined, key=lambda reading: reading.window))


def _shown(name: str, value: object) -> str:
    """A value of the selection, which holds no defaults."""
    if value is not None:
        return repr(value)
    return "a real one" if name == "region" else "not set"


def _nonsense(problem: str) -> StateError:
    return StateError(f"state: {problem}. {REMEDY}")


def _items(bookmark: Mapping[Any, Any], key: str) -> list[Any]:
    items = bookmark.get(key, [])
    if not isinstance(items, list):
        raise _nonsense(f"'{key}' is {items!r}, not a list")
    return items


def _read_day(value: object) -> date:
    try:
        day = date.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise _nonsense(f"{value!r} is no date (yyyy-mm-dd)") from None
    if not EARLIEST_DAY <= day < date.max:
        raise _nonsense(f"{value!r} is not between {EARLIEST_DAY} and the end of the calendar")
    return day


def _read_range(item: object) -> Window:
    if not isinstance(item, (list, tuple)) or len(item) != 2:  # noqa: PLR2004
        raise _nonsense(f"{item!r} is no range of days [first, last]")
    first, last = map(_read_day, item)
    if last < first:
        raise _nonsense(f"the range {first}..{last} ends before it starts")
    return Window(first, last)


def _read_readings(bookmark: Mapping[Any, Any], loaded: tuple[Window, ...]) -> tuple[Reading, ...]:
    """When the unsettled days were last read."""
    if "unsettled" not in bookmark and loaded:
        # A state of an early version: its days were all read by `refreshed_on`, or else the
        # last of them was read on the day after it at the earliest.
        last = _read_day(bookmark.get("refreshed_on") or str(loaded[-1].last + _DAY))
        return tuple(Reading(window, last) for window in loaded)
    readings: tuple[Reading, ...] = ()
    for item in _items(bookmark, "unsettled"):
        if not isinstance(item, (list, tuple)) or len(item) != 3:  # noqa: PLR2004
            raise _nonsense(f"{item!r} is not a range of days with its day [first, last, read_on]")
        window = _read_range(item[:2])
        readings = (*_reread(readings, window), Reading(window, _read_day(item[2])))
    return _join_readings(readings)


def _read_failures(items: list[Any]) -> tuple[FailedWindow, ...]:
    failures: tuple[FailedWindow, ...] = ()
    for item in items:
        try:
            context = item["context"]
            failure = FailedWindow(
                window=_read_range([context["from_date"], context["to_date"]]),
                attempts=int(item.get("attempts", 0)),
                error=str(item.get("error", "")),
                failed_at=str(item.get("failed_at", "")),
            )
            status = item["status"]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise _nonsense(f"{item!r} is no failed window") from None
        if status != "failed":
            raise _nonsense(f"a partition's status is {status!r}, not 'failed'")
        failures = (*_without(failures, failure.window), failure)
    return tuple(sorted(failures, key=lambda f: f.window))
