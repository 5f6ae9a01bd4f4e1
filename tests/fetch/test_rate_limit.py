"""Rate limits, on a clock that is moved by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.fetch.rate_limit import RateLimit

HOUR = 3600.0


class Starts:
    """Requests, as eager as the limit allows."""

    def __init__(self, per_second: int, per_hour: int, now: float = 0.0) -> None:
        self.now = now
        self.times: list[float] = []
        self.limit = RateLimit(per_second=per_second, per_hour=per_hour, clock=lambda: self.now)

    def start(self) -> float:
        """Wait for a start as often as is asked, and take it."""
        for _ in range(4):
            wait = self.limit.acquire()
            if wait == 0:
                self.times.append(self.now)
                return self.now
            assert wait > 0
            self.now += wait
        raise AssertionError("it asks to wait again and again")

    def most_within(self, seconds: float) -> int:
        """The most starts in any span, its ends included."""
        return max(
            sum(1 for time in self.times if first <= time <= first + seconds)
            for first in self.times
        )


@given(
    per_second=st.integers(1, 5),
    per_hour=st.integers(1, 30),
    now=st.floats(0, 1e6),
    pauses=st.lists(st.floats(0, 2) | st.floats(0, 4000), min_size=1, max_size=50),
)
def test_never_more_than_allowed(
    per_second: int, per_hour: int, now: float, pauses: list[float]
) -> None:
    starts = Starts(per_second, per_hour, now)
    for pause in pauses:
        starts.now += pause
        starts.start()
    assert starts.most_within(1.0) <= per_second
    assert starts.most_within(HOUR) <= per_hour


@given(
    per_second=st.integers(1, 5),
    per_hour=st.integers(1, 30),
    ways=st.lists(st.floats(0, 3), min_size=1, max_size=50),
)
def test_nor_with_a_long_way_to_another_machine(
    per_second: int, per_hour: int, ways: list[float]
) -> None:
    """A request begins when its way is over, and the next is asked for after that."""
    starts = Starts(per_second, per_hour)
    for way in ways:
        starts.start()
        starts.now += way
        starts.limit.begin()
        starts.times[-1] = starts.now
    assert starts.most_within(1.0) <= per_second
    assert starts.most_within(HOUR) <= per_hour
    assert len(starts.limit.hour.starts) <= len(ways), "each is counted once"


def test_nobody_waits_without_need() -> None:
    starts = Starts(3, 60)
    assert [starts.start() for _ in range(3)] == [0.0] * 3
    assert 1.0 < starts.start() < 1.5


def test_seventy_starts_take_over_an_hour() -> None:
    starts = Starts(3, 60)
    times = [starts.start() for _ in range(70)]
    assert times[59] < 30
    assert HOUR < times[60] < HOUR + 5
    assert HOUR < times[69] < HOUR + 10


def test_the_wait_is_known_beforehand() -> None:
    starts = Starts(3, 4)
    for _ in range(4):
        starts.start()
    assert starts.limit.acquire() == pytest.approx(HOUR, abs=5)
    starts.now += HOUR / 2
    assert starts.limit.acquire() == pytest.approx(HOUR / 2, abs=5)
    assert starts.limit.acquire() > 0


def test_asking_in_vain_does_not_count() -> None:
    starts = Starts(1, 60)
    starts.start()
    waits = [starts.limit.acquire() for _ in range(100)]
    assert len(set(waits)) == 1
    assert starts.start() < 1.5


@pytest.mark.parametrize(
    ("per_second", "per_hour"),
    [
        (1, 1),
        (60, 60),
        (1000, 60),
        (1000, 1_000_000),
        (3, 9_000),
        (3, 1_000_000),
        (1, 10_000),
    ],
)
def test_any_limits_go_together(per_second: int, per_hour: int) -> None:
    starts = Starts(per_second, per_hour)
    for _ in range(10):
        starts.start()
    assert starts.most_within(1.0) == min(per_second, per_hour, 10)
    assert starts.most_within(HOUR) == min(per_hour, 10)


@given(
    per_second=st.integers(1, 5),
    per_hour=st.integers(2, 12),
    earlier=st.lists(st.floats(0, 1500), max_size=20),
    starts=st.integers(0, 40),
)
def test_the_hourly_limit_is_foreseen(
    per_second: int, per_hour: int, earlier: list[float], starts: int
) -> None:
    """As if only the hour counted: what a second holds back is not foreseen."""
    eager = Starts(per_second, per_hour)
    for pause in earlier:
        eager.now += pause
        eager.start()
    began = eager.now
    foreseen = eager.limit.seconds_until(starts)
    for _ in range(starts):
        eager.start()
    slack = 1.26 * (starts + len(earlier)) / per_second
    assert foreseen <= eager.now - began + 0.01
    assert eager.now - began <= foreseen + slack
