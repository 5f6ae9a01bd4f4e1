"""Files: how fast they are made, and how fast they get into DuckDB."""

from __future__ import annotations

import shutil
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks import tables
from benchmarks.bench import (
    BUSY,
    FAST,
    UNLIMITED,
    Bench,
    Days,
    Measured,
    cpu_time,
    event_rate,
    peak_memory,
)
from benchmarks.figures import Figure
from benchmarks.measure import RunError, alternate, median_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTINGS: Final[dict[str, Any]] = {"parallel": True, "workers": 10, **UNLIMITED}


def files(bench: Bench) -> Iterator[Figure]:
    """No latency: the tap alone, to Parquet."""
    days = Days(72)
    taskset = shutil.which("taskset")
    pinned = (taskset, "--cpu-list", "0", *FAST) if taskset else FAST
    with bench.server(BUSY) as server:
        server.warm(days.first, days.last, longest=7, workers=10)

        def tap(processes: int, program: tuple[str, ...] = FAST) -> Measured:
            settings = {**_SETTINGS, **bench.files(), "processes": processes}
            return bench.tap(server, days, program=program, **settings)

        one_core, one, two = alternate(3, partial(tap, 1, pinned), partial(tap, 1), partial(tap, 2))
    yield Figure(
        "events a second, no latency: the tap alone to Parquet, on one core",
        100_000,
        median_of(one_core, event_rate),
        f"{one_core[0].events:,} events, {'taskset' if taskset else 'not pinned to one core'};"
        f" CPU {median_of(one_core, cpu_time):.1f} s,"
        f" {max(map(peak_memory, one_core)) / 1e6:.0f} MB",
    )
    yield Figure(
        "events a second, no latency: the tap alone to Parquet, 2 processes ÷ 1",
        1.7,
        median(b.rate / a.rate for a, b in zip(one, two, strict=True)),
        f"of {len(two)} pairs; {median_of(two, event_rate):,.0f} ÷"
        f" {median_of(one, event_rate):,.0f} events/s",
    )


def files_loader(bench: Bench) -> Iterator[Figure]:
    """No latency: from the server into a DuckDB file, as files and event by event."""
    days = Days(36)
    rows: set[int] = set()
    with bench.server(10_000) as server:
        server.warm(days.first, days.last, longest=7, workers=10)

        def piped(loader: str, **settings: Any) -> Measured:
            database = bench.database("loaded")
            command = bench.loader(loader, database)
            measured = bench.tap(server, days, reader=command, **_SETTINGS, **settings)
            rows.add(tables.count(database))
            return measured

        def as_files() -> Measured:
            return piped("target-duckdb-batch", **bench.files())

        batch, objects, strings = alternate(
            2,
            as_files,
            partial(piped, "target-duckdb", properties_format="object"),
            partial(piped, "target-duckdb", properties_format="string"),
        )
    if len(rows) != 1:
        raise RunError(f"the loaders have not loaded the same: {sorted(rows)} rows")
    rate = median_of(batch, event_rate)
    for form, limit, others in (("object", 8, objects), ("string", 5, strings)):
        yield Figure(
            "events a second into DuckDB: the tap and target-duckdb-batch ÷ the tap and"
            f" target-duckdb ({form})",
            limit,
            median(a.rate / b.rate for a, b in zip(batch, others, strict=True)),
            f"{rate:,.0f} ÷ {median_of(others, event_rate):,.0f} events/s, of {batch[0].events:,}",
        )
