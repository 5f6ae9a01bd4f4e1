"""A trial: one schedule, played until nothing is left to do, and checked after each run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.sandbox import Sandbox
from tests.campaign.lanes import LANES, ROOT
from tests.campaign.root import Root
from tests.campaign.schedule import Round, Schedule
from tests.support.commands import PATIENCE, environment
from tests.support.exact import digits, doubles
from tests.support.expected import Table, assert_same, expected, lines_of, loaded
from tests.support.harness import Lab, states_of
from tests.support.processes import workers_of
from tests.support.tap_at import tap_at

if TYPE_CHECKING:
    from tests.campaign.schedule import Kill

_CALM_ROUNDS: Final = 3
"""Runs in which nothing goes wrong, after which there must be nothing left to do."""

_SIGNALLED: Final = {-15, 143, -9}


@dataclass
class Report:
    """What has happened in a trial."""

    lane: str
    seed: int
    events: int = 0
    runs: int = 0
    requests: int = 0
    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    problem: str | None = None


def play(lane: str, seed: int) -> Report:
    """Play the schedule of a seed in a lane; what it finds is in the report, not raised."""
    report, started = Report(lane, seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        try:
            Trial(Schedule.draw(seed, LANES[lane]), Path(folder), report).play()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            report.problem = f"{type(error).__name__} in run {report.runs}: {error}"
    report.seconds = time.monotonic() - started
    return report


class Trial:
    """A schedule as it is played."""

    def __init__(self, schedule: Schedule, folder: Path, report: Report) -> None:
        self._schedule = schedule
        self._report = report
        self._normal = digits if schedule.tap["properties_format"] == "string" else doubles
        self._sandbox = Sandbox(
            schedule.project, limits=None, shaping=schedule.shaping, as_of=lambda: self._now
        )
        self._now = schedule.start
        self._folder = folder
        self._root = Root(folder / ROOT)
        self._state: dict[str, Any] | None = None
        self._killed = 0

    def play(self) -> None:
        """Run the pipe until it has nothing left to do."""
        schedule = self._schedule
        calm = [Round()] * _CALM_ROUNDS
        with self._sandbox as sandbox:
            self._lab = Lab(self._folder, sandbox)
            self._lab.settings |= schedule.tap
            for round_ in schedule.rounds:
                self._run(round_)
            for round_ in calm:
                if self._run(round_):
                    break
            else:
                raise AssertionError(f"work is left after {_CALM_ROUNDS} runs without a fault")
            table = self._table()
            self._report.events = len(table)
            assert_same(table, self._expected(schedule.first, self._last_day, self._now))
            self._check_folders(table)

    def _check_folders(self, table: Table) -> None:
        """In the end nothing is left that nobody needs."""
        assert not self._lab.left_behind, f"left behind: {self._lab.left_behind}"
        self._root.check_end(table, self._schedule.target)
        copies = list(self._folder.glob("target-duckdb-batch-*"))
        assert not copies, f"the loader has left {copies}"

    def _run(self, round_: Round) -> bool:
        """Run the pipe once; whether both ends say that all is done."""
        lab, kill = self._lab, round_.kill
        self._sandbox.faults = round_.faults
        self._now += timedelta(hours=round_.hours)
        lab.settings["replay"] = round_.replay
        self._report.runs += 1
        before = len(self._sandbox.requests)
        with (
            (lab.folder / "tap.log").open("wb") as tap_log,
            (lab.folder / "target.log").open("wb") as target_log,
            (lab.folder / "states").open("wb") as states,
        ):
            tap = subprocess.Popen(
                tap_at(self._now, lab.tap(self._state)[1:]),
                stdout=subprocess.PIPE,
                stderr=tap_log,
                env=environment(),
                cwd=lab.folder,
            )
            target = subprocess.Popen(
                [self._schedule.lane.loader, *lab.target(**self._schedule.target)[1:]],
                stdin=tap.stdout,
                stdout=states,
                stderr=target_log,
                env=environment(),
            )
            assert tap.stdout is not None
            tap.stdout.close()
            try:
                if kill is not None:
                    self._kill(kill, tap, target, before)
                tap.wait(PATIENCE)
                target.wait(PATIENCE)
            finally:
                for process in (tap, target):
                    if process.poll() is None:
                        process.kill()
                    process.wait()
        self._report.requests += len(self._sandbox.requests) - before
        self._count_faults()
        self._check(round_, tap.returncode)
        return tap.returncode == target.returncode == round_.lag == 0

    def _kill(
        self,
        kill: Kill,
        tap: subprocess.Popen[bytes],
        target: subprocess.Popen[bytes],
        before: int,
    ) -> None:
        """Send the signal when its moment has come, if the victim is still there."""

        def victims() -> list[int]:
            if kill.victim not in {"tap", "target"}:
                return self._helpers(tap)
            victim = tap if kill.victim == "tap" else target
            return [victim.pid] if victim.poll() is None else []

        deadline = time.monotonic() + PATIENCE
        while tap.poll() is None and time.monotonic() < deadline:
            if kill.requests is not None and (
                len(self._sandbox.requests) - before >= kill.requests and victims()
            ):
                break
            time.sleep(0.002)
        time.sleep(kill.delay)
        for pid in victims()[:1]:
            self._report.kills[f"{kill.signum.name} to the {kill.victim}"] += 1
            self._killed += (kill.victim, kill.signum) == ("tap", 9)
            with suppress(ProcessLookupError):  # a process that converts may end meanwhile
                os.kill(pid, kill.signum)

    def _helpers(self, tap: subprocess.Popen[bytes]) -> list[int]:
        """The processes that convert for the tap."""
        return workers_of(tap.pid)

    def _check(self, round_: Round, code: int) -> None:
        """Hold the run against what must be true after any run."""
        log, kill = (self._lab.folder / "tap.log").read_text(), round_.kill
        ends = {0, 1} | (_SIGNALLED if kill is not None and kill.victim == "tap" else set())
        assert code in ends, f"the tap ended with {code}: {log}"
        assert "Traceback" not in log, log
        self._check_left_behind()
        self._root.keys()
        states = states_of((self._lab.folder / "states").read_bytes())
        self._state = [self._state, *states][max(0, len(states) - round_.lag)]
        table = self._table()
        everything = self._expected(self._schedule.first, self._last_day, self._now)
        # A duplicate's older form may be there for now, so only keys are compared.
        extra = table.keyed.keys() - everything.keyed.keys()
        assert not extra, f"events are extra: {sorted(extra)}"
        bookmark = (self._state or {}).get("bookmarks", {}).get("events", {})
        for first, last in bookmark.get("loaded", []):
            days = date.fromisoformat(first), date.fromisoformat(last)
            missing = self._in_time(*days) - table
            assert not missing, f"{len(missing)} of {first}..{last} are missing, yet in the state"

    def _check_left_behind(self) -> None:
        """Whoever is killed leaves a folder, at most."""
        for left in (self._lab.left_behind, self._root.left_behind):
            assert len(left) <= self._killed, f"left behind: {left}"

    @property
    def _last_day(self) -> date:
        """The last day that a run reads now."""
        return self._now.date() if self._is_passing else self._schedule.last

    @property
    def _is_passing(self) -> bool:
        return "end_date" not in self._schedule.tap

    def _table(self) -> Table:
        # Of a copy: to open the database would do what the next loader has to.
        copy = self._folder / "copy"
        copy.mkdir()
        for path in self._folder.glob(f"{self._lab.database.name}*"):
            shutil.copy(path, copy)
        table = loaded(copy / self._lab.database.name, normal=self._normal)
        shutil.rmtree(copy)
        return table.without_users() if self._is_passing else table

    def _expected(self, first: date, last: date, as_of: datetime) -> Table:
        lines = lines_of(self._schedule.project, first, last, as_of)
        table = expected(lines, normal=self._normal)
        # Where days pass, users are merged: a settled day has them as they were.
        return table.without_users() if self._is_passing else table

    def _in_time(self, first: date, last: date) -> Table:
        """What Mixpanel had of some days when they were over: whoever loads one has that."""
        if not self._is_passing:
            return self._expected(first, last, self._now)
        table = Table({}, Counter())
        for day in (first + timedelta(days=n) for n in range((last - first).days + 1)):
            over = datetime.combine(day + timedelta(days=1), time_of_day(), UTC)
            table |= self._expected(day, day, over)
        return table

    def _count_faults(self) -> None:
        played = (request.fault for request in self._sandbox.requests)
        self._report.faults = Counter(fault.effect.name for fault in played if fault is not None)
