"""The scenarios: what is run against what, and the figures that follow."""

from __future__ import annotations

from typing import Final

from benchmarks.scenarios.columns import columns
from benchmarks.scenarios.files import files, files_loader
from benchmarks.scenarios.large_table import large_table
from benchmarks.scenarios.latency import ninety_days, ninety_days_loaded, thirty_days
from benchmarks.scenarios.loader import loader
from benchmarks.scenarios.machines import machines
from benchmarks.scenarios.memory import growth, large_window
from benchmarks.scenarios.processor import record_path, start, threads

SCENARIOS: Final = {
    scenario.__name__.replace("_", "-"): scenario
    for scenario in (
        ninety_days,
        thirty_days,
        record_path,
        threads,
        columns,
        loader,
        large_window,
        growth,
        start,
        files,
        files_loader,
        large_table,
        ninety_days_loaded,
        machines,
    )
}
"""Each by the name that the command line knows."""
