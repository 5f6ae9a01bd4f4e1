"""What a run tells its observers: the log, the display, metrics, and whoever uses the tap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.fetch.events import FetchEvent
from tap_mixpanel_parallel.write.output import Written

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Part
    from tap_mixpanel_parallel.fetch.job import Arrival
    from tap_mixpanel_parallel.plan.windows import Window


@dataclass(frozen=True, slots=True)
class Converted:
    """A body has become a part, and waits to be written.

    Attributes:
        part: The part.
        quarantine: The file that keeps its malformed lines; None if it has none.
        seconds: How long the run's own process took; the body waited until then.
    """

    part: Part
    quarantine: Path | None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """A window has failed for good."""

    arrival: Arrival
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The last day of a window is left out, since by Mixpanel's clock it has not begun.

    Attributes:
        arrival: The window, as it was asked for.
        rest: The days that are fetched in its place; None if there are none.
        reason: How the clocks differ.
    """

    arrival: Arrival
    rest: Window | None
    reason: str


RunEvent = FetchEvent | Converted | Written | Failed | LeftOut
Observer = Callable[[RunEvent], None]


def notify_each(*observers: Observer) -> Observer:
    """One observer that tells all of these, in this order."""

    def notify(event: RunEvent) -> None:
        for observer in observers:
            observer(event)

    return notify
