"""Runs of the tap in this process, against a sandbox, at any time, into a table that upserts."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel import ParallelFetchResult, TapMixpanelParallel
from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.messages import MessageWriter
from tap_mixpanel_parallel.plan.windows import Window, merge
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tests.support.expected import Table, expected, lines_of, upserted
from tests.support.projects import access_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from singer_sdk.singerlib.encoding.simple import Message

PROJECT: Final = Project(seed=7, events_per_day=60)


class FrozenClock(Clock):
    """A clock that stands still until a test moves it."""

    def __init__(self, moment: datetime) -> None:
        """Stand at this moment."""
        self.moment = moment

    def now(self) -> datetime:
        """Tell the moment."""
        return self.moment


class Collector(MessageWriter):
    """Keeps the messages instead of writing them."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self.messages: list[dict[str, Any]] = []

    def write_lines(self, lines: bytes) -> None:
        """Keep messages."""
        assert lines.endswith(b"\n")
        self.messages += map(json.loads, lines.split(b"\n")[:-1])

    def write_some_lines(self, lines: bytes, start: int = 0) -> int:
        """Keep all of the messages."""
        self.write_lines(lines[start:])
        return len(lines)

    def write_last(self, message: Message) -> None:
        """Keep a message."""
        self.write_message(message)


class CollectingTap(TapMixpanelParallel):
    """The tap, with its messages kept."""

    message_writer_class = Collector

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages."""
        writer = self.writer
        assert isinstance(writer, Collector)
        return writer.messages


@dataclass
class Run:
    """What one run has done."""

    result: ParallelFetchResult
    records: list[dict[str, Any]]
    asked: list[Window]

    @property
    def read(self) -> list[str]:
        """The days that were requested, merged, as text."""
        return [str(window) for window in merge(self.asked)]


@dataclass
class Pipeline:
    """A tap and an upserting loader, one run after another.

    Attributes:
        settings: Those of every run.
        state: What the last run left.
        records: The loaded ones, by key.
    """

    sandbox: Sandbox
    clock: FrozenClock
    settings: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, **settings: Any) -> Run:
        """Run the tap with what the last run left, and load what it says."""
        config = {
            **access_to(self.sandbox),
            "start_date": "2025-01-01",
            "requests_per_second": 1000,
            "requests_per_hour": 1_000_000,
            "max_attempts": 1,
        }
        before = len(self.sandbox.requests)
        tap = CollectingTap(
            config=config | self.settings | settings,
            state=json.loads(json.dumps(self.state)),
            clock=self.clock,
        )
        records = []
        try:
            result = tap.run()
        finally:
            for message in tap.messages:
                if message["type"] == "RECORD":
                    records.append(message["record"])
                    self.records[message["record"]["event_id"]] = message["record"]
                elif message["type"] == "STATE":
                    self.state = message["value"]
        asked = [
            Window(r.from_date, r.to_date)
            for r in self.sandbox.requests[before:]
            if r.from_date and r.to_date
        ]
        return Run(result, records, asked)

    def run_on(self, moment: datetime, **settings: Any) -> Run:
        """Run at a later moment."""
        self.clock.moment = moment
        return self.run(**settings)

    @property
    def bookmark(self) -> dict[str, Any]:
        """The state's part for the stream."""
        bookmark: dict[str, Any] = self.state["bookmarks"]["events"]
        return bookmark

    @property
    def loaded(self) -> list[str]:
        """The days that the state says are loaded."""
        return [f"{first}..{last}" for first, last in self.bookmark["loaded"]]

    @property
    def table(self) -> Table:
        """The loaded table."""
        return upserted(self.records.values())

    def exported(self, first: str, last: str) -> Table:
        """The table of these days, as the project exports them now."""
        days = date.fromisoformat(first), date.fromisoformat(last)
        return expected(lines_of(self.sandbox.project, *days, self.clock.now()))


@contextmanager
def pipeline_of(project: Project, moment: datetime, **settings: Any) -> Iterator[Pipeline]:
    """A pipeline whose sandbox and tap look at one clock."""
    clock = FrozenClock(moment)
    with Sandbox(project, limits=None, as_of=clock.now) as sandbox:
        yield Pipeline(sandbox, clock, settings)


def noon(day: str | date) -> datetime:
    """Noon of a day."""
    return datetime.combine(date.fromisoformat(str(day)), time(12), UTC)


def broken(*days: str) -> list[Fault]:
    """Each request that touches one of these days or ranges is answered with a 500."""
    return [Fault.parse(f"status=500,days={day}") for day in days]
