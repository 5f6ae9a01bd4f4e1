"""All that a page says, as values. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.plan.windows import count_days
from tap_mixpanel_parallel.report.observers import Converted, LeftOut
from tap_mixpanel_parallel.report.page.calendar import days_text, ranges
from tap_mixpanel_parallel.report.page.traces import Outcome, Phase, Tracer, seconds_by_phase
from tap_mixpanel_parallel.report.results import tell_misfits
from tap_mixpanel_parallel.wording import printable
from tap_mixpanel_parallel.write.output import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import date, datetime

    from tap_mixpanel_parallel.plan.state import FailedWindow
    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.report.page.calendar import Calendar
    from tap_mixpanel_parallel.report.page.recorder import Note
    from tap_mixpanel_parallel.report.page.traces import Span, Trace
    from tap_mixpanel_parallel.settings.shown import ShownSetting

_MOST: Final = 30
"""Failures, notices and windows with their reasons that a page shows."""

_MOST_RETRIES: Final = 3
_LONGEST_REASON: Final = 400

_ADVICE: Final = {
    Phase.FIRST_BYTE: "Mixpanel prepares an export before it sends it. More workers let more of "
    "these waits overlap; Mixpanel allows 100 requests at once.",
    Phase.RECEIVING: "The network, or Mixpanel, sets the pace. More workers may help.",
    Phase.TURN: "The loader, or the conversion of other windows, sets the pace. More workers do "
    "not help.",
    Phase.CONVERTING: "This machine's cores set the pace. More workers do not help.",
    Phase.LOADER: "The loader sets the pace. More workers do not help; a faster loader does.",
    Phase.FAILED: "Most of the time went to attempts that failed. Their reasons are below.",
    Phase.PAUSE: "Most of the time went to pauses after attempts that failed. Their reasons are "
    "below.",
    Phase.LIMIT: "Mixpanel's hourly limit set the pace. Longer windows (window_days) need fewer "
    "requests.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome in a sentence.

    Attributes:
        kind: `good`, `warn`, `bad`, or `open` while the run goes on.
        sentence: The sentence.
        detail: What a person should know besides; empty if there is nothing.
    """

    kind: str
    sentence: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Days that failed for one reason.

    Attributes:
        reason: The reason.
        days: How many days there are.
        shown: The first of their ranges.
        more: How many ranges are not shown.
        attempts: How often a window of them was tried at most.
        failed_at: When the last of them failed.
    """

    reason: str
    days: int
    shown: tuple[str, ...]
    more: int
    attempts: int
    failed_at: str

    @classmethod
    def of(cls, reason: str, failed: Sequence[FailedWindow]) -> Failure:
        """What a state says of failures that have one reason."""
        windows = [failure.window for failure in failed]
        shown, more = ranges(windows)
        return cls(
            reason,
            count_days(windows),
            shown,
            more,
            max(failure.attempts for failure in failed),
            printable(max(failure.failed_at for failure in failed)),
        )


@dataclass(frozen=True, slots=True)
class RunPart:
    """What a page says of a run.

    Attributes:
        started: When it began.
        seconds: How long it took.
        planned: How many windows it was to fetch.
        traces: The windows, by their days.
        troubled: Those that failed or were tried again, as far as they are shown.
        more_troubled: How many of these are not shown.
        unbegun: The planned windows that were not requested.
        waits: When the hourly limit let no request start.
        refusal: What Mixpanel said of that limit; empty if it refused nothing.
        shares: How long each phase took in all, the longest first.
        advice: What the longest phase says; empty if none stands out.
        notices: What a person should know.
        more_notices: How many more there are.
        events_by_day: The events of the days that were read.
    """

    started: datetime
    seconds: float
    planned: int
    traces: tuple[Trace, ...]
    troubled: tuple[Trace, ...]
    more_troubled: int
    unbegun: int
    waits: tuple[Span, ...]
    refusal: str
    shares: Counter[Phase]
    advice: str
    notices: tuple[str, ...]
    more_notices: int
    events_by_day: dict[date, int]

    @property
    def events(self) -> int:
        """The events that were written."""
        return sum(trace.events for trace in self.traces)

    @property
    def size(self) -> int:
        """The bytes that were received of windows that are written."""
        return sum(trace.size for trace in self.traces)

    @property
    def requests(self) -> int:
        """The requests that were made."""
        return sum(trace.requests for trace in self.traces)

    @property
    def loaded(self) -> int:
        """The windows that were handed to the loader."""
        return sum(trace.is_loaded for trace in self.traces)

    @property
    def failed(self) -> int:
        """The windows that failed."""
        return sum(trace.outcome is Outcome.FAILED for trace in self.traces)

    @property
    def waited(self) -> float:
        """Seconds for which the hourly limit let no request start."""
        return sum(span.seconds for span in self.waits)


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        title: What it is about.
        verdict: The outcome.
        written: When it was written.
        calendar: The days; None if none is known.
        failures: What failed, as far as it is shown.
        more_failures: How many more there are.
        command: What to run to repair; empty if it is not known.
        run: The run; None if the page is about a state.
        settings: The settings, without secrets.
        versions: What was used, and in which version.
    """

    title: str
    verdict: Verdict
    written: datetime
    calendar: Calendar | None
    failures: tuple[Failure, ...]
    more_failures: int
    command: str
    run: RunPart | None
    settings: tuple[ShownSetting, ...]
    versions: tuple[tuple[str, str], ...]


