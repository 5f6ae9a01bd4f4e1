"""Projects created before 2023: days cut in the project's zone, its wall time in `time`."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tap_mixpanel_parallel.sandbox import Project
from tests.support.expected import Row, assert_same, expected, lines_of
from tests.support.pipeline import pipeline_of

DAY = timedelta(days=1)
INSTANT = timedelta(milliseconds=1)
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall time
PROMPT = timedelta(seconds=21)
"""What the sandbox takes to ingest an event that is not held back, at most."""

ZONES = ["America/Los_Angeles", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
CHANGES = [
    ("America/Los_Angeles", date(2024, 3, 10), 1.0),
    ("America/Los_Angeles", date(2024, 11, 3), -1.0),
    ("Asia/Kolkata", date(2024, 3, 10), 0.0),
    ("Australia/Lord_Howe", date(2024, 4, 7), -0.5),
    ("Australia/Lord_Howe", date(2024, 10, 6), 0.5),
    ("Pacific/Apia", date(2020, 9, 27), 1.0),
    ("Pacific/Apia", date(2021, 4, 4), -1.0),
]
"""Days on which clocks change, and by how many hours they go forward."""


def midnight(day: date, zone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def wall_time(properties: dict[str, Any]) -> datetime:
    """The wall time that Mixpanel exported."""
    wall: datetime = EPOCH + properties["time"] * INSTANT
    return wall


def cut_day(row: Row) -> date:
    """The day to which the project counts an event."""
    return wall_time(json.loads(row.properties)).date()


def repeats(wall: datetime, zone: str) -> bool:
    """Whether a wall time occurs twice."""
    offsets = [wall.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1)]
    return offsets[0] != offsets[1]


@pytest.mark.parametrize("deduplicate", [False, True])
@pytest.mark.parametrize(("zone", "day", "hours"), CHANGES, ids=str)
def test_time_is_utc_right_across_a_change_of_clocks(
    zone: str, day: date, hours: float, deduplicate: bool
) -> None:
    length = midnight(day + DAY, zone) - midnight(day, zone)
    assert length == timedelta(hours=24 - hours), "the zone's rules are these"
    project = Project(seed=34, events_per_day=300, timezone=zone)
    first, last = day - 2 * DAY, day + 2 * DAY
    settings = {
        "project_timezone": zone,
        "start_date": str(first),
        "end_date": str(last),
        "window_days": 2,
        "deduplicate": deduplicate,
    }
    with pipeline_of(project, midnight(day + 20 * DAY, zone), **settings) as pipeline:
        pipeline.run()
        lines = lines_of(project, first, last, pipeline.clock.now())
        assert_same(pipeline.table, expected(lines, zone=zone))
        records = list(pipeline.records.values())

    days: Counter[date] = Counter()
    prompt = repeated = 0
    for record in records:
        wall, time = wall_time(record["properties"]), datetime.fromisoformat(record["time"])
        assert record["time"].endswith("Z")
        local = wall.replace(tzinfo=ZoneInfo(zone))
        assert time == local.astimezone(UTC)
        assert time.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall, "no wall time is lost"
        days[time.astimezone(ZoneInfo(zone)).date()] += 1
        # The moment of ingestion is in UTC everywhere: a clock to compare with.
        held = datetime.fromisoformat(record["processed_at"]) - time
        assert held > timedelta()
        repeated += repeats(wall, zone)
        prompt += held < PROMPT
    assert set(days) == {first + n * DAY for n in range(5)}
    assert prompt > len(records) * 0.75
    assert bool(repeated) == (hours < 0), "clocks that go back repeat some of these times"


@pytest.mark.parametrize("zone", [*ZONES, "UTC"])
@pytest.mark.parametrize("day", [date(2024, 3, 10), date(2024, 10, 6), date(2025, 1, 1)], ids=str)
def test_today_is_today_there(zone: str, day: date) -> None:
    """The sandbox, as Mixpanel, refuses a `to_date` after its today."""
    project = Project(seed=4, events_per_day=30, timezone=zone)
    change = midnight(day, zone)
    before = day - DAY
    settings = {"project_timezone": zone, "start_date": str(day - 4 * DAY), "lookback_days": 1}
    with pipeline_of(project, change - INSTANT, **settings) as pipeline:
        assert pipeline.run().read == [f"{day - 4 * DAY}..{before}"]
        assert pipeline.loaded == [f"{day - 4 * DAY}..{before - DAY}"]

        assert pipeline.run_on(change).read == [f"{before - DAY}..{day}"]
        assert pipeline.loaded == [f"{day - 4 * DAY}..{before}"]
        assert pipeline.bookmark["unsettled"] == [[str(before), str(before), str(day)]]

        first = before - DAY
        assert_same(
            pipeline.table.where(lambda row: cut_day(row) >= first),
            expected(lines_of(project, first, day, change), zone=zone),
        )
        assert {r.status for r in pipeline.sandbox.requests} == {200}


@pytest.mark.parametrize("zone", ZONES)
def test_an_end_that_is_tomorrow_there_waits(zone: str) -> None:
    day = date(2025, 1, 1)
    project = Project(events_per_day=10, timezone=zone)
    settings = {
        "project_timezone": zone,
        "start_date": "2024-12-30",
        "end_date": str(day),
        "lookback_days": 0,
    }
    with pipeline_of(project, midnight(day, zone) - INSTANT, **settings) as pipeline:
        assert pipeline.run().read == ["2024-12-30..2024-12-31"]
        assert pipeline.run_on(midnight(day, zone)).read == ["2024-12-31..2025-01-01"]
        assert pipeline.run_on(midnight(day + DAY, zone)).read == ["2025-01-01..2025-01-01"]
        assert pipeline.loaded == ["2024-12-30..2025-01-01"]
        assert pipeline.run().asked == []


def test_a_wrong_zone_is_told_with_the_settings_name(caplog: pytest.LogCaptureFixture) -> None:
    project = Project(events_per_day=10, timezone="America/Los_Angeles")
    moment = datetime(2025, 1, 10, 3, tzinfo=UTC)  # still the 9th in Los Angeles
    with pipeline_of(project, moment, start_date="2025-01-08") as pipeline:
        asked = [str(window) for window in pipeline.run().asked]
        assert asked == ["2025-01-08..2025-01-10", "2025-01-08..2025-01-09"]
        assert pipeline.loaded == ["2025-01-08..2025-01-08"]

    [told] = [message for message in caplog.messages if "2025-01-10 is left out" in message]
    assert "later than today; check the clock of this machine, and project_timezone: " in told
    assert "it is 2025-01-10T03:00:00Z by that clock, so 2025-01-10 in UTC" in told


@pytest.mark.parametrize("zone", ZONES)
def test_a_relative_start_counts_days_there(zone: str) -> None:
    project = Project(events_per_day=10, timezone=zone)
    day = date(2025, 1, 10)
    settings = {"project_timezone": zone, "start_date": "P3D"}
    with pipeline_of(project, midnight(day, zone) + 5 * INSTANT, **settings) as pipeline:
        assert pipeline.run().read == ["2025-01-08..2025-01-10"]
