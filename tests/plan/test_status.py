"""What a saved state says: a calendar for people, JSON for scripts."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from tap_mixpanel_parallel.plan.bookmark import from_bookmark
from tap_mixpanel_parallel.plan.state import ExportState, FailedWindow
from tap_mixpanel_parallel.plan.status import Status
from tap_mixpanel_parallel.plan.windows import Window, merge
from tests.support.commands import run
from tests.support.strategies import RANGES, days_of

if TYPE_CHECKING:
    from pathlib import Path

TODAY = date(2026, 1, 1)
RULER = "         1234567890123456789012345678901"
LEGEND = "█ loaded  ✗ failed  · missing"
BOOKMARK = {
    "replication_key": "time",
    "loaded": [["2024-12-30", "2025-02-04"], ["2025-02-09", "2025-02-26"]],
    "partitions": [
        {
            "context": {"from_date": "2025-02-05", "to_date": "2025-02-07"},
            "status": "failed",
            "attempts": 5,
            "error": "HTTP 500: oops",
            "failed_at": "2025-04-01T02:03:04Z",
        },
        {
            "context": {"from_date": "2025-03-02", "to_date": "2025-03-02"},
            "status": "failed",
            "attempts": 2,
            "error": "HTTP 503",
            "failed_at": "2025-04-01T02:04:05Z",
        },
    ],
    "unsettled": [["2025-02-25", "2025-02-26", "2025-03-02"]],
    "selection": {"project_id": "1234"},
}
STATE = {"bookmarks": {"events": BOOKMARK}}
TEXT = [
    "55 days loaded, 4 failed, 4 missing between 2024-12-30 and 2025-03-02",
    RULER,
    f"2024-12  {' ' * 29}██",
    f"2025-01  {'█' * 31}",
    f"2025-02  ████✗✗✗·{'█' * 16}▒▒··",
    "2025-03  ·✗",
    "█ loaded  ▒ loaded, read again for late events  ✗ failed  · missing",
    "failed: 2025-02-05..2025-02-07 after 5 attempts, 2025-04-01T02:03:04Z: HTTP 500: oops",
    "failed: 2025-03-02..2025-03-02 after 2 attempts, 2025-04-01T02:04:05Z: HTTP 503",
]
JSON = {
    "loaded_days": 55,
    "loaded": [
        {"from_date": "2024-12-30", "to_date": "2025-02-04"},
        {"from_date": "2025-02-09", "to_date": "2025-02-26"},
    ],
    "failed": [
        {
            "from_date": "2025-02-05",
            "to_date": "2025-02-07",
            "attempts": 5,
            "error": "HTTP 500: oops",
            "failed_at": "2025-04-01T02:03:04Z",
        },
        {
            "from_date": "2025-03-02",
            "to_date": "2025-03-02",
            "attempts": 2,
            "error": "HTTP 503",
            "failed_at": "2025-04-01T02:04:05Z",
        },
    ],
    "missing": [
        {"from_date": "2025-02-08", "to_date": "2025-02-08"},
        {"from_date": "2025-02-27", "to_date": "2025-03-01"},
    ],
    "unsettled": [{"from_date": "2025-02-25", "to_date": "2025-02-26", "read_on": "2025-03-02"}],
    "selection": {"project_id": "1234"},
}


def calendar(*loaded: tuple[str, str]) -> list[str]:
    """The lines of the months."""
    state = ExportState(loaded=tuple(Window.parse(*days) for days in loaded))
    lines = Status.of(state).to_text().splitlines()
    assert lines[1] == RULER
    assert lines[-1] == LEGEND
    return lines[2:-1]


class TestCalendar:
    def test_months_days_and_failures(self) -> None:
        state = from_bookmark(BOOKMARK)
        assert Status.of(state).to_text().splitlines() == TEXT

    @pytest.mark.parametrize(
        ("month", "length"),
        [("2024-02", 29), ("2025-02", 28), ("2025-04", 30), ("2025-12", 31), ("1900-02", 28)],
    )
    def test_lengths_of_months(self, month: str, length: int) -> None:
        assert calendar((f"{month}-01", f"{month}-{length}")) == [f"{month}  {'█' * length}"]

    def test_a_day(self) -> None:
        assert calendar(("2025-05-17", "2025-05-17")) == [f"2025-05  {' ' * 16}█"]

    def test_a_month_in_which_nothing_is_loaded(self) -> None:
        assert calendar(("2024-11-30", "2024-11-30"), ("2025-01-01", "2025-01-02")) == [
            f"2024-11  {' ' * 29}█",
            f"2024-12  {'·' * 31}",
            "2025-01  ██",
        ]

    def test_nothing(self) -> None:
        assert Status.of(ExportState()).to_text() == "nothing is loaded, nothing has failed"

    @given(loaded=RANGES, failed=RANGES)
    def test_any_state_day_by_day(self, loaded: list[Window], failed: list[Window]) -> None:
        state = ExportState()
        for days in loaded:
            state = state.finish(days, today=days.last, lookback_days=3)
        for days in failed:
            state = state.fail(FailedWindow(days, 1, "HTTP 500", ""))
        status = Status.of(state)

        done, broken = days_of(state.loaded), days_of(f.window for f in state.failed)
        shown: dict[str, set[date]] = {mark: set() for mark in "█▒✗·"}
        for line in status.to_text().splitlines():
            month, _, row = line.partition("  ")
            if len(month) == 7 and month[4] == "-":
                for number, mark in enumerate(row, 1):
                    if mark != " ":
                        shown[mark].add(date.fromisoformat(f"{month}-{number:02}"))
        late = days_of(reading.window for reading in state.unsettled)
        assert (shown["█"], shown["▒"], shown["✗"]) == (done - late, late, broken)
        assert shown["·"] == days_of(status.missing)
        known = done | broken
        span = Window(min(known), max(known)) if known else None
        assert shown["·"] == (set(span.days()) - known if span else set())
        assert len(status.to_json()["missing"]) == len(merge(status.missing))

    def test_one_of_each(self) -> None:
        day = Window.parse("2025-01-01", "2025-01-01")
        state = ExportState(
            (day,), (FailedWindow(Window.parse("2025-01-02", "2025-01-02"), 1, "", ""),)
        )
        text = Status.of(state).to_text()
        assert "1 day loaded" in text
        assert "after 1 attempt," in text


class TestJson:
    def test_all(self) -> None:
        assert Status.of(from_bookmark(BOOKMARK)).to_json() == JSON

    def test_nothing(self) -> None:
        assert Status.of(ExportState()).to_json() == {
            "loaded_days": 0,
            "loaded": [],
            "failed": [],
            "missing": [],
            "unsettled": [],
            "selection": {},
        }


class TestCommand:
    """It needs no configuration."""

    @pytest.mark.parametrize(
        "state",
        [
            STATE,
            {"type": "STATE", "value": STATE},
            {"singer_state": STATE},
            {"completed": {"singer_state": STATE}, "partial": {}},
        ],
        ids=["Singer's", "a message", "Meltano's", "Meltano's, stored"],
    )
    def test_from_standard_input(self, tmp_path: Path, state: dict[str, Any]) -> None:
        (tmp_path / "state.json").write_text(json.dumps(state))
        done = run("bash", "-c", "tap-mixpanel-parallel --status < state.json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == TEXT

    def test_json_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "state.json").write_text(json.dumps(STATE))
        done = run(
            *("tap-mixpanel-parallel", "--status", "--state", "state.json", "--format", "json"),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == JSON

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ('{"bookmarks": {"events": {"replication_key_value": 7}}}', "no 'loaded'"),
            ('{"bookmarks": {"users": {}}}', "belongs to another tap"),
            ("{", "can't be read"),
            ("", "standard input is empty"),
        ],
    )
    def test_nonsense(self, tmp_path: Path, content: str, problem: str) -> None:
        (tmp_path / "state.json").write_text(content)
        done = run("bash", "-c", "tap-mixpanel-parallel --status < state.json", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stdout == ""
        assert problem in done.stderr
        assert "Traceback" not in done.stderr
