"""A state to and from a bookmark, and whether it fits the settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.exceptions import StateError
from tap_mixpanel_parallel.plan.bookmark import (
    check_fits,
    from_bookmark,
    read_state,
    to_bookmark,
)
from tap_mixpanel_parallel.plan.state import ExportState, FailedWindow, Requests
from tap_mixpanel_parallel.plan.windows import Window, merge
from tests.plan.test_state import TODAY, failure, finish, reading, window
from tests.support.strategies import DAYS, RANGES, TEXT, windows

if TYPE_CHECKING:
    from datetime import date

YEAR = Window.parse("2025-01-01", "2025-12-31")


def bookmark(**replaced: Any) -> dict[str, Any]:
    return {
        "replication_key": "time",
        "loaded": [],
        "partitions": [],
        "unsettled": [],
        "selection": None,
        "stored": None,
        "columns": [],
        "requests": [],
    } | replaced


def partition(**replaced: Any) -> dict[str, Any]:
    context = {"from_date": "2025-01-01", "to_date": "2025-01-02"}
    return {"context": context, "status": "failed", "attempts": 1} | replaced


class TestBookmark:
    @given(
        RANGES,
        st.lists(st.tuples(windows(), st.integers(0, 9), TEXT, TEXT), max_size=4),
        st.lists(st.tuples(windows(), DAYS), max_size=4),
        st.none() | st.dictionaries(TEXT, TEXT | st.lists(TEXT), max_size=3),
        st.lists(st.tuples(st.integers(0, 2**31), st.integers(1, 100)), max_size=4),
    )
    def test_there_and_back(
        self,
        loaded: list[Window],
        failures: list[tuple[Window, int, str, str]],
        read: list[tuple[Window, date]],
        selection: dict[str, Any] | None,
        started: list[tuple[int, int]],
    ) -> None:
        requests = Requests("1a2b3c4d", tuple(started)) if started else None
        state = ExportState(merge(loaded), selection=selection, requests=requests)
        for days, today in read:
            state = finish(state, days, today)
        for item in failures:
            state = state.fail(FailedWindow(*item))
        saved = to_bookmark(state)
        assert from_bookmark(saved) == state
        assert from_bookmark(json.loads(json.dumps(saved))) == state

    def test_its_shape(self) -> None:
        state = ExportState(
            loaded=(window("01-01..02-04"), window("02-12..03-30")),
            failed=(failure(window("02-05..02-11")),),
            unsettled=(reading("03-26..03-30", "03-31"),),
            selection={"events": ["Sign Up"]},
            stored="20250201T010203000004Z-000005",
            requests=Requests("1a2b3c4d", ((1764042902, 20), (1764042967, 3))),
        )
        assert to_bookmark(state) == {
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
            "stored": "20250201T010203000004Z-000005",
            "columns": [],
            "requests": [["1a2b3c4d", 1764042902, 20], ["1a2b3c4d", 1764042967, 3]],
        }

    def test_nothing_is_known(self) -> None:
        assert to_bookmark(ExportState()) == bookmark()

    @pytest.mark.parametrize("empty", [None, {}, bookmark()])
    def test_an_empty_bookmark(self, empty: object) -> None:
        assert from_bookmark(empty) == ExportState()

    def test_ranges_that_overlap_are_merged(self) -> None:
        saved = bookmark(loaded=[["2025-01-05", "2025-01-09"], ["2025-01-01", "2025-01-06"]])
        assert from_bookmark(saved).loaded == (window("01-01..01-09"),)

    def test_of_readings_and_failures_that_overlap_the_later_counts(self) -> None:
        saved = bookmark(
            loaded=[["2025-01-01", "2025-01-09"]],
            unsettled=[
                ["2025-01-05", "2025-01-09", "2025-01-10"],
                ["2025-01-01", "2025-01-06", "2025-01-11"],
            ],
            partitions=[
                partition(context={"from_date": "2025-02-05", "to_date": "2025-02-09"}),
                partition(context={"from_date": "2025-02-01", "to_date": "2025-02-06"}, attempts=2),
            ],
        )
        state = from_bookmark(saved)
        assert state.unsettled == (
            reading("01-01..01-06", "01-11"),
            reading("01-07..01-09", "01-10"),
        )
        assert [(item.window, item.attempts) for item in state.failed] == [
            (window("02-01..02-06"), 2),
            (window("02-07..02-09"), 1),
        ]

    @pytest.mark.parametrize(
        ("saved", "problem"),
        [
            ("2025-01-01", "the bookmark of 'events' is '2025-01-01', not an object"),
            ([], r"the bookmark of 'events' is \[\], not an object"),
            (
                {"replication_key": "time", "replication_key_value": "2025-01-01"},
                "no 'loaded', so it belongs to another tap or version: it has replication_k",
            ),
            ({"partitions": [partition()]}, "no 'loaded'"),
            ({"loaded": [["2025-01-01", "2025-01-02"]]}, "no 'unsettled', so it belongs to"),
            (bookmark(loaded={}), r"'loaded' is \{\}, not a list"),
            (bookmark(loaded=None), "'loaded' is None, not a list"),
            (bookmark(loaded=["2025-01-01"]), "'2025-01-01' is not a range of days"),
            (bookmark(loaded=[["2025-01-01"]]), "is not a range of days"),
            (bookmark(loaded=[["2025-01-01"] * 3]), "is not a range of days"),
            (bookmark(loaded=[[1, 2]]), "1 is not a valid date"),
            (bookmark(loaded=[["2025-02-29", "2025-03-01"]]), "'2025-02-29' is not a valid date"),
            (
                bookmark(loaded=[["2025-01-02", "2025-01-01"]]),
                "the range 2025-01-02..2025-01-01 ends before it starts",
            ),
            (bookmark(partitions={}), r"'partitions' is \{\}, not a list"),
            (bookmark(partitions=["x"]), "'x' is not a failed window"),
            (bookmark(partitions=[{}]), r"\{\} is not a failed window"),
            (bookmark(partitions=[partition(context=[])]), "is not a failed window"),
            (
                bookmark(partitions=[partition(context={"from_date": "x"})]),
                "is not a failed window",
            ),
            (
                bookmark(partitions=[partition(context={"from_date": "x", "to_date": "y"})]),
                "'x' is not a valid date",
            ),
            (bookmark(partitions=[partition(attempts="many")]), "is not a failed window"),
            (bookmark(partitions=[partition(attempts=None)]), "is not a failed window"),
            (bookmark(partitions=[partition(status="done")]), "status is 'done', not 'failed'"),
            (bookmark(stored="yesterday"), "'stored' is 'yesterday', not the time and the number"),
            (bookmark(selection=[]), r"'selection' is \[\], not an object"),
            (bookmark(unsettled=None), "'unsettled' is None, not a list"),
            (bookmark(requests=None), "'requests' is None, not a list"),
            *(
                (bookmark(requests=[entry]), "is not the requests of a minute")
                for entry in (
                    *(7, [], ["x", 1], [1, 1, 1], ["x", True, 1], ["x", "1", 1]),
                    *(["x", -1, 1], ["x", 1, 0], ["x", 1.5, 1], ["x", 9**99, 1]),
                )
            ),
            (bookmark(requests=[["x", 1, 10**9]]), "'requests' counts 1000000000 within an hour"),
            (bookmark(requests=[["x", 1, 1], ["y", 1, 1]]), "names several accounts: x, y"),
            (bookmark(unsettled=["x"]), "'x' is not a range of days and the day"),
            (bookmark(unsettled=[["2025-01-01", "2025-01-02"]]), "is not a range of days and"),
            (
                bookmark(unsettled=[["2025-01-01", "2025-01-02", "soon"]]),
                "'soon' is not a valid date",
            ),
        ],
    )
    def test_nonsense(self, saved: object, problem: str) -> None:
        with pytest.raises(StateError, match=rf"^state: .*{problem}.*--full-refresh"):
            from_bookmark(saved)

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
            from_bookmark(saved).remaining(YEAR, today=TODAY, lookback_days=5)


class TestRead:
    BOOKMARK = bookmark(loaded=[["2025-01-01", "2025-01-09"]])
    STATE: ClassVar[dict[str, Any]] = {"bookmarks": {"events": BOOKMARK}}
    OLD: ClassVar[dict[str, Any]] = {"bookmarks": {"events": bookmark()}}

    @pytest.mark.parametrize(
        "content",
        [
            STATE,
            {"type": "STATE", "value": STATE},
            {"singer_state": STATE},
            {"completed": {"singer_state": STATE}, "partial": {}},
            {"completed": {"singer_state": STATE}, "partial": None},
            {"completed": {"singer_state": STATE}},
            {"completed": {}, "partial": {"singer_state": STATE}},
            {"completed": {"singer_state": OLD}, "partial": {"singer_state": STATE}},
            {"type": "STATE", "value": {"singer_state": STATE}},
        ],
    )
    def test_forms(self, content: object) -> None:
        assert read_state(content, "events").loaded == (window("01-01..01-09"),)

    @pytest.mark.parametrize(
        "content",
        [
            {},
            {"bookmarks": {}},
            {"bookmarks": {"events": {}}},
            {"singer_state": {}},
            {"type": "STATE", "value": {}},
            {"completed": {}, "partial": {}},
            {"completed": None},
        ],
    )
    def test_empty(self, content: object) -> None:
        assert read_state(content, "events") == ExportState()

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ([], r"it is \[\], not an object"),
            ("x", "it is 'x', not an object"),
            ({"singer_state": None}, "it is None, not an object"),
            ({"type": "STATE", "value": 3}, "it is 3, not an object"),
            ({"type": "STATE"}, "it has no 'bookmarks', only "),
            ({"type": "RECORD", "value": STATE}, "it has no 'bookmarks', only "),
            ({"completed": [1]}, r"it is \[1\], not an object"),
            ({"bookmarks": []}, r"'bookmarks' is \[\], not an object"),
            ({"value": STATE}, "it has no 'bookmarks', only value"),
            (STATE["bookmarks"], "it has no 'bookmarks', only events"),
            (
                {"bookmarks": {"export": {}, "cohorts": {}}},
                "it has no stream 'events', only cohorts, export, so it belongs to another tap",
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
            check_fits(state, selection=chosen)
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
        check_fits(ExportState(self.LOADED, selection=saved), selection=current)

    def test_a_real_project_s_days_are_not_the_sandbox_s(self) -> None:
        state = ExportState(self.LOADED, selection={"region": "sandbox"})
        with pytest.raises(StateError, match="'sandbox', but region is now us, eu or in"):
            check_fits(state, selection={})

    @pytest.mark.parametrize("regions", [("sandbox", None), (None, "sandbox")])
    def test_a_remedy_does_not_mix_the_sandbox_with_a_project(
        self, regions: tuple[str | None, str | None]
    ) -> None:
        saved, current = regions
        state = ExportState(self.LOADED, selection={"region": saved})
        with pytest.raises(StateError, match="load into another database") as caught:
            check_fits(state, selection={"region": current})
        assert "full-refresh" not in str(caught.value)

    def test_nothing_loaded_fits_everything(self) -> None:
        state = ExportState(selection={"events": ["A"]})
        check_fits(state, selection={})


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
        check_fits(state, selection=current)
