"""A host whose clock is ahead of Mixpanel's, at midnight: today has not begun there."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.exceptions import RefusedError
from tap_mixpanel_parallel.sandbox import Project, Sandbox
from tests.support.expected import assert_same
from tests.support.pipeline import CollectingTap, FrozenClock, Pipeline
from tests.support.projects import access_to

if TYPE_CHECKING:
    from collections.abc import Iterator

MIDNIGHT = datetime(2025, 1, 20, tzinfo=UTC)
AHEAD = timedelta(seconds=30)
CLOCK = "check the clock of this machine, and project_timezone"


@contextmanager
def pipeline_ahead(by: timedelta = AHEAD, **settings: Any) -> Iterator[Pipeline]:
    """It is just before midnight for Mixpanel, and just after it here, or later."""
    moment = MIDNIGHT - AHEAD / 2
    with Sandbox(Project(events_per_day=40), limits=None, as_of=lambda: moment) as sandbox:
        yield Pipeline(sandbox, FrozenClock(moment + by), settings)


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"window_days": 30}, ["2025-01-15..2025-01-20", "2025-01-15..2025-01-19"]),
        (
            {"window_days": 3},
            ["2025-01-15..2025-01-17", "2025-01-18..2025-01-20", "2025-01-18..2025-01-19"],
        ),
        ({"window_days": 1}, [f"2025-01-{day}..2025-01-{day}" for day in range(15, 21)]),
        ({"window_days": 1, "parallel": True, "workers": 6}, None),
    ],
)
def test_the_last_window_is_read_without_the_day_that_has_not_begun(
    settings: dict[str, Any], asked: list[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    with pipeline_ahead(start_date="2025-01-15", lookback_days=0, **settings) as pipeline:
        run = pipeline.run()

        assert run.result.success
        if asked is not None:
            assert [str(window) for window in run.asked] == asked
        # The 19th goes on, so it is not loaded, though it was yesterday when the run began.
        assert pipeline.loaded == ["2025-01-15..2025-01-18"]
        assert_same(pipeline.table, pipeline.exported("2025-01-15", "2025-01-19"))

        told = [message for message in caplog.messages if "2025-01-20 is left out" in message]
        assert len(told) == 1
        assert f"{CLOCK}: it is 2025-01-20T00:00:15Z by that clock" in told[0]

    moment = MIDNIGHT + timedelta(hours=1)
    with Sandbox(pipeline.sandbox.project, limits=None, as_of=lambda: moment) as later:
        pipeline.sandbox = later
        assert pipeline.run_on(moment).read == ["2025-01-19..2025-01-20"]
        assert pipeline.loaded == ["2025-01-15..2025-01-19"]
        assert_same(pipeline.table, pipeline.exported("2025-01-15", "2025-01-20"))


def test_a_clock_that_is_days_ahead_stops_the_run() -> None:
    settings = {"start_date": "2025-01-15", "window_days": 2}
    with (
        pipeline_ahead(timedelta(days=3), **settings) as pipeline,
        pytest.raises(RefusedError, match=rf"{CLOCK}: it is 2025-01-22T23:59:45Z by that clock"),
    ):
        pipeline.run()


def test_a_trial_names_the_clock() -> None:
    with pipeline_ahead() as pipeline:
        config = {**access_to(pipeline.sandbox), "start_date": str(date(2025, 1, 20))}
        tap = CollectingTap(config=config, clock=pipeline.clock)
        with pytest.raises(RefusedError, match=CLOCK):
            tap.run_connection_test()


def test_a_day_that_is_not_over_by_mixpanel_s_clock_is_not_loaded() -> None:
    """Though nothing is refused: `end_date` leaves out what is today here."""
    settings = {"start_date": "2025-01-15", "end_date": "2025-01-19", "lookback_days": 0}
    with pipeline_ahead(**settings) as pipeline:
        assert pipeline.run().result.success
        assert pipeline.loaded == ["2025-01-15..2025-01-18"]


def test_a_state_of_a_clock_that_was_ahead_is_put_right(caplog: pytest.LogCaptureFixture) -> None:
    with pipeline_ahead(start_date="2025-01-15", lookback_days=0) as pipeline:
        pipeline.run()
        pipeline.bookmark["loaded"][0][1] = "2025-01-22"
        run = pipeline.run()
    assert any("it says that 2025-01-22 is loaded" in message for message in caplog.messages)
    assert run.read == ["2025-01-20..2025-01-20"]
