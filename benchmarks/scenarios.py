"""The scenarios: what is run against what, and the figures that follow."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks import other_tap
from benchmarks.figures import Figure
from benchmarks.measure import Run, RunError, alternate, median_of, run
from benchmarks.server import Request, Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FIRST: Final = date(2025, 1, 1)
_BEFORE_ALL: Final = date(2009, 1, 1)
"""The sandbox's project has no events then, and answers all the same."""

_EVENTS_PER_DAY: Final = 3_400
"""About 330 kB, compressed."""

_BUSY: Final = 20_000
"""Events a day where the processor is what counts."""

_UNLIMITED: Final[dict[str, Any]] = {"requests_per_second": 1000, "requests_per_hour": 1_000_000}
"""For the same."""

_FAST: Final = (sys.executable, "-m", "tap_mixpanel_parallel")
_SDK: Final = (sys.executable, "-m", "benchmarks.sdk_path")
_READER: Final = ("cat",)
_LOADED: Final = re.compile(r"(\S+\.\.\S+) loaded:")


@dataclass(frozen=True, slots=True)
class Days:
    """So many days from a first one."""

    count: int
    first: date = _FIRST

    @property
    def last(self) -> date:
        """The last one, inclusive."""
        return self.first + timedelta(days=self.count - 1)


@dataclass(frozen=True, slots=True)
class Measured:
    """A run against the sandbox.

    Attributes:
        tap: What the tap cost.
        requests: What it asked for, each answered with 200.
        seconds: Wall time of the whole: the tap and what reads it.
    """

    tap: Run
    requests: tuple[Request, ...]
    seconds: float

    @property
    def start(self) -> float:
        """Seconds from the start of the tap's process to its first request."""
        return min(request.started for request in self.requests) - self.tap.started

    @property
    def events(self) -> int:
        """Events that were fetched."""
        return sum(request.events for request in self.requests)

    @property
    def size(self) -> int:
        """Bytes that were fetched, compressed."""
        return sum(request.size for request in self.requests)

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how scenarios are run.

    Attributes:
        folder: For configurations, spools, and what loaders write.
        quick: A tenth of the data, of every time, and of what every limit makes wait.
    """

    folder: Path
    quick: bool

    @property
    def scale(self) -> int:
        """What the quick form divides by."""
        return 10 if self.quick else 1

    def server(self, events_per_day: int) -> Server:
        """A sandbox with so many events a day, or a tenth of them."""
        return Server(events_per_day=events_per_day // self.scale)

    def far_away(self, server: Server) -> None:
        """Be as slow as a real server: it computes, then sends 100 kB/s to each connection."""
        server.shape(
            first_byte_seconds=1 / self.scale,
            first_byte_seconds_per_day=1 / self.scale,
            bytes_per_second=100_000,
        )

    def config(self, server: Server, days: Days, **settings: Any) -> Path:
        """Write a configuration of the tap."""
        path = self.folder / "tap.json"
        config = {
            "api_url": server.url,
            "project_id": "1",
            "service_account_username": "sandbox",
            "service_account_secret": "sandbox-secret",
            "start_date": str(days.first),
            "end_date": str(days.last),
            "requests_per_second": 3 * self.scale,
            "requests_per_hour": 60 * self.scale,
            "spool_dir": str(self.folder),
        }
        path.write_text(json.dumps(config | settings))
        return path

    def tap(
        self,
        server: Server,
        days: Days,
        *,
        program: Sequence[str] = _FAST,
        **settings: Any,
    ) -> Measured:
        """Run the tap in a pipe.

        Args:
            server: What it reads.
            days: Which days.
            program: The tap.
            settings: Of the tap.
        """
        config = self.config(server, days, **settings)
        return self.measure(server, [*program, "--config", str(config)])

    def measure(self, server: Server, command: Sequence[str]) -> Measured:
        """Run any tap in a pipe.

        Raises:
            RunError: If it fails, or is refused anything.
        """
        server.requests()
        tap, end = run(command, _READER)
        requests = server.requests()
        if not requests or any(request.status != 200 for request in requests):  # noqa: PLR2004
            raise RunError(f"{' '.join(command)}: not all its requests were answered: {requests}")
        measured = Measured(tap, requests, end.ended - tap.started)
        if not self.quick:
            return measured
        return Measured(tap, requests, measured.seconds - measured.start)


def ninety_days(bench: Bench) -> Iterator[Figure]:
    """90 days from far away: one after another, at once, and as one request."""
    days = Days(90)
    crews = (10, 20, 30)
    with bench.server(_EVENTS_PER_DAY) as server:
        server.warm(days.first, days.last, longest=7, workers=1)
        server.warm(days.first, days.last, longest=days.count, workers=1)
        for workers in crews:
            server.warm(days.first, days.last, longest=7, workers=workers)
        bench.far_away(server)
        parallel = [
            partial(bench.tap, server, days, parallel=True, workers=workers) for workers in crews
        ]
        before = [tap() for tap in parallel]
        sequential = bench.tap(server, days)
        single = bench.tap(server, days, window_days=days.count)
        runs = list(zip(before, [tap() for tap in parallel], strict=True))
    seconds = [median_of(pair, _seconds) for pair in runs]
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
        bench.far_away(server)
        tap = partial(bench.tap, server, days, workers=10)
        before, sequential, after = tap(parallel=True), tap(), tap(parallel=True)
    parallel = median_of([before, after], _seconds)
    yield Figure(
        "30 days, windows one after another ÷ parallel with 10 workers",
        7,
        sequential.seconds / parallel,
        f"{sequential.seconds:.1f} s ÷ {parallel:.1f} s",
    )


def record_path(bench: Bench) -> Iterator[Figure]:
    """No latency: the tap against itself with the SDK's record path, and against another."""
    # So many that the start, which has a figure of its own, is a small part of each run.
    days, few, none = Days(72), Days(6), Days(72, _BEFORE_ALL)
    with bench.server(_BUSY) as server:
        server.warm(days.first, days.last, longest=7, workers=10)
        server.warm(few.first, few.last, longest=few.count, workers=1, time_in_ms=False)
        tap = partial(bench.tap, server, parallel=True, workers=10, **_UNLIMITED)
        ours, sdk, empty = alternate(
            2, partial(tap, days), partial(tap, days, program=_SDK), partial(tap, none)
        )
        rate, sdk_rate = median_of(ours, _rate), median_of(sdk, _rate)
        base = median_of(empty, _cpu)
        cost, sdk_cost = _cost(ours, base), _cost(sdk, base)
        yield Figure(
            "events a second, no latency: the tap ÷ with the SDK's record path",
            10,
            rate / sdk_rate,
            f"{rate:,.0f} ÷ {sdk_rate:,.0f} events/s, of {ours[0].events:,}; CPU for each event "
            f"{cost:.1f} and {sdk_cost:.1f} µs: {sdk_cost / cost:.1f} times",
        )
        name = f"events a second, no latency: the tap ÷ tap-mixpanel {other_tap.VERSION}"
        try:
            other_tap.install()
            command = other_tap.command(
                server.url, few.first, few.last, server.property_names(few.first)
            )
            ours, others = alternate(2, partial(tap, days), partial(bench.measure, server, command))
        except (OSError, subprocess.CalledProcessError, RunError) as error:
            reason = f"{error} {getattr(error, 'stderr', '')}".split()
            yield Figure(name, 30, None, f"can't be run here: {' '.join(reason)[:200]}")
            return
    rate, other_rate = median_of(ours, _rate), median_of(others, _rate)
    yield Figure(name, 30, rate / other_rate, f"{rate:,.0f} ÷ {other_rate:,.0f} events/s")


