"""A state to and from a Singer bookmark. Pure.

The bookmark of the stream `events`:

    {"replication_key": "time",
     "loaded": [["2025-01-01", "2025-02-04"], ["2025-02-12", "2025-03-30"]],
     "partitions": [{"context": {"from_date": "2025-02-05", "to_date": "2025-02-11"},
                     "status": "failed", "attempts": 5, "error": "HTTP 500 …",
                     "failed_at": "2025-04-01T02:03:04Z"}],
     "unsettled": [["2025-03-27", "2025-03-30", "2025-04-01"]],
     "selection": {"region": null, "project_id": "1234", "events": ["Sign Up"],
                   "where": null, "project_timezone": null},
     "stored": null,
     "columns": [{"name": "os", "property": "$os", "type": "string", "chosen": true,
                  "days": [["2025-02-12", "2025-03-30"]]}],
     "requests": [["1a2b3c4d", 1764042902, 20], ["1a2b3c4d", 1764042967, 3]]}

`loaded` and `unsettled` decide what is left to do. A day is settled once it was read at
least `lookback_days` after its end. `unsettled` holds the loaded days that are not settled,
with the day on which they were last read. `partitions` are the windows that failed, for
people. `selection` holds the settings that decide which events a day has. `stored` names
the last window that left as files (see `write.storage`). `columns` tells which days were read
with each of `property_columns`, those of earlier settings included. `requests` says for
each minute of the last hour against which account's limits requests count, the second at
which the last of them started, and how many there were.

Meltano merges a new state into the saved one, key by key. So every key is written each
time, and a setting that is not set is null: a missing key would keep its old value. A key
that holds an object always does: Meltano can't merge one into a null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from tap_mixpanel_parallel.exceptions import StateError
from tap_mixpanel_parallel.plan.filled import Choice, FilledColumn
from tap_mixpanel_parallel.plan.state import (
    ExportState,
    FailedWindow,
    Reading,
    Requests,
    without,
)
from tap_mixpanel_parallel.plan.windows import EARLIEST_DAY, Window, merge
from tap_mixpanel_parallel.wording import shown

STORED: Final = re.compile(r"\d{8}T\d{12}Z-\d{6}", re.ASCII)
"""When a run began, and the number of a window in it: later ones are greater as text."""

_LATEST: Final = 1 << 40
"""Seconds that no clock shows, and that every kind of number holds."""

_MOST_REQUESTS: Final = 1_000_000

_REMEDY: Final = (
    "Use the state that belongs to this configuration, another state id, or none at all "
    "(`meltano run --full-refresh`, or no --state), which reads every day again."
)

_APART: Final = (
    "The sandbox's events are synthetic, and must not come into a project's table: load into "
    "another database or another schema, with another state id or none."
)


def to_bookmark(state: ExportState) -> dict[str, Any]:
    """The Singer bookmark of a state."""
    requests = state.requests
    return {
        "replication_key": "time",
        "loaded": [[str(part.first), str(part.last)] for part in state.loaded],
        "partitions": [
            {
                "context": failure.window.to_json(),
                "status": "failed",
                "attempts": failure.attempts,
                "error": failure.error,
                "failed_at": failure.failed_at,
            }
            for failure in state.failed
        ],
        "unsettled": [
            [str(reading.window.first), str(reading.window.last), str(reading.read_on)]
            for reading in state.unsettled
        ],
        "selection": None if state.selection is None else dict(state.selection),
        "stored": state.stored,
        "columns": [
            {
                **column.choice._asdict(),
                "chosen": column.is_chosen,
                "days": [[str(part.first), str(part.last)] for part in column.days],
            }
            for column in state.columns
        ],
        "requests": [[requests.account, *each] for each in requests.started] if requests else [],
    }


def from_bookmark(bookmark: object) -> ExportState:
    """The state in a Singer bookmark.

    Raises:
        StateError: If it has another shape, or is not valid.
    """
    if bookmark is None or bookmark == {}:
        return ExportState()
    if not isinstance(bookmark, Mapping):
        raise _invalid(f"the bookmark of 'events' is {bookmark!r}, not an object")
    for name in ("loaded", "unsettled"):
        if name not in bookmark:
            raise _invalid(
                f"the bookmark of 'events' has no '{name}', so it belongs to another tap or "
                f"version: it has {_names(bookmark)}"
            )
    selection = bookmark.get("selection")
    if selection is not None and not isinstance(selection, Mapping):
        raise _invalid(f"'selection' is {selection!r}, not an object")
    stored = bookmark.get("stored")
    if stored is not None and not (isinstance(stored, str) and STORED.fullmatch(stored)):
        raise _invalid(f"'stored' is {stored!r}, not the time and the number of a window")
    return ExportState(
        loaded=merge(map(_read_range, _items(bookmark, "loaded"))),
        failed=_read_failures(_items(bookmark, "partitions")),
        unsettled=_read_readings(_items(bookmark, "unsettled")),
        selection=selection,
        stored=stored,
        columns=tuple(map(_read_column, _items(bookmark, "columns"))),
        requests=_read_requests(_items(bookmark, "requests")),
    )


def read_state(content: object, stream: str) -> ExportState:
    """A stream's state, from a Singer state, a STATE message, or a state as Meltano has it.

    Raises:
        StateError: If it has another shape, is not valid, or belongs to another tap.
    """
    content = _unwrap(content)
    if not isinstance(content, Mapping):
        raise _invalid(f"it is {content!r}, not an object")
    bookmarks = content.get("bookmarks", {})
    if not isinstance(bookmarks, Mapping):
        raise _invalid(f"'bookmarks' is {bookmarks!r}, not an object")
    if content and "bookmarks" not in content:
        raise _invalid(f"it has no 'bookmarks', only {_names(content)}")
    if bookmarks and stream not in bookmarks:
        raise _invalid(
            f"it has no stream {stream!r}, only {_names(bookmarks)}, so it belongs to another tap"
        )
    return from_bookmark(bookmarks.get(stream))


def _unwrap(content: object) -> object:
    """The Singer state in a STATE message, or in what Meltano prints and stores."""
    if isinstance(content, Mapping):
        if content.get("type") == "STATE" and "value" in content:
            return _unwrap(content["value"])
        if "singer_state" in content:
            return _unwrap(content["singer_state"])
        if "completed" in content:
            # Each state is whole, so that of a run that was cut off replaces the one before.
            return _unwrap(content.get("partial") or content["completed"] or {})
    return content


def check_fits(state: ExportState, *, selection: Mapping[str, Any]) -> None:
    """Refuse a state whose loaded days do not hold what this run would load.

    Raises:
        StateError: If the days were loaded with other settings.
    """
    if not state.loaded or state.selection is None:
        return
    for name in dict.fromkeys([*state.selection, *selection]):
        saved, current = state.selection.get(name), selection.get(name)
        known = name != "project_id" or (saved is not None and current is not None)
        if known and saved != current:
            raise _invalid(
                f"its days were loaded with {name} {_shown(name, saved)}, but {name} is now "
                f"{_shown(name, current)}, so they are not loaded for this configuration",
                _APART if name == "region" else _REMEDY,
            )


def _shown(name: str, value: object) -> str:
    """A value of the selection, in which a default is null."""
    if value is not None:
        return repr(value)
    return "us, eu or in" if name == "region" else "not set"


def _names(content: Mapping[Any, Any]) -> str:
    return ", ".join(sorted(map(str, content)))


def _invalid(problem: str, remedy: str = _REMEDY) -> StateError:
    return StateError(f"state: {problem}. {remedy}")


def _items(bookmark: Mapping[Any, Any], key: str) -> list[Any]:
    items = bookmark.get(key, [])
    if not isinstance(items, list):
        raise _invalid(f"'{key}' is {items!r}, not a list")
    return items


def _read_day(value: object) -> date:
    try:
        day = date.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise _invalid(f"{value!r} is not a valid date (yyyy-mm-dd)") from None
    if not EARLIEST_DAY <= day < date.max:
        raise _invalid(f"{value!r} is not between {EARLIEST_DAY} and the end of the calendar")
    return day


def _read_range(item: object) -> Window:
    if not isinstance(item, (list, tuple)) or len(item) != 2:  # noqa: PLR2004
        raise _invalid(f"{item!r} is not a range of days [first, last]")
    first, last = map(_read_day, item)
    if last < first:
        raise _invalid(f"the range {first}..{last} ends before it starts")
    return Window(first, last)


def _read_readings(items: list[Any]) -> tuple[Reading, ...]:
    """The days on which the unsettled days were last read."""
    readings: tuple[Reading, ...] = ()
    for item in items:
        if not isinstance(item, (list, tuple)) or len(item) != 3:  # noqa: PLR2004
            raise _invalid(
                f"{item!r} is not a range of days and the day on which they were read "
                "[first, last, read_on]"
            )
        reading = Reading(_read_range(item[:2]), _read_day(item[2]))
        readings = (*without(readings, reading.window), reading)
    return tuple(sorted(readings, key=lambda reading: reading.window))


def _read_column(item: Any) -> FilledColumn:
    try:
        choice = Choice(item["name"], item["property"], item["type"])
        is_chosen, days = item["chosen"], _items(item, "days")
    except (KeyError, TypeError, AttributeError):
        raise _invalid(f"{item!r} is not a column") from None
    if not all(isinstance(text, str) for text in choice) or not isinstance(is_chosen, bool):
        raise _invalid(f"{item!r} is not a column")
    return FilledColumn(choice, is_chosen, merge(map(_read_range, days)))


def _read_requests(items: list[Any]) -> Requests | None:
    """The requests that earlier runs have started."""
    total = 0
    for item in items:
        shape = [type(value) for value in item] if isinstance(item, (list, tuple)) else []
        if shape != [str, int, int] or not (0 <= item[1] < _LATEST and item[2] > 0):
            raise _invalid(
                f"{item!r} is not the requests of a minute [account, second of the last, how many]"
            )
        total += item[2]
    if total > _MOST_REQUESTS:
        raise _invalid(f"'requests' counts {shown(total)} within an hour")
    accounts = {item[0] for item in items}
    if len(accounts) > 1:
        raise _invalid(f"'requests' names several accounts: {', '.join(sorted(accounts))}")
    return Requests(accounts.pop(), tuple((item[1], item[2]) for item in items)) if items else None


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
            raise _invalid(f"{item!r} is not a failed window") from None
        if status != "failed":
            raise _invalid(f"a partition's status is {status!r}, not 'failed'")
        failures = (*without(failures, failure.window), failure)
    return tuple(sorted(failures, key=lambda failure: failure.window))
