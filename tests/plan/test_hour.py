"""The hour's requests: counted once each, never earlier than they were, and not for ever."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.plan.hour import HOUR, Hour, by_minute, recent, union, unknown

NOW = 1_764_042_902.5
STARTS = st.lists(st.floats(NOW - 3 * HOUR, NOW + 3 * HOUR).map(lambda s: round(s, 3)), max_size=80)


@given(STARTS)
def test_what_counts(starts: list[float]) -> None:
    counted = recent(starts, NOW)
    assert len(counted) == sum(abs(NOW - start) < HOUR for start in starts)
    assert list(counted) == sorted(counted)
    assert all(NOW - HOUR < start <= NOW for start in counted)
    assert recent(counted, NOW) == counted


@given(STARTS, STARTS)
def test_what_two_know_of_counts_once(one: list[float], other: list[float]) -> None:
    both = union(one, other)
    assert union(both, one) == union(both, other) == both
    for start in {*one, *other}:
        assert both.count(start) == max(one.count(start), other.count(start))


@given(STARTS)
def test_a_state_tells_all_in_sixty_one_entries(starts: list[float]) -> None:
    counted = recent(starts, NOW)
    short = by_minute(counted)
    assert len(short) <= 62
    assert sum(count for _, count in short) == len(counted)
    assert unknown(short, counted) == ()
    told = unknown(short, ())
    assert len(told) == len(counted)
    for start, later in zip(counted, told, strict=True):
        assert start <= later < start + 61


@given(STARTS, STARTS)
def test_a_state_adds_what_is_not_known(ours: list[float], others: list[float]) -> None:
    known = recent(ours, NOW)
    short = by_minute(recent(others, NOW))
    added = unknown(short, known)
    together = by_minute([*known, *added])
    most = {second // 60: count for second, count in by_minute(known)}
    for second, count in short:
        most[second // 60] = max(count, most.get(second // 60, 0))
    assert {second // 60: count for second, count in together} == most


def test_many_requests_of_a_minute_are_one_entry() -> None:
    starts = [NOW + n / 3 for n in range(20)]
    assert by_minute(starts) == ((1_764_042_909, 20),)


@given(
    limit=st.integers(1, 9),
    starts=st.lists(st.floats(0, HOUR - 1), max_size=12),
    requests=st.integers(0, 30),
)
def test_the_last_start_is_foreseen(limit: int, starts: list[float], requests: int) -> None:
    """As one request after another that starts as soon as the hour before it allows."""
    taken, now = sorted(starts), HOUR - 1
    for _ in range(requests):
        if len(taken) >= limit:
            now = max(now, taken[-limit] + HOUR)
        taken.append(now)
    hour = Hour(limit, HOUR - 1, tuple(sorted(starts)))
    assert abs(hour.seconds_until(requests) - (now - (HOUR - 1))) < 0.001
    assert (hour.start_of(requests) is None) == (now == HOUR - 1)
    assert hour.left == max(limit - len(starts), 0)


def test_until_when() -> None:
    hour = Hour(60, NOW, (NOW - 60.5, NOW))
    assert hour.left_until == datetime.fromtimestamp(NOW - 60.5 + HOUR, UTC)
    assert Hour(60).left_until is None
