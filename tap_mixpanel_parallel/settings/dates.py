"""Reads the settings that say which days are loaded."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.plan.windows import EARLIEST_DAY, Window

if TYPE_CHECKING:
    from tap_mixpanel_parallel.settings.reader import ConfigReader

_DATE: Final = re.compile(r"(\d{4}-\d{2}-\d{2})([T ]00:00(:00(\.0+)?)?(Z|\+00:00)?)?")
_PERIOD: Final = re.compile(r"P(\d{1,5})D")


def read_wanted(reader: ConfigReader, today: date) -> Window:
    """The days from `start_date` to `end_date`, up to today at most."""
    end = _read_date(reader, "end_date") or today
    if end > today:
        reader.warnings.append(f"end_date {end} is in the future: reading up to today, {today}")
    last = min(end, today)
    first = _read_first(reader, last, today)
    if first is None:
        return Window(today, today)
    if end < first:
        problem = f"is before start_date {first}; give that day or a later one"
        reader.reject("end_date", str(end), problem)
        return Window(today, today)
    return Window(first, last)


def is_period(reader: ConfigReader) -> bool:
    """Whether `start_date` is a number of days."""
    value = reader.value("start_date")
    return isinstance(value, str) and _PERIOD.fullmatch(value) is not None


def _read_first(reader: ConfigReader, last: date, today: date) -> date | None:
    """The first day, from a date or a number of days that end with `last`."""
    name = "start_date"
    value = reader.value(name)
    if value is None:
        reader.problems.append(f"{name}: is missing; give the first day, e.g. 2025-01-01")
        return None
    if isinstance(value, str) and (period := _PERIOD.fullmatch(value)):
        if 1 <= int(period[1]) <= (last - EARLIEST_DAY).days + 1:
            return last - timedelta(days=int(period[1]) - 1)
        problem = f"is not a period that begins on {EARLIEST_DAY} or later; give e.g. P90D"
    elif (first := _read_date(reader, name)) is None:
        return None
    elif first < EARLIEST_DAY:
        problem = f"is before {EARLIEST_DAY}, and Mixpanel has no older event; give a later day"
    elif first > today:
        problem = f"is in the future; give a day up to today, {today} in the project's time zone"
    else:
        return first
    reader.reject(name, value, problem)
    return None


def _read_date(reader: ConfigReader, name: str) -> date | None:
    value = reader.value(name)
    if value is None:
        return None
    try:
        return date.fromisoformat(_DATE.fullmatch(value)[1])  # type: ignore[index]
    except (TypeError, ValueError):
        reader.reject(name, value, "is not a valid date; give yyyy-mm-dd, e.g. 2025-01-31")
        return None


def read_replay(reader: ConfigReader, today: date) -> Window | None:
    """The days to read again: a day, or a range of days up to today."""
    value = reader.text("replay")
    if value is None:
        return None
    try:
        return parse_days(value, today)
    except ValueError as error:
        reader.reject("replay", value, str(error))
        return None


def parse_days(text: str, today: date) -> Window:
    """Parse a day, or a range of days up to today.

    Raises:
        ValueError: If it is not one; it says what to give.
    """
    first, dots, last = text.partition("..")
    with suppress(ValueError):
        window = Window.parse(first, last if dots else first)
        if window.first >= EARLIEST_DAY and window.last <= today:
            return window
    raise ValueError(
        f"is not a range of days from {EARLIEST_DAY} to {today}; give e.g. 2025-01-05..2025-01-11"
    )
