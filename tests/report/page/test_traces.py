"""What became of each window, and when, by the events of a run."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tap_mixpanel_parallel.convert.conversion import Part
from tap_mixpanel_parallel.convert.processes import Prepared
from tap_mixpanel_parallel.exceptions import TransportError
from tap_mixpanel_parallel.fetch.events import Ended, Requested, Retrying, Waiting
from tap_mixpanel_parallel.fetch.job import Arrival
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.observers import Converted, LeftOut
from tap_mixpanel_parallel.report.page.recorder import Note, Recorder
from tap_mixpanel_parallel.report.page.traces import (
    Outcome,
    Phase,
    Retry,
    Span,
    Trace,
    Tracer,
    seconds_by_phase,
)
from tap_mixpanel_parallel.write.output import Written
from tests.report.events import Hand
from tests.report.page.runs import NOW, PATH, Told

WEEK = Window(date(2025, 1, 6), date(2025, 1, 12))


def traced(told: Told, end: float = 100.0) -> Tracer:
    tracer = Tracer(str)
    tracer.add_all(told.notes, end)
    return tracer


def trace_of(told: Told) -> Trace:
    [trace] = traced(told).traces.values()
    return trace


def test_a_window_that_arrives() -> None:
    told = Told()
    told.loaded(WEEK, 10.0, events=0)
    trace = trace_of(told)
    assert trace.spans == [
        Span(Phase.FIRST_BYTE, 10.0, 12.0),
        Span(Phase.RECEIVING, 12.0, 13.0),
        Span(Phase.TURN, 13.0, 13.5),
        Span(Phase.CONVERTING, 13.5, 14.0),
        Span(Phase.LOADER, 14.0, 15.5),
    ]
    assert (trace.outcome, trace.attempts, trace.size) == (Outcome.LOADED, 1, 90_000)
    assert trace.events == sum(137 * (each.day % 9) for each in WEEK.days())
    assert trace.seconds == 5.5


def test_a_window_that_a_process_converts() -> None:
    told = Told()
    part = Part(WEEK, PATH, 7)
    body = Prepared(
        PATH,
        compressed=True,
        size=1,
        received_at=NOW,
        first_byte_seconds=1.0,
        seconds=2.0,
        part=part,
    )
    told.at(0, Requested(WEEK, 1, PATH))
    told.at(5, Ended(WEEK))
    told.at(8, Converted(part, None, seconds=0.0))
    told.at(9, Written(Arrival(WEEK, 1, 0.0, body), part))
    assert trace_of(told).spans == [
        Span(Phase.FIRST_BYTE, 0, 1),
        Span(Phase.RECEIVING, 1, 2),
        Span(Phase.CONVERTING, 2, 5),
        Span(Phase.TURN, 5, 8),
        Span(Phase.LOADER, 8, 9),
    ]


def test_attempts_that_fail() -> None:
    told = Told()
    then = told.retried(WEEK, 0.0, 1, "HTTP 500")
    told.failed(WEEK, then, 2, "HTTP 503")
    trace = trace_of(told)
    assert trace.spans == [
        Span(Phase.FAILED, 0, 2),
        Span(Phase.PAUSE, 2, 6),
        Span(Phase.FAILED, 6, 8),
    ]
    assert trace.retries == [Retry(1, "HTTP 500", 4.0)]
    assert (trace.outcome, trace.error, trace.attempts) == (Outcome.FAILED, "HTTP 503", 2)


def test_a_body_that_is_not_what_it_should_be() -> None:
    """It is found out after the request has ended."""
    told = Told()
    told.at(0, Requested(WEEK, 1, PATH))
    told.at(3, Ended(WEEK))
    told.at(4, Retrying(WEEK, 1, TransportError("cut"), 1.0))
    told.loaded(WEEK, 5.0, attempt=2)
    trace = trace_of(told)
    assert trace.spans[:2] == [Span(Phase.FAILED, 0, 4), Span(Phase.PAUSE, 4, 5)]
    assert (trace.outcome, trace.attempts) == (Outcome.LOADED, 2)


def test_a_window_that_is_under_way_at_the_end() -> None:
    told = Told()
    told.at(7, Requested(WEEK, 1, PATH))
    trace = trace_of(told)
    assert trace.spans == [Span(Phase.UNDER_WAY, 7, 100)]
    assert trace.outcome is Outcome.UNFINISHED


def test_a_day_that_is_left_out() -> None:
    told = Told()
    rest = Window(WEEK.first, date(2025, 1, 11))
    told.at(0, Requested(WEEK, 1, PATH))
    told.at(1, Ended(WEEK))
    told.at(2, LeftOut(Arrival(WEEK, 1, 0.0, error=TransportError("later")), rest, "clocks differ"))
    told.loaded(rest, 3.0)
    whole, shorter = traced(told).traces.values()
    assert (whole.outcome, whole.error) == (Outcome.LEFT_OUT, "clocks differ")
    assert (shorter.window, shorter.outcome) == (rest, Outcome.LOADED)


def test_waits_last_until_the_next_request() -> None:
    told = Told()
    told.at(2, Waiting(NOW, 60))
    told.at(30, Waiting(NOW, 32))
    told.loaded(WEEK, 62.0)
    told.at(90, Waiting(NOW, 60))
    assert traced(told).waits == [Span(Phase.LIMIT, 2, 62), Span(Phase.LIMIT, 90, 100)]


def test_what_the_hourly_limit_refuses_is_no_attempt() -> None:
    """The time between the two belongs to the limit, and not to the window."""
    told = Told()
    then = told.refused(WEEK, 0.0, 1, "HTTP 429")
    then = told.refused(WEEK, then, 1, "HTTP 429: 61/60")
    told.loaded(WEEK, then)
    tracer = traced(told)
    [trace] = tracer.traces.values()
    assert trace.spans[:3] == [
        Span(Phase.FAILED, 0, 1),
        Span(Phase.FAILED, 6, 7),
        Span(Phase.FIRST_BYTE, 12, 14),
    ]
    assert (trace.outcome, trace.requests, trace.attempts) == (Outcome.LOADED, 3, 1)
    assert trace.retries == []
    assert tracer.waits == [Span(Phase.LIMIT, 1, 6), Span(Phase.LIMIT, 7, 12)]
    assert tracer.refusal == "HTTP 429: 61/60"


def test_what_is_refused_is_not_under_way_as_the_run_ends() -> None:
    told = Told()
    told.refused(WEEK, 0.0, 1, "HTTP 429")
    tracer = traced(told)
    [trace] = tracer.traces.values()
    assert (trace.outcome, trace.spans) == (Outcome.UNFINISHED, [Span(Phase.FAILED, 0, 1)])
    assert tracer.waits == [Span(Phase.LIMIT, 1, 100)]


def test_the_longest_phase_comes_first() -> None:
    spans = [Span(Phase.RECEIVING, 0, 2), Span(Phase.LOADER, 2, 5), Span(Phase.RECEIVING, 5, 7)]
    assert list(seconds_by_phase(spans).items()) == [(Phase.RECEIVING, 4), (Phase.LOADER, 3)]


def test_the_recorder_keeps_times() -> None:
    clock = Hand()
    recorder = Recorder(clock)
    clock.seconds += 2
    recorder(Ended(WEEK))
    assert recorder.notes == [Note(2.0, Ended(WEEK))]


# A run can stop between any two events: what is known by then is told, whatever it is.
@pytest.mark.parametrize("count", range(12))
def test_any_beginning_of_a_run(count: int) -> None:
    told = Told()
    then = told.retried(WEEK, 0.0, 1, "HTTP 500")
    told.loaded(WEEK, then, attempt=2)
    other = Window(date(2025, 1, 13), date(2025, 1, 13))
    told.failed(other, 1.0, 1, "HTTP 503")
    told.at(3, LeftOut(Arrival(other, 1, 0.0), None, str(Path())))
    told.notes.sort(key=lambda note: note.at)
    told.notes[count:] = []
    for trace in traced(told).traces.values():
        ends = [moment for span in trace.spans for moment in (span.start, span.end)]
        assert ends == sorted(ends)
