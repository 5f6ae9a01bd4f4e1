"""What a run tells of itself: to a person, and to a program that uses the tap.

A *batch* is one window; the names are those that callers of parallel exports know.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tap_mixpanel_parallel.plan.windows import Window

Status = Literal["loaded", "failed"]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The outcome of one window.

    Attributes:
        window: Its days.
        events: How many events were handed to the loader; 0 if it failed.
        size: The bytes received in the attempt that counted, compressed.
        seconds: From the window's first request to its outcome.
        attempts: How often it was tried; what the hourly limit refused does not count.
        error: Why it failed; None if it is loaded.
        quarantined: Lines that went to the quarantine file.
        duplicates: How many events repeat one of the window: they are among `events`, or
            `deduplicate` has dropped them. None if they were not counted.
        read_on: The part of the documents about such an error; None if it is loaded.
        misfits: Values that did not fit their column of `property_columns`, by its name.
    """

    window: Window
    events: int
    size: int
    seconds: float
    attempts: int
    error: str | None = None
    quarantined: int = 0
    duplicates: int | None = 0
    read_on: str | None = None
    misfits: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def success(self) -> bool:
        """Whether the window is handed to the loader."""
        return self.error is None

    @property
    def status(self) -> Status:
        """`loaded`, which is handed to the loader, or `failed`."""
        return "loaded" if self.success else "failed"


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """A window has just ended; where the whole run stands.

    Attributes:
        result: The window's outcome.
        completed: Windows that have ended, this one included.
        total: Windows of the run.
        seconds_left: An estimate from the pace so far, and the hourly limit; None as long as
            it would mislead.
    """

    result: BatchResult
    completed: int
    total: int
    seconds_left: float | None

    @property
    def window(self) -> Window:
        """The window's days."""
        return self.result.window

    @property
    def events(self) -> int:
        """The window's events."""
        return self.result.events

    @property
    def status(self) -> Status:
        """`loaded` or `failed`."""
        return self.result.status


@dataclass(frozen=True, slots=True)
class ParallelFetchResult:
    """The outcome of a run.

    Attributes:
        batches: Each window's outcome, in the order in which they ended.
        seconds: How long the run took.
    """

    batches: tuple[BatchResult, ...]
    seconds: float

    @property
    def total_events(self) -> int:
        """The events that were handed to the loader."""
        return sum(batch.events for batch in self.batches)

    @property
    def misfits(self) -> Mapping[str, int]:
        """Values that did not fit their column of `property_columns`, by its name."""
        return sum((Counter(batch.misfits) for batch in self.batches), Counter())

    @property
    def duplicates(self) -> int | None:
        """How many events repeat another of their window; None if not all were counted."""
        counts = [batch.duplicates for batch in self.batches]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def failed(self) -> tuple[BatchResult, ...]:
        """The windows that failed, sorted by their days."""
        return tuple(sorted((b for b in self.batches if not b.success), key=lambda b: b.window))

    @property
    def success(self) -> bool:
        """Whether every window is handed to the loader."""
        return not self.failed


def tell_misfits(misfits: Mapping[str, int]) -> str:
    """A line that says how many values did not fit their column.

    Args:
        misfits: How many there are, by the column's name; at least one.
    """
    counts = ", ".join(f"{name} {count:,}" for name, count in sorted(misfits.items()))
    return (
        "property_columns: values that do not fit their column, and are null in it, but still in "
        f"properties: {counts}"
    )
