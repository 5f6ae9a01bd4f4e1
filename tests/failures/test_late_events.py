"""Late events after a first run that broke, with real processes and a clock that goes on."""

from __future__ import annotations

import subprocess
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox, Status
from tests.support.commands import environment
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.harness import Lab, State, states_of
from tests.support.tap_at import tap_at

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

PROJECT = Project(seed=3, events_per_day=200)
FIRST, LAST = date(2025, 1, 2), date(2025, 1, 31)
FIRST_RUN = datetime(2025, 1, 20, 12, tzinfo=UTC)
SECOND_RUN = datetime(2025, 1, 31, 12, tzinfo=UTC)


class Schedule:
    """Runs of the pipe at moments that a test names."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.lab = Lab(folder, sandbox)
        self.lab.settings |= {"start_date": str(FIRST), "window_days": 3}

    def run(self, moment: datetime, state: State | None) -> list[State]:
        """Run the pipe, and give the states that the loader reports."""
        with (self.lab.folder / "tap.log").open("wb") as log:
            tap = subprocess.Popen(
                tap_at(moment, self.lab.tap(state)[1:]),
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
            )
            target = subprocess.run(
                self.lab.target(batch_size_rows=500),
                stdin=tap.stdout,
                capture_output=True,
                check=True,
                env=environment(),
            )
            assert tap.stdout is not None
            tap.stdout.close()
            tap.wait()
        return states_of(target.stdout)


@pytest.mark.parametrize("lag", [0, 3], ids=["up to date", "an older state"])
def test_none_is_lost(tmp_path: Path, lag: int) -> None:
    moment = FIRST_RUN
    with Sandbox(PROJECT, limits=None, as_of=lambda: moment) as sandbox:
        schedule = Schedule(tmp_path, sandbox)
        sandbox.faults = [Fault(Status(403), days=(date(2025, 1, 20), date(2025, 1, 20)))]
        states = schedule.run(FIRST_RUN, None)
        state = states[len(states) - 1 - lag]
        assert state["bookmarks"]["events"]["loaded"]
        sandbox.faults = []

        moment = SECOND_RUN
        schedule.run(SECOND_RUN, state)

    early = expected(lines_of(PROJECT, FIRST, LAST, FIRST_RUN))
    whole = expected(lines_of(PROJECT, FIRST, LAST, SECOND_RUN)).without_users()
    late = [row for key, row in whole.keyed.items() if key not in early.keyed]
    first_run_ms = FIRST_RUN.timestamp() * 1000
    assert any(row.time_ms < first_run_ms - 86_400_000 for row in late), "the test needs some"
    assert_same(loaded(schedule.lab.database).without_users(), whole)
