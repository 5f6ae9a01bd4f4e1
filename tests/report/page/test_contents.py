"""What a page says of a run: its outcome, its reasons, its notices."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.exceptions import (
    ExportFailedError,
    OutputError,
    ReaderGoneError,
    TerminatedError,
)
from tap_mixpanel_parallel.plan.state import FailedWindow
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.page.contents import failures_of, make_run_part, shortened
from tap_mixpanel_parallel.report.page.verdicts import judge
from tap_mixpanel_parallel.report.results import ParallelFetchResult
from tests.report.page.runs import HOSTILE, NOW, Told, page, windows

if TYPE_CHECKING:
    from tap_mixpanel_parallel.report.page.contents import RunPart, Verdict

SOME_FAILED = ExportFailedError("failed", ParallelFetchResult((), 0.0))
LAST = "The next run reads the rest."


def run_part(loaded: int = 0, failed: int = 0, unbegun: int = 0, events: int = 1) -> RunPart:
    told, planned = Told(), [*windows(loaded + failed + unbegun, 1)]
    for n, window in enumerate(planned[: loaded + failed]):
        if n < loaded:
            told.loaded(window, n, events=events - 137 * (window.first.day % 9))
        else:
            told.failed(window, n, 1, "HTTP 500")
    return make_run_part(planned, told.notes, started=NOW, seconds=60.0, warnings=[], reason=str)


def verdict(run: RunPart, error: BaseException | None = None) -> tuple[str, str, str]:
    found: Verdict = judge(run, error, str(error))
    return found.kind, found.sentence, found.detail


@pytest.mark.parametrize(
    ("run", "error", "expected"),
    [
        (run_part(), None, ("good", "There was nothing to fetch.", "")),
        (
            run_part(loaded=1),
            None,
            ("good", "The only window is handed to the loader: 1 event.", ""),
        ),
        (
            run_part(loaded=3),
            None,
            ("good", "All 3 windows are handed to the loader: 3 events.", ""),
        ),
        (run_part(loaded=3, failed=1), None, ("warn", "1 of 4 windows failed.", LAST)),
        (run_part(loaded=3, failed=1), SOME_FAILED, ("bad", "1 of 4 windows failed.", LAST)),
        (
            run_part(failed=2),
            SOME_FAILED,
            ("bad", "No data was retrieved: all 2 windows failed.", ""),
        ),
        (
            run_part(loaded=2, unbegun=3),
            TerminatedError(15),
            ("bad", "Stopped by SIGTERM: 2 of 5 windows handed to the loader.", LAST),
        ),
        (
            run_part(loaded=2, unbegun=3),
            ReaderGoneError("gone"),
            (
                "bad",
                "The loader stopped reading: 2 of 5 windows handed to the loader.",
                f"The loader's own log says why. {LAST}",
            ),
        ),
        (
            run_part(),
            OutputError("it can't be"),
            ("bad", "The run ended with an error: no window was requested.", "it can't be"),
        ),
    ],
)
def test_the_outcome_in_a_sentence(
    run: RunPart, error: BaseException | None, expected: tuple[str, str, str]
) -> None:
    assert verdict(run, error) == expected


def test_no_event_at_all_is_said() -> None:
    assert verdict(run_part(loaded=2, events=0))[2].startswith("There are no events")


def test_failures_of_one_reason_are_told_together() -> None:
    first = date(2025, 1, 1)
    days = [Window(day, day) for day in (first + timedelta(days=2 * n) for n in range(3))]
    failed = [
        FailedWindow(days[0], 5, "HTTP 500", "2025-03-03T01:00:00Z"),
        FailedWindow(days[1], 1, "HTTP 503", "2025-03-03T02:00:00Z"),
        FailedWindow(days[2], 2, "HTTP 500", "2025-03-03T03:00:00Z"),
    ]
    [first_reason, other], more = failures_of(failed)
    assert (first_reason.reason, first_reason.days, first_reason.attempts) == ("HTTP 500", 2, 5)
    assert first_reason.shown == ("2025-01-01", "2025-01-05")
    assert first_reason.failed_at == "2025-03-03T03:00:00Z"
    assert (other.reason, more) == ("HTTP 503", 0)


def test_what_a_person_should_know() -> None:
    run = page(90, 4).run
    assert run is not None
    assert run.notices[0] == "replay: HTTP 503 Service Unavailable"
    assert run.notices[1].endswith(
        "lines that are not events: 3; they are in x.body and not loaded"
    )
    assert [trace.outcome for trace in run.troubled].count("failed") == run.failed == 1
    assert len(run.troubled) == 3
    assert run.unbegun == 1


def test_what_the_hourly_limit_refused_is_a_request() -> None:
    told, planned = Told(), [*windows(3, 1)]
    told.loaded(planned[0], told.retried(planned[0], 0.0, 1, "HTTP 500"), attempt=2)
    told.loaded(planned[1], told.refused(planned[1], 1.0, 1, "HTTP 429"))
    run = make_run_part(planned, told.notes, started=NOW, seconds=60.0, warnings=[], reason=str)
    assert (run.requests, run.unbegun) == (4, 1)
    assert [trace.window for trace in run.troubled] == planned[:1], "that is no trouble of its own"
    assert run.refusal == "HTTP 429"


def test_values_that_do_not_fit_their_column_are_counted_once_for_the_run() -> None:
    told, planned = Told(), [*windows(2, 1)]
    for n, window in enumerate(planned):
        told.loaded(window, n, misfits={"plan": 1000, "os": n} if n else {"plan": 2})
    told.failed(planned[0], 9, 1, "HTTP 500")
    run = make_run_part(planned, told.notes, started=NOW, seconds=60.0, warnings=[], reason=str)
    assert run.notices == (
        "property_columns: values that do not fit their column, and are null in it, but still in "
        "properties: os 1, plan 1,002",
    )


def test_the_phase_that_took_most_is_explained() -> None:
    assert (
        run_part(failed=2).advice == "Most of the time went to attempts that failed. Their "
        "reasons are below."
    )
    assert run_part(loaded=3).advice == "", "none stands out"


def test_a_text_from_outside_is_one_short_line() -> None:
    text = shortened(HOSTILE)
    assert len(text) == 401
    assert text.isprintable()
