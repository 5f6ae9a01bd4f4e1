"""Whatever the settings were, a person knows which loaded days have a column empty."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_mixpanel_parallel.exceptions import StateError
from tap_mixpanel_parallel.plan.bookmark import from_bookmark, to_bookmark
from tap_mixpanel_parallel.plan.filled import Choice, FilledColumn, choose, find_empty
from tap_mixpanel_parallel.plan.hour import Hour
from tap_mixpanel_parallel.plan.plan import make_plan
from tap_mixpanel_parallel.plan.state import ExportState
from tap_mixpanel_parallel.plan.status import Status
from tap_mixpanel_parallel.plan.windows import Cutting, Window
from tests.plan.test_state import failure, window
from tests.support.strategies import days_of

BEGINNING = date(2025, 1, 1)
LOOKBACK = 2
OS = Choice("os", "$os", "string")
PLAN = Choice("plan", "plan", "string")
PLAN_JSON = Choice("plan", "plan", "json")
CAPITAL = Choice("plan", "Plan", "string")
CHOICES = (OS, PLAN, PLAN_JSON, CAPITAL)


@dataclass(frozen=True)
class Run:
    """A run: what it chooses, and what happens to it (see `test_late_events`)."""

    choices: frozenset[Choice]
    pause: int
    seed: int = 0
    failing: int = 0
    killed: int | None = None
    lag: int = 0
    replay: tuple[int, int] | None = None


RUNS = st.lists(
    st.builds(
        Run,
        choices=st.lists(st.sampled_from(CHOICES), unique_by=lambda each: each.name).map(frozenset),
        pause=st.integers(0, 6),
        seed=st.integers(0, 1000),
        failing=st.sampled_from((0, 0, 3)),
        killed=st.none() | st.integers(0, 4),
        lag=st.sampled_from((0, 0, 1, 9)),
        replay=st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)),
    ),
    max_size=8,
)


@dataclass
class Table:
    """What a loader has: for each day, the columns with which it was written last.

    A column whose type changes is moved aside, and made anew.
    """

    today: date = BEGINNING
    state: ExportState = field(default_factory=ExportState)
    days: dict[date, frozenset[Choice]] = field(default_factory=dict)

    def play(self, run: Run) -> None:
        self.today += timedelta(days=run.pause)
        dice = random.Random(run.seed)  # noqa: S311 - it guards nothing
        state = replace(self.state, columns=choose(self.state.columns, sorted(run.choices)))
        if run.replay:
            ends = sorted(max(BEGINNING, self.today - timedelta(days=n)) for n in run.replay)
            state = state.forget(Window(ends[0], ends[1]))
        days = state.remaining(
            Window(BEGINNING, self.today), today=self.today, lookback_days=LOOKBACK
        )
        windows = Cutting(2, workers=1).cut(days)
        dice.shuffle(windows)
        types = {choice.name: choice.type for choice in run.choices}
        table = {
            day: frozenset(c for c in columns if types.get(c.name, c.type) == c.type)
            for day, columns in self.days.items()
        }
        states, tables = [state], [table]
        for each in windows[: run.killed]:
            if dice.randrange(10) < run.failing:
                state, table = state.fail(failure(each)), tables[-1]
            else:
                state = state.finish(each, today=self.today, lookback_days=LOOKBACK)
                table = tables[-1] | dict.fromkeys(each.days(), run.choices)
            states.append(state)
            tables.append(table)
        reported = max(0, len(states) - 1 - run.lag)
        self.days = tables[dice.randrange(reported, len(tables))]
        self.state = from_bookmark(json.loads(json.dumps(to_bookmark(states[reported]))))


@settings(max_examples=150, deadline=None)
@given(RUNS)
def test_whatever_is_chosen_and_whatever_happens(runs: list[Run]) -> None:
    table = Table()
    for run in runs:
        table.play(run)
        state = table.state
        again = state.to_reread(today=table.today, lookback_days=LOOKBACK)
        stays = days_of(state.loaded) - days_of(again)
        told = {
            (name, day)
            for each in find_empty(state.columns, state.loaded)
            for name in each.names
            for day in days_of(each.days) & stays
        }
        assert told == {
            (choice.name, day)
            for choice in run.choices
            for day in stays
            if choice not in table.days[day]
        }


def state(*columns: FilledColumn, loaded: str = "01-01..01-31") -> ExportState:
    return ExportState(loaded=(window(loaded),), columns=columns)


LINE = (
    "property_columns: empty on days that were loaded without them, until a run with "
    "--replay 2025-01-01..2025-01-20: plan, city on 10 days, 2025-01-01..2025-01-10; "
    "os on 2 days, 2025-01-05..2025-01-05, 2025-01-20..2025-01-20"
)
JSON = [
    {"columns": ["plan", "city"], "days": [{"from_date": "2025-01-01", "to_date": "2025-01-10"}]},
    {
        "columns": ["os"],
        "days": [
            {"from_date": "2025-01-05", "to_date": "2025-01-05"},
            {"from_date": "2025-01-20", "to_date": "2025-01-20"},
        ],
    },
]
SOME = state(
    FilledColumn(PLAN, days=(window("01-11..02-10"),)),
    FilledColumn(OS, days=(window("01-01..01-04"), window("01-06..01-19"), window("01-21..01-31"))),
    FilledColumn(Choice("city", "$city", "string"), days=(window("01-11..01-31"),)),
    FilledColumn(PLAN_JSON, is_chosen=False, days=(window("01-01..01-02"),)),
)


def test_the_status_says_it() -> None:
    assert Status.of(SOME).to_text().splitlines()[-1] == LINE
    assert Status.of(SOME).to_json()["empty_columns"] == JSON


def plan_of(state: ExportState, replay: str | None = None) -> Any:
    return make_plan(
        state,
        Window.parse("2025-01-01", "2025-01-31"),
        today=date(2025, 6, 1),
        lookback_days=5,
        replay=window(replay) if replay else None,
        cutting=Cutting(7, workers=1),
        hour=Hour(60),
        waits=True,
    )


def test_the_plan_says_it() -> None:
    assert plan_of(SOME).warnings == [LINE]
    assert plan_of(SOME).to_json()["empty_columns"] == JSON
    assert LINE in plan_of(SOME).to_text().splitlines()


def test_what_a_run_reads_is_not_empty_after_it() -> None:
    assert plan_of(SOME, "01-01..01-20").warnings == []
    [line] = plan_of(SOME, "01-01..01-19").warnings
    assert line.endswith("--replay 2025-01-20..2025-01-20: os on 1 day, 2025-01-20..2025-01-20")


def test_nothing_is_said_of_columns_that_all_days_have_or_that_are_not_chosen() -> None:
    quiet = state(FilledColumn(OS, days=(window("01-01..01-31"),)), FilledColumn(PLAN, False))
    assert plan_of(quiet).warnings == []
    assert "property_columns" not in Status.of(quiet).to_text()
    assert Status.of(quiet).to_json()["empty_columns"] == []


def test_a_column_of_another_type_is_another_one() -> None:
    before = (FilledColumn(PLAN, days=(window("01-01"),)),)
    assert choose(before, [PLAN_JSON]) == (FilledColumn(PLAN_JSON),)
    assert choose(choose(before, [PLAN_JSON]), [PLAN]) == (FilledColumn(PLAN),)


def test_a_column_of_another_property_may_come_back() -> None:
    before = (FilledColumn(PLAN, days=(window("01-01"),)),)
    assert choose(before, [CAPITAL]) == (
        FilledColumn(CAPITAL),
        FilledColumn(PLAN, is_chosen=False, days=(window("01-01"),)),
    )
    assert choose(choose(before, [CAPITAL]), [PLAN]) == before


COLUMN = {"name": "os", "property": "$os", "type": "string", "chosen": True, "days": []}


@pytest.mark.parametrize(
    "columns",
    [
        7,
        None,
        [7],
        ["os"],
        [{}],
        [COLUMN | {"name": 7}],
        [COLUMN | {"chosen": None}],
        [COLUMN | {"days": None}],
        [COLUMN | {"days": ["2025-01-01"]}],
        [COLUMN | {"days": [["2025-01-02", "2025-01-01"]]}],
    ],
)
def test_a_state_that_is_not_valid(columns: Any) -> None:
    with pytest.raises(StateError, match=r"^state: "):
        from_bookmark({"loaded": [], "unsettled": [], "columns": columns})


def test_a_state_of_an_earlier_version_has_no_column() -> None:
    assert from_bookmark({"loaded": [["2025-01-01", "2025-01-02"]], "unsettled": []}).columns == ()
