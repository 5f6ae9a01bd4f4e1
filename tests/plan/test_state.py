"""What is loaded and what failed, through any run, and to and from a bookmark."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.exceptions import StateError
from tap_mixpanel_parallel.plan.state import (
    ExportState,
    FailedWindow,
    Reading,
    check_fits,
    read_state,
)
from tap_mixpanel_parallel.plan.windows import Window, merge
from tests.support.strategies import DAYS, RANGES, TEXT, days_of, windows

if TYPE_CHECKING:
    from collections.abc import Sequence

TODAY = date(2025, 3, 31)
YEAR = Window.parse("2025-01-01", "2025-12-31")
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


def bookmark(**replaced: Any) -> dict[str, Any]:
    return {
        "replication_key": "time",
        "loaded": [],
        "partitions": [],
        "unsettled": [],
        "selection": None,
    } | replaced


def partition(**replaced: Any) -> dict[str, Any]:
    context = {"from_date": "2025-01-01", "to_date": "2025-01-02"}
    return {"context": context, "status": "failed", "attempts": 1} | replaced


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
            day for day in wanted.days() if day not in loaded or day in again
        } | days_of([replay_days] if replay_days else [])
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
            state = state.fail(failure(day, f"HTTP 500: request {number} failed"))
            written += len(json.dumps(state.to_bookmark()))
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
        assert finish(state, window("01-01"), lookback_days=0).unsettled == ()

    def test_a_day_that_nobody_wants_is_remembered(self) -> None:
        state = finish(ExportState(), window("01-01..03-31"))
        later = window("05-01").first
        assert state.remaining(window("01-01..03-27"), today=later, lookback_days=5) == (
            window("03-26..03-27"),
        )
        state = finish(state, window("03-26..03-27"), later)
        assert state.unsettled == (reading("03-28..03-30", "03-31"),)

    def test_a_reread_that_fails_unloads(self) -> None:
        state = finish(ExportState(), window("01-01..03-31"))
        state = state.fail(failure(window("03-26..03-28")))
        assert state.unsettled == (reading("03-29..03-30", "03-31"),)
        assert state.loaded == (window("01-01..03-25"), window("03-29..03-30"))

    def test_what_is_forgotten_is_neither_loaded_nor_unsettled(self) -> None:
        state = finish(ExportState(), window("01-01..03-31")).forget(window("03-20..03-28"))
        assert state.loaded == (window("01-01..03-19"), window("03-29..03-30"))
        assert state.unsettled == (reading("03-29..03-30", "03-31"),)

    @pytest.mark.parametrize(
        ("kept", "read_on"),
        [
            ({}, "03-31"),
            ({"refreshed_on": "2025-03-29"}, "03-29"),
            ({"refreshed_on": None}, "03-31"),
        ],
        ids=["a broken first run", "a whole run", "null"],
    )
    def test_a_state_of_an_early_version(self, kept: dict[str, Any], read_on: str) -> None:
        saved = bookmark(loaded=[["2025-01-01", "2025-03-30"]]) | kept
        del saved["unsettled"]
        state = ExportState.from_bookmark(saved)
        later = window("06-01").first
        days = Window(window(read_on).first - timedelta(days=5), date(2025, 3, 30))
        assert state.to_reread(today=later, lookback_days=5) == (days,)
        settled = finish(state, days, later)
        assert settled.to_reread(today=later, lookback_days=5) == ()


class TestBookmark:
    @given(
        RANGES,
        st.lists(st.tuples(windows(), st.integers(0, 9), TEXT, TEXT), max_size=4),
        st.lists(st.tuples(windows(), DAYS), max_size=4),
        st.none() | st.dictionaries(TEXT, TEXT | st.lists(TEXT), max_size=3),
    )
    def test_there_and_back(
        self,
        loaded: list[Window],
        failures: list[tuple[Window, int, str, str]],
        read: list[tuple[Window, date]],
        selection: dict[str, Any] | None,
    ) -> None:
        state = ExportState(merge(loaded), selection=selection)
        for days, today in read:
            state = finish(state, days, today)
        for item in failures:
            state = state.fail(FailedWindow(*item))
        saved = state.to_bookmark()
        assert ExportState.from_bookmark(saved) == state
        assert ExportState.from_bookmark(json.loads(json.dumps(saved))) == state

    def test_its_shape(self) -> None:
        state = ExportState(
            loaded=(window("01-01..02-04"), window("02-12..03-30")),
            failed=(failure(window("02-05..02-11")),),
            unsettled=(reading("03-26..03-30", "03-31"),),
            selection={"events": ["Sign Up"]},
        )
        assert state.to_bookmark() == {
            "replication_key": "time",
            "loaded": [["2025-01-01", "2025-02-04"], ["2025-02-12", "2025-03-30"]],
            "partitions": [
                {
                    "context": {"from_date": "2025-02-05", "to_date": "2025-02-11"},
                    "status": "failed",
                    "attempts": 5,
                    "error": "HTTP 500",
                    "failed_at": "2025-04-01T02:03:04Z",
                }
            ],
            "unsettled": [["2025-03-26", "2025-03-30", "2025-03-31"]],
            "selection": {"events": ["Sign Up"]},
        }

    def test_nothing_is_known(self) -> None:
        assert ExportState().to_bookmark() == bookmark()

    @pytest.mark.parametrize("empty", [None, {}, bookmark()])
    def test_an_empty_bookmark(self, empty: object) -> None:
        assert ExportState.from_bookmark(empty) == ExportState()

    def test_ranges_that_overlap_are_merged(self) -> None:
        saved = bookmark(loaded=[["2025-01-05", "2025-01-09"], ["2025-01-01", "2025-01-06"]])
        assert ExportState.from_bookmark(saved).loaded == (window("01-01..01-09"),)

    @pytest.mark.parametrize(
        ("saved", "problem"),
        [
            ("2025-01-01", "the bookmark of 'events' is '2025-01-01', not an object"),
            ([], r"the bookmark of 'events' is \[\], not an object"),
            (
                {"replication_key": "time", "replication_key_value": "2025-01-01"},
                "no 'loaded', so it is of another tap or version: it has replication_key, repl",
            ),
            ({"partitions": [partition()]}, "no 'loaded'"),
            (bookmark(loaded={}), r"'loaded' is \{\}, not a list"),
            (bookmark(loaded=None), "'loaded' is None, not a list"),
            (bookmark(loaded=["2025-01-01"]), "'2025-01-01' is no range of days"),
            (bookmark(loaded=[["2025-01-01"]]), "is no range of days"),
            (bookmark(loaded=[["2025-01-01"] * 3]), "is no range of days"),
            (bookmark(loaded=[[1, 2]]), "1 is no date"),
            (bookmark(loaded=[["2025-02-29", "2025-03-01"]]), "'2025-02-29' is no date"),
            (
                bookmark(loaded=[["2025-01-02", "2025-01-01"]]),
                "the range 2025-01-02..2025-01-01 ends before it starts",
            ),
            (bookmark(partitions={}), r"'partitions' is \{\}, not a list"),
            (bookmark(partitions=["x"]), "'x' is no failed window"),
            (bookmark(partitions=[{}]), r"\{\} is no failed window"),
            (bookmark(partitions=[partition(context=[])]), "is no failed window"),
            (bookmark(partitions=[partition(context={"from_date": "x"})]), "is no failed window"),
            (
                bookmark(partitions=[partition(context={"from_date": "x", "to_date": "y"})]),
                "'x' is no date",
            ),
            (bookmark(partitions=[partition(attempts="many")]), "is no failed window"),
            (bookmark(partitions=[partition(attempts=None)]), "is no failed window"),
            (bookmark(partitions=[partition(status="done")]), "status is 'done', not 'failed'"),
            (bookmark(selection=[]), r"'selection' is \[\], not an object"),
            (bookmark(unsettled=None), "'unsettled' is None, not a list"),
            (bookmark(unsettled=["x"]), "'x' is not a range of days with its day"),
            (bookmark(unsettled=[["2025-01-01", "2025-01-02"]]), "is not a range of days with"),
            (bookmark(unsettled=[["2025-01-01", "2025-01-02", "soon"]]), "'soon' is no date"),
        ],
    )
    def test_nonsense(self, saved: object, problem: str) -> None:
        with pytest.raises(StateError, match=rf"^state: .*{problem}.*--full-refresh"):
            ExportState.from_bookmark(saved)

    @pytest.mark.parametrize(
        "saved",
        [
            bookmark(loaded=[["9999-12-31", "9999-12-31"]] * 2),
            bookmark(
                partitions=[partition(context={"from_date": "2025-01-01", "to_date": "9999-12-31"})]
                * 2
            ),
            bookmark(partitions=[partition(attempts=float("inf"))]),
            bookmark(unsettled=[["2025-01-01", "2025-01-02", "0001-01-02"]]),
        ],
        ids=["loaded", "failed", "attempts", "unsettled"],
    )
    def test_nonsense_at_the_ends_of_the_calendar(self, saved: object) -> None:
        with pytest.raises(StateError, match=r"^state: "):
            ExportState.from_bookmark(saved).remaining(YEAR, today=TODAY, lookback_days=5)


class TestRead:
    BOOKMARK = bookmark(loaded=[["2025-01-01", "2025-01-09"]])
    STATE: ClassVar[dict[str, Any]] = {"bookmarks": {"events": BOOKMARK}}

    @pytest.mark.parametrize("content", [STATE, {"singer_state": STATE}])
    def test_forms(self, content: object) -> None:
        assert read_state(content, "events").loaded == (window("01-01..01-09"),)

    @pytest.mark.parametrize(
        "content", [{}, {"bookmarks": {}}, {"bookmarks": {"events": {}}}, {"singer_state": {}}]
    )
    def test_empty(self, content: object) -> None:
        assert read_state(content, "events") == ExportState()

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ([], r"it is \[\], not an object"),
            ("x", "it is 'x', not an object"),
            ({"singer_state": None}, "it is None, not an object"),
            ({"bookmarks": []}, r"'bookmarks' is \[\], not an object"),
            ({"value": STATE}, "it has no 'bookmarks' but value"),
            (STATE["bookmarks"], "it has no 'bookmarks' but events"),
            (
                {"bookmarks": {"export": {}, "cohorts": {}}},
                "it knows no stream 'events' but cohorts, export, so it is of another tap",
            ),
            ({"bookmarks": {"events": {"date": "2025-01-01"}}}, "no 'loaded'"),
        ],
    )
    def test_nonsense(self, content: object, problem: str) -> None:
        with pytest.raises(StateError, match=rf"^state: .*{problem}.*--full-refresh"):
            read_state(content, "events")


class TestFits:
    LOADED = (window("01-01..03-30"),)

    @pytest.mark.parametrize(
        ("name", "saved", "current"),
        [
            ("events", ["Sign Up"], None),
            ("events", None, ["Sign Up"]),
            ("events", ["A", "B"], ["A"]),
            ("where", 'properties["plan"] == "pro"', None),
            ("project_timezone", "America/Los_Angeles", None),
            ("project_timezone", None, "Asia/Kolkata"),
            ("project_id", "1", "2"),
        ],
    )
    def test_other_settings(self, name: str, saved: object, current: object) -> None:
        kept, chosen = ({} if v is None else {name: v} for v in (saved, current))
        state = ExportState(self.LOADED, selection=kept)
        with pytest.raises(StateError) as caught:
            check_fits(state, selection=chosen, today=TODAY)
        text = str(caught.value)
        shown = ["not set" if value is None else repr(value) for value in (saved, current)]
        assert f"loaded with {name} {shown[0]}, but {name} is now {shown[1]}" in text
        assert "--full-refresh" in text

    @pytest.mark.parametrize(
        ("saved", "current"),
        [
            ({"events": ["A"]}, {"events": ["A"]}),
            ({}, {}),
            (None, {"events": ["A"]}),
            ({}, {"project_id": "1"}),
            ({"project_id": "1"}, {}),
        ],
        ids=["same", "default", "unknown", "id now known", "id now unknown"],
    )
    def test_the_same_settings(self, saved: dict[str, Any] | None, current: dict[str, Any]) -> None:
        check_fits(ExportState(self.LOADED, selection=saved), selection=current, today=TODAY)

    def test_a_real_project_s_days_are_not_the_sandbox_s(self) -> None:
        state = ExportState(self.LOADED, selection={"region": "sandbox"})
        with pytest.raises(StateError, match="with region 'sandbox', but region is now a real one"):
            check_fits(state, selection={}, today=TODAY)

    def test_nothing_loaded_fits_everything(self) -> None:
        state = ExportState(selection={"events": ["A"]})
        check_fits(state, selection={}, today=TODAY)

    @pytest.mark.parametrize("last", ["03-31", "04-01"])
    def test_loaded_in_the_future(self, last: str) -> None:
        state = ExportState((window(f"01-01..{last}"),))
        with pytest.raises(StateError, match=f"says that 2025-{last} is loaded, but today is"):
            check_fits(state, selection={}, today=TODAY)


@pytest.mark.parametrize(
    ("saved", "current"),
    [
        ({"region": "sandbox"}, {"project_id": "1"}),
        ({"project_id": "1"}, {"region": "sandbox"}),
    ],
    ids=str,
)
def test_the_sandbox_s_days_are_no_project_s(
    saved: dict[str, str], current: dict[str, str]
) -> None:
    state = ExportState((Window.parse("2025-01-01", "2025-01-02"),), selection=saved)
    with pytest.raises(StateError, match="region"):
        check_fits(state, selection=current, today=date(2025, 2, 1))
