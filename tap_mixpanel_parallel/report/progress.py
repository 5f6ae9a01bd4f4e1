"""Where a run stands: what is under way, what has ended, how long the rest may take."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.fetch.events import (
    Ended,
    Progressed,
    Refused,
    Requested,
    Retrying,
    Waiting,
)
from tap_mixpanel_parallel.fetch.rate_limit import SECOND
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.estimate import Expected, Fetched, Pace
from tap_mixpanel_parallel.report.observers import Failed, LeftOut
from tap_mixpanel_parallel.report.results import BatchProgress, BatchResult, ParallelFetchResult
from tap_mixpanel_parallel.write.output import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tap_mixpanel_parallel.clock import Clock
    from tap_mixpanel_parallel.fetch.events import FetchEvent
    from tap_mixpanel_parallel.fetch.job import Arrival
    from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
    from tap_mixpanel_parallel.report.observers import RunEvent
    from tap_mixpanel_parallel.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is under way.

    Attributes:
        window: The days.
        attempt: How often they were tried, this time included.
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


@dataclass(frozen=True, slots=True)
class Pausing:
    """A window that waits for its next attempt.

    Attributes:
        window: The days.
        attempt: The number of that attempt.
        due: When it starts, in the clock's seconds.
    """

    window: Window
    attempt: int
    due: float


@dataclass(frozen=True, slots=True)
class _Receipt:
    """When a window came whole, and how long its request took."""

    at: float
    seconds: float


class Progress:
    """Counts what a run's events tell. An observer that others ask.

    Attributes:
        total: Windows of the run.
        max_attempts: How often a window is tried at most.
        requests: The requests that have started, also those of windows that have not ended.
        batches: The windows that have ended.
    """

    def __init__(
        self,
        windows: Iterable[Window],
        settings: Settings,
        limit: RateLimit,
        clock: Clock,
    ) -> None:
        """Count a run of these windows.

        Args:
            windows: The run's windows, in their order.
            settings: The checked settings.
            limit: Counts the starts of requests.
            clock: The time.
        """
        self.max_attempts = settings.max_attempts
        self.requests = 0
        self.batches: list[BatchResult] = []
        self._limit = limit
        self._clock = clock
        self._started = clock.monotonic()
        self._pace = Pace(settings.concurrency, SECOND / settings.requests_per_second)
        self._new = dict.fromkeys(windows)  # those that wait for a request
        self.total = len(self._new)
        self._active: dict[Window, Request] = {}
        self._pausing: dict[Window, Pausing] = {}
        self._remote: dict[Window, Progressed] = {}
        self._arrived: dict[Window, _Receipt] = {}
        self._held_until = 0.0
        self._waiting: Waiting | None = None
        # They are written one after another; how long that took, and until when.
        self._days_written, self._seconds_of_writing, self._written_at = 0, 0.0, 0.0

    def __call__(self, event: RunEvent) -> None:
        """Take note of an event."""
        now = self._clock.monotonic()
        match event:
            case Written(arrival, part):
                size = arrival.download.size if arrival.download else 0
                self._measure(arrival.window, size, now)
                left_out = part.malformed.count if part.malformed else 0
                self._end(
                    arrival,
                    events=part.events,
                    size=size,
                    quarantined=left_out,
                    misfits=part.misfits,
                    duplicates=part.duplicates,
                )
            case Failed(arrival, reason):
                self._end(arrival, error=reason)
            case LeftOut(arrival, Window() as rest, _):
                self._arrived.pop(arrival.window, None)
                self._new[rest] = None  # it is requested in its place
            case LeftOut(arrival):
                self._end(arrival)
            case Requested() | Progressed() | Ended() | Retrying() | Refused() | Waiting():
                self._note_fetch(event, now)

    def _note_fetch(self, event: FetchEvent, now: float) -> None:
        match event:
            case Requested(window, attempt, path):
                self.requests += 1
                self._new.pop(window, None)
                self._pausing.pop(window, None)
                self._arrived.pop(window, None)
                self._held_until = 0.0
                self._remote.pop(window, None)
                self._active[window] = Request(window, attempt, now, path)
            case Progressed(window):
                self._remote[window] = event
            case Ended(window):
                if (request := self._active.pop(window, None)) is not None:
                    self._arrived[window] = _Receipt(now, now - request.started)
            case Retrying(window, attempt, _, pause):
                self._arrived.pop(window, None)
                self._pausing[window] = Pausing(window, attempt + 1, now + pause)
            case Refused(window):
                self._arrived.pop(window, None)
                self._new[window] = None  # it is no attempt
            case Waiting(_, seconds):
                self._held_until, self._waiting = now + seconds, event

    @property
    def active(self) -> list[Request]:
        """The requests that are under way, sorted by their days."""
        # What is told of a request may come when it has ended: it makes none of its own.
        return [
            replace(request, remote=self._remote.get(window))
            for window, request in sorted([*self._active.items()])
        ]

    @property
    def pausing(self) -> list[Pausing]:
        """The windows that wait for another attempt, sorted by their days."""
        return sorted(self._pausing.values(), key=lambda pausing: pausing.window)

    @property
    def arrived(self) -> int:
        """How many windows have come, and are not handed on yet."""
        return len(self._arrived)

    @property
    def waiting(self) -> Waiting | None:
        """The wait for the hourly limit; None if that holds no request back."""
        return self._waiting if self._held_until > self.now() else None

    @property
    def failed(self) -> list[Window]:
        """The windows that have failed for good, as they did."""
        return [batch.window for batch in self.batches if not batch.success]

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock.monotonic() - self._started

    @property
    def events(self) -> int:
        """The events written so far."""
        return sum(batch.events for batch in self.batches)

    @property
    def seconds_left(self) -> float | None:
        """An estimate of the rest; None as long as it would mislead."""
        if len(self.batches) == self.total:
            return 0.0
        new = list(self._new)
        held = self._limit.seconds_until(len(new))  # until the last of them may start
        if not self._pace.is_credible(self.total):
            return held or None
        now = self.now()
        under_way = [Expected(len(r.window), now - r.started, r.received) for r in self.active]
        pause = max(self._held_until - now, 0.0)
        to_come = [Expected(len(p.window), pause=max(p.due - now, pause)) for p in self.pausing]
        to_come += [Expected(len(window), pause=pause) for window in new]
        fetching = self._pace.seconds_to_fetch(under_way, to_come)
        if held:
            fetching = max(fetching, held + self._pace.seconds_of(len(new[-1])))
        days = sum(window.days for window in [*under_way, *to_come])
        days += sum(map(len, list(self._arrived)))
        return max(fetching, self._seconds_of_writing / self._days_written * days)

    @property
    def result(self) -> ParallelFetchResult:
        """The outcome so far."""
        return ParallelFetchResult(tuple(self.batches), self.elapsed)

    def now(self) -> float:
        """The clock's seconds."""
        return self._clock.monotonic()

    def _measure(self, window: Window, size: int, now: float) -> None:
        """See from a window that is written how long fetching and writing take."""
        if (arrival := self._arrived.pop(window, None)) is None:
            return
        self._pace.add(Fetched(len(window), arrival.seconds, size))
        self._days_written += len(window)
        self._seconds_of_writing += now - max(arrival.at, self._written_at)
        self._written_at = now

    def _end(
        self,
        arrival: Arrival,
        *,
        events: int = 0,
        size: int = 0,
        quarantined: int = 0,
        misfits: Mapping[str, int] | None = None,
        duplicates: int | None = 0,
        error: str | None = None,
    ) -> None:
        self._arrived.pop(arrival.window, None)
        result = BatchResult(
            window=arrival.window,
            events=events,
            size=size,
            seconds=self._clock.monotonic() - arrival.started,
            attempts=arrival.attempts,
            error=error,
            quarantined=quarantined,
            misfits=misfits or {},
            read_on=arrival.error.read_on if arrival.error else None,
            duplicates=duplicates,
        )
        self.batches.append(result)


class Completions:
    """Has whoever wants it told of each window that has ended. An observer."""

    def __init__(self, progress: Progress, tell: Callable[[BatchProgress], None]) -> None:
        """Tell of the windows of a run.

        Args:
            progress: Told of each event before this observer.
            tell: Called as each window ends.
        """
        self._progress = progress
        self._tell = tell
        self._told = len(progress.batches)

    def __call__(self, event: RunEvent) -> None:
        """Take note of an event."""
        if not isinstance(event, Written | Failed | LeftOut):
            return  # the run's own thread alone tells of an end
        progress = self._progress
        for result in progress.batches[self._told :]:
            self._told += 1
            self._tell(BatchProgress(result, self._told, progress.total, progress.seconds_left))
