"""Day after day: runs against a sandbox whose clock goes on, into a table that upserts."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.exceptions import ConfigValidationError

from tap_mixpanel_parallel import ParallelFetchResult, TapMixpanelParallel
from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.exceptions import RefusedError, StateError
from tap_mixpanel_parallel.messages import MessageWriter
from tap_mixpanel_parallel.plan.windows import Window, merge
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox, Status
from tests.support.reference import Row, assert_same, lines_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from singer_sdk.singerlib.encoding.simple import Message

PROJECT = Project(seed=7, events_per_day=60)
START = date(2025, 1, 1)
DAY = timedelta(days=1)


class FrozenClock(Clock):
    """A clock that stands still until a test moves it."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


class Collector(MessageWriter):
    """Keeps the messages instead of writing them."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []

    def write_lines(self, lines: bytes) -> None:
        assert lines.endswith(b"\n")
        self.messages += map(json.loads, lines.split(b"\n")[:-1])

    def write_some_lines(self, lines: bytes, start: int = 0) -> int:
        self.write_lines(lines[start:])
        return len(lines)

    def write_last(self, message: Message) -> None:
        self.write_message(message)


class CollectingTap(TapMixpanelParallel):
    """The tap, with its messages kept."""

    message_writer_class = Collector

    @property
    def messages(self) -> list[dict[str, Any]]:
        writer = self.writer
        assert isinstance(writer, Collector)
        return writer.messages


@dataclass
class Run:
    """What one run has done."""

    result: ParallelFetchResult
    records: list[dict[str, Any]]
    asked: list[Window]

    @property
    def read(self) -> list[str]:
        """The days that were requested, merged, as text."""
        return [str(window) for window in merge(self.asked)]


@dataclass
class Pipeline:
    """A tap and an upserting loader, one run after another."""

    sandbox: Sandbox
    clock: FrozenClock
    settings: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, **settings: Any) -> Run:
        """Run the tap with what the last run left, and load what it says."""
        account = self.sandbox.credentials
        config = {
            "api_url": self.sandbox.url,
            "project_id": account.project_id,
            "service_account_username": account.username,
            "service_account_secret": account.secret,
            "start_date": str(START),
            "requests_per_second": 1000,
            "requests_per_hour": 1_000_000,
            "max_attempts": 1,
        }
        before = len(self.sandbox.requests)
        tap = CollectingTap(
            config=config | self.settings | settings,
            state=json.loads(json.dumps(self.state)),
            clock=self.clock,
        )
        records = []
        try:
            result = tap.run()
        finally:
            for message in tap.messages:
                if message["type"] == "RECORD":
                    records.append(message["record"])
                    self.records[message["record"]["event_id"]] = message["record"]
                elif message["type"] == "STATE":
                    self.state = message["value"]
        asked = [
            Window(r.from_date, r.to_date)
            for r in self.sandbox.requests[before:]
            if r.from_date and r.to_date
        ]
        return Run(result, records, asked)

    def run_on(self, moment: datetime, **settings: Any) -> Run:
        """Run at a later moment."""
        self.clock.moment = moment
        return self.run(**settings)

    @property
    def bookmark(self) -> dict[str, Any]:
        bookmark: dict[str, Any] = self.state["bookmarks"]["events"]
        return bookmark

    @property
    def loaded(self) -> list[str]:
        """The days that the state says are loaded."""
        return [f"{first}..{last}" for first, last in self.bookmark["loaded"]]

    @property
    def rows(self) -> dict[str, Row]:
        """The loaded table."""
        return {
            key: Row(r["event"], r["distinct_id"] or None, r["insert_id"] or None, r["properties"])
            for key, r in self.records.items()
        }


@contextmanager
def pipeline_of(project: Project, moment: datetime, **settings: Any) -> Iterator[Pipeline]:
    """A pipeline whose sandbox and tap look at one clock."""
    clock = FrozenClock(moment)
    with Sandbox(project, limits=None, as_of=clock.now) as sandbox:
        yield Pipeline(sandbox, clock, settings)


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    """A pipeline at noon of January 20."""
    with pipeline_of(PROJECT, noon("2025-01-20")) as ready:
        yield ready


def noon(day: str | date) -> datetime:
    return datetime.combine(date.fromisoformat(str(day)), time(12), UTC)


def broken(*days: str) -> list[Fault]:
    """Each request that touches one of these days or ranges is answered with a 500."""
    return [Fault.parse(f"status=500,days={day}") for day in days]


def expected(pipeline: Pipeline, first: str, last: str) -> dict[str, Row]:
    """The rows of these days, as the project exports them now."""
    first_day, last_day = date.fromisoformat(first), date.fromisoformat(last)
    project = pipeline.sandbox.project
    return rows_of(lines_of(project, first_day, last_day, pipeline.clock.now()))


class TestWhatIsRead:
    def test_the_first_run_reads_everything_and_does_not_mark_today(
        self, pipeline: Pipeline
    ) -> None:
        run = pipeline.run()
        assert run.read == ["2025-01-01..2025-01-20"]
        assert pipeline.loaded == ["2025-01-01..2025-01-19"]
        assert_same(pipeline.rows, expected(pipeline, "2025-01-01", "2025-01-20"))

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
        assert_same(pipeline.rows, expected(pipeline, "2024-12-24", "2025-01-10"))

    def test_a_later_end_extends(self, pipeline: Pipeline) -> None:
        pipeline.run(end_date="2025-01-06")
        run = pipeline.run(end_date="2025-01-12")
        assert run.read == ["2025-01-07..2025-01-12"]
        assert_same(pipeline.rows, expected(pipeline, "2025-01-01", "2025-01-12"))

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
        assert_same(pipeline.rows, expected(pipeline, "2025-01-20", "2025-01-20"))


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
        gap = ["2025-01-05..2025-01-06", "2025-01-10..2025-01-11"]
        assert [str(window) for window in merge(b.window for b in run.result.failed)] == gap
        assert_same(
            pipeline.rows,
            expected(pipeline, "2025-01-01", "2025-01-04")
            | expected(pipeline, "2025-01-07", "2025-01-09")
            | expected(pipeline, "2025-01-12", "2025-01-14"),
        )

        pipeline.sandbox.faults = []
        run = pipeline.run(**settings)

        assert run.read == gap
        assert pipeline.loaded == ["2025-01-01..2025-01-14"]
        assert pipeline.bookmark["partitions"] == []
        assert_same(pipeline.rows, expected(pipeline, "2025-01-01", "2025-01-14"))

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


class TestLateEvents:
    def test_they_are_there_after_the_next_run(self, pipeline: Pipeline) -> None:
        pipeline.run()
        first = dict(pipeline.rows)
        pipeline.run_on(noon("2025-01-21"))
        late = [
            row
            for key, row in pipeline.rows.items()
            if key not in first and not _happened(row) >= noon("2025-01-20")
        ]
        assert len(late) > 5
        assert_same(pipeline.rows, expected(pipeline, "2025-01-01", "2025-01-21"))

    @pytest.mark.parametrize("hour", [0, 23])
    def test_five_days_late_is_not_too_late_for_a_daily_run(self, hour: int) -> None:
        moments = [datetime(2025, 1, 3, hour, tzinfo=UTC) + n * DAY for n in range(28)]
        with pipeline_of(PROJECT, moments[0]) as pipeline:
            for moment in moments:
                pipeline.run_on(moment)
            now = expected(pipeline, "2025-01-01", "2025-01-20")
            assert _identities(now) <= _identities(pipeline.rows)

    def test_a_schedule_that_paused_still_gets_them(self, pipeline: Pipeline) -> None:
        pipeline.run()
        before = dict(pipeline.rows)
        run = pipeline.run_on(noon("2025-01-30"))
        assert run.read == ["2025-01-15..2025-01-30"]
        late = [r for k, r in pipeline.rows.items() if k not in before]
        assert any(_happened(row) < noon("2025-01-19") for row in late)
        assert_same(
            {k: r for k, r in pipeline.rows.items() if _happened(r) >= noon("2025-01-15")},
            {
                k: r
                for k, r in expected(pipeline, "2025-01-15", "2025-01-30").items()
                if _happened(r) >= noon("2025-01-15")
            },
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
        now = expected(pipeline, "2025-01-01", "2025-01-31")
        assert _identities(now) <= _identities(pipeline.rows)


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
        assert_same(pipeline.rows, expected(pipeline, "2025-01-01", "2025-01-20"))

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
        revised = [r for r in kept if json.loads(_text(r["properties"]))["Revision"] == 2]
        assert revised, "the project ingests some events again"

    def test_nothing_but_duplicates_is_dropped(self, pipeline: Pipeline) -> None:
        records = pipeline.run(deduplicate=True).records
        assert len(records) == len(pipeline.records)
        rows = expected(pipeline, "2025-01-01", "2025-01-20")
        assert _identities(pipeline.rows) == _identities(rows)
        assert len(pipeline.records) == len(rows)


class TestChangedSelection:
    @pytest.mark.parametrize(
        ("name", "before", "after"),
        [
            ("events", None, ["Purchase"]),
            ("events", ["Purchase"], None),
            ("events", ["Purchase"], ["Purchase", "Search"]),
            ("where", None, 'properties["Revision"] == 2'),
            ("where", 'properties["Revision"] == 1', 'properties["Revision"] == 2'),
            ("project_timezone", "UTC", "Asia/Kolkata"),
            ("project_timezone", None, "Asia/Kolkata"),
            ("project_id", "1", "2"),
        ],
    )
    def test_it_stops_the_run_with_the_remedy(
        self, pipeline: Pipeline, name: str, before: Any, after: Any
    ) -> None:
        pipeline.settings |= {"start_date": "2025-01-08", "end_date": "2025-01-09"}
        pipeline.run(**{name: before} if before else {})
        state, requests = pipeline.state, len(pipeline.sandbox.requests)

        with pytest.raises(StateError) as caught:
            pipeline.run(**{name: after} if after else {})

        message = str(caught.value)
        assert name in message
        assert "--full-refresh" in message
        assert "another state id" in message
        assert len(pipeline.sandbox.requests) == requests
        assert pipeline.state == state

        pipeline.state = {}
        if name != "project_id":  # whose other project the sandbox does not have
            assert pipeline.run(**{name: after} if after else {}).result.success

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"events": ["Search", "Purchase"]}, {"events": ["Purchase", "Search"]}),
            ({}, {"events": []}),
            ({}, {"where": ""}),
            ({}, {"project_timezone": "UTC"}),
            ({"project_id": "1"}, {"project_id": 1}),
            ({}, {"properties_format": "string", "deduplicate": True, "workers": 3}),
        ],
        ids=str,
    )
    def test_what_selects_the_same_events_goes_on(
        self, pipeline: Pipeline, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        pipeline.settings |= {"start_date": "2025-01-08", "end_date": "2025-01-09"}
        pipeline.run(**before)
        assert pipeline.run(**after).asked == []

    def test_filters_are_mixpanels_own(self, pipeline: Pipeline) -> None:
        run = pipeline.run(
            events=["Purchase", "Search"],
            where='properties["Revision"] == 2',
            end_date="2025-01-15",
        )
        assert {record["event"] for record in run.records} <= {"Purchase", "Search"}
        assert run.records
        assert {record["properties"]["Revision"] for record in run.records} == {2}


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
        assert_same(pipeline.rows, expected(pipeline, "2025-01-01", "2025-01-10"))

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


def test_a_year_of_daily_runs_with_random_failures() -> None:
    dice = random.Random(7)  # noqa: S311
    project = Project(seed=3, events_per_day=3)
    start = datetime(2024, 12, 31, 2, tzinfo=UTC)
    sizes = []
    with pipeline_of(project, start, start_date="2024-12-01", window_days=2) as pipeline:
        for day in range(365):
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
        assert len(json.dumps(pipeline.state)) < 300
        assert max(sizes) < 3000, "only the failures of the last days are in it"
        everything = expected(pipeline, "2024-12-01", str(today))
        assert _identities(pipeline.rows) == _identities(everything)
        assert len(pipeline.records) == len(everything)


def _happened(row: Row) -> datetime:
    return datetime.fromtimestamp(row.properties["time"] / 1000, UTC)


def _identities(rows: Mapping[str, Row]) -> Counter[tuple[str | None, ...]]:
    """The events, told apart by what neither a merge nor a second ingestion changes."""
    return Counter((row.event, row.insert_id) for row in rows.values())


def _text(properties: Any) -> str:
    return properties if isinstance(properties, str) else json.dumps(properties)
