"""Memory, and how the tap grows with the data."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.bench import BEFORE_ALL, UNLIMITED, Bench, Days, cpu_time, event_cost, peak_memory
from benchmarks.figures import Figure
from benchmarks.measure import alternate, median_of

if TYPE_CHECKING:
    from collections.abc import Iterator


def large_window(bench: Bench) -> Iterator[Figure]:
    """A million events in one window."""
    day = Days(1)
    with bench.server(1_000_000) as server:
        server.warm(day.first, day.last, longest=7, workers=10)
        tap = partial(bench.tap, server, day, parallel=True, workers=10, **UNLIMITED)
        [runs] = alternate(2, tap)
    peak = max(measured.tap.peak_bytes for measured in runs)
    yield Figure(
        "peak memory, a window of 1,000,000 events, 10 workers",
        150,
        peak / 1e6,
        f"{runs[0].events:,} events, {runs[0].size / 1e6:,.1f} MB compressed",
        unit="MB",
        at_most=True,
    )


def growth(bench: Bench) -> Iterator[Figure]:
    """3,600,000 events against 360,000, in as many windows."""
    days, none = Days(36), Days(36, BEFORE_ALL)
    settings: dict[str, Any] = {"parallel": True, "workers": 10, **UNLIMITED}
    with bench.server(10_000) as server, bench.server(100_000) as large_server:
        for each in (server, large_server):
            each.warm(days.first, days.last, longest=7, workers=10)
        small, large, empty = alternate(
            2,
            partial(bench.tap, server, days, **settings),
            partial(bench.tap, large_server, days, **settings),
            partial(bench.tap, server, none, **settings),
        )
    peaks = [median_of(runs, peak_memory) / 1e6 for runs in (large, small)]
    yield Figure(
        "peak memory at ten times the data",
        1.1,
        peaks[0] / peaks[1],
        f"{peaks[0]:.0f} MB at {large[0].events:,} ÷ {peaks[1]:.0f} MB at "
        f"{small[0].events:,} events",
        at_most=True,
    )
    base = median_of(empty, cpu_time)
    costs = [event_cost(runs, base) for runs in (large, small)]
    yield Figure(
        "CPU time for each event at ten times the data",
        1.05,
        costs[0] / costs[1],
        f"{costs[0]:.2f} µs ÷ {costs[1]:.2f} µs, without the {base:.2f} s of a run without events",
        at_most=True,
    )
