"""`python -m tests.campaign.machines`: schedules on a Dask cluster whose workers are killed."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.fetch.spool import Spool
from tests.campaign.__main__ import say, sum_up
from tests.campaign.lanes import ON_MACHINES, ROOT
from tests.campaign.schedule import Round, Schedule
from tests.campaign.trial import Report, Trial
from tests.support.cluster import cluster_in
from tests.support.harness import wait_until

if TYPE_CHECKING:
    from tests.support.cluster import Cluster
    from tests.support.expected import Table

_WORKERS: Final = 3
_THREADS: Final = 2


class _OnCluster(Trial):
    """A schedule as it is played on a cluster, which outlives it."""

    def __init__(self, schedule: Schedule, folder: Path, report: Report, cluster: Cluster) -> None:
        schedule.tap["dask_scheduler"] = str(cluster.file)
        schedule.tap["batch_config"]["storage"]["root"] = str(folder / ROOT)
        super().__init__(schedule, folder, report)
        self._cluster = cluster

    def _run(self, round_: Round) -> bool:
        """Run the pipe once, at first with workers in place of those that are killed."""
        self._cluster.replenish(_WORKERS, _THREADS)
        return super()._run(round_)

    def _helpers(self, _: subprocess.Popen[bytes]) -> list[int]:
        """The workers; another is the first each time."""
        pids = self._cluster.pids
        first = self._report.runs % len(pids)
        return pids[first:] + pids[:first]

    def _check_left_behind(self) -> None:
        """Whatever there is: the tasks of a run that has ended go on for a while."""

    def _check_folders(self, table: Table) -> None:
        """When all tasks are over, one run more removes what they have stored."""

        def is_over() -> bool:
            with Spool(self._lab.spool):  # sweeps what belongs to workers that were killed
                pass
            return not self._lab.left_behind

        wait_until(is_over, "nothing is left where windows wait")
        assert self._run(Round())
        super()._check_folders(table)


def play(seed: int, cluster: Cluster) -> Report:
    """Play the schedule of a seed; what it finds is in the report, not raised."""
    report, started = Report(ON_MACHINES.name, seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        try:
            _OnCluster(Schedule.draw(seed, ON_MACHINES), Path(folder), report, cluster).play()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            report.problem = f"{type(error).__name__} in run {report.runs}: {error}"
    report.seconds = time.monotonic() - started
    return report


def main(arguments: list[str] | None = None) -> int:
    """Play the schedules that are asked for, one after another."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.machines", description=__doc__)
    add = parser.add_argument
    add("--schedules", type=int, default=100, metavar="N", help="how many (default: %(default)s)")
    add("--seed", type=int, default=1, help="the first one's seed (default: %(default)s)")
    options = parser.parse_args(arguments)
    started, reports = time.monotonic(), []
    with (
        tempfile.TemporaryDirectory(prefix="cluster-") as folder,
        cluster_in(Path(folder), workers=_WORKERS, threads=_THREADS) as cluster,
    ):
        for seed in range(options.seed, options.seed + options.schedules):
            report = play(seed, cluster)
            reports.append(report)
            say(f"seed {seed}: {report.problem or 'exact'}, {report.seconds:.1f} s")
    return sum_up(ON_MACHINES.name, reports, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