def threads(bench: Bench) -> Iterator[Figure]:
    """No latency: threads that fetch must not slow down the one that works."""
    days = Days(36)
    with bench.server(_BUSY) as server:
        server.warm(days.first, days.last, longest=7, workers=1)
        server.warm(days.first, days.last, longest=7, workers=10)
        tap = partial(bench.tap, server, days, workers=10, **_UNLIMITED)
        pairs = 3 if bench.quick else 11  # two runs alike differ by more than what is looked for
        parallel, sequential = alternate(pairs, partial(tap, parallel=True), tap)
    rate, sequential_rate = median_of(parallel, _rate), median_of(sequential, _rate)
    cpu = median_of(sequential, _cpu), median_of(parallel, _cpu)
    yield Figure(
        "events a second, no latency: parallel ÷ sequential",
        0.97,
        median(p.rate / s.rate for p, s in zip(parallel, sequential, strict=True)),
        f"of {pairs} pairs; {rate:,.0f} ÷ {sequential_rate:,.0f} events/s; "
        f"CPU {cpu[0]:.2f} s sequential, {cpu[1]:.2f} s parallel",
    )


def loader(bench: Bench) -> Iterator[Figure]:
    """Into a DuckDB file: the tap must not slow the loader down."""
    days, program = Days(36), shutil.which("target-duckdb", path=Path(sys.executable).parent)
    names = (
        "wall time: the tap and target-duckdb in a pipe ÷ target-duckdb alone, from a file",
        "events a second into DuckDB: properties_format string ÷ object",
    )
    if program is None:
        yield Figure(names[0], 1.05, None, "target-duckdb is not installed", at_most=True)
        yield Figure(names[1], 1.3, None, "target-duckdb is not installed")
        return
    load = (program, "--config", str(bench.folder / "target.json"))
    messages = bench.folder / "messages.jsonl"
    with bench.server(10_000) as server:
        server.warm(days.first, days.last, longest=7, workers=10)
        config = partial(bench.config, server, days, parallel=True, workers=10, **_UNLIMITED)
        run([*_FAST, "--config", str(config())], stdout=messages)
        events = sum(request.events for request in server.requests())

        def alone() -> list[Run]:
            _new_database(bench.folder)
            return run(load, stdin=messages)

        def piped(properties_format: str) -> list[Run]:
            _new_database(bench.folder)
            path = config(properties_format=properties_format)
            return run([*_FAST, "--config", str(path)], load)

        objects, files, strings = alternate(
            2 if bench.quick else 3, partial(piped, "object"), alone, partial(piped, "string")
        )
    wall, wall_alone, wall_strings = (median_of(each, _span) for each in (objects, files, strings))
    cpu, cpu_alone = (median_of(each, _last_cpu) for each in (objects, files))
    yield Figure(
        names[0],
        1.05,
        _median_ratio(objects, files),
        f"{wall:.1f} s ÷ {wall_alone:.1f} s; the loader's own CPU {cpu:.1f} s and "
        f"{cpu_alone:.1f} s",
        at_most=True,
    )
    yield Figure(
        names[1],
        1.3,
        _median_ratio(objects, strings),
        f"{events / wall_strings:,.0f} ÷ {events / wall:,.0f} events/s",
    )


