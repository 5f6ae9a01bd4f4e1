"""Windows on a Dask cluster: what more workers add, and what it costs."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from distributed import LocalCluster

from benchmarks.bench import (
    BEFORE_ALL,
    BUSY,
    UNLIMITED,
    Bench,
    Days,
    Measured,
    wall_time,
)
from benchmarks.figures import Figure
from benchmarks.measure import alternate, median_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVENTS_PER_DAY: Final = 3_400
_BYTES_PER_SECOND: Final = 100_000
_CREW: Final = 10


def machines(bench: Bench) -> Iterator[Figure]:
    """Workers of a Dask cluster, each a process of this machine."""
    yield from _processor(bench)
    yield from _window(bench)
    yield from _far_away(bench)


def _processor(bench: Bench) -> Iterator[Figure]:
    days = Days(72)
    with bench.server(BUSY) as server, _cluster(1) as one, _cluster(2) as two:
        server.warm(days.first, days.last, longest=3, workers=4)

        def tap(cluster: dict[str, Any]) -> Measured:
            settings = {"parallel": True, "workers": 4, "window_days": 3, **UNLIMITED}
            return bench.tap(server, days, **settings, **bench.files(), **cluster)

        alone, both = alternate(3, partial(tap, one), partial(tap, two))
    yield Figure(
        "events a second, no latency, once it has started: 2 workers of a cluster ÷ 1",
        1.7,
        median(_rate(b) / _rate(a) for a, b in zip(alone, both, strict=True)),
        f"of {len(both)} pairs; {median_of(both, _rate):,.0f} ÷"
        f" {median_of(alone, _rate):,.0f} events/s, of {both[0].events:,}",
    )


def _rate(measured: Measured) -> float:
    """Events a second from the first request on: the start of a run is not the workers'."""
    return measured.events / (measured.tap.seconds - measured.start)


def _window(bench: Bench) -> Iterator[Figure]:
    """Windows without events: only their cost is left. Runs of two sizes leave the start out."""
    few, many = Days(2, BEFORE_ALL), Days(60, BEFORE_ALL)
    settings: dict[str, Any] = {"parallel": True, "workers": 2, "window_days": 1, **UNLIMITED}
    with bench.server(BUSY) as server, _cluster(2) as cluster:

        def tap(days: Days, **more: Any) -> Measured:
            return bench.tap(server, days, **settings, **bench.files("jsonl"), **more)

        runs = alternate(
            3,
            partial(tap, few),
            partial(tap, many),
            partial(tap, few, **cluster),
            partial(tap, many, **cluster),
        )
    few_here, many_here, few_there, many_there = (median_of(each, wall_time) for each in runs)
    windows = many.count - few.count
    here, there = (many_here - few_here) / windows, (many_there - few_there) / windows
    yield Figure(
        "cost of a window through a cluster, over the same locally",
        0.2,
        there - here,
        f"{there * 1000:.0f} ms - {here * 1000:.0f} ms, of {windows} windows, 2 at once",
        unit="s",
        at_most=True,
    )


def _far_away(bench: Bench) -> Iterator[Figure]:
    days = Days(90)
    with bench.server(_EVENTS_PER_DAY) as server, _cluster(2, _CREW // 2) as cluster:
        server.warm(days.first, days.last, longest=7, workers=_CREW)
        bench.far_away(server, _BYTES_PER_SECOND)

        def tap(**more: Any) -> Measured:
            return bench.tap(server, days, parallel=True, workers=_CREW, **bench.files(), **more)

        here, there = alternate(2, tap, partial(tap, **cluster))
    yield Figure(
        f"90 days with {_CREW} workers: through a cluster ÷ locally",
        1.1,
        median(a.seconds / b.seconds for a, b in zip(there, here, strict=True)),
        f"of {len(here)} pairs; {median_of(there, wall_time):.1f} s ÷"
        f" {median_of(here, wall_time):.1f} s",
        at_most=True,
    )


@contextmanager
def _cluster(workers: int, threads: int = 1) -> Iterator[dict[str, Any]]:
    """A cluster, as the settings that lead to it."""
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        processes=True,
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield {"executor": "dask", "dask_scheduler": cluster.scheduler_address}
