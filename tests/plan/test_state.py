"""The state through any run: what is loaded, what failed, what is read again."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.plan.bookmark import to_bookmark
from tap_mixpanel_parallel.plan.state import ExportState, FailedWindow, Reading
from tap_mixpanel_parallel.plan.windows import Window, merge
from tests.support.strategies import DAYS, days_of, windows

if TYPE_CHECKING:
    from collections.abc import Sequence

TODAY = date(2025, 3, 31)
STEPS = st.lists(st.tuples(st.booleans(), windows()), max_size=12)


def window(text: str) -> Window:
    first, _, last = text.partition("..")
    return Window.parse(f"2025-{first}", f"2025-{last or first}")


def failure(days: Window, error: str = "HTTP 500") -> FailedWindow:
    return FailedWindow(days, 5, error, "2025-04-01T02:03:04Z")


def replay(steps: Sequence[tuple[bool, Window]], today: date) -> ExportState:
    state = ExportState()
    for finished, days in steps:
        state = finish(state, days, today) if finished else state.fail(failure(days))
    return state


def finish(
    state: ExportState, days: Window, today: date = TODAY, lookback_days: int = 5
) -> ExportState:
    return state.finish(days, today=today, lookback_days=lookback_days)


def reading(text: str, read_on: str) -> Reading:
    return Reading(window(text), window(read_on).first)


class TestRun:
    @given(STEPS, DAYS)
    def test_any_sequence_of_windows(self, steps: list[tuple[bool, Window]], today: date) -> None:
        loaded: set[date] = set()
        failed: set[date] = set()
        for finished, days in steps:
            if finished:
                loaded |= {day for day in days.days() if day < today}
                failed -= set(days.days())
            else:
                loaded -= set(days.days())
                failed |= set(days.days())
        state = replay(steps, today)
        assert days_of(state.loaded) == loaded
        assert state.loaded == merge(state.loaded)
        broken = [item.window for item in state.failed]
        assert days_of(broken) == failed
        assert sum(map(len, broken)) == len(failed)
        assert broken == sorted(broken)

    @given(STEPS, windows(90), DAYS, st.integers(0, 20), st.none() | windows())
    def test_remaining(
        self,
        steps: list[tuple[bool, Window]],
        wanted: Window,
        today: date,
        lookback_days: int,
        replay_days: Window | None,
    ) -> None:
        state = replay(steps, today)
        loaded = days_of(state.loaded)
        again = {
            day
            for item in state.unsettled
            for day in item.window.days()
            if (item.read_on - day).days <= lookback_days
        } | {day for day in loaded if 1 <= (today - day).days <= lookback_days}
        remaining = state.remaining(
            wanted, today=today, lookback_days=lookback_days, replay=replay_days
        )
        assert days_of(remaining) == {
            day for day in wanted.days() if day not in loaded
        } | again | days_of([replay_days] if replay_days else [])
        assert remaining == merge(remaining)

    def test_today_is_never_loaded(self) -> None:
        state = finish(ExportState(), window("03-30..04-02"))
        assert state.loaded == (window("03-30"),)
        assert finish(state, window("03-31")).loaded == state.loaded

    def test_a_failed_window_leaves_as_its_days_are_loaded(self) -> None:
        state = ExportState().fail(failure(window("02-01..02-10")))
        state = finish(state, window("02-04..02-05"))
        assert [item.window for item in state.failed] == [
            window("02-01..02-03"),
            window("02-06..02-10"),
        ]
        assert {item.attempts for item in state.failed} == {5}
        state = finish(state, window("01-01..02-28"))
        assert state.failed == ()

    def test_a_failed_window_leaves_as_today(self) -> None:
        state = ExportState().fail(failure(window("03-31")))
        assert finish(state, window("03-31")).failed == ()

    def test_a_failed_reread_is_not_loaded_any_more(self) -> None:
        state = ExportState(loaded=(window("01-01..03-30"),))
        state = state.fail(failure(window("03-26..03-30")))
        assert state.loaded == (window("01-01..03-25"),)
        tomorrow = TODAY + timedelta(days=30)
        missing = state.remaining(window("01-01..03-31"), today=tomorrow, lookback_days=0)
        assert missing == (window("03-26..03-31"),)

    def test_the_latest_failure_counts(self) -> None:
        state = ExportState().fail(failure(window("02-01..02-10"), "old"))
        state = state.fail(failure(window("02-05..02-06"), "new"))
        assert [(item.window, item.error) for item in state.failed] == [
            (window("02-01..02-04"), "old"),
            (window("02-05..02-06"), "new"),
            (window("02-07..02-10"), "old"),
        ]


class TestNeighbours:
    def test_failures_of_one_kind_are_one(self) -> None:
        state = ExportState()
        for text, error in [
            ("02-01..02-03", "line 7 is bad"),
            ("02-07..02-09", "line 12 is bad"),
            ("02-10..02-12", "HTTP 500"),
            ("02-04..02-06", "line 1,300 is bad"),
        ]:
            state = state.fail(failure(window(text), error))
        assert [(item.window, item.error[:4]) for item in state.failed] == [
            (window("02-01..02-09"), "line"),
            (window("02-10..02-12"), "HTTP"),
        ]

    def test_a_state_stays_small_however_many_windows_fail(self) -> None:
        state, written = ExportState(), 0
        for number in range(4000):
            day = Window(*[date(2010, 1, 1) + timedelta(days=number)] * 2)
            state = state.fail(failure(day, f"HTTP 500: request {number * 48271:x} failed"))
            written += len(json.dumps(to_bookmark(state)))
        assert written < 4000 * 500


class TestSettled:
    LOADED = (Window.parse("2025-01-01", "2025-03-30"),)

    def test_the_last_days_are_not(self) -> None:
        state = finish(ExportState(), window("01-01..03-31"))
        assert state.unsettled == (reading("03-26..03-30", "03-31"),)

    def test_a_day_is_once_it_was_read_late_enough(self) -> None:
        state = finish(ExportState(), window("01-01..03-31"))
        later = finish(state, window("03-26..03-28"), window("04-02").first)
        assert later.unsettled == (reading("03-28", "04-02"), reading("03-29..03-30", "03-31"))
        assert finish(later, window("03-28..03-30"), window("04-05").first).unsettled == ()

    @pytest.mark.parametrize(
        ("today", "expected"),
        [("03-31", "03-26..03-31"), ("04-01", "03-26..04-01"), ("04-30", "03-26..04-30")],
        ids=["the same day", "the next day", "after a pause"],
    )
    def test_what_is_not_is_read_again_by_every_run(self, today: str, expected: str) -> None:
        state = finish(ExportState(), window("01-01..03-31"))
        on = window(today).first
        wanted = Window(date(2025, 1, 1), on)
        assert state.remaining(wanted, today=on, lookback_days=5) == (window(expected),)

    def test_whoever_wants_a_longer_look_back_gets_it(self) -> None:
        state = finish(ExportState(), window("01-01..03-31"), lookback_days=0)
        assert state.unsettled == ()
        again = state.to_reread(today=TODAY, lookback_days=20)
        assert again == (window("03-11..03-30"),)

    def test_without_a_look_back_every_day_is(self) -> None:
        state = finish(ExportState(), window("01-01..03-31"))
        assert state.to_reread(today=TODAY, lookback_days=0) == ()
        assert finish(state, window("03-26..03-31"), lookback_days=0).unsettled == ()

    def test_a_day_that_nobody_wants_any_more_is_read_again(self) -> None:
        state = finish(ExportState(), window("01-01..03-31"))
        later = window("05-01").first
        assert state.remaining(window("04-30..05-01"), today=later, lookback_days=5) == (
            window("03-26..03-30"),
            window("04-30..05-01"),
        )

    def test_a_run_with_a_shorter_look_back_forgets_nothing(self) -> None:
        state = finish(ExportState(), window("01-01..03-31"))
        state = finish(state, window("01-01"), lookback_days=0)
        assert state.unsettled == (reading("03-26..03-30", "03-31"),)

    def test_a_reread_that_fails_unloads(self) -> None:
        state = finish(ExportState(), window("01-01..03-31"))
        state = state.fail(failure(window("03-26..03-28")))
        assert state.unsettled == (reading("03-29..03-30", "03-31"),)
        assert state.loaded == (window("01-01..03-25"), window("03-29..03-30"))

    def test_what_is_forgotten_is_neither_loaded_nor_unsettled(self) -> None:
        state = finish(ExportState(), window("01-01..03-31")).forget(window("03-20..03-28"))
        assert state.loaded == (window("01-01..03-19"), window("03-29..03-30"))
        assert state.unsettled == (reading("03-29..03-30", "03-31"),)
