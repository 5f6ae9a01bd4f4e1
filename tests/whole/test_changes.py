"""What Mixpanel changes in days that are loaded: late events, merged users, duplicates."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tap_mixpanel_parallel.exceptions import RefusedError
from tap_mixpanel_parallel.sandbox import Fault, Status
from tests.support.expected import Row, assert_same
from tests.support.pipeline import PROJECT, Pipeline, noon, pipeline_of

DAY = timedelta(days=1)


class TestLateEvents:
    def test_they_are_there_after_the_next_run(self, pipeline: Pipeline) -> None:
        pipeline.run()
        first = pipeline.table
        pipeline.run_on(noon("2025-01-21"))
        new = pipeline.table - first
        late = new.keyed.keys() - first.keyed.keys()
        times = [happened(new.keyed[key]) for key in late]
        assert sum(time < noon("2025-01-20") for time in times) > 5
        assert_same(pipeline.table, pipeline.exported("2025-01-01", "2025-01-21"))

    @pytest.mark.parametrize("hour", [0, 23])
    def test_five_days_late_is_not_too_late_for_a_daily_run(self, hour: int) -> None:
        moments = [datetime(2025, 1, 3, hour, tzinfo=UTC) + n * DAY for n in range(28)]
        with pipeline_of(PROJECT, moments[0]) as pipeline:
            for moment in moments:
                pipeline.run_on(moment)
            now = pipeline.exported("2025-01-01", "2025-01-20")
            assert not now.without_users() - pipeline.table.without_users()

    def test_a_schedule_that_paused_still_gets_them(self, pipeline: Pipeline) -> None:
        pipeline.run()
        before = pipeline.table
        run = pipeline.run_on(noon("2025-01-30"))
        assert run.read == ["2025-01-15..2025-01-30"]
        new = pipeline.table - before
        late = new.keyed.keys() - before.keyed.keys()
        assert any(happened(new.keyed[key]) < noon("2025-01-19") for key in late)
        assert_same(
            pipeline.table.where(lambda row: happened(row).date() >= date(2025, 1, 15)),
            pipeline.exported("2025-01-15", "2025-01-30"),
        )
        assert pipeline.run_on(noon("2025-01-31")).read == ["2025-01-25..2025-01-31"]

    def test_after_a_run_that_broke_every_day_is_read_until_it_is_settled(
        self, pipeline: Pipeline
    ) -> None:
        pipeline.settings["window_days"] = 1
        pipeline.run()
        pipeline.clock.moment = noon("2025-01-30")
        pipeline.sandbox.faults = [Fault(Status(403), after=3)]
        with pytest.raises(RefusedError, match="403"):
            pipeline.run()
        assert pipeline.loaded == ["2025-01-01..2025-01-19"]
        assert pipeline.bookmark["unsettled"] == [["2025-01-18", "2025-01-19", "2025-01-20"]]
        pipeline.sandbox.faults = []
        assert pipeline.run().read == ["2025-01-18..2025-01-30"]

    @pytest.mark.parametrize("whole", [True, False], ids=["whole", "broken"])
    def test_a_first_run_that_broke_loses_none(self, pipeline: Pipeline, whole: bool) -> None:
        pipeline.settings["window_days"] = 1
        pipeline.sandbox.faults = [] if whole else [Fault(Status(403), after=19)]
        with contextlib.nullcontext() if whole else pytest.raises(RefusedError):
            pipeline.run()
        assert pipeline.loaded == ["2025-01-01..2025-01-19"]
        pipeline.sandbox.faults = []
        pipeline.run_on(noon("2025-01-31"))
        now = pipeline.exported("2025-01-01", "2025-01-31")
        assert not now.without_users() - pipeline.table.without_users()


class TestMergedUsers:
    def test_an_event_stays_one_row_and_gets_the_new_user(self, pipeline: Pipeline) -> None:
        pipeline.run()
        before = dict(pipeline.records)
        pipeline.run_on(noon("2025-01-21"))
        merged = {
            key: record
            for key, record in pipeline.records.items()
            if key in before
            and record["distinct_id"] != before[key]["distinct_id"]
            and record["insert_id"]
        }
        assert merged
        for key, record in merged.items():
            sent = record["properties"]["$distinct_id_before_identity"]
            assert sent == before[key]["distinct_id"]
            assert record["distinct_id"].startswith("user-")
        insert_ids = Counter(r["insert_id"] for r in pipeline.records.values() if r["insert_id"])
        assert set(insert_ids.values()) == {1}


class TestDuplicates:
    def test_they_share_a_key_so_that_an_upserting_loader_keeps_one(
        self, pipeline: Pipeline
    ) -> None:
        run = pipeline.run()
        assert len(run.records) > len(pipeline.records)
        assert_same(pipeline.table, pipeline.exported("2025-01-01", "2025-01-20"))

    @pytest.mark.parametrize("parallel", [False, True])
    @pytest.mark.parametrize("properties_format", ["object", "string"])
    def test_deduplicate_keeps_the_latest_ingested(
        self, pipeline: Pipeline, parallel: bool, properties_format: str
    ) -> None:
        pipeline.settings |= {"parallel": parallel, "properties_format": properties_format}
        raw = pipeline.run().records
        pipeline.state, pipeline.records = {}, {}

        kept = pipeline.run(deduplicate=True).records

        latest: dict[str, str] = {}
        for record in raw:
            key = record["event_id"]
            latest[key] = max(latest.get(key, ""), record["processed_at"])
        assert len(latest) < len(raw)
        assert len(kept) == len(latest)
        assert {r["event_id"]: r["processed_at"] for r in kept} == latest
        revised = [r for r in kept if json.loads(as_json(r["properties"]))["Revision"] == 2]
        assert revised, "the project ingests some events again"

    def test_nothing_but_duplicates_is_dropped(self, pipeline: Pipeline) -> None:
        records = pipeline.run(deduplicate=True).records
        assert len(records) == len(pipeline.records)
        rows = pipeline.exported("2025-01-01", "2025-01-20")
        assert_same(pipeline.table.without_users(), rows.without_users())


def happened(row: Row) -> datetime:
    return datetime.fromtimestamp(row.time_ms / 1000, UTC)


def as_json(properties: Any) -> str:
    return properties if isinstance(properties, str) else json.dumps(properties)
