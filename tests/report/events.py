"""A run's events, and who counts them, for the tests of this folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.convert.conversion import Part
from tap_mixpanel_parallel.exceptions import TransportError
from tap_mixpanel_parallel.fetch.events import Ended, Requested
from tap_mixpanel_parallel.fetch.job import Arrival, Download
from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.observers import Failed, notify_each
from tap_mixpanel_parallel.report.progress import Completions, Progress
from tap_mixpanel_parallel.settings.settings import Settings
from tap_mixpanel_parallel.write.output import Written

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.convert.malformed import Malformed
    from tap_mixpanel_parallel.report.observers import RunEvent
    from tap_mixpanel_parallel.report.results import BatchProgress


class Hand(Clock):
    """A clock whose seconds are moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_740_000_000 + self.seconds, UTC)


@dataclass
class Counting:
    """A run of some windows of one day, as far as a test tells of it.

    Attributes:
        told: What a program that uses the tap was told.
    """

    folder: Path
    windows: int = 3
    workers: int = 1
    per_hour: int = 1000
    clock: Hand = field(default_factory=Hand)
    told: list[BatchProgress] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limit = RateLimit(per_second=1000, per_hour=self.per_hour, clock=self.clock.monotonic)
        self.progress = Progress(
            [window(day) for day in range(1, self.windows + 1)],
            settings(parallel=True, workers=self.workers, max_attempts=4, requests_per_second=1000),
            self.limit,
            self.clock,
        )
        self.notify = notify_each(self.progress, Completions(self.progress, self.told.append))

    def at(self, seconds: float, event: RunEvent) -> None:
        """Tell of an event, so many seconds after the run's begin."""
        self.clock.seconds = 100.0 + seconds
        self.notify(event)

    def requested(self, day: int, attempt: int = 1, received: int = 0) -> Requested:
        path = self.folder / f"{day}.{attempt}.body"
        path.write_bytes(bytes(received))
        return Requested(window(day), attempt, path)

    def write(self, day: int, start: float, end: float, events: int = 10, size: int = 1000) -> None:
        """A window from its request to its end; to write it takes no time."""
        self.at(start, self.requested(day))
        self.at(end, Ended(window(day)))
        self.at(end, written(self.folder, day, events, size))


def window(day: int) -> Window:
    return Window(date(2025, 1, day), date(2025, 1, day))


def body(day: int, attempts: int = 1, started: float = 100.0, **values: Any) -> Arrival:
    return Arrival(window(day), attempts, started, **values)


def written(
    folder: Path,
    day: int,
    events: int,
    size: int = 1000,
    malformed: Malformed | None = None,
    duplicates: int | None = 0,
    misfits: dict[str, int] | None = None,
) -> Written:
    path = folder / "x"
    download = Download(path, compressed=True, size=size, received_at=Clock().now())
    return Written(
        body(day, download=download),
        Part(window(day), path, events, malformed, duplicates=duplicates, misfits=misfits or {}),
    )


def failed(day: int, attempts: int = 1, reason: str = "HTTP 500") -> Failed:
    return Failed(body(day, attempts, error=TransportError(reason)), reason)


def settings(**values: Any) -> Settings:
    """Checked settings."""
    config = {"region": "sandbox", "start_date": "2025-01-01"} | values
    return Settings.from_config(config, today=lambda _: date(2025, 3, 1))
