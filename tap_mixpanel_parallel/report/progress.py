"""Where a run stands: what is under way, what has ended, how long the rest may take."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.fetch.progress import Ended, Progressed, Requested
from tap_mixpanel_parallel.report.observers import Failed, LeftOut
from tap_mixpanel_parallel.report.results import BatchProgress, BatchResult, ParallelFetchResult
from tap_mixpanel_parallel.write.output import Written

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tap_mixpanel_parallel.clock import Clock
    from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
    from tap_mixpanel_parallel.fetch.scheduler import Body
    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.report.observers import RunEvent


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is under way.

    Attributes:
        window: The days.
        attempt: How often they were requested, this time included.
        started: When it started, in the clock's seconds.
        path: The file that its body grows in.
        remote: How far it is on another machine; None if this one makes it.
    """

    window: Window
    attempt: int
    started: float
    path: Path
    remote: Progressed | None = field(default=None, compare=False)

    @property
    def received(self) -> int:
        """Bytes so far."""
        if self.remote is not None:
            return self.remote.received
        with suppress(OSError):  # it comes with the first byte, and goes with the last
            return self.path.stat().st_size
        return 0


class Progress:
    """Counts what a run's events tell. An observer that others ask.

    Attributes:
        total: Windows of the run.
        batches: Those that have ended.
    """

    def __init__(
        self,
        total: int,
        limit: RateLimit,
        clock: Clock,
        on_batch_complete: Callable[[BatchProgress], None] = lambda _: None,
    ) -> None:
        """Count a run of `total` windows.

        Args:
            total: The run's windows.
            limit: Counts the starts of requests.
            clock: The time.
            on_batch_complete: Called as each window ends.
        """
        self.total = total
        self.batches: list[BatchResult] = []
        self._limit = limit
        self._clock = clock
        self._on_batch_complete = on_batch_complete
        self._started = clock.monotonic()
        self._requested: set[Window] = set()
        self._active: dict[Window, Request] = {}

    def __call__(self, event: RunEvent) -> None:
        """Take note of an event."""
        match event:
            case Requested(window, attempt, path):
                self._requested.add(window)
                self._active[window] = Request(window, attempt, self._clock.monotonic(), path)
            case Progressed(window):
                if (request := self._active.get(window)) is not None:
                    self._active[window] = replace(request, remote=event)
            case Ended(window):
                self._active.pop(window, None)
            case Written(body, part):
                size = body.download.size if body.download else 0
                left_out = part.malformed.count if part.malformed else 0
                self._end(body, events=part.events, size=size, quarantined=left_out)
            case Failed(body, reason):
                self._end(body, error=reason)
            case LeftOut(body, None, _):
                self._end(body)
            case LeftOut(body, _, _):
                self._requested.discard(body.window)  # the rest is requested in its place

    @property
    def active(self) -> list[Request]:
        """The requests that are under way, sorted by their days."""
        return sorted(self._active.values(), key=lambda request: request.window)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock.monotonic() - self._started

    @property
    def events(self) -> int:
        """The events written so far."""
        return sum(batch.events for batch in self.batches)

    @property
    def seconds_held(self) -> float:
        """Seconds for which the hourly limit holds back the last first request at least."""
        return self._limit.seconds_until(self.total - len(self._requested))

    @property
    def seconds_to_next_start(self) -> float:
        """Seconds until the hourly limit lets the next request start."""
        return self._limit.seconds_until(1)

    @property
    def seconds_left(self) -> float:
        """An estimate from the pace so far, and the hourly limit."""
        completed = len(self.batches)
        if not completed:
            return 0.0
        return max(self.elapsed / completed * (self.total - completed), self.seconds_held)

    @property
    def result(self) -> ParallelFetchResult:
        """The outcome so far."""
        return ParallelFetchResult(tuple(self.batches), self.elapsed)

    def now(self) -> float:
        """The clock's seconds."""
        return self._clock.monotonic()

    def _end(
        self,
        body: Body,
        *,
        events: int = 0,
        size: int = 0,
        quarantined: int = 0,
        error: str | None = None,
    ) -> None:
        result = BatchResult(
            window=body.window,
            events=events,
            size=size,
            seconds=self._clock.monotonic() - body.started,
            attempts=body.attempts,
            error=error,
            quarantined=quarantined,
        )
        self.batches.append(result)
        self._on_batch_complete(
            BatchProgress(result, len(self.batches), self.total, self.seconds_left)
        )
