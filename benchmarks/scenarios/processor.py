"""No latency: what the tap takes of the processor, and how it starts."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks import other_tap
from benchmarks.bench import (
    BEFORE_ALL,
    BUSY,
    UNLIMITED,
    Bench,
    Days,
    cpu_time,
    event_cost,
    event_rate,
)
from benchmarks.figures import Figure
from benchmarks.measure import RunError, alternate, median_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_SDK: Final = (sys.executable, "-m", "benchmarks.sdk_path")


def record_path(bench: Bench) -> Iterator[Figure]:
    """No latency: the tap against itself with the SDK's record path, and against another."""
    # So many that the start, which has a figure of its own, is a small part of each run.
    days, few, none = Days(72), Days(6), Days(72, BEFORE_ALL)
    with bench.server(BUSY) as server:
        server.warm(days.first, days.last, longest=7, workers=10)
        server.warm(few.first, few.last, longest=few.count, workers=1, time_in_ms=False)
        tap = partial(bench.tap, server, parallel=True, workers=10, **UNLIMITED)
        ours, sdk, empty = alternate(
            2, partial(tap, days), partial(tap, days, program=_SDK), partial(tap, none)
        )
        rate, sdk_rate = median_of(ours, event_rate), median_of(sdk, event_rate)
        base = median_of(empty, cpu_time)
        cost, sdk_cost = event_cost(ours, base), event_cost(sdk, base)
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
    rate, other_rate = median_of(ours, event_rate), median_of(others, event_rate)
    yield Figure(name, 30, rate / other_rate, f"{rate:,.0f} ÷ {other_rate:,.0f} events/s")


def threads(bench: Bench) -> Iterator[Figure]:
    """No latency: threads that fetch must not slow down the one that works."""
    days = Days(36)
    with bench.server(BUSY) as server:
        server.warm(days.first, days.last, longest=7, workers=1)
        server.warm(days.first, days.last, longest=7, workers=10)
        tap = partial(bench.tap, server, days, workers=10, **UNLIMITED)
        pairs = 3 if bench.quick else 11  # two runs alike differ by more than what is looked for
        parallel, sequential = alternate(pairs, partial(tap, parallel=True), tap)
    rate, sequential_rate = median_of(parallel, event_rate), median_of(sequential, event_rate)
    cpu = median_of(sequential, cpu_time), median_of(parallel, cpu_time)
    yield Figure(
        "events a second, no latency: parallel ÷ sequential",
        0.97,
        median(p.rate / s.rate for p, s in zip(parallel, sequential, strict=True)),
        f"of {pairs} pairs; {rate:,.0f} ÷ {sequential_rate:,.0f} events/s; "
        f"CPU {cpu[0]:.2f} s sequential, {cpu[1]:.2f} s parallel",
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
