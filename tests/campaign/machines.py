"""`python -m tests.campaign.machines`: schedules on a Dask cluster whose workers are killed.

Files leave through target-duckdb-batch. Where a schedule kills the loader, a worker dies instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.fetch.spool import Spool
from tests.campaign.__main__ import _sum_up, say
from tests.campaign.schedule import Round, Schedule
from tests.campaign.trial import Report, _Trial
from tests.support.cluster import cluster_in
from tests.support.commands import BIN, PATIENCE, environment
from tests.support.files import batch_config
from tests.support.harness import wait_until
from tests.support.tap_at import tap_at

if TYPE_CHECKING:
    from tests.campaign.schedule import Kill
    from tests.support.cluster import Cluster

_WORKERS: Final = 3
_THREADS: Final = 2


class _MachinesTrial(_Trial):
    """A schedule as it is played on a cluster."""

    def __init__(self, schedule: Schedule, folder: Path, report: Report, cluster: Cluster) -> None:
        schedule.tap.update({"executor": "dask", "dask_scheduler": str(cluster.file)})
        form = ("jsonl", "parquet")[schedule.seed % 2]
        self._root = folder / "root"
        files = batch_config(form, self._root, batch_size=schedule.seed % 3 * 100 + 50)
        schedule.tap.update(files)
        super().__init__(schedule, folder, report)
        self._cluster = cluster

    def play(self) -> None:
        """Play it; in the end no file is left that no state counts as loaded."""
        super().play()
        left = sorted(path.name for path in self._root.iterdir())
        assert not [name for name in left if "staged" not in name], f"left behind: {left}"

    def _check_spool(self) -> None:
        """What killed workers have left is swept; what killed taps have begun ends by itself."""
        with Spool(self._lab.spool):
            pass
        wait_until(lambda: not self._lab.left_behind, "nothing is left in the spool folder")

    def _run(self, round_: Round) -> bool:
        """Run the tap once, and the loader on what it has written."""
        lab = self._lab
        self._report.runs += 1
        before = len(self._sandbox.requests)
        messages = lab.folder / "messages"
        with messages.open("wb") as output, (lab.folder / "tap.log").open("wb") as log:
            command = tap_at(self._now, lab.tap(self._state)[1:])
            tap = subprocess.Popen(command, stdout=output, stderr=log, env=environment())
            try:
                if round_.kill is not None:
                    self._strike(round_.kill, tap, before)
                tap.wait(PATIENCE)
            finally:
                if tap.poll() is None:
                    tap.kill()
                tap.wait()
        with messages.open("rb") as read, (lab.folder / "states").open("wb") as states:
            loader = [str(BIN / "target-duckdb-batch"), *lab.target(**self._schedule.target)[1:]]
            done = subprocess.run(
                loader,
                stdin=read,
                stdout=states,
                stderr=subprocess.PIPE,
                env=environment(),
                timeout=PATIENCE,
                check=False,
            )
        assert done.returncode == 0, done.stderr.decode()
        self._report.requests += len(self._sandbox.requests) - before
        self._check(round_, tap.returncode)
        return tap.returncode == round_.lag == 0

    def _strike(self, kill: Kill, tap: subprocess.Popen[bytes], before: int) -> None:
        """Kill the tap, or a worker, and start another in its place."""
        # The attempts of whoever is killed may leave their folders for the next.
        self._killed += _WORKERS * _THREADS
        if kill.victim == "tap":
            self._kill(kill, tap, tap, before)
            return
        deadline = time.monotonic() + PATIENCE
        while tap.poll() is None and time.monotonic() < deadline:
            if len(self._sandbox.requests) - before >= (kill.requests or 1):
                break
            time.sleep(0.002)
        time.sleep(kill.delay)
        self._report.kills["SIGKILL to a worker"] += 1
        workers = self._cluster.workers
        self._cluster.kill(workers[self._schedule.seed % len(workers)])
        self._cluster.add_worker(f"worker-{time.monotonic_ns()}")


def play(seed: int, cluster: Cluster) -> Report:
    """Play the schedule of a seed; what it finds is in the report, not raised."""
    report, started = Report(seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        try:
            _MachinesTrial(Schedule.draw(seed), Path(folder), report, cluster).play()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            report.problem = f"{type(error).__name__} in run {report.runs}: {error}"
    report.seconds = time.monotonic() - started
    return report


def main(arguments: list[str] | None = None) -> int:
    """Play the schedules that are asked for, one after another."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.machines", description=__doc__)
    parser.add_argument("--schedules", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=1, help="the first one's seed")
    options: Any = parser.parse_args(arguments)
    started, reports = time.monotonic(), []
    with (
        tempfile.TemporaryDirectory(prefix="cluster-") as folder,
        cluster_in(Path(folder), workers=_WORKERS, threads=_THREADS) as cluster,
    ):
        for seed in range(options.seed, options.seed + options.schedules):
            reports.append(play(seed, cluster))
            if reports[-1].problem is not None:
                say(f"seed {seed}: {reports[-1].problem}")
    return _sum_up(reports, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
