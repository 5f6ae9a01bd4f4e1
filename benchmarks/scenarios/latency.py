"""90 and 30 days from a server that is far away."""

from __future__ import annotations

import re
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks import tables
from benchmarks.bench import Bench, Days, Measured, wall_time
from benchmarks.figures import Figure
from benchmarks.measure import RunError, median_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVENTS_PER_DAY: Final = 3_400
"""About 330 kB, compressed."""

_BYTES_PER_SECOND: Final = 100_000
"""To each connection."""

HANDED_OVER: Final = re.compile(r"(\S+\.\.\S+) handed to the loader:")
"""The progress line of a window, and the window."""


def ninety_days(bench: Bench) -> Iterator[Figure]:
    """90 days from far away: one after another, at once, and as one request."""
    days = Days(90)
    crews = (10, 20, 30)
    with bench.server(_EVENTS_PER_DAY) as server:
        server.warm(days.first, days.last, longest=7, workers=1)
        server.warm(days.first, days.last, longest=days.count, workers=1)
        for workers in crews:
            server.warm(days.first, days.last, longest=7, workers=workers)
        bench.far_away(server, _BYTES_PER_SECOND)
        parallel = [
            partial(bench.tap, server, days, parallel=True, workers=workers) for workers in crews
        ]
        before = [tap() for tap in parallel]
        sequential = bench.tap(server, days)
        single = bench.tap(server, days, window_days=days.count)
        runs = list(zip(before, [tap() for tap in parallel], strict=True))
    seconds = [median_of(pair, wall_time) for pair in runs]
    for workers, limit, parallel_seconds in zip(crews, (8.5, 12, 15), seconds, strict=True):
        yield Figure(
            f"90 days, windows one after another ÷ parallel with {workers} workers",
            limit,
            sequential.seconds / parallel_seconds,
            f"{sequential.seconds:.1f} s ÷ {parallel_seconds:.1f} s",
        )
    yield Figure(
        "90 days, one single request ÷ parallel with 10 workers",
        8,
        single.seconds / seconds[0],
        f"{single.seconds:.1f} s ÷ {seconds[0]:.1f} s",
    )
    delays = sorted(delay for measured in runs[0] for delay in _progress_delays(measured))
    yield Figure(
        "from a window's last byte to its progress line",
        1,
        delays[-1],
        f"the longest of {len(delays)} windows; median {median(delays):.2f} s, "
        f"{runs[0][0].events // len(runs[0][0].requests):,} events each",
        unit="s",
        at_most=True,
    )


def thirty_days(bench: Bench) -> Iterator[Figure]:
    """30 days from far away."""
    days = Days(30)
    with bench.server(_EVENTS_PER_DAY) as server:
        server.warm(days.first, days.last, longest=7, workers=1)
        server.warm(days.first, days.last, longest=7, workers=10)
        bench.far_away(server, _BYTES_PER_SECOND)
        tap = partial(bench.tap, server, days, workers=10)
        before, sequential, after = tap(parallel=True), tap(), tap(parallel=True)
    parallel = median_of([before, after], wall_time)
    yield Figure(
        "30 days, windows one after another ÷ parallel with 10 workers",
        7,
        sequential.seconds / parallel,
        f"{sequential.seconds:.1f} s ÷ {parallel:.1f} s",
    )


def ninety_days_loaded(bench: Bench) -> Iterator[Figure]:
    """90 days from far away into a DuckDB file, as files; and ten times as much."""
    yield _loaded(bench, 1, 8, "90 days into DuckDB")
    yield _loaded(bench, 10, 5, "90 days into DuckDB, ten times the events and the bandwidth")


def _loaded(bench: Bench, times: int, limit: float, name: str) -> Figure:
    days = Days(90)
    rows: set[int] = set()
    with bench.server(_EVENTS_PER_DAY * times) as server:
        server.warm(days.first, days.last, longest=7, workers=1)
        server.warm(days.first, days.last, longest=7, workers=10)
        bench.far_away(server, _BYTES_PER_SECOND * times)

        def load(*, parallel: bool) -> Measured:
            database = bench.database("loaded")
            measured = bench.tap(
                server,
                days,
                reader=bench.loader("target-duckdb-batch", database),
                parallel=parallel,
                workers=10,
                **bench.files(),
            )
            rows.add(tables.count(database))
            return measured

        before, sequential, after = load(parallel=True), load(parallel=False), load(parallel=True)
    if len(rows) != 1:
        raise RunError(f"not all runs have loaded the same: {sorted(rows)} rows")
    parallel = median_of([before, after], wall_time)
    return Figure(
        f"{name}, target-duckdb-batch: windows one after another ÷ parallel with 10 workers",
        limit,
        sequential.seconds / parallel,
        f"{sequential.seconds:.1f} s ÷ {parallel:.1f} s, {before.events:,} events",
    )


def _progress_delays(measured: Measured) -> list[float]:
    """Seconds from each window's last byte to its progress line."""
    told = {match[1]: at for at, line in measured.tap.log if (match := HANDED_OVER.search(line))}
    return [told[request.window] - request.ended for request in measured.requests]
