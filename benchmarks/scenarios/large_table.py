"""A day more for a table with a long history: what it costs each loader."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks import tables
from benchmarks.bench import FAST, UNLIMITED, Bench, Days, median_ratio
from benchmarks.figures import Figure
from benchmarks.measure import Run, RunError, alternate, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.server import Server

_EVENTS: Final = 50_000
_HISTORY: Final = 600
"""Days with so many events: 30 million rows."""

_ROUNDS: Final = 3
_LOADERS: Final = ("target-duckdb", "target-duckdb-batch")


class _Day:
    """A new day: its messages, with the events and with files of them."""

    def __init__(self, bench: Bench, server: Server, number: int) -> None:
        days = Days(1, Days(number + 1).last)
        server.warm(days.first, days.last, longest=7, workers=1)
        self._messages: dict[str, Path] = {}
        root = bench.folder / f"day-{number}"
        batch_config = {"encoding": {"format": "parquet"}, "storage": {"root": str(root)}}
        for loader, settings in zip(_LOADERS, ({}, {"batch_config": batch_config}), strict=True):
            self._messages[loader] = bench.folder / f"{number}-{loader}.jsonl"
            config = bench.config(server, days, **UNLIMITED, **settings)
            run([*FAST, "--config", str(config)], stdout=self._messages[loader])

    def load(self, bench: Bench, loader: str, database: Path) -> Run:
        """Load the day; its files stay."""
        more: dict[str, Any] = {"delete_batch_files": False} if loader == _LOADERS[1] else {}
        [loaded] = run(bench.loader(loader, database, **more), stdin=self._messages[loader])
        return loaded


def large_table(bench: Bench) -> Iterator[Figure]:
    """50,000 new events into 30 million rows."""
    with bench.server(_EVENTS) as server:
        days = [_Day(bench, server, number) for number in range(_ROUNDS + 1)]
    large = {}
    for loader in _LOADERS:
        large[loader] = bench.database(f"large-{loader}")
        days[0].load(bench, loader, large[loader])
        rows = tables.multiply(large[loader], _HISTORY - 1)
    new = {loader: iter(days[1:]) for loader in (*_LOADERS, "empty")}

    def into_large(loader: str) -> Run:
        return next(new[loader]).load(bench, loader, large[loader])

    def into_empty() -> Run:
        return next(new["empty"]).load(bench, _LOADERS[1], bench.database("empty"))

    old, batch, empty = alternate(
        _ROUNDS, lambda: into_large(_LOADERS[0]), lambda: into_large(_LOADERS[1]), into_empty
    )
    loaded = {tables.count(database) for database in large.values()}
    if len(loaded) != 1:
        raise RunError(f"the loaders have not loaded the same: {sorted(loaded)} rows")
    seconds, old_seconds, empty_seconds = (
        median(run.seconds for run in runs) for runs in (batch, old, empty)
    )
    peak, old_peak = (max(run.peak_bytes for run in runs) / 1e6 for runs in (batch, old))
    what = f"{_EVENTS // bench.scale:,} new events into {rows:,} rows"
    yield Figure(
        f"{what}: target-duckdb ÷ target-duckdb-batch, wall time",
        10,
        median_ratio(old, batch),
        f"of {_ROUNDS} pairs; {old_seconds:.1f} s ÷ {seconds:.2f} s",
    )
    yield Figure(
        f"target-duckdb-batch: {what} ÷ into an empty table, wall time",
        1.5,
        median_ratio(batch, empty),
        f"of {_ROUNDS} pairs; {seconds:.2f} s ÷ {empty_seconds:.2f} s",
        at_most=True,
    )
    yield Figure(
        f"target-duckdb-batch: peak memory, {what}",
        1000,
        peak,
        f"target-duckdb: {old_peak:,.0f} MB",
        unit="MB",
        at_most=True,
    )
