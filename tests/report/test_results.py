"""What is told of requests that take long."""

from __future__ import annotations

import logging
from datetime import date

import pytest

from tap_mixpanel_parallel.fetch.scheduler import Task
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.results import Reporter


@pytest.mark.parametrize("quiet", [False, True])
def test_a_request_that_takes_long_is_told_of_now_and_then(
    caplog: pytest.LogCaptureFixture, quiet: bool
) -> None:
    now = 0.0
    caplog.set_level(logging.INFO)
    reporter = Reporter(logging.getLogger("test"), total=2, clock=lambda: now)
    reporter.quiet = quiet
    slow = Task(Window(date(2025, 1, 1), date(2025, 1, 7)), received=1_500_000)
    for minute in range(0, 125, 5):
        now = minute * 60.0
        reporter.look([slow, Task(slow.window, requested=now)])

    told = (
        []
        if quiet
        else [f"{10 * n} min 0 s" for n in range(1, 6)]
        + [
            f"{hours} h {minutes} min"
            for hours, minutes in [(1, m) for m in range(0, 60, 10)] + [(2, 0)]
        ]
    )
    assert caplog.messages == [
        f"2025-01-01..2025-01-07: under way for {time}, 1.5 MB so far" for time in told
    ]
