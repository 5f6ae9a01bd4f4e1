"""Notes a run's events with their times. An observer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tap_mixpanel_parallel.clock import Clock
    from tap_mixpanel_parallel.report.observers import RunEvent


@dataclass(frozen=True, slots=True)
class Note:
    """An event of a run.

    Attributes:
        at: Seconds since the run began.
        event: What has happened.
    """

    at: float
    event: RunEvent


class Recorder:
    """Keeps a run's events.

    Attributes:
        notes: The events so far, in the order in which they were told.
    """

    def __init__(self, clock: Clock) -> None:
        """Begin to count the seconds.

        Args:
            clock: The time.
        """
        self.notes: list[Note] = []
        self._clock = clock
        self._started = clock.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return self._clock.monotonic() - self._started

    def __call__(self, event: RunEvent) -> None:
        """Take note of an event; several threads may call."""
        self.notes.append(Note(self.seconds, event))
