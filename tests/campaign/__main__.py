"""`python -m tests.campaign`: plays schedules, and says what they found."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING

from tests.campaign.lanes import LANES
from tests.campaign.schedule import Schedule
from tests.campaign.trial import Report, play

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor


def main(arguments: list[str] | None = None) -> int:
    """Play the schedules that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    add = parser.add_argument
    add("--lane", choices=LANES, action="append", help="a way into the table (default: each)")
    add(
        "--schedules",
        type=int,
        default=300,
        metavar="N",
        help="how many in each lane (default: %(default)s)",
    )
    add("--seed", type=int, default=1, help="the first one's seed (default: %(default)s)")
    add("--only", type=int, metavar="SEED", help="play this one, and show it")
    add("--jobs", type=int, default=2, metavar="N", help="how many at once (default: %(default)s)")
    options = parser.parse_args(arguments)
    seeds = range(options.seed, options.seed + options.schedules)
    if options.only is not None:
        seeds = range(options.only, options.only + 1)
    failed = False
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        for lane in options.lane or LANES:
            if options.only is not None:
                say(Schedule.draw(options.only, LANES[lane]))
            failed |= _play_all(pool, lane, seeds)
    return failed


def _play_all(pool: Executor, lane: str, seeds: Sequence[int]) -> bool:
    """Play the schedules of a lane; whether one has failed."""
    started = time.monotonic()
    reports = []
    for report in pool.map(partial(play, lane), seeds):
        reports.append(report)
        if report.problem is not None:
            say(f"{lane}, seed {report.seed}: {report.problem}")
            say(f"  repeat it with: python -m tests.campaign --lane {lane} --only {report.seed}")
        elif len(reports) % 25 == 0:
            say(f"{lane}: {len(reports)} of {len(seeds)}, {time.monotonic() - started:.0f} s")
    return sum_up(lane, reports, time.monotonic() - started)


def sum_up(lane: str, reports: list[Report], seconds: float) -> bool:
    """Say what the trials of a lane have found; whether one has failed."""
    failed = [report for report in reports if report.problem is not None]
    kills: Counter[str] = sum((report.kills for report in reports), Counter())
    faults: Counter[str] = sum((report.faults for report in reports), Counter())
    runs = sum(report.runs for report in reports)
    events = sum(report.events for report in reports)
    say(
        f"{lane}: {len(reports)} schedules in {seconds:.0f} s"
        f" ({mean(r.seconds for r in reports):.1f} s each,"
        f" {max(r.seconds for r in reports):.1f} s at most), {runs} runs,"
        f" {sum(report.requests for report in reports)} requests, {events:,} events"
    )
    say(f"kills: {_table(kills)}")
    say(f"faults: {_table(faults)}")
    for report in failed:  # once more, for whoever keeps the end of it alone
        say(f"failed: {lane}, seed {report.seed}: {report.problem}")
    if not failed:
        say(f"{lane}: every table is exact")
    return bool(failed)


def _table(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def say(text: object) -> None:
    """Print at once."""
    print(text, flush=True)  # noqa: T201 - this is what the program is for


if __name__ == "__main__":
    sys.exit(main())
