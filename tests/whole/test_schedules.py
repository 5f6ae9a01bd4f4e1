"""The job and the schedules: how they end, and what a second run at the same time does."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tests.support.commands import PATIENCE, environment, run
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.gate import Gate
from tests.support.meltano import saved_bookmark, tap_environment
from tests.support.recipes import section

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

PROJECT = Project(seed=31, events_per_day=20)
AS_OF = datetime(2025, 3, 1, tzinfo=UTC)
WORKERS = 4
FIRST, LAST = date(2025, 1, 1), date(2025, 1, 12)
JOB = "meltano --environment=prod run mixpanel-to-duckdb"


def _code() -> list[str]:
    """The commands of the page on schedules."""
    lines = section("On a schedule").splitlines()
    return [line.partition("#")[0].strip() for line in lines]


SHOW, START, FORCE = _code()


class Scheduled:
    """Runs in a Meltano project under one state id, against a sandbox behind a gate."""

    def __init__(self, folder: Path, name: str, sandbox: Sandbox, gate: Gate) -> None:
        self.folder, self.name, self.sandbox, self.gate = folder, name, sandbox, gate
        self.database = folder / "output" / f"{name}.duckdb"

    def variables(self, **settings: str) -> dict[str, str]:
        days = {"start_date": str(FIRST), "end_date": str(LAST), "window_days": "3"}
        whole = days | settings
        return tap_environment(self.sandbox, parallel="true", workers=str(WORKERS), **whole) | {
            "MELTANO_RUN_STATE_ID_SUFFIX": self.name,
            "TARGET_DUCKDB_FILEPATH": str(self.database),
        }

    def run(
        self, command: str, variables: dict[str, str] | None = None, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        whole = self.variables(**settings) | (variables or {})
        return run(*command.split(), cwd=self.folder, settings=whole)

    @contextmanager
    def held(self, command: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """A run whose first requests are under way, and stay so until the gate opens."""
        process = subprocess.Popen(
            command.split(),
            cwd=self.folder,
            env=environment(self.variables() | variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            self.gate.wait_for(WORKERS)
            yield process
        finally:
            self.gate.open()
            process.kill()
            process.communicate(timeout=PATIENCE)

    def bookmark(self) -> dict[str, Any]:
        return saved_bookmark(self.folder, "prod", self.name)


@pytest.fixture
def scheduled(meltano_project: Path, request: pytest.FixtureRequest) -> Iterator[Scheduled]:
    with Gate(AS_OF) as gate, Sandbox(PROJECT, limits=None, as_of=gate) as sandbox:
        yield Scheduled(meltano_project, request.node.name, sandbox, gate)


def test_both_schedules_start_the_job(meltano_project: Path) -> None:
    done = run(*SHOW.split(), cwd=meltano_project)
    task = "mixpanel-to-duckdb → ['tap-mixpanel-parallel target-duckdb']"
    assert done.stdout.splitlines() == [
        f"[@daily] job mixpanel-daily: {task}",
        f"[@hourly] job mixpanel-hourly: {task}",
    ]


def test_a_second_run_and_a_crash(scheduled: Scheduled) -> None:
    """While a run is on, another is refused; and a dead one is on for five minutes."""
    elsewhere = str(scheduled.database.with_name("crashed.duckdb"))  # its loader may still run
    with scheduled.held(JOB, TARGET_DUCKDB_FILEPATH=elsewhere) as crashed:
        refused = scheduled.run(START)
        assert refused.returncode == 1
        assert re.search(r"pipeline is already running.*'--force'", refused.stderr)
        assert scheduled.gate.arrived == WORKERS, "it has requested nothing"
        assert crashed.poll() is None, "the first is not disturbed"
        crashed.kill()
        assert crashed.wait(PATIENCE) == -signal.SIGKILL

    scheduled.sandbox.faults = [Fault.parse("status=500,days=2025-01-05..2025-01-05")]
    forced = scheduled.run(FORCE, on_failed_window="warn")

    assert forced.returncode == 0, forced.stderr
    state = scheduled.bookmark()
    (failed,) = (Window.parse(*failed["context"].values()) for failed in state["partitions"])
    assert date(2025, 1, 5) in failed
    before = expected(lines_of(PROJECT, FIRST, failed.first - timedelta(1), AS_OF))
    after = expected(lines_of(PROJECT, failed.last + timedelta(1), LAST, AS_OF))
    assert_same(loaded(scheduled.database), before | after)

    scheduled.sandbox.faults = []
    forget_heartbeats(scheduled.folder)
    shown = {"MELTANO_CLI_LOG_FORMAT": "json", "MELTANO_CLI_LOG_LEVEL": "debug"}  # and metrics
    later = scheduled.run(START, variables=shown)

    assert later.returncode == 0, later.stderr
    assert "Marked stale run" in later.stderr
    assert_same(loaded(scheduled.database), expected(lines_of(PROJECT, FIRST, LAST, AS_OF)))
    entries = [json.loads(line) for line in later.stderr.splitlines() if line.startswith("{")]
    (measure,) = (entry["metric_info"] for entry in entries if "metric_info" in entry)
    assert Window.parse(*measure["tags"]["context"].values()) == failed
    assert measure["value"] == len(lines_of(PROJECT, failed.first, failed.last, AS_OF))


def test_nothing_loaded_is_a_failure(scheduled: Scheduled) -> None:
    """Also where windows may fail, since all of them did."""
    scheduled.gate.open()
    scheduled.sandbox.faults = [Fault.parse("status=503")]
    done = scheduled.run(START, on_failed_window="warn")
    assert done.returncode == 1
    assert "no data was retrieved" in done.stderr


def forget_heartbeats(folder: Path) -> None:
    """Let the last heartbeats be over five minutes old."""
    with closing(sqlite3.connect(folder / ".meltano" / "meltano.db")) as database, database:
        changed = database.execute(
            "update runs set last_heartbeat_at = datetime(last_heartbeat_at, '-301 seconds')"
            " where state = 'RUNNING'"
        )
        assert changed.rowcount == 1
