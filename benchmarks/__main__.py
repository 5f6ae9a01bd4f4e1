"""`python -m benchmarks`: run the scenarios and print the table of their figures."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, distributions, version
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from benchmarks.bench import NEWEST_DUCKDB
from benchmarks.figures import Figure, table
from benchmarks.scenarios import SCENARIOS, figures_of

_PACKAGES: Final = (
    "tap-mixpanel-parallel",
    "singer-sdk",
    "msgspec",
    "isal",
    "requests",
    "target-duckdb",
    "duckdb",
    "pyarrow",
)
_QUICK: Final = """\
**Quick form**: a tenth of the data, and every time and limit scaled down tenfold. The start of \
the tap's process can't be scaled down: it is left out of the tap's wall times, and weighs on \
those of the loader. Small runs are noisy: judge by the full form.
"""


def main() -> int:
    """Run what the command line asks for.

    Returns:
        1 if something could not be measured, 0 otherwise: a target that is missed is a result.
    """
    options = _parser().parse_args()
    head = _head(quick=options.quick)
    figures: list[Figure] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for name in options.only or SCENARIOS:
            # In a process of its own: what starts a process counts into its peak of memory.
            with ProcessPoolExecutor(1, get_context("spawn")) as executor:
                measured = executor.submit(figures_of, name, Path(folder), quick=options.quick)
                found, is_whole = measured.result()
            figures += found
            if not is_whole:
                failed.append(name)
    text = f"{head}\n{table(figures)}"
    if failed:
        text += f"\nNot measured, see above why: {', '.join(failed)}.\n"
    print(text)
    options.markdown.write_text(f"# Benchmarks\n\n{text}", encoding="utf-8")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures what the tap promises of its speed and its memory, against a local"
        " Mixpanel in a process of its own.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="scaled down tenfold: minutes instead of half an hour"
    )
    parser.add_argument(
        "--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=f"of {', '.join(SCENARIOS)}"
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        default=Path(__file__).with_name("RESULTS.md"),
        metavar="PATH",
        help="write the table into this file (default: RESULTS.md beside the benchmarks)",
    )
    return parser


def _head(*, quick: bool) -> str:
    """What the figures were measured with."""
    parts = [f"{os.cpu_count()} cores", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"no {package}")
    newest = distributions(name="duckdb", path=[str(NEWEST_DUCKDB)])
    parts += [f"duckdb {found.version} for target-duckdb-batch" for found in newest]
    parts.append(f"load of other programs before it {os.getloadavg()[0]:.1f}")
    return f"{', '.join(parts)}.\n" + (f"\n{_QUICK}" if quick else "")


if __name__ == "__main__":
    sys.exit(main())
