"""The scenarios: what is run against what, and the figures that follow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from benchmarks.bench import Bench
from benchmarks.measure import RunError
from benchmarks.scenarios.columns import columns
from benchmarks.scenarios.files import files, files_loader
from benchmarks.scenarios.large_table import large_table
from benchmarks.scenarios.latency import ninety_days, ninety_days_loaded, thirty_days
from benchmarks.scenarios.loader import loader
from benchmarks.scenarios.machines import machines
from benchmarks.scenarios.memory import growth, large_window
from benchmarks.scenarios.processor import record_path, start, threads

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.figures import Figure

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


def figures_of(name: str, folder: Path, *, quick: bool) -> tuple[list[Figure], bool]:
    """Run a scenario, and tell its figures as they come.

    Args:
        name: Its name.
        folder: Where it may put files.
        quick: Whether it is scaled down.

    Returns:
        Its figures, and whether they are all of them.
    """
    figures: list[Figure] = []
    try:
        for figure in SCENARIOS[name](Bench(folder, quick=quick)):
            _say(f"{name}: {' · '.join(figure.row())}")
            figures.append(figure)
    except RunError as error:
        _say(f"{name}: {error}")
        return figures, False
    return figures, True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
