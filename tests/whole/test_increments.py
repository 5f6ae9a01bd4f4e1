"""Day after day: runs against a sandbox whose clock goes on, into a table that upserts."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.exceptions import ConfigValidationError

from tap_mixpanel_parallel.plan.windows import merge
from tap_mixpanel_parallel.sandbox import Fault, Project, Status
from tests.support.expected import assert_same
from tests.support.pipeline import Pipeline, broken, noon, pipeline_of

if TYPE_CHECKING:
    from tests.support.pipeline import Pipeline

DAY = timedelta(days=1)


class TestWhatIsRead:
    def test_the_first_run_reads_everything_and_does_not_mark_today(
        self, pipeline: Pipeline
    ) -> None:
        run = pipeline.run()
        assert run.read == ["2025-01-01..2025-01-20"]
        assert pipeline.loaded == ["2025-01-01..2025-01-19"]
        assert_same(pipeline.table, pipeline.exported("2025-01-01", "2025-01-20"))

    @pytest.mark.parametrize(
        ("lookback_days", "hour", "day", "read"),
        [
            (5, 13, 20, "2025-01-15..2025-01-20"),  # the same day once more
            (5, 6, 21, "2025-01-15..2025-01-21"),  # since the last run: 15 to 20, and today
            (5, 12, 23, "2025-01-15..2025-01-23"),
            (1, 12, 21, "2025-01-19..2025-01-21"),
            (0, 12, 20, "2025-01-20..2025-01-20"),
            (0, 12, 22, "2025-01-20..2025-01-22"),
        ],
    )
    def test_the_next_run_reads_the_look_back_and_the_new_days(
        self, pipeline: Pipeline, lookback_days: int, hour: int, day: int, read: str
    ) -> None:
        pipeline.settings["lookback_days"] = lookback_days
        pipeline.run()
        run = pipeline.run_on(datetime(2025, 1, day, hour, tzinfo=UTC))
        assert run.read == [read]
        assert pipeline.loaded == [f"2025-01-01..2025-01-{day - 1}"]

    def test_a_whole_past_range_is_read_once(self, pipeline: Pipeline) -> None:
        pipeline.settings["end_date"] = "2025-01-10"
        pipeline.run()
        assert pipeline.run().asked == []
        assert pipeline.loaded == ["2025-01-01..2025-01-10"]

    def test_an_earlier_start_back_fills_exactly(self, pipeline: Pipeline) -> None:
        pipeline.settings["end_date"] = "2025-01-10"
        pipeline.run(start_date="2025-01-06")
        run = pipeline.run(start_date="2024-12-24")
        assert run.read == ["2024-12-24..2025-01-05"]
        assert pipeline.loaded == ["2024-12-24..2025-01-10"]
        assert_same(pipeline.table, pipeline.exported("2024-12-24", "2025-01-10"))

    def test_a_later_end_extends(self, pipeline: Pipeline) -> None:
        pipeline.run(end_date="2025-01-06")
        run = pipeline.run(end_date="2025-01-12")
        assert run.read == ["2025-01-07..2025-01-12"]
        assert_same(pipeline.table, pipeline.exported("2025-01-01", "2025-01-12"))

    def test_a_later_start_loses_nothing_that_is_loaded(self, pipeline: Pipeline) -> None:
        pipeline.run(end_date="2025-01-10")
        run = pipeline.run(start_date="2025-01-09", end_date="2025-01-11")
        assert run.read == ["2025-01-11..2025-01-11"]
        assert pipeline.loaded == ["2025-01-01..2025-01-11"]

    def test_a_relative_start_moves_and_forgets_nothing(self, pipeline: Pipeline) -> None:
        pipeline.settings |= {"start_date": "P10D", "lookback_days": 2}
        pipeline.run()
        run = pipeline.run_on(noon("2025-01-22"))
        assert run.read == ["2025-01-18..2025-01-22"]
        assert pipeline.loaded == ["2025-01-11..2025-01-21"]

    def test_today_is_read_again_and_again(self, pipeline: Pipeline) -> None:
        pipeline.settings |= {"start_date": "2025-01-20", "lookback_days": 0}
        counts = []
        for hour in (8, 16, 23):
            assert pipeline.run_on(datetime(2025, 1, 20, hour, tzinfo=UTC)).read == [
                "2025-01-20..2025-01-20"
            ]
            assert pipeline.loaded == []
            counts.append(len(pipeline.records))
        assert counts == sorted(set(counts))
        assert counts[-1] > 0
        assert_same(pipeline.table, pipeline.exported("2025-01-20", "2025-01-20"))


class TestGaps:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"window_days": 1},
            {"window_days": 30},
            {"parallel": True, "workers": 3},
            {"parallel": True, "workers": 7, "window_days": 4, "balance_windows": False},
        ],
        ids=str,
    )
    def test_a_gap_is_found_whatever_the_settings_are_now(
        self, pipeline: Pipeline, settings: dict[str, Any]
    ) -> None:
        pipeline.settings |= {"end_date": "2025-01-14", "parallel": True, "workers": 5}
        pipeline.sandbox.faults = broken("2025-01-05", "2025-01-10..2025-01-11")
        run = pipeline.run(window_days=2)
        gap = ["2025-01-05..2025-01-06", "2025-01-09..2025-01-12"]
        assert [str(window) for window in merge(b.window for b in run.result.failed)] == gap
        assert_same(
            pipeline.table,
            pipeline.exported("2025-01-01", "2025-01-04")
            | pipeline.exported("2025-01-07", "2025-01-08")
            | pipeline.exported("2025-01-13", "2025-01-14"),
        )

        pipeline.sandbox.faults = []
        run = pipeline.run(**settings)

        assert run.read == gap
        assert pipeline.loaded == ["2025-01-01..2025-01-14"]
        assert pipeline.bookmark["partitions"] == []
        assert_same(pipeline.table, pipeline.exported("2025-01-01", "2025-01-14"))

    def test_a_failed_window_outside_the_range_is_named_and_not_read(
        self, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
    ) -> None:
        pipeline.settings["window_days"] = 1
        pipeline.sandbox.faults = broken("2025-01-03")
        pipeline.run(end_date="2025-01-05")
        pipeline.sandbox.faults = []
        caplog.clear()

        run = pipeline.run(start_date="2025-01-06", end_date="2025-01-08")

        assert run.read == ["2025-01-06..2025-01-08"]
        (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert "start_date to end_date: 2025-01-03..2025-01-03" in warning
        assert len(pipeline.bookmark["partitions"]) == 1

    def test_a_failed_re_read_is_repeated_until_it_succeeds(self, pipeline: Pipeline) -> None:
        pipeline.settings |= {"window_days": 1, "lookback_days": 3}
        pipeline.run()
        pipeline.sandbox.faults = broken("2025-01-18")
        pipeline.run_on(noon("2025-01-21"))
        assert pipeline.loaded == ["2025-01-01..2025-01-17", "2025-01-19..2025-01-20"]
        pipeline.run_on(noon("2025-01-25"))
        pipeline.sandbox.faults = []

        run = pipeline.run_on(noon("2025-02-10"))

        assert run.read == ["2025-01-18..2025-01-18", "2025-01-22..2025-02-10"]
        assert pipeline.loaded == ["2025-01-01..2025-02-09"]

    def test_a_run_that_fails_whole_changes_nothing_that_is_loaded(
        self, pipeline: Pipeline
    ) -> None:
        pipeline.settings |= {"lookback_days": 0, "window_days": 1}
        pipeline.run()
        pipeline.sandbox.faults = [Fault(Status(503))]
        result = pipeline.run_on(noon("2025-01-22")).result
        assert (result.total_events, result.success, len(result.failed)) == (0, False, 3)
        assert pipeline.loaded == ["2025-01-01..2025-01-19"]


class TestReplay:
    @pytest.mark.parametrize(
        ("replay", "read"),
        [
            ("2025-01-03..2025-01-05", ["2025-01-03..2025-01-05"]),
            ("2025-01-04", ["2025-01-04..2025-01-04"]),
            ("2024-12-30..2025-01-01", ["2024-12-30..2025-01-01"]),
            ("2025-01-09..2025-01-12", ["2025-01-09..2025-01-12"]),
        ],
    )
    def test_the_days_are_read_again(
        self, pipeline: Pipeline, replay: str, read: list[str]
    ) -> None:
        pipeline.settings["end_date"] = "2025-01-10"
        pipeline.run()
        assert pipeline.run(replay=replay).read == read
        assert pipeline.run().asked == []

    def test_it_mends_what_the_loader_lost(self, pipeline: Pipeline) -> None:
        pipeline.settings["end_date"] = "2025-01-10"
        pipeline.run()
        pipeline.records = {
            key: record
            for key, record in pipeline.records.items()
            if not record["time"].startswith("2025-01-04")
        }
        pipeline.run(replay="2025-01-04")
        assert_same(pipeline.table, pipeline.exported("2025-01-01", "2025-01-10"))

    def test_a_failed_replay_is_repeated_without_it(self, pipeline: Pipeline) -> None:
        pipeline.settings["end_date"] = "2025-01-10"
        pipeline.run()
        pipeline.sandbox.faults = broken("2025-01-04")
        pipeline.run(replay="2025-01-03..2025-01-05")
        pipeline.sandbox.faults = []
        assert pipeline.run().read == ["2025-01-03..2025-01-05"]
        assert pipeline.loaded == ["2025-01-01..2025-01-10"]

    @pytest.mark.parametrize("replay", ["soon", "2025-01-05..2025-01-04", "2025-01-21", ".."])
    def test_nonsense_is_refused(self, pipeline: Pipeline, replay: str) -> None:
        with pytest.raises(ConfigValidationError) as caught:
            pipeline.run(replay=replay)
        (problem,) = caught.value.errors
        assert problem.startswith("replay: ")
        assert pipeline.sandbox.requests == []


def test_a_season_of_daily_runs_with_random_failures() -> None:
    dice = random.Random(7)  # noqa: S311
    project = Project(seed=3, events_per_day=3)
    start = datetime(2024, 12, 31, 2, tzinfo=UTC)
    sizes = []
    with pipeline_of(project, start, start_date="2024-12-01", window_days=2) as pipeline:
        for day in range(100):
            pipeline.clock.moment = moment = start + day * DAY
            failing = [moment.date() - n * DAY for n in range(8) if dice.random() < 0.15]
            pipeline.sandbox.faults = broken(*map(str, failing))
            pipeline.run()
            sizes.append(len(json.dumps(pipeline.state)))
        pipeline.sandbox.faults = []
        run = pipeline.run_on(moment + DAY)

        today = pipeline.clock.moment.date()
        assert len(run.asked) <= 8
        assert pipeline.loaded == [f"2024-12-01..{today - DAY}"]
        assert pipeline.bookmark["partitions"] == []
        assert len(json.dumps(pipeline.state)) < 400
        assert max(sizes) < 3000, "only the failures of the last days are in it"
        everything = pipeline.exported("2024-12-01", str(today))
        assert_same(pipeline.table.without_users(), everything.without_users())
