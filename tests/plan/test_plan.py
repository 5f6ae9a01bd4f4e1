"""What a run would fetch, and why; through the command as well, without a request."""

from __future__ import annotations

import json
import socket
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.plan.hour import HOUR, Hour
from tap_mixpanel_parallel.plan.state import ExportState, FailedWindow, Reading
from tap_mixpanel_parallel.plan.windows import Cutting, Window, count_days
from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA
from tap_mixpanel_parallel.settings.settings import Settings
from tests.support.commands import run
from tests.support.strategies import DAYS, RANGES, days_of, windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.plan.plan import Plan

TODAY = date(2025, 3, 31)
LONG_AFTER = date(2026, 1, 1)


def plan(
    *loaded: str,
    failed: tuple[str, ...] = (),
    read_on: date | None = None,
    today: date = TODAY,
    **config: Any,
) -> Plan:
    state = ExportState(
        loaded=tuple(map(window, loaded)),
        failed=tuple(FailedWindow(window(text), 5, "HTTP 500", "") for text in failed),
        unsettled=tuple(Reading(window(text), read_on) for text in loaded if read_on),
    )
    return settings(today, **config).plan(state)


def settings(today: date = TODAY, **config: Any) -> Settings:
    given = {"region": "sandbox", "start_date": "2025-03-01"} | config
    return Settings.from_config(given, today=lambda _: today)


def window(text: str) -> Window:
    """Days of 2025 from `03-01..03-05`."""
    first, _, last = text.partition("..")
    return Window.parse(f"2025-{first}", f"2025-{last or first}")


def told(planned: Plan) -> list[str]:
    """The plan's windows in short: `03-01..03-05 new`."""
    return [
        f"{p.window.first:%m-%d}..{p.window.last:%m-%d} {', '.join(p.reasons)}"
        for p in planned.windows
    ]


class TestReasons:
    @pytest.mark.parametrize(
        ("planned", "expected"),
        [
            pytest.param(plan(window_days=31), ["03-01..03-31 new"], id="all is new"),
            pytest.param(
                plan("03-01..03-30", window_days=31),
                ["03-26..03-31 new, look-back"],
                id="the next day",
            ),
            pytest.param(
                plan("03-01..03-30", window_days=31, lookback_days=0),
                ["03-31..03-31 new"],
                id="no look-back",
            ),
            pytest.param(
                plan("03-01..03-20", read_on=date(2025, 3, 21), window_days=31),
                ["03-16..03-31 new, look-back"],
                id="after a pause",
            ),
            pytest.param(
                plan("03-01..03-05", "03-09..03-20", end_date="2025-03-20"),
                ["03-06..03-08 gap"],
                id="a gap",
            ),
            pytest.param(
                plan("03-10..03-20", end_date="2025-03-20", window_days=31),
                ["03-01..03-09 new"],
                id="an earlier start",
            ),
            pytest.param(
                plan(
                    "03-01..03-05", "03-11..03-20", failed=("03-06..03-08",), end_date="2025-03-20"
                ),
                ["03-06..03-10 gap, failed before"],
                id="failed before",
            ),
            pytest.param(
                plan("03-01..03-20", replay="2025-03-04..2025-03-06", end_date="2025-03-20"),
                ["03-04..03-06 replay"],
                id="replay",
            ),
            pytest.param(
                plan("03-01..03-30", replay="2025-02-28..2025-03-27", window_days=40),
                ["02-28..03-31 new, replay, look-back"],
                id="replay before the start",
            ),
            pytest.param(
                plan("03-01..03-30", end_date="2025-03-20", lookback_days=0), [], id="nothing to do"
            ),
            pytest.param(
                plan("03-01..03-30", end_date="2025-03-20"),
                ["03-26..03-30 look-back"],
                id="not settled, wanted or not",
            ),
            pytest.param(
                plan("03-01..03-12", start_date="P5D", window_days=31, lookback_days=0),
                ["03-13..03-31 new"],
                id="a period after a pause",
            ),
        ],
    )
    def test_examples(self, planned: Plan, expected: list[str]) -> None:
        assert told(planned) == expected

    @given(
        loaded=RANGES,
        failed=RANGES,
        wanted=windows(longest=120),
        today=DAYS,
        replay=st.none() | windows(),
        lookback_days=st.integers(0, 8),
        workers=st.integers(1, 6),
        window_days=st.integers(1, 20),
    )
    def test_any_plan(
        self,
        loaded: list[Window],
        failed: list[Window],
        wanted: Window,
        today: date,
        replay: Window | None,
        lookback_days: int,
        workers: int,
        window_days: int,
    ) -> None:
        today = max(today, wanted.first, replay.last if replay else wanted.first)
        state = ExportState()
        for days in loaded:
            state = state.finish(days, today=today, lookback_days=lookback_days)
        for days in failed:
            state = state.fail(FailedWindow(days, 5, "HTTP 500", ""))
        checked = settings(
            today,
            start_date=str(wanted.first),
            end_date=str(wanted.last),
            parallel=workers > 1,
            workers=workers,
            window_days=window_days,
            lookback_days=lookback_days,
            **({"replay": str(replay)} if replay else {}),
        )

        planned = checked.plan(state)

        done, broken = days_of(state.loaded), days_of(f.window for f in state.failed)
        late = {today - timedelta(days=n + 1) for n in range(lookback_days)}
        asked = {day for day in wanted.days() if day <= today}
        again = set(replay.days()) if replay else set()
        read = (asked - done) | (done & late) | again
        assert days_of(p.window for p in planned.windows) == read
        assert planned.days == len(read)
        assert sum(len(p.window) for p in planned.windows) == len(read), "no day is read twice"
        for p in planned.windows:
            why = {reason(day, done, broken, again) for day in p.window.days()}
            assert set(p.reasons) == why
            assert len(p.reasons) == len(why)
        assert days_of(planned.left_out) == broken - read


