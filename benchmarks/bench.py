"""A run of the tap against the sandbox, as the scenarios measure it."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.measure import Run, RunError, median_of, run
from benchmarks.server import Request, Server

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST: Final = date(2025, 1, 1)
BEFORE_ALL: Final = date(2009, 1, 1)
"""The sandbox's project has no events then, and answers all the same."""

BUSY: Final = 20_000
"""Events a day where the processor is what counts."""

UNLIMITED: Final[dict[str, Any]] = {"requests_per_second": 1000, "requests_per_hour": 1_000_000}
"""For the same."""

FAST: Final = (sys.executable, "-m", "tap_mixpanel_parallel")
NEWEST_DUCKDB: Final = Path(sys.prefix) / "newest-duckdb"
"""Where `make` installs what target-duckdb-batch gets in an environment of its own."""

READER: Final = ("cat",)
"""What only reads."""


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

    def far_away(self, server: Server, bytes_per_second: int) -> None:
        """Be as slow as a real server: it computes, then sends so much to each connection."""
        server.shape(
            first_byte_seconds=1 / self.scale,
            first_byte_seconds_per_day=1 / self.scale,
            bytes_per_second=bytes_per_second,
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

    def files(self, form: str = "parquet") -> dict[str, Any]:
        """The setting for files, in a folder that is empty."""
        root = self.folder / "files"
        shutil.rmtree(root, ignore_errors=True)
        return {"batch_config": {"encoding": {"format": form}, "storage": {"root": str(root)}}}

    def database(self, name: str) -> Path:
        """Where a DuckDB file goes that is not there yet."""
        for old in self.folder.glob(f"{name}.duckdb*"):
            old.unlink()
        return self.folder / f"{name}.duckdb"

    def loader(self, name: str, database: Path, **settings: Any) -> list[str]:
        """A loader's command line, in the environment that its users get.

        Raises:
            RunError: If it is not installed.
        """
        program = shutil.which(name, path=Path(sys.executable).parent)
        if program is None or not NEWEST_DUCKDB.is_dir():
            raise RunError(f"{name} is not installed")
        path = self.folder / f"{name}.json"
        config = {"filepath": str(database), "default_target_schema": "mixpanel"}
        path.write_text(json.dumps(config | settings))
        # target-duckdb keeps DuckDB below 1.3, its own environment has no other.
        where = ["env", f"PYTHONPATH={NEWEST_DUCKDB}"] if name == "target-duckdb-batch" else []
        return [*where, program, "--config", str(path)]

    def tap(
        self,
        server: Server,
        days: Days,
        *,
        program: Sequence[str] = FAST,
        reader: Sequence[str] = READER,
        **settings: Any,
    ) -> Measured:
        """Run the tap in a pipe.

        Args:
            server: What it reads.
            days: Which days.
            program: The tap.
            reader: What reads its messages.
            settings: Of the tap.
        """
        config = self.config(server, days, **settings)
        return self.measure(server, [*program, "--config", str(config)], reader)

    def measure(
        self, server: Server, command: Sequence[str], reader: Sequence[str] = READER
    ) -> Measured:
        """Run any tap in a pipe.

        Raises:
            RunError: If it fails, or is refused anything.
        """
        server.requests()
        tap, end = run(command, reader)
        requests = server.requests()
        if not requests or any(request.status != 200 for request in requests):  # noqa: PLR2004
            raise RunError(f"{' '.join(command)}: not all its requests were answered: {requests}")
        measured = Measured(tap, requests, end.ended - tap.started)
        if not self.quick:
            return measured
        return Measured(tap, requests, measured.seconds - measured.start)


def wall_time(measured: Measured) -> float:
    """Seconds of the whole."""
    return measured.seconds


def event_rate(measured: Measured) -> float:
    """Events a second."""
    return measured.rate


def cpu_time(measured: Measured) -> float:
    """Seconds of the processor that the tap took."""
    return measured.tap.cpu_seconds


def event_cost(runs: Sequence[Measured], base: float) -> float:
    """Microseconds of CPU for each event, without those that a run without events takes."""
    return (median_of(runs, cpu_time) - base) / runs[0].events * 1e6


def peak_memory(measured: Measured) -> float:
    """The most bytes that the tap had resident."""
    return measured.tap.peak_bytes


def median_ratio(above: Sequence[Run], below: Sequence[Run]) -> float:
    """The median of the wall times of runs in pairs, one divided by the other."""
    return median(a.seconds / b.seconds for a, b in zip(above, below, strict=True))
