"""Into a DuckDB file, event by event."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.bench import FAST, UNLIMITED, Bench, Days
from benchmarks.figures import Figure
from benchmarks.measure import Run, alternate, median_of, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def loader(bench: Bench) -> Iterator[Figure]:
    """Into a DuckDB file: the tap must not slow the loader down."""
    days = Days(36)
    messages = bench.folder / "messages.jsonl"
    with bench.server(10_000) as server:
        server.warm(days.first, days.last, longest=7, workers=10)
        config = partial(bench.config, server, days, parallel=True, workers=10, **UNLIMITED)
        run([*FAST, "--config", str(config())], stdout=messages)
        events = sum(request.events for request in server.requests())

        def load() -> list[str]:
            return bench.loader("target-duckdb", bench.database("loaded"))

        def alone() -> list[Run]:
            return run(load(), stdin=messages)

        def piped(properties_format: str) -> list[Run]:
            path = config(properties_format=properties_format)
            return run([*FAST, "--config", str(path)], load())

        objects, files, strings = alternate(
            2 if bench.quick else 3, partial(piped, "object"), alone, partial(piped, "string")
        )
    wall, wall_alone, wall_strings = (median_of(each, _span) for each in (objects, files, strings))
    cpu, cpu_alone = (median_of(each, _last_cpu) for each in (objects, files))
    yield Figure(
        "wall time: the tap and target-duckdb in a pipe ÷ target-duckdb alone, from a file",
        1.05,
        _median_ratio(objects, files),
        f"{wall:.1f} s ÷ {wall_alone:.1f} s; the loader's own CPU {cpu:.1f} s and "
        f"{cpu_alone:.1f} s",
        at_most=True,
    )
    yield Figure(
        "events a second into DuckDB: properties_format string ÷ object",
        1.3,
        _median_ratio(objects, strings),
        f"{events / wall_strings:,.0f} ÷ {events / wall:,.0f} events/s",
    )


def _span(runs: Sequence[Run]) -> float:
    """Seconds from the start of a pipe to its end."""
    return runs[-1].ended - runs[0].started


def _last_cpu(runs: Sequence[Run]) -> float:
    return runs[-1].cpu_seconds


def _median_ratio(above: Sequence[Sequence[Run]], below: Sequence[Sequence[Run]]) -> float:
    """The median of what each pair of runs that followed each other gives."""
    return median(_span(a) / _span(b) for a, b in zip(above, below, strict=True))