def large_window(bench: Bench) -> Iterator[Figure]:
    """A million events in one window."""
    day = Days(1)
    with bench.server(1_000_000) as server:
        server.warm(day.first, day.last, longest=7, workers=10)
        tap = partial(bench.tap, server, day, parallel=True, workers=10, **_UNLIMITED)
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
    days, none = Days(36), Days(36, _BEFORE_ALL)
    settings: dict[str, Any] = {"parallel": True, "workers": 10, **_UNLIMITED}
    with bench.server(10_000) as server, bench.server(100_000) as large_server:
        for each in (server, large_server):
            each.warm(days.first, days.last, longest=7, workers=10)
        small, large, empty = alternate(
            2,
            partial(bench.tap, server, days, **settings),
            partial(bench.tap, large_server, days, **settings),
            partial(bench.tap, server, none, **settings),
        )
    peaks = [median_of(runs, _peak) / 1e6 for runs in (large, small)]
    yield Figure(
        "peak memory at ten times the data",
        1.1,
        peaks[0] / peaks[1],
        f"{peaks[0]:.0f} MB at {large[0].events:,} ÷ {peaks[1]:.0f} MB at "
        f"{small[0].events:,} events",
        at_most=True,
    )
    base = median_of(empty, _cpu)
    costs = [_cost(runs, base) for runs in (large, small)]
    yield Figure(
        "CPU time for each event at ten times the data",
        1.05,
        costs[0] / costs[1],
        f"{costs[0]:.2f} µs ÷ {costs[1]:.2f} µs, without the {base:.2f} s of a run without events",
        at_most=True,
    )


def start(bench: Bench) -> Iterator[Figure]:
    """From the start of the process to the first request."""
    day = Days(1)
    with bench.server(1_000) as server:
        server.warm(day.first, day.last, longest=7, workers=10)
        [runs] = alternate(7, partial(bench.tap, server, day, parallel=True, workers=10))
    starts = [measured.start for measured in runs]
    yield Figure(
        "start of the process to its first request",
        1.5,
        median(starts),
        f"median of {len(starts)}, {min(starts):.2f} to {max(starts):.2f} s",
        unit="s",
        at_most=True,
    )


SCENARIOS: Final = {
    scenario.__name__.replace("_", "-"): scenario
    for scenario in (
        ninety_days,
        thirty_days,
        record_path,
        threads,
        loader,
        large_window,
        growth,
        start,
    )
}
"""Each by the name that the command line knows."""


def _seconds(measured: Measured) -> float:
    return measured.seconds


def _rate(measured: Measured) -> float:
    return measured.rate


def _cpu(measured: Measured) -> float:
    return measured.tap.cpu_seconds


def _cost(runs: Sequence[Measured], base: float) -> float:
    """Microseconds of CPU for each event, without those that a run without events takes."""
    return (median_of(runs, _cpu) - base) / runs[0].events * 1e6


def _peak(measured: Measured) -> float:
    return measured.tap.peak_bytes


def _progress_delays(measured: Measured) -> list[float]:
    """Seconds from each window's last byte to its progress line."""
    told = {match[1]: at for at, line in measured.tap.log if (match := _LOADED.search(line))}
    return [told[request.window] - request.ended for request in measured.requests]


def _span(runs: Sequence[Run]) -> float:
    """Seconds from the start of a pipe to its end."""
    return runs[-1].ended - runs[0].started


def _last_cpu(runs: Sequence[Run]) -> float:
    return runs[-1].cpu_seconds


def _median_ratio(above: Sequence[Sequence[Run]], below: Sequence[Sequence[Run]]) -> float:
    """The median of what each pair of runs that followed each other gives."""
    return median(_span(a) / _span(b) for a, b in zip(above, below, strict=True))


def _new_database(folder: Path) -> None:
    """Have the loader begin with nothing."""
    for old in folder.glob("loaded.duckdb*"):
        old.unlink()
    config = {"filepath": str(folder / "loaded.duckdb"), "default_target_schema": "mixpanel"}
    (folder / "target.json").write_text(json.dumps(config))
