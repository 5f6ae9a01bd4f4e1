"""Whatever happens between runs, no event that comes in time is missing at the end."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tap_mixpanel_parallel.plan.bookmark import from_bookmark, to_bookmark
from tap_mixpanel_parallel.plan.state import ExportState, FailedWindow
from tap_mixpanel_parallel.plan.windows import Cutting, Window

BEGINNING = date(2025, 1, 1)
DAYS = 40
HOURS = 24


@dataclass(frozen=True)
class Event:
    """An event of a day, and the hour since the beginning in which Mixpanel takes it in."""

    day: int
    ingested: int


@dataclass(frozen=True)
class Run:
    """A run, and what happens to it.

    Attributes:
        pause: Hours since the run before.
        first: Days by which `start_date` is moved.
        last: Days by which `end_date` is before today.
        hours_each: How long each window takes: the longest runs go on past midnight.
        window_days: The longest window.
        seed: Draws the windows that fail, the order in which they end, and the rest.
        failing: How many of ten windows fail.
        killed: After how many windows the run is killed; None if it is not.
        lag: How many of its last states the loader does not report.
        replay: Days to read again, counted from today.
    """

    pause: int
    first: int = 0
    last: int = 0
    hours_each: int = 0
    window_days: int = 7
    seed: int = 0
    failing: int = 0
    killed: int | None = None
    lag: int = 0
    replay: tuple[int, int] | None = None


RUNS = st.lists(
    st.builds(
        Run,
        pause=st.integers(0, 4 * HOURS) | st.integers(0, 14 * HOURS),
        first=st.sampled_from((0, 0, 0, 3, 9)),
        last=st.sampled_from((0, 0, 0, 1, 8)),
        hours_each=st.sampled_from((0, 0, 1, 7)),
        window_days=st.sampled_from((1, 2, 7)),
        seed=st.integers(0, 1000),
        failing=st.sampled_from((0, 0, 3, 8)),
        killed=st.none() | st.integers(0, 6),
        lag=st.sampled_from((0, 0, 1, 3, 50)),
        replay=st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)),
    ),
    max_size=7,
)


class World:
    """A project that gets events, late ones too, and a table that they are loaded into."""

    def __init__(self, lookback_days: int, seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311 - it guards nothing
        self.lookback_days = lookback_days
        self.now = 12
        self.state = ExportState()
        self.table: set[Event] = set()
        self.events = [
            Event(day, day * HOURS + hour + dice.choice((0, 0, 1, dice.randrange(late + 1), late)))
            for day in range(DAYS)
            for hour in (0, 11, 23)
            for late in [lookback_days * HOURS]
        ]

    @property
    def today(self) -> date:
        return BEGINNING + timedelta(days=self.now // HOURS)

    def export(self, window: Window) -> set[Event]:
        """What Mixpanel has of a window by now."""
        return {
            event
            for event in self.events
            if event.ingested <= self.now and BEGINNING + timedelta(days=event.day) in window
        }

    def play(self, run: Run) -> None:
        """Run the tap and the loader, and keep the state that the loader reports."""
        self.now += run.pause
        dice, today = random.Random(run.seed), self.today  # noqa: S311 - it guards nothing
        first = min(BEGINNING + timedelta(days=run.first), today)
        wanted = Window(first, max(first, today - timedelta(days=run.last)))
        replay = None
        if run.replay is not None:
            start = max(BEGINNING, today - timedelta(days=max(run.replay)))
            replay = Window(start, max(start, today - timedelta(days=min(run.replay))))
        days = self.state.remaining(
            wanted, today=today, lookback_days=self.lookback_days, replay=replay
        )
        windows = Cutting(run.window_days, workers=1).cut(days)
        dice.shuffle(windows)
        state = self.state.forget(replay) if replay else self.state
        # What leaves the tap, in order: events, and the states that follow them.
        states, loaded = [state], [set(self.table)]
        for window in windows[: run.killed]:
            self.now += run.hours_each
            if dice.randrange(10) < run.failing:
                state = state.fail(FailedWindow(window, 1, "HTTP 500", str(self.now)))
                loaded.append(set(loaded[-1]))
            else:
                loaded.append(loaded[-1] | self.export(window))
                state = state.finish(window, today=today, lookback_days=self.lookback_days)
            states.append(state)
        reported = max(0, len(states) - 1 - run.lag)
        # Some of what follows the reported state may be loaded as well.
        self.table = loaded[dice.randrange(reported, len(loaded))]
        self.state = from_bookmark(to_bookmark(states[reported]))


@settings(max_examples=400)
@given(RUNS, st.sampled_from((0, 1, 5)), st.integers(0, 50))
@example([Run(pause=19 * HOURS, killed=19, window_days=1), Run(pause=11 * HOURS)], 5, 1)
@example([Run(pause=19 * HOURS, lag=1), Run(pause=11 * HOURS)], 5, 1)
def test_none_is_missing_after_any_runs(runs: list[Run], lookback_days: int, seed: int) -> None:
    world = World(lookback_days, seed)
    for run in runs:
        world.play(run)

    world.play(Run(pause=1))

    assert world.table >= world.export(Window(BEGINNING, world.today))


@settings(max_examples=200)
@given(RUNS, st.integers(0, 50))
def test_a_settled_day_is_whole_in_every_state(runs: list[Run], seed: int) -> None:
    world = World(5, seed)
    for run in runs:
        world.play(run)
        again = world.state.to_reread(today=world.today, lookback_days=5)
        for event in world.events:
            day = BEGINNING + timedelta(days=event.day)
            if any(day in part for part in world.state.loaded) and not any(
                day in part for part in again
            ):
                assert event in world.table


def test_a_schedule_reads_each_day_until_it_is_settled_and_no_more() -> None:
    world = World(5, 1)
    for _ in range(12):
        world.play(Run(pause=HOURS))
    days = world.state.remaining(Window(BEGINNING, world.today), today=world.today, lookback_days=5)
    assert [len(part) for part in days] == [6]  # five days and today
    world.now += HOURS
    days = world.state.remaining(Window(BEGINNING, world.today), today=world.today, lookback_days=5)
    assert [len(part) for part in days] == [7]  # the day that was not settled yesterday, too
