"""The calendar of a state."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given

from tap_mixpanel_parallel.plan.state import ExportState, FailedWindow
from tap_mixpanel_parallel.plan.status import DayKind, Status
from tap_mixpanel_parallel.plan.windows import Window, merge
from tap_mixpanel_parallel.report.page.calendar import MOST_MONTHS, Calendar, Ranges, make_calendar
from tests.support.strategies import RANGES, days_of

TODAY = date(2025, 3, 3)


def days(calendar: Calendar) -> dict[date, DayKind | None]:
    cells = (day for month in calendar.months for week in month.weeks for day in week)
    return {cell.day: cell.kind for cell in cells if cell is not None}


def failure(window: Window, error: str = "HTTP 500") -> FailedWindow:
    return FailedWindow(window, 5, error, "2025-03-03T02:00:00Z")


def test_nothing_is_known() -> None:
    assert make_calendar(ExportState()) is None


def test_kinds_events_and_words() -> None:
    state = ExportState().finish(
        Window(date(2025, 2, 20), date(2025, 2, 28)), today=TODAY, lookback_days=5
    )
    state = state.fail(failure(Window(date(2025, 2, 24), date(2025, 2, 24))))
    events = {date(2025, 2, 20): 200, date(2025, 2, 21): 1, date(2025, 2, 22): 0}
    calendar = make_calendar(
        state, wanted=Window(date(2025, 2, 19), TODAY), today=TODAY, events=events
    )
    assert calendar is not None
    assert [month.name for month in calendar.months] == ["February 2025", "March 2025"]
    assert calendar.months[0].text == "8 loaded, 1 failed, 1 missing, 201 events"
    found = days(calendar)
    assert found[date(2025, 2, 18)] is None
    assert found[date(2025, 2, 19)] is DayKind.MISSING
    assert found[date(2025, 2, 20)] is DayKind.LOADED
    assert found[date(2025, 2, 24)] is DayKind.FAILED
    assert found[date(2025, 2, 28)] is DayKind.UNSETTLED
    assert found[TODAY] is DayKind.TODAY
    cells = {day.day: day for week in calendar.months[0].weeks for day in week if day}
    assert [cells[each].height for each in events] == [100, 1, 0]
    assert cells[date(2025, 2, 21)].text == "2025-02-21: loaded, 1 event"
    assert cells[date(2025, 2, 28)].text == "2025-02-28: loaded, read again for late events"
    assert [(each.label, each.days, each.shown) for each in calendar.ranges] == [
        ("failed", 1, ("2025-02-24",)),
        ("missing", 3, ("2025-02-19", "2025-03-01..2025-03-02")),
        ("loaded, read again for late events", 3, ("2025-02-26..2025-02-28",)),
        ("loaded, without an event", 1, ("2025-02-22",)),
    ]


def test_weeks_begin_on_monday() -> None:
    state = ExportState(loaded=(Window(date(2025, 2, 1), date(2025, 2, 1)),))
    calendar = make_calendar(state)
    assert calendar is not None
    [month] = calendar.months
    assert [len(week) for week in month.weeks] == [7] * 5
    for week in month.weeks:
        assert [day.day.weekday() for day in week if day] == [
            n for n, day in enumerate(week) if day
        ]


def test_many_years_are_cut() -> None:
    state = ExportState(loaded=(Window(date(1970, 1, 1), date(9990, 1, 1)),))
    calendar = make_calendar(state)
    assert calendar is not None
    assert len(calendar.months) == MOST_MONTHS
    assert calendar.months[-1].name == "January 9990"
    assert calendar.earlier == (9990 - 1970) * 12 + 1 - MOST_MONTHS


def test_many_ranges_are_cut() -> None:
    first = date(2025, 1, 1)
    odd = [first + timedelta(days=2 * n) for n in range(40)]
    calendar = make_calendar(ExportState(loaded=tuple(Window(day, day) for day in odd)))
    assert calendar is not None
    [missing] = calendar.ranges
    assert missing == Ranges("missing", 39, missing.shown, 9)


@given(loaded=RANGES, failed=RANGES)
def test_it_says_what_the_status_says(loaded: list[Window], failed: list[Window]) -> None:
    state = ExportState(loaded=merge(loaded))
    for window in failed:
        state = state.fail(failure(window))
    calendar = make_calendar(state)
    known = days_of([*loaded, *failed])
    assert (calendar is None) is (not known)
    if calendar is not None and not calendar.earlier:
        status = Status.of(state)
        assert status.span is not None
        shown = {day: kind for day, kind in days(calendar).items() if kind is not None}
        assert shown == status.kinds(status.span)
        assert {day for day, kind in shown.items() if kind is DayKind.FAILED} == days_of(failed)