def shortened(text: str) -> str:
    """A text from outside in one line, and not all of a long one."""
    text = printable(" ".join(text[: 2 * _LONGEST_REASON].split()))
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


def failures_of(failed: Sequence[FailedWindow]) -> tuple[tuple[Failure, ...], int]:
    """The failures of a state that a page shows, and how many more reasons there are."""
    by_reason: dict[str, list[FailedWindow]] = {}
    for failure in failed:
        by_reason.setdefault(shortened(failure.error), []).append(failure)
    found = [Failure.of(reason, same) for reason, same in by_reason.items()]
    return tuple(found[:_MOST]), max(len(found) - _MOST, 0)


def make_run_part(
    planned: Sequence[Window],
    notes: Sequence[Note],
    *,
    started: datetime,
    seconds: float,
    warnings: Iterable[str],
    reason: Callable[[BaseException], str],
) -> RunPart:
    """What a page says of a run.

    Args:
        planned: The windows of its plan.
        notes: Its events.
        started: When it began.
        seconds: How long it took.
        warnings: What it warned of before it began.
        reason: What an error says, without secrets.
    """
    tracer = Tracer(lambda error: shortened(reason(error)))
    tracer.add_all(notes, seconds)
    traces = tuple(sorted(tracer.traces.values(), key=lambda trace: trace.window))
    troubled = [t for t in traces if t.retries or t.outcome is not Outcome.LOADED]
    for trace in traces:
        trace.error = None if trace.error is None else shortened(trace.error)
        trace.retries[_MOST_RETRIES:-1] = []  # the last one tells most
    shares = seconds_by_phase([*(s for t in traces for s in t.spans), *tracer.waits])
    notices = [*map(shortened, warnings), *_notices(notes)]
    return RunPart(
        started=started,
        seconds=seconds,
        planned=len(planned),
        traces=traces,
        troubled=tuple(troubled[:_MOST]),
        more_troubled=max(len(troubled) - _MOST, 0),
        unbegun=len(set(planned) - tracer.traces.keys()),
        waits=tuple(tracer.waits),
        refusal=tracer.refusal,
        shares=shares,
        advice=_advice(shares),
        notices=tuple(islice(notices, _MOST)),
        more_notices=max(len(notices) - _MOST, 0),
        events_by_day=_events_by_day(notes),
    )


def _advice(shares: Counter[Phase]) -> str:
    """What to make of the phase that took most of the time."""
    for phase, seconds in shares.most_common(1):
        if seconds * 2 >= shares.total():
            return _ADVICE.get(phase, "")
    return ""


def _notices(notes: Sequence[Note]) -> Iterable[str]:
    misfits: Counter[str] = Counter()
    for note in notes:
        match note.event:
            case LeftOut(arrival, _, reason):
                yield shortened(
                    f"{days_text(arrival.window)}: {arrival.window.last} is left out. {reason}"
                )
            case Converted(part, quarantine):
                if part.malformed:
                    yield shortened(
                        f"{days_text(part.window)}: lines that are not events: "
                        f"{part.malformed.count:,}; they are in {quarantine} and not loaded"
                    )
                if part.strays:
                    yield shortened(
                        f"{days_text(part.window)}: events whose time lies outside these days: "
                        f"{part.strays:,}; they are loaded"
                    )
            case Written(_, part):
                misfits.update(part.misfits)
    if misfits:
        yield shortened(tell_misfits(misfits))


def _events_by_day(notes: Sequence[Note]) -> dict[date, int]:
    """The events of each day of the windows that are written."""
    events: dict[date, int] = {}
    for note in notes:
        if isinstance(note.event, Written):
            part = note.event.part
            events.update({day: part.by_day.get(day, 0) for day in part.window.days()})
    return events
