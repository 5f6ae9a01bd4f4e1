"""What a run tells of itself: to a person, and to a program that uses the tap.

A *batch* is one window; the names are those that callers of parallel exports know.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from tap_mixpanel_parallel.wording import counted, format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tap_mixpanel_parallel.fetch.scheduler import Task
    from tap_mixpanel_parallel.plan.windows import Window

Status = Literal["loaded", "failed"]

_LONG_SECONDS: Final = 600.0
"""A request that takes so long, or as long again, gets a line."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The outcome of one window.

    Attributes:
        window: Its days.
        events: How many events were emitted; 0 if it failed.
        size: The bytes received in the attempt that counted, compressed.
        seconds: From the window's first request to its outcome.
        attempts: How often it was requested.
        error: Why it failed; None if it is loaded.
        quarantined: Lines that went to the quarantine file.
    """

    window: Window
    events: int
    size: int
    seconds: float
    attempts: int
    error: str | None = None
    quarantined: int = 0

    @property
    def success(self) -> bool:
        """Whether the window is loaded."""
        return self.error is None

    @property
    def status(self) -> Status:
        """`loaded` or `failed`."""
        return "loaded" if self.success else "failed"


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """A window has just ended; where the whole run stands.

    Attributes:
        result: The window's outcome.
        completed: Windows that have ended, this one included.
        total: Windows of the run.
        seconds_left: An estimate from the pace so far, and the hourly limit.
    """

    result: BatchResult
    completed: int
    total: int
    seconds_left: float

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
        """The events that were emitted."""
        return sum(batch.events for batch in self.batches)

    @property
    def failed(self) -> tuple[BatchResult, ...]:
        """The windows that failed, sorted by their days."""
        return tuple(sorted((b for b in self.batches if not b.success), key=lambda b: b.window))

    @property
    def success(self) -> bool:
        """Whether every window is loaded."""
        return not self.failed


class Reporter:
    """Counts a run's windows as they end, and tells of each.

    Attributes:
        total: Windows of the run.
        batches: Those that have ended.
        quiet: Whether loaded windows get no line of their own, since a display shows them.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        total: int,
        clock: Callable[[], float],
        held: Callable[[], float] = lambda: 0.0,
        on_batch_complete: Callable[[BatchProgress], None] | None = None,
    ) -> None:
        """Report on a run of `total` windows.

        Args:
            logger: Where the lines for people go.
            total: The run's windows.
            clock: Seconds that only ever grow.
            held: Seconds that the hourly limit makes the run last at least.
            on_batch_complete: Called as each window ends.
        """
        self.total = total
        self.batches: list[BatchResult] = []
        self.quiet = False
        self._logger = logger
        self._clock = clock
        self._held = held
        self._started = clock()
        self._callback = on_batch_complete

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._started

    @property
    def events(self) -> int:
        """The events emitted so far."""
        return sum(batch.events for batch in self.batches)

    @property
    def seconds_left(self) -> float:
        """An estimate from the pace so far, and the hourly limit."""
        completed = len(self.batches)
        if not completed:
            return 0.0
        return max(self.elapsed / completed * (self.total - completed), self._held())

    @property
    def time_left(self) -> str:
        """The estimate, for people."""
        if len(self.batches) == self.total:
            return "done"
        return f"about {format_seconds(self.seconds_left)} left" if self.batches else "time left: ?"

    def batch(self, result: BatchResult) -> None:
        """Tell that a window has ended."""
        self.batches.append(result)
        completed = len(self.batches)
        if result.success:
            self._logger.log(
                logging.DEBUG if self.quiet else logging.INFO,
                "%s loaded: %s events, %s in %s%s (%d of %d, %s)",
                result.window,
                f"{result.events:,}",
                format_bytes(result.size),
                format_seconds(result.seconds),
                f", {counted(result.quarantined, 'line')} quarantined"
                if result.quarantined
                else "",
                completed,
                self.total,
                self.time_left,
            )
        else:
            self._logger.error(
                "%s failed after %s: %s (%d of %d)",
                result.window,
                counted(result.attempts, "attempt"),
                result.error,
                completed,
                self.total,
            )
        if self._callback is not None:
            self._callback(BatchProgress(result, completed, self.total, self.seconds_left))

    def look(self, active: Iterable[Task]) -> None:
        """Tell of requests that take long, each now and then."""
        for task in active:
            seconds = self._clock() - task.requested
            if seconds >= (task.told + 1) * _LONG_SECONDS:
                task.told = int(seconds / _LONG_SECONDS)
                self._logger.log(
                    logging.DEBUG if self.quiet else logging.INFO,
                    "%s: under way for %s, %s so far",
                    task.window,
                    format_seconds(seconds),
                    format_bytes(task.received),
                )

    def finish(self) -> ParallelFetchResult:
        """Sum the run up, with a table of what failed."""
        seconds = self.elapsed
        result = ParallelFetchResult(tuple(self.batches), seconds)
        loaded = len(result.batches) - len(result.failed)
        self._logger.info(
            "%d of %d windows loaded: %s events, %s in %s",
            loaded,
            self.total,
            f"{result.total_events:,}",
            format_bytes(sum(b.size for b in result.batches)),
            format_seconds(seconds),
        )
        if loaded and not result.total_events:
            self._logger.warning(
                "there is no event on these days; if there should be some, check project_id, "
                "region, events and where"
            )
        if quarantined := sum(b.quarantined for b in result.batches):
            self._logger.warning("%s quarantined and not loaded", counted(quarantined, "line"))
        if result.failed:
            rows = [("from_date", "to_date", "attempts", "reason")] + [
                (str(b.window.first), str(b.window.last), str(b.attempts), b.error or "")
                for b in result.failed
            ]
            table = "\n".join(f"  {a:<12}{b:<12}{c:>8}  {d}" for a, b, c, d in rows)
            self._logger.error(
                "%d of %d windows failed; the next run with this state reads them again:\n%s",
                len(result.failed),
                self.total,
                table,
            )
        return result
