"""Properties as columns: what they cost the tap, and what they save a query."""

from __future__ import annotations

import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import duckdb

from benchmarks.bench import BUSY, FAST, UNLIMITED, Bench, Days, cpu_time, event_rate
from benchmarks.figures import Figure
from benchmarks.measure import alternate, median_of, run

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIVE: Final[list[Any]] = [
    "$os",
    "Plan",
    "$current_url",
    {"property": "price", "type": "number"},
    {"property": "Is Employee", "type": "boolean"},
]
_ON_COLUMNS: Final = "select os, sum(price) from mixpanel.events group by os order by os"
_ON_JSON: Final = """
select properties->>'$."$os"', sum(try_cast(properties->>'$.price' as double))
from mixpanel.events group by 1 order by 1
"""
_QUERIES: Final = 7


def columns(bench: Bench) -> Iterator[Figure]:
    """No latency: the tap with five columns against itself without, and a query on them."""
    days = Days(36)
    with bench.server(BUSY) as server:
        server.warm(days.first, days.last, longest=7, workers=10)
        tap = partial(bench.tap, server, days, parallel=True, workers=10, **UNLIMITED)
        pairs = 3 if bench.quick else 7
        lifted, plain = alternate(pairs, partial(tap, property_columns=_FIVE), tap)
        rate, plain_rate = median_of(lifted, event_rate), median_of(plain, event_rate)
        cpu, plain_cpu = median_of(lifted, cpu_time), median_of(plain, cpu_time)
        yield Figure(
            "events a second, no latency: with five columns ÷ without",
            0.85,
            median(a.rate / b.rate for a, b in zip(lifted, plain, strict=True)),
            f"of {pairs} pairs; {rate:,.0f} ÷ {plain_rate:,.0f} events/s; "
            f"CPU {cpu:.2f} and {plain_cpu:.2f} s",
        )
        database = bench.database("columns")
        loader = bench.loader("target-duckdb-batch", database)
        config = bench.config(
            server, days, property_columns=_FIVE, **UNLIMITED, **bench.files("parquet")
        )
        run([*FAST, "--config", str(config)], loader)
    with duckdb.connect(str(database), read_only=True) as connection:
        seconds: dict[str, list[float]] = {_ON_COLUMNS: [], _ON_JSON: []}
        for _ in range(_QUERIES):
            for query, taken in seconds.items():
                begin = time.perf_counter()
                connection.execute(query).fetchall()
                taken.append(time.perf_counter() - begin)
        [(rows,)] = connection.execute("select count(*) from mixpanel.events").fetchall()
    fast, slow = median(seconds[_ON_COLUMNS]), median(seconds[_ON_JSON])
    yield Figure(
        "a query of two properties in DuckDB: on JSON ÷ on columns",
        5,
        slow / fast,
        f"{slow * 1000:,.0f} ms ÷ {fast * 1000:,.1f} ms, of {rows:,} rows",
    )
