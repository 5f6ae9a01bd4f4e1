"""A 429 of the hourly limit is waited out by the whole run, and for a bit over an hour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.exceptions import RateLimitError
from tap_mixpanel_parallel.fetch.hourly import Refusals
from tap_mixpanel_parallel.fetch.retries import RetryPolicy

POLICY = RetryPolicy(jitter=lambda: 0.0)
SILENT = RateLimitError("429")


def waits(*errors: RateLimitError) -> list[float | None]:
    """The pauses of a run whose requests are all refused as soon as they start."""
    refusals, now, found = Refusals(POLICY), 100.0, []
    for error in errors:
        refusals.start(now)
        pause = refusals.refuse(now, now, error)
        found.append(pause)
        now += pause or 0.0
    return found


def test_the_pauses_grow_and_end_after_a_bit_over_an_hour() -> None:
    found = waits(*[SILENT] * 20)
    pauses = [pause for pause in found if pause]
    assert pauses[:6] == [5, 15, 45, 135, 300, 300]
    assert sum(pauses) == 3700
    assert found[len(pauses)] is None


def test_mixpanel_says_when() -> None:
    assert waits(RateLimitError("429", 3500.0), RateLimitError("429", 3500.0), SILENT) == [
        3500,
        200,
        None,
    ]


def test_a_short_wait_that_mixpanel_names_is_not_believed_twice() -> None:
    """It would be asked every second for an hour."""
    assert waits(*[RateLimitError("429", 0.0)] * 4) == [5, 15, 45, 135]
    assert waits(*[RateLimitError("429", 20.0)] * 4) == [20, 20, 45, 135]


def test_requests_that_started_before_are_no_news() -> None:
    refusals = Refusals(POLICY)
    assert refusals.refuse(1.0, 2.0, SILENT) == 5
    assert [refusals.refuse(1.1 + n / 10, 2.5, SILENT) for n in range(5)] == [0] * 5
    assert refusals.seconds(2.5) == 4.5
    refusals.accept(1.9)  # it was let pass before the limit was reached
    assert refusals.seconds(2.5) == 4.5


def test_one_request_goes_first() -> None:
    refusals = Refusals(POLICY)
    refusals.start(1.0)
    assert refusals.seconds(1.0) == 0, "nothing was refused yet"
    refusals.refuse(1.0, 2.0, SILENT)
    assert refusals.seconds(7.0) == 0
    refusals.start(7.0)
    assert refusals.seconds(8.0) == 4, "the others wait for what it meets"
    refusals.accept(7.0)
    assert refusals.seconds(8.0) == 0
    refusals.start(8.0)
    assert refusals.seconds(8.0) == 0


def test_what_is_taken_counts_though_a_later_one_is_refused_before_it_ends() -> None:
    refusals = Refusals(POLICY)
    refusals.refuse(0.0, 1.0, SILENT)
    for started, pause in ((11.0, 15), (27.0, 45), (73.0, 135)):
        assert refusals.refuse(started, started + 0.1, SILENT) == pause
    refusals.accept(6.0)  # it started after the first refusal
    assert refusals.seconds(74.0) == pytest.approx(134.1), "what Mixpanel said last still holds"
    assert refusals.refuse(3705.0, 3705.0, SILENT) == 5, "an hour since it was taken is not over"
    assert refusals.refuse(3710.0, 3710.0, SILENT) is None


def test_what_was_taken_before_the_last_success_is_no_news() -> None:
    refusals = Refusals(POLICY)
    refusals.refuse(0.0, 1.0, SILENT)
    refusals.refuse(11.0, 12.0, SILENT)
    refusals.accept(30.0)
    refusals.accept(6.0)
    refusals.start(31.0)
    assert refusals.seconds(31.0) == 0, "nobody waits for what that meets"


def test_nobody_gives_up_as_long_as_mixpanel_may_have_taken_a_request() -> None:
    refusals = Refusals(POLICY)
    refusals.refuse(0.0, 0.0, SILENT)
    assert refusals.refuse(3800.0, 3800.0, SILENT, others=1) == 15
    assert refusals.refuse(3900.0, 3900.0, SILENT, others=0) is None


@given(
    st.lists(
        st.tuples(st.floats(0.01, 20), st.integers(0, 9), st.floats(0, 100)),
        min_size=20,
        max_size=120,
    )
)
def test_a_run_gives_up_only_if_nothing_was_taken_for_an_hour(
    steps: list[tuple[float, int, float]],
) -> None:
    """Whatever was taken, and however long that took to end."""
    refusals, now, taken = Refusals(POLICY), 0.0, 0.0
    under_way: list[tuple[float, float]] = []
    for gap, is_taken, seconds in steps:
        now += gap + refusals.seconds(now)
        for each in sorted(under_way):
            if each[0] <= now:
                refusals.accept(each[1])
                under_way.remove(each)
        refusals.start(now)
        if is_taken == 0:
            under_way.append((now + seconds, now))
            taken = now
        elif refusals.refuse(now, now, SILENT, others=len(under_way)) is None:
            assert now - taken > 3699.9
            return


@given(
    st.lists(
        st.tuples(st.floats(0.01, 100), st.none() | st.floats(0, 1e9), st.booleans()),
        max_size=60,
    )
)
def test_no_wait_is_longer_than_an_hour_without_a_success(
    steps: list[tuple[float, float | None, bool]],
) -> None:
    refusals, now = Refusals(POLICY), 0.0
    first: float | None = None
    for seconds, retry_after, is_refused in steps:
        now += seconds + refusals.seconds(now)
        started = now
        refusals.start(now)
        if not is_refused:
            refusals.accept(started)
            first = None
            assert refusals.seconds(now) == 0
            continue
        pause = refusals.refuse(started, now, RateLimitError("429", retry_after))
        first = now if first is None else first
        if pause is None:
            assert now - first >= 3700
            return
        assert now - first < 3700
        assert refusals.seconds(now) == pytest.approx(pause)
        assert now + pause - first <= 3705
