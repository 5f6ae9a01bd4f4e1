"""What became of each window, and when: a run's events as values. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.convert.processes import Prepared
from tap_mixpanel_parallel.fetch.events import Ended, Refused, Requested, Retrying, Waiting
from tap_mixpanel_parallel.report.observers import Converted, Failed, LeftOut
from tap_mixpanel_parallel.write.output import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.report.page.recorder import Note


class Phase(StrEnum):
    """What happens to a window for a while; the value is what people read."""

    FIRST_BYTE = "waiting for the first byte"
    RECEIVING = "receiving"
    TURN = "waiting for the windows before it"
    CONVERTING = "converting"
    LOADER = "waiting for the loader"
    FAILED = "a request that failed"
    PAUSE = "pausing before another attempt"
    UNDER_WAY = "under way as the run ended"
    LIMIT = "waiting for the hourly limit"


@dataclass(frozen=True, slots=True)
class Span:
    """A phase, and the seconds of the run at which it starts and ends."""

    phase: Phase
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt that failed, and after which another followed.

    Attributes:
        attempt: Its number, from 1.
        reason: Why it failed.
        pause: Seconds until the next attempt at the earliest.
    """

    attempt: int
    reason: str
    pause: float


class Outcome(StrEnum):
    """What became of a window; the value is what people read."""

    LOADED = "handed to the loader"
    FAILED = "failed"
    LEFT_OUT = "left out"
    UNFINISHED = "not finished"


@dataclass(slots=True)
class Trace:
    """What became of a window.

    Attributes:
        window: The days.
        outcome: How it ended.
        spans: What happened when, in order.
        requests: How often it was requested.
        attempts: The same without what the hourly limit refused.
        events: How many events were written.
        size: The bytes received in the attempt that counted.
        retries: The attempts after which another followed.
        error: Why it failed; None if it did not.
    """

    window: Window
    outcome: Outcome = Outcome.UNFINISHED
    spans: list[Span] = field(default_factory=list)
    requests: int = 0
    attempts: int = 0
    events: int = 0
    size: int = 0
    retries: list[Retry] = field(default_factory=list)
    error: str | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether all of it was handed to the loader."""
        return self.outcome is Outcome.LOADED

    @property
    def seconds(self) -> float:
        """From its first request to its end."""
        return self.spans[-1].end - self.spans[0].start if self.spans else 0.0


@dataclass(slots=True)
class _Moments:
    """When what happened in an attempt."""

    requested: float
    ended: float | None = None
    conversion_began: float | None = None
    converted: float | None = None


class Tracer:
    """Makes traces of a run's events.

    Attributes:
        traces: Each window's, in the order of their first requests.
        waits: When no request was allowed to start.
        refusal: What Mixpanel said of its hourly limit; empty if it refused nothing.
    """

    def __init__(self, reason: Callable[[BaseException], str]) -> None:
        """Begin with none.

        Args:
            reason: What an error says, without secrets.
        """
        self.traces: dict[Window, Trace] = {}
        self.waits: list[Span] = []
        self.refusal = ""
        self._reason = reason
        self._moments: dict[Window, _Moments] = {}
        self._waits_since: float | None = None

    def add_all(self, notes: Sequence[Note], end: float) -> None:
        """Take in a run's events.

        Args:
            notes: The events.
            end: When the run ended.
        """
        for note in notes:
            self._add(note)
        for window, trace in self.traces.items():
            moments = self._moments.pop(window, None)
            if moments is not None:
                trace.spans.append(Span(Phase.UNDER_WAY, moments.requested, end))
        self._end_wait(end)

    def _add(self, note: Note) -> None:
        at, event = note.at, note.event
        match event:
            case Waiting():
                self._waits_since = at if self._waits_since is None else self._waits_since
            case Requested(window, attempt, _):
                self._end_wait(at)
                self._request(window, attempt, at)
            case Ended(window) if window in self._moments:
                self._moments[window].ended = at
            case Retrying(window, attempt, error, pause) if window in self._moments:
                self._end_attempt(window, at)
                retry = Retry(attempt, self._reason(error), pause)
                self.traces[window].retries.append(retry)
            case Refused(window, error) if window in self._moments:
                self.refusal = self._reason(error)
                self._end_attempt(window, at)
            case Converted(part, _, seconds) if part.window in self._moments:
                moments = self._moments[part.window]
                moments.conversion_began, moments.converted = at - seconds, at
            case Written() if event.arrival.window in self._moments:
                self._write(event, at)
            case Failed(arrival, reason) | LeftOut(arrival, _, reason) if (
                arrival.window in self.traces
            ):
                trace = self.traces[arrival.window]
                is_failed = isinstance(event, Failed)
                trace.outcome = Outcome.FAILED if is_failed else Outcome.LEFT_OUT
                trace.error = reason
                if arrival.window in self._moments:
                    self._end_attempt(arrival.window, self._moments[arrival.window].ended or at)

    def _request(self, window: Window, attempt: int, at: float) -> None:
        trace = self.traces.setdefault(window, Trace(window))
        if trace.spans and trace.attempts < attempt:
            trace.spans.append(Span(Phase.PAUSE, trace.spans[-1].end, at))
        trace.requests += 1
        trace.attempts = attempt
        self._moments[window] = _Moments(at)

    def _end_attempt(self, window: Window, at: float) -> None:
        """An attempt has come to nothing."""
        moments = self._moments.pop(window)
        self.traces[window].spans.append(Span(Phase.FAILED, moments.requested, at))

    def _write(self, event: Written, at: float) -> None:
        """A window has left: now all of its times are known."""
        arrival, moments = event.arrival, self._moments.pop(event.arrival.window)
        trace = self.traces[arrival.window]
        trace.outcome, trace.events = Outcome.LOADED, event.part.events
        ended = moments.ended if moments.ended is not None else at
        first = received = ended
        if (download := arrival.download) is not None:
            trace.size = download.size
            first = min(moments.requested + download.first_byte_seconds, ended)
            received = min(moments.requested + download.seconds, ended)
        began = at if moments.conversion_began is None else moments.conversion_began
        converted = at if moments.converted is None else moments.converted
        # Processes convert before the attempt has ended.
        arrived = ended if isinstance(download, Prepared) else received
        steps = [
            (Phase.FIRST_BYTE, first),
            (Phase.RECEIVING, received),
            (Phase.CONVERTING, arrived),
            (Phase.TURN, max(began, arrived)),
            (Phase.CONVERTING, converted),
            (Phase.LOADER, at),
        ]
        start = moments.requested
        for phase, end in steps:
            if end > start:
                trace.spans.append(Span(phase, start, end))
                start = end

    def _end_wait(self, at: float) -> None:
        if self._waits_since is not None:
            self.waits.append(Span(Phase.LIMIT, self._waits_since, at))
            self._waits_since = None


def seconds_by_phase(spans: Iterable[Span]) -> Counter[Phase]:
    """How long each phase took in all, the longest first."""
    totals: Counter[Phase] = Counter()
    for span in spans:
        totals[span.phase] += span.seconds  # type: ignore[assignment]
    return Counter(dict(totals.most_common()))
