"""Whether a body is that of its window, by the times of its events."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given

from tap_mixpanel_parallel.convert.records import EventReader
from tap_mixpanel_parallel.convert.strays import Strays
from tap_mixpanel_parallel.exceptions import AnotherBodyError, IncompleteExportError
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.sandbox import poisoned_lines
from tests.support.strategies import windows

if TYPE_CHECKING:
    from collections.abc import Iterable

WEEK = Window(date(2025, 1, 6), date(2025, 1, 12))
HOUR = 3_600_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ms(text: str) -> int:
    since = datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH
    return since // timedelta(milliseconds=1)


FIRST, LAST = ms("2025-01-06T00:00:00"), ms("2025-01-12T23:59:59.999")


def judge(times: Iterable[int], window: Window | None = WEEK) -> Strays:
    strays, events = Strays(window), 0
    for time_ms in times:
        strays.add(time_ms)
        events += 1
    strays.check(events)
    return strays


@pytest.mark.parametrize(
    ("times", "count"),
    [
        ([], 0),
        ([FIRST], 0),
        ([LAST], 0),
        ([FIRST - 1, FIRST], 1),
        ([LAST, LAST + 1, -(10**18)], 2),
        ([0, 1, 2, FIRST + HOUR], 3),
        # Zones are as much as fourteen hours from UTC.
        ([FIRST - 14 * HOUR], 1),
        ([LAST + 14 * HOUR, FIRST - 1], 2),
    ],
)
def test_a_body_that_is_taken(times: list[int], count: int) -> None:
    assert judge(times).count == count


@pytest.mark.parametrize(
    "times",
    [[FIRST - 14 * HOUR - 1], [LAST + 14 * HOUR + 1], [0], [LAST + HOUR, LAST + 20 * HOUR]],
)
def test_a_body_that_is_not(times: list[int]) -> None:
    with pytest.raises(IncompleteExportError, match="belongs to another request: none of its"):
        judge(times)


def test_the_reason_says_what_is_there_instead() -> None:
    with pytest.raises(IncompleteExportError) as caught:
        judge([LAST + 1, ms("2025-02-01T10:00:00"), 0])
    assert str(caught.value) == (
        "the answer belongs to another request: none of its 3 events lies on these days; "
        "the first of them is of 2025-02-01T10:00:00.000Z"
    )


def test_without_a_window_nothing_lies_outside() -> None:
    assert judge([0, -(10**17), 10**17], None).count == 0


@pytest.mark.parametrize("window", [Window(date.min, date.min), Window(date.max, date.max)])
def test_the_ends_of_the_calendar(window: Window) -> None:
    [day] = window.days()
    noon = ms(f"{day}T12:00:00")
    assert judge([noon], window).count == 0
    with pytest.raises(IncompleteExportError):
        judge([FIRST], window)


@pytest.mark.parametrize(
    ("inside", "far", "is_taken"),
    [
        (1, 9, True),
        (1, 10, False),
        (990, 9, True),
        (989, 10, False),
        (990, 10, False),
        (991, 10, True),
        (9_900, 99, True),
        (9_900, 100, False),
        (0, 1, False),
    ],
)
def test_events_that_lie_far_outside(inside: int, far: int, is_taken: bool) -> None:
    times = [FIRST] * inside + [ms("2025-02-01T10:00:00")] * far
    if is_taken:
        assert judge(times).count == far
        return
    with pytest.raises(IncompleteExportError, match=r"request: .* is of 2025-02-01T10:00:00.000Z"):
        judge(times)


@pytest.mark.parametrize(("events", "is_taken"), [(9, True), (10, False), (10_000, False)])
def test_events_that_all_lie_a_little_outside(events: int, is_taken: bool) -> None:
    times = [LAST + HOUR] * events
    if is_taken:
        assert judge(times).count == events
        return
    with pytest.raises(IncompleteExportError, match=r"lies on .* is of 2025-01-13T00:59:59.999Z"):
        judge(times)


@pytest.mark.parametrize("time_ms", [-(10**17), -1, 0, 10**17])
def test_a_time_that_no_calendar_has_is_a_reason_too(time_ms: int) -> None:
    with pytest.raises(AnotherBodyError, match="the first of them is of "):
        judge([time_ms] * 20)


def test_the_reason_counts_what_lies_far_outside() -> None:
    with pytest.raises(IncompleteExportError) as caught:
        judge([FIRST] * 3 + [LAST + HOUR] + [0] * 1_200)
    assert str(caught.value) == (
        "the answer belongs to another request: 1,200 of its 1,204 events lie far from these "
        "days; the first of them is of 1970-01-01T00:00:00.000Z"
    )


@given(windows(), windows())
def test_windows_are_told_apart(asked: Window, answered: Window) -> None:
    """Where there are events all day long; 14 hours around the window may be its zone's."""
    times = [ms(f"{day}T{hour:02}:30:00") for day in answered.days() for hour in range(24)]
    around = timedelta(hours=14) // timedelta(milliseconds=1)
    first = ms(f"{asked.first}T00:00:00") - around
    last = ms(f"{asked.last}T23:59:59") + around
    far = sum(not first <= time_ms <= last for time_ms in times)
    if asked.overlaps(answered) and far < 10:
        judge(times, asked)
    else:
        with pytest.raises(IncompleteExportError):
            judge(times, asked)


@pytest.mark.parametrize("days", [1, 7, 40, 365])
@pytest.mark.parametrize("first", [date(2025, 1, 1), date(2025, 1, 6)])
def test_a_poisoned_project_is_taken(days: int, first: date) -> None:
    """Without other events, where the odd times weigh most."""
    window = Window(first, first + timedelta(days - 1))
    reader = EventReader(ZoneInfo("UTC"), window)
    lines = (line for day in window.days() for line in poisoned_lines(day))
    reader.strays.check(len(list(reader.read(lines))))
    assert reader.strays.count == 4 * sum(day.day == 1 for day in window.days())