def reason(day: date, done: set[date], broken: set[date], again: set[date]) -> str:
    """Why a day that is planned is read."""
    if day in broken - done:
        return "failed before"
    if day in again:
        return "replay"
    if day in done:
        return "look-back"
    return "gap" if done and min(done) <= day <= max(done) else "new"


class TestPace:
    @pytest.mark.parametrize(
        ("days", "hours"),
        [(1, 0), (59, 0), (60, 0), (61, 1), (120, 1), (121, 2), (181, 3)],
    )
    def test_hours_count_the_starts_that_have_to_wait(self, days: int, hours: int) -> None:
        planned = plan(
            start_date=str(LONG_AFTER - timedelta(days=days - 1)), today=LONG_AFTER, window_days=1
        )
        assert (len(planned.windows), planned.hours) == (days, hours)
        assert bool(planned.advice) == (hours > 0)

    def test_three_years_fit_into_an_hour_with_19_days(self) -> None:
        config = {"start_date": "2022-01-01", "end_date": "2024-12-31", "parallel": True}
        planned = plan(**config)
        assert planned.days == 1096
        assert len(planned.windows) == 157
        assert planned.hours == 2
        assert planned.advice == "window_days: 19 would fit into one"
        fitting = plan(**config, window_days=19)
        assert (len(fitting.windows), fitting.hours, fitting.warnings) == (60, 0, [])

    @pytest.mark.parametrize("parallel", [False, True])
    @pytest.mark.parametrize("balance_windows", [False, True])
    @pytest.mark.parametrize("days", [100, 365, 1000])
    @pytest.mark.parametrize("per_hour", [12, 60])
    def test_the_advice_is_the_smallest_change_that_helps(
        self, parallel: bool, balance_windows: bool, days: int, per_hour: int
    ) -> None:
        config = {
            "start_date": str(LONG_AFTER - timedelta(days=days - 1)),
            "today": LONG_AFTER,
            "parallel": parallel,
            "balance_windows": balance_windows,
            "requests_per_hour": per_hour,
        }
        planned = plan(**config, window_days=1)
        assert planned.advice is not None
        advised = int(planned.advice.removeprefix("window_days: ").split()[0])
        assert plan(**config, window_days=advised).hours == 0
        assert plan(**config, window_days=advised - 1).hours > 0

    def test_the_advice_can_be_followed(self) -> None:
        most = CONFIG_SCHEMA["properties"]["window_days"]["maximum"]
        start = LONG_AFTER - timedelta(days=most + 9)
        config = {"start_date": str(start), "today": LONG_AFTER, "requests_per_hour": 1}
        planned = plan(**config, window_days=most)
        assert len(planned.windows) == 2
        assert planned.advice == "fewer workers, or fewer days, would fit into one"

    def test_the_advice_is_found_in_a_few_tries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tries = 0
        cut = Cutting.cut

        def counting(cutting: Cutting, days: Iterable[Window]) -> list[Window]:
            nonlocal tries
            tries += 1
            return cut(cutting, days)

        monkeypatch.setattr(Cutting, "cut", counting)
        planned = plan(start_date="2024-03-01", requests_per_hour=1)
        assert planned.advice == f"window_days: {planned.days} would fit into one"
        assert 1 < tries < 40

    def test_gaps_that_no_window_spans(self) -> None:
        loaded = [f"01-{day:02}" for day in range(1, 31, 2)]
        planned = plan(
            *loaded, start_date="2025-01-01", end_date="2025-01-30", requests_per_hour=10
        )
        assert len(planned.windows) == 15
        assert planned.hours == 1
        assert planned.advice == "fewer workers, or fewer days, would fit into one"

    def test_more_workers_than_requests(self) -> None:
        planned = plan(parallel=True, workers=20, requests_per_hour=10, window_days=7)
        assert (len(planned.windows), planned.hours, planned.advice) == (10, 0, None)

    @given(
        days=st.integers(1, 120),
        started=st.lists(st.floats(-3600, 0), max_size=12),
        limit=st.integers(1, 12),
        parallel=st.booleans(),
    )
    def test_no_more_than_the_hour_has_left_if_fewer_would_do(
        self, days: int, started: list[float], limit: int, parallel: bool
    ) -> None:
        checked = settings(
            LONG_AFTER,
            start_date=str(LONG_AFTER - timedelta(days=days - 1)),
            parallel=parallel,
            requests_per_hour=limit,
        )
        hour = Hour(limit, 0.0, tuple(sorted(started)))
        planned = checked.plan(ExportState(), hour)
        fewest = -(-days // 7)
        assert len(planned.windows) <= max(hour.left, fewest)
        assert (planned.waits_until is None) == (fewest <= hour.left)


class TestWords:
    @pytest.mark.parametrize(
        ("planned", "summary"),
        [
            (
                plan(end_date="2025-03-01"),
                "2025-03-01..2025-03-01: 1 day to fetch in 1 window of up to 1 day",
            ),
            (plan(), "2025-03-01..2025-03-31: 31 days to fetch in 5 windows of up to 7 days"),
            (
                plan(parallel=True, workers=4),
                "2025-03-01..2025-03-31: 31 days to fetch in 8 windows of up to 4 days, 4 at once",
            ),
            (
                plan("03-01..03-05", end_date="2025-03-05"),
                "2025-03-01..2025-03-05: every day is loaded, nothing to fetch",
            ),
        ],
    )
    def test_summary(self, planned: Plan, summary: str) -> None:
        assert planned.summary == summary
        assert planned.to_text().startswith(summary)

    def test_text(self) -> None:
        planned = plan("03-01..03-05", "03-09..03-20", failed=("03-06",), requests_per_hour=1)
        assert planned.to_text().splitlines() == [
            "2025-03-01..2025-03-31: 14 days to fetch in 3 windows of up to 7 days",
            "  from_date   to_date     days  why",
            "  2025-03-06  2025-03-08     3  gap, failed before",
            "  2025-03-21  2025-03-27     7  new",
            "  2025-03-28  2025-03-31     4  new",
            "3 requests are needed and 1 may start in an hour: it takes over 2 hours; "
            "fewer workers, or fewer days, would fit into one",
        ]

    def test_what_is_left_out_is_said(self) -> None:
        planned = plan(failed=("02-20..02-21", "03-02"), window_days=31)
        (warning,) = planned.warnings
        assert warning.endswith("start_date to end_date: 2025-02-20..2025-02-21")
        assert warning in planned.to_text().splitlines()

    def test_the_last_line_is_about_the_hourly_limit(self) -> None:
        both = plan(failed=("02-20..02-21",), requests_per_hour=1).to_text().splitlines()
        assert both[-1].startswith("5 requests are needed and 1 may start in an hour: it takes")
        one = plan(failed=("02-20..02-21",), window_days=31).to_text().splitlines()
        assert one[-1] == "1 request of the 60 that may start in an hour: none has to wait"

    @pytest.mark.parametrize(
        ("started", "config", "last"),
        [
            (
                17,
                {},
                "5 requests of the 43 that are left until 14:20:07 UTC (of 60 an hour): none "
                "has to wait",
            ),
            (
                58,
                {},
                "5 requests are needed and 60 may start in an hour, of which 2 are left until "
                "14:20:07 UTC: the last starts after 14:20:07 UTC",
            ),
            (
                58,
                {"on_hourly_limit": "fail"},
                "5 requests are needed and 60 may start in an hour, "
                "of which 2 are left until 14:20:07 UTC: the run ends with an error after 2 "
                "(on_hourly_limit: fail)",
            ),
            (
                60,
                {"end_date": "2025-03-01"},
                "1 request is needed and 60 may start in an hour, of which "
                "0 are left until 14:20:07 UTC: the last starts after 14:20:07 UTC",
            ),
        ],
    )
    def test_the_hour_that_is_used_already(
        self, started: int, config: dict[str, Any], last: str
    ) -> None:
        moment = datetime(2025, 3, 31, 14, 20, 7, tzinfo=UTC).timestamp()
        hour = Hour(60, moment - 1800, (moment - HOUR,) * started)
        planned = settings(**config).plan(ExportState(), hour)
        assert planned.to_text().splitlines()[-1] == last
        assert planned.warnings == ([] if "none has" in last else [last])
        told = planned.to_json()
        assert (told["requests_left"], told["left_until"]) == (60 - started, "2025-03-31T14:20:07Z")

    def test_nothing_to_fetch_in_an_hour_that_is_used(self) -> None:
        state = ExportState(loaded=(window("03-01..03-30"),))
        checked = settings(end_date="2025-03-20", lookback_days=0)
        text = checked.plan(state, Hour(60, 10.0, (5.0,))).to_text().splitlines()
        assert text[1:] == ["59 of 60 requests an hour are left until 01:00:07 UTC"]

    def test_json(self) -> None:
        planned = plan("03-01..03-20", failed=("02-20",), requests_per_hour=1, parallel=True)
        assert json.loads(json.dumps(planned.to_json())) == {
            "wanted": {"from_date": "2025-03-01", "to_date": "2025-03-31"},
            "days": 11,
            "requests": 2,
            "concurrency": 10,
            "requests_per_hour": 1,
            "requests_left": 1,
            "left_until": None,
            "waits_until": "1970-01-01T01:00:02Z",
            "waits_hours": 1,
            "advice": "window_days: 11 would fit into one",
            "windows": [
                {"from_date": "2025-03-21", "to_date": "2025-03-26", "days": 6, "reasons": ["new"]},
                {"from_date": "2025-03-27", "to_date": "2025-03-31", "days": 5, "reasons": ["new"]},
            ],
            "left_out": [{"from_date": "2025-02-20", "to_date": "2025-02-20"}],
        }
        assert count_days(p.window for p in planned.windows) == planned.days


@pytest.fixture
def nowhere() -> Iterator[str]:
    """A URL at which every connection is refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/api/2.0"


@pytest.fixture
def folder(tmp_path: Path, nowhere: str) -> Path:
    """A folder with a configuration and a state."""
    config = {
        "api_url": nowhere,
        "project_id": "1",
        "service_account_username": "bob",
        "service_account_secret": "hunter2",
        "start_date": "2025-03-01",
        "end_date": "2025-03-10",
        "window_days": 3,
        "max_attempts": 1,
    }
    state = {
        "bookmarks": {
            "events": {
                "loaded": [["2025-03-01", "2025-03-03"], ["2025-03-05", "2025-03-08"]],
                "unsettled": [],
                "partitions": [],
            }
        }
    }
    (tmp_path / "tap.json").write_text(json.dumps(config))
    (tmp_path / "state.json").write_text(json.dumps(state))
    return tmp_path


class TestCommand:
    def test_text(self, folder: Path) -> None:
        done = _tap(folder, "--state", "state.json", "--plan")
        assert done.stdout.splitlines() == [
            "2025-03-01..2025-03-10: 3 days to fetch in 2 windows of up to 2 days",
            "  from_date   to_date     days  why",
            "  2025-03-04  2025-03-04     1  gap",
            "  2025-03-09  2025-03-10     2  new",
            "2 requests of the 60 that may start in an hour: none has to wait",
        ]

    def test_json_and_options(self, folder: Path) -> None:
        done = _tap(
            folder,
            *("--state", "state.json", "--plan", "--format", "json"),
            *("--parallel", "--workers", "3", "--replay", "2025-03-06..2025-03-07"),
        )
        parsed = json.loads(done.stdout)
        assert (parsed["requests"], parsed["days"], parsed["concurrency"]) == (3, 5, 3)
        assert [w["reasons"] for w in parsed["windows"]] == [["gap"], ["replay"], ["new"]]

    def test_state_from_meltano_on_standard_input(self, folder: Path) -> None:
        saved = json.loads((folder / "state.json").read_text())
        wrapped = {"singer_state": saved, "partial_state": {}}
        (folder / "wrapped.json").write_text(json.dumps(wrapped))
        piped = "tap-mixpanel-parallel --config tap.json --state - --plan < wrapped.json"
        done = run("bash", "-c", piped, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert "3 days to fetch in 2 windows" in done.stdout

    def test_a_state_that_does_not_fit_is_refused(self, folder: Path) -> None:
        saved = json.loads((folder / "state.json").read_text())
        saved["bookmarks"]["events"]["selection"] = {"project_id": "1", "events": ["Search"]}
        (folder / "state.json").write_text(json.dumps(saved))
        done = run(
            *("tap-mixpanel-parallel", "--config", "tap.json"),
            *("--state", "state.json", "--plan"),
            cwd=folder,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        assert "events ['Search']" in done.stderr
        assert "Traceback" not in done.stderr

    def test_what_a_run_would_warn_of(self, folder: Path) -> None:
        done = _tap(folder, "--state", "state.json", "--plan", "--replay", "2024-03-06")
        assert "replay: 2024-03-06..2024-03-06 is not all within start_date to end_" in done.stderr

    def test_a_run_would_need_the_server(self, folder: Path) -> None:
        """The plan's own tests prove something only if nothing answers there."""
        done = run("tap-mixpanel-parallel", "--config", "tap.json", cwd=folder)
        assert done.returncode == 1
        assert "no data was retrieved" in done.stderr


def _tap(folder: Path, *options: str) -> Any:
    done = run("tap-mixpanel-parallel", "--config", "tap.json", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done
