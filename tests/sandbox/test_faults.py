"""The text form of faults, and which requests they hit."""

from __future__ import annotations

import re
from datetime import date

import pytest

from tap_mixpanel_parallel.sandbox import (
    Cut,
    Fault,
    Line,
    Reset,
    Stall,
    Status,
    TerminatedEarly,
)
from tap_mixpanel_parallel.sandbox.faults import FaultPlan
from tap_mixpanel_parallel.sandbox.query import Query


class TestFaultText:
    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("status=500,times=2", Fault(Status(500), times=2)),
            (
                r"status=503,body=<h1>a\, b</h1>,content_type=text/html,retry_after=1",
                Fault(Status(503, b"<h1>a, b</h1>", "text/html", "1")),
            ),
            ("status=204,body=", Fault(Status(204, b""))),
            ("reset", Fault(Reset())),
            ("reset=10", Fault(Reset(10))),
            (
                "cut=-5,clean,days=2025-01-05..2025-01-11",
                Fault(Cut(-5, clean=True), days=(date(2025, 1, 5), date(2025, 1, 11))),
            ),
            ("cut,days=2025-01-05", Fault(Cut(), days=(date(2025, 1, 5), date(2025, 1, 5)))),
            ("stall=2.5,at=middle", Fault(Stall(2.5, "middle"))),
            (
                "terminated_early,after_lines=10,probability=0.2,seed=7",
                Fault(TerminatedEarly(after_lines=10), probability=0.2, seed=7),
            ),
            (
                'line={"a": 1},after=1,each_range',
                Fault(Line(b'{"a": 1}'), after=1, each_range=True),
            ),
        ],
    )
    def test_parse(self, text: str, fault: Fault) -> None:
        assert Fault.parse(text) == fault

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "unknown fault ''; the faults are status, "),
            ("explode", "unknown fault 'explode'; the faults are status, "),
            ("status", "fault 'status' needs a value: status=..."),
            ("status=many", "status=many: invalid literal"),
            ("empty=1", "fault 'empty' takes no value"),
            ("cut,cleanly", "fault 'cut' has no option 'cleanly'; it has at, clean, days, "),
            ("cut,clean=yes", "'clean' is a flag"),
            ("cut,times", "'times' needs a value"),
            ("cut,days=2025-01-05..2025-01-01", "days end before they start"),
            ("cut,days=soon", "days=soon: "),
            ("cut,probability=2", "probability must be between 0 and 1"),
            ("cut,times=-1", "must not be negative"),
        ],
    )
    def test_errors_say_what_is_wrong(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            Fault.parse(text)


class TestFaultPlan:
    QUERY = Query(date(2025, 1, 1), date(2025, 1, 7))
    OTHER = Query(date(2025, 1, 8), date(2025, 1, 14))

    @staticmethod
    def hits(plan: FaultPlan, query: Query, times: int) -> list[bool]:
        return [plan.draw(query) is not None for _ in range(times)]

    def test_after_and_times(self) -> None:
        plan = FaultPlan([Fault.parse("cut,after=1,times=2")])
        assert self.hits(plan, self.QUERY, 5) == [False, True, True, False, False]

    def test_each_range(self) -> None:
        plan = FaultPlan([Fault.parse("cut,times=1,each_range")])
        assert self.hits(plan, self.QUERY, 2) == [True, False]
        assert self.hits(plan, self.OTHER, 2) == [True, False]

    def test_days_overlap(self) -> None:
        plan = FaultPlan([Fault.parse("cut,days=2025-01-07")])
        assert self.hits(plan, self.QUERY, 1) == [True]
        assert self.hits(plan, self.OTHER, 1) == [False]

    def test_dice_fall_the_same_way_again(self) -> None:
        fault = Fault.parse("cut,probability=0.3,seed=7")
        first = self.hits(FaultPlan([fault]), self.QUERY, 200)
        assert first == self.hits(FaultPlan([fault]), self.QUERY, 200)
        assert 30 < sum(first) < 90

    def test_the_first_that_hits_wins(self) -> None:
        one, two = Fault.parse("cut,times=1"), Fault.parse("empty,times=1")
        plan = FaultPlan([one, two])
        assert [plan.draw(self.QUERY) for _ in range(3)] == [one, two, None]
