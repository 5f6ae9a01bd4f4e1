"""What is loaded and what failed, through any run, and to and from a bookmark."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.exceptions import StateError
from tap_mixpanel_parallel.state import ExportState, FailedWindow, check_fits, read_state
from tap_mixpanel_parallel.windows import Window, merge
from tests.strategies import DAYS, RANGES, TEXT, days_of, windows

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
        state = state.finish(days, today=today) if finished else state.fail(failure(days))
    return state


def bookmark(**replaced: Any) -> dict[str, Any]:
    return {"replication_key": "time", "loaded": [], "partitions": []} | replaced


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

    @given(STEPS, windows(90), DAYS, st.integers(0, 20), st.none() | DAYS, st.none() | windows())
    def test_remaining(
        self,
        steps: list[tuple[bool, Window]],
        wanted: Window,
        today: date,
        lookback_days: int,
        refreshed_on: date | None,
        replay_days: Window | None,
    ) -> None:
        run = replay(steps, today)
        state = ExportState(run.loaded, run.failed, refreshed_on)
        first = min(today, refreshed_on or today) - timedelta(days=lookback_days)
        again = {
            first + timedelta(days=n) for n in range((today - first).days) if lookback_days > 0
        }
        remaining = state.remaining(
            wanted, today=today, lookback_days=lookback_days, replay=replay_days
        )
        assert days_of(remaining) == {
            day for day in wanted.days() if day not in days_of(state.loaded) or day in again
        } | days_of([replay_days] if replay_days else [])
        assert remaining == merge(remaining)

    def test_today_is_never_loaded(self) -> None:
        state = ExportState().finish(window("03-30..04-02"), today=TODAY)
        assert state.loaded == (window("03-30"),)
        assert state.finish(window("03-31"), today=TODAY).loaded == state.loaded

    def test_a_failed_window_leaves_as_its_days_are_loaded(self) -> None:
        state = ExportState().fail(failure(window("02-01..02-10")))
        state = state.finish(window("02-04..02-05"), today=TODAY)
        assert [item.window for item in state.failed] == [
            window("02-01..02-03"),
            window("02-06..02-10"),
        ]
        assert {item.attempts for item in state.failed} == {5}
        state = state.finish(window("01-01..02-28"), today=TODAY)
        assert state.failed == ()

    def test_a_failed_window_leaves_as_today(self) -> None:
        state = ExportState().fail(failure(window("03-31")))
        assert state.finish(window("03-31"), today=TODAY).failed == ()

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


class TestLookback:
    @pytest.mark.parametrize(
        ("refreshed_on", "expected"),
        [
            (None, "03-26..03-30"),
            ("03-31", "03-26..03-30"),
            ("03-30", "03-25..03-30"),
            ("03-01", "02-24..03-30"),
            ("12-24", "03-26..03-30"),
        ],
        ids=["never", "today", "yesterday", "after a pause", "a clock that went back"],
    )
    def test_it_reaches_back_to_the_last_complete_run(
        self, refreshed_on: str | None, expected: str
    ) -> None:
        day = None if refreshed_on is None else window(refreshed_on).first
        state = ExportState(loaded=(window("01-01..03-30"),), refreshed_on=day)
        assert state.lookback(today=TODAY, lookback_days=5) == (window(expected),)
        assert state.remaining(window("01-01..03-31"), today=TODAY, lookback_days=5) == merge(
            [window(expected), window("03-31")]
        )

    def test_none(self) -> None:
        state = ExportState(loaded=(window("01-01..03-30"),), refreshed_on=date(2025, 1, 1))
        assert state.lookback(today=TODAY, lookback_days=0) == ()
        assert state.remaining(window("01-01..03-30"), today=TODAY, lookback_days=0) == ()

    def test_it_reads_no_day_that_nobody_wants(self) -> None:
        state = ExportState(loaded=(window("01-01..03-30"),))
        assert state.remaining(window("01-01..03-27"), today=TODAY, lookback_days=5) == (
            window("03-26..03-27"),
        )

    @pytest.mark.parametrize(
        ("wanted", "refreshed"),
        [
            ("01-01..03-31", True),
            ("03-26..03-30", True),
            ("03-27..03-31", False),
            ("01-01..03-29", False),
            ("01-01..01-31", False),
        ],
    )
    def test_complete_only_if_every_loaded_day_was_read(self, wanted: str, refreshed: bool) -> None:
        state = ExportState(loaded=(window("01-01..03-30"),))
        done = state.complete(wanted=window(wanted), today=TODAY, lookback_days=5)
        assert done.refreshed_on == (TODAY if refreshed else None)
        assert done.loaded == state.loaded

    def test_days_that_are_not_loaded_need_no_look_back(self) -> None:
        state = ExportState(loaded=(window("01-01..03-27"),))
        done = state.complete(wanted=window("03-26..03-27"), today=TODAY, lookback_days=5)
        assert done.refreshed_on == TODAY

    def test_after_a_pause_the_whole_pause_has_to_be_wanted(self) -> None:
        state = ExportState(loaded=(window("01-01..03-30"),), refreshed_on=date(2025, 3, 10))
        short = state.complete(wanted=window("03-20..03-31"), today=TODAY, lookback_days=5)
        assert short.refreshed_on == date(2025, 3, 10)
        whole = state.complete(wanted=window("03-05..03-31"), today=TODAY, lookback_days=5)
        assert whole.refreshed_on == TODAY


class TestBookmark:
    @given(
        RANGES,
        st.lists(st.tuples(windows(), st.integers(0, 9), TEXT, TEXT), max_size=4),
        st.none() | DAYS,
        st.none() | st.dictionaries(TEXT, TEXT | st.lists(TEXT), max_size=3),
    )
    def test_there_and_back(
        self,
        loaded: list[Window],
        failures: list[tuple[Window, int, str, str]],
        refreshed_on: date | None,
        selection: dict[str, Any] | None,
    ) -> None:
        state = ExportState(merge(loaded), (), refreshed_on, selection)
        for item in failures:
            state = state.fail(FailedWindow(*item))
        saved = state.to_bookmark()
        assert ExportState.from_bookmark(saved) == state
        assert ExportState.from_bookmark(json.loads(json.dumps(saved))) == state

    def test_its_shape(self) -> None:
        state = ExportState(
            loaded=(window("01-01..02-04"), window("02-12..03-30")),
            failed=(failure(window("02-05..02-11")),),
            refreshed_on=TODAY,
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
            "refreshed_on": "2025-03-31",
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
            (bookmark(refreshed_on="soon"), "'soon' is no date"),
            (bookmark(refreshed_on=20250101), "20250101 is no date"),
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
            bookmark(loaded=[["2025-01-01", "2025-01-02"]], refreshed_on="0001-01-02"),
        ],
        ids=["loaded", "failed", "attempts", "refreshed_on"],
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
        state = ExportState(selection={"events": ["A"]}, refreshed_on=date(2030, 1, 1))
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
