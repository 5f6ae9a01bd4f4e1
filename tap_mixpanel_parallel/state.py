"""What is loaded and what failed; to and from a Singer bookmark. Pure.

The bookmark of the stream `events`:

    {"replication_key": "time",
     "loaded": [["2025-01-01", "2025-02-04"], ["2025-02-12", "2025-03-30"]],
     "partitions": [{"context": {"from_date": "2025-02-05", "to_date": "2025-02-11"},
                     "status": "failed", "attempts": 5, "error": "HTTP 500 …",
                     "failed_at": "2025-04-01T02:03:04Z"}],
     "refreshed_on": "2025-04-01",
     "selection": {"events": ["Sign Up"]}}

`loaded` alone decides what is left to do. `partitions` are the windows that failed, for
people. `refreshed_on` is the day of the last run that went through all of its windows:
the look-back counts from there, so a schedule that paused still reads late events.
`selection` is what the days were loaded with, where that is not the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Final

from tap_mixpanel_parallel.exceptions import StateError
from tap_mixpanel_parallel.windows import Window, intersect, merge, subtract

_EARLIEST_YEAR: Final = 20
"""Leaves room for the longest look-back before it."""

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
class ExportState:
    """What one stream has loaded, and what has failed.

    Attributes:
        loaded: The days whose events are all emitted; disjoint and sorted.
        failed: The windows that failed and are not loaded since; disjoint and sorted.
        refreshed_on: The day of the last run that went through all of its windows.
        selection: The settings that the loaded days depend on, where not the default;
            None where it is not known.
    """

    loaded: tuple[Window, ...] = ()
    failed: tuple[FailedWindow, ...] = ()
    refreshed_on: date | None = None
    selection: Mapping[str, Any] | None = field(default=None)

    def finish(self, window: Window, *, today: date) -> ExportState:
        """The state once all of a window is emitted.

        Args:
            window: The window.
            today: The project's current day; it is never marked, since it goes on.
        """
        last = min(window.last, today - timedelta(days=1))
        settled = [Window(window.first, last)] if window.first <= last else []
        return replace(
            self,
            loaded=merge([*self.loaded, *settled]),
            failed=_without(self.failed, window),
        )

    def fail(self, failure: FailedWindow) -> ExportState:
        """The state once a window has failed; none of its days counts as loaded."""
        others = _without(self.failed, failure.window)
        return replace(
            self,
            loaded=subtract(self.loaded, [failure.window]),
            failed=tuple(sorted([*others, failure], key=lambda f: f.window)),
        )

    def complete(self, *, wanted: Window, today: date, lookback_days: int) -> ExportState:
        """The state once a run has gone through all of its windows.

        Late events count as read only if the run was to read every loaded day that can
        still get some.
        """
        unread = subtract(
            intersect(self.loaded, self.lookback(today=today, lookback_days=lookback_days)),
            [wanted],
        )
        return self if unread else replace(self, refreshed_on=today)

    def lookback(self, *, today: date, lookback_days: int) -> tuple[Window, ...]:
        """The days before today that are read again for late events.

        They reach back from the last complete run if that is longer ago than today.
        """
        if lookback_days == 0 or today == date.min:
            return ()
        base = min(today, self.refreshed_on or today)
        return (Window(base - timedelta(days=lookback_days), today - timedelta(days=1)),)

    def remaining(
        self, wanted: Window, *, today: date, lookback_days: int, replay: Window | None = None
    ) -> tuple[Window, ...]:
        """What a run has to read.

        Args:
            wanted: The days that are to be loaded.
            today: The project's current day.
            lookback_days: Days before today to read again for late events.
            replay: Days to read again, wanted or not.
        """
        lookback = self.lookback(today=today, lookback_days=lookback_days)
        return merge(
            [
                *subtract([wanted], self.loaded),
                *intersect([wanted], lookback),
                *([replay] if replay else []),
            ]
        )

    def to_bookmark(self) -> Bookmark:
        """The Singer bookmark that holds this state."""
        bookmark: Bookmark = {
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
        }
        if self.refreshed_on is not None:
            bookmark["refreshed_on"] = str(self.refreshed_on)
        if self.selection is not None:
            bookmark["selection"] = dict(self.selection)
        return bookmark

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
        refreshed_on = bookmark.get("refreshed_on")
        return cls(
            loaded=merge(_read_range(item) for item in _items(bookmark, "loaded")),
            failed=_read_failures(_items(bookmark, "partitions")),
            refreshed_on=None if refreshed_on is None else _read_day(refreshed_on),
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
    if not _EARLIEST_YEAR <= day.year < date.max.year:
        raise _nonsense(f"{value!r} is at an end of the calendar")
    return day


def _read_range(item: object) -> Window:
    if not isinstance(item, (list, tuple)) or len(item) != 2:  # noqa: PLR2004
        raise _nonsense(f"{item!r} is no range of days [first, last]")
    first, last = map(_read_day, item)
    if last < first:
        raise _nonsense(f"the range {first}..{last} ends before it starts")
    return Window(first, last)


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
