"""Date windows: exact, whatever is cut."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.plan.windows import (
    Cutting,
    Window,
    count_days,
    cut,
    cut_balanced,
    divide,
    intersect,
    merge,
    subtract,
)
from tests.support.strategies import RANGES, days_of, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FIRST = date(2025, 1, 1)
LENGTHS = st.integers(1, 20)
WORKERS = st.integers(1, 12)


def window(days: int, start: int = 0) -> Window:
    first = FIRST + timedelta(days=start)
    return Window(first, first + timedelta(days=days - 1))


def assert_merged(parts: Sequence[Window]) -> None:
    """Sorted, disjoint, and with a gap between each two."""
    for one, following in pairwise(parts):
        assert following.first - one.last > timedelta(days=1)


def assert_exact(parts: Sequence[Window], ranges: Sequence[Window], longest: int) -> None:
    """The same days, each once, in order, in no window longer than the limit."""
    assert [day for part in parts for day in part.days()] == sorted(days_of(ranges))
    assert all(len(part) <= longest for part in parts)


class TestWindow:
    def test_both_ends_are_inside(self) -> None:
        week = Window.parse("2025-02-26", "2025-03-04")
        assert len(week) == 7
        assert str(week) == "2025-02-26..2025-03-04"
        assert list(week.days()) == [date(2025, 2, 26) + timedelta(days=n) for n in range(7)]
        assert [day in week for day in (date(2025, 2, 25), week.first, week.last)] == [
            False,
            True,
            True,
        ]
        assert date(2025, 3, 5) not in week

    def test_they_sort_by_their_days(self) -> None:
        assert sorted([window(2, 5), window(9), window(3)]) == [window(3), window(9), window(2, 5)]

    def test_a_single_day(self) -> None:
        assert list(window(1).days()) == [FIRST]

    @pytest.mark.parametrize(
        ("first", "last"), [("2025-01-02", "2025-01-01"), ("2025-02-30", "2025-03-01"), ("", "")]
    )
    def test_what_is_no_window(self, first: str, last: str) -> None:
        with pytest.raises(ValueError, match=r"before it starts|Invalid isoformat|out of range"):
            Window.parse(first, last)


class TestSets:
    @given(RANGES)
    def test_merge(self, ranges: list[Window]) -> None:
        merged = merge(ranges)
        assert days_of(merged) == days_of(ranges)
        assert_merged(merged)
        assert count_days(ranges) == len(days_of(ranges))

    def test_merge_joins_neighbours(self) -> None:
        assert merge([window(2, 2), window(2), window(1, 5)]) == (window(4), window(1, 5))

    @pytest.mark.parametrize(
        ("operation", "expected"),
        [(subtract, set.__sub__), (intersect, set.__and__)],
        ids=["subtract", "intersect"],
    )
    @given(ranges=RANGES, others=RANGES)
    def test_two_sets(
        self,
        operation: Callable[[Sequence[Window], Sequence[Window]], tuple[Window, ...]],
        expected: Callable[[set[date], set[date]], set[date]],
        ranges: list[Window],
        others: list[Window],
    ) -> None:
        result = operation(ranges, others)
        assert days_of(result) == expected(days_of(ranges), days_of(others))
        assert_merged(result)


class TestDivide:
    @given(windows(), st.data())
    def test_equal_parts_longest_first(self, whole: Window, data: st.DataObject) -> None:
        parts = data.draw(st.integers(1, len(whole)))
        divided = divide(whole, parts)
        assert len(divided) == parts
        assert_exact(divided, [whole], len(whole))
        lengths = [len(part) for part in divided]
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[0] - lengths[-1] <= 1

    @pytest.mark.parametrize("parts", [-1, 0, 4])
    def test_what_is_impossible(self, parts: int) -> None:
        with pytest.raises(ValueError, match=f"can't cut 3 days into {parts} windows"):
            divide(window(3), parts)


class TestCut:
    @given(RANGES, LENGTHS)
    def test_plain(self, ranges: list[Window], longest: int) -> None:
        parts = cut(ranges, longest)
        assert_exact(parts, ranges, longest)
        ends = {whole.last for whole in merge(ranges)}
        assert all(len(part) == longest or part.last in ends for part in parts)

    @given(windows(120), LENGTHS, WORKERS)
    def test_balanced_range(self, whole: Window, longest: int, workers: int) -> None:
        parts = cut_balanced([whole], longest, workers)
        assert_exact(parts, [whole], longest)
        fewest = -(-len(whole) // longest)
        rounds = -(-fewest // workers)
        balanced = max(min(workers * rounds, len(whole) // 3), fewest)
        assert len(parts) == (fewest if len(whole) <= 2 * longest else balanced)
        lengths = [len(part) for part in parts]
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[0] - lengths[-1] <= 1

    @given(RANGES, LENGTHS, WORKERS)
    def test_balanced_ranges(self, ranges: list[Window], longest: int, workers: int) -> None:
        assert_exact(cut_balanced(ranges, longest, workers), ranges, longest)

    @given(RANGES, LENGTHS, WORKERS)
    def test_balanced_ranges_keep_every_worker_busy(
        self, ranges: list[Window], longest: int, workers: int
    ) -> None:
        parts = cut_balanced(ranges, longest, workers)
        fewest = cut(ranges, longest)
        if len(parts) % workers and len(parts) > len(fewest):
            for whole in merge(ranges):
                count = sum(whole.overlaps(part) for part in parts)
                assert count >= len(whole) // 3, "each window that could be cut in two is"

    @given(RANGES, LENGTHS, WORKERS)
    def test_a_request_more_than_needed_brings_three_days(
        self, ranges: list[Window], longest: int, workers: int
    ) -> None:
        parts = cut_balanced(ranges, longest, workers)
        for whole in merge(ranges):
            count = sum(whole.overlaps(part) for part in parts)
            if count > -(-len(whole) // longest):
                assert min(len(part) for part in parts if whole.overlaps(part)) >= 3
                assert count_days(ranges) > 2 * longest

    @given(RANGES, LENGTHS, WORKERS, st.integers(0, 30))
    def test_no_more_than_there_may_be(
        self, ranges: list[Window], longest: int, workers: int, most: int
    ) -> None:
        parts = cut_balanced(ranges, longest, workers, most)
        assert_exact(parts, ranges, longest)
        fewest = len(cut(ranges, longest))
        assert fewest <= len(parts) <= max(most, fewest)
        assert len(parts) == min(len(cut_balanced(ranges, longest, workers)), max(most, fewest))

    def test_the_longest_windows_of_several_ranges_are_cut_further(self) -> None:
        parts = cut_balanced([window(12), window(3, 20)], 7, 5)
        assert [len(part) for part in parts] == [3, 3, 3, 3, 3]

    @pytest.mark.parametrize(
        ("days", "workers", "lengths"),
        [
            (90, 10, [5] * 10 + [4] * 10),
            (90, 20, [5] * 10 + [4] * 10),
            (90, 30, [3] * 30),
            (30, 10, [3] * 10),
            (8, 10, [4, 4]),
            (11, 10, [6, 5]),
            (14, 10, [7, 7]),
            (15, 10, [3] * 5),
            (30, 20, [3] * 10),
            (71, 10, [4] * 11 + [3] * 9),
        ],
    )
    def test_examples(self, days: int, workers: int, lengths: list[int]) -> None:
        assert [len(part) for part in cut_balanced([window(days)], 7, workers)] == lengths


class TestCutting:
    @pytest.mark.parametrize(
        ("workers", "balance", "lengths"),
        [
            (1, True, [7, 7, 7, 7, 2]),
            (10, False, [7, 7, 7, 7, 2]),
            (10, True, [3] * 10),
        ],
        ids=["sequential", "plain", "balanced"],
    )
    def test_modes(self, workers: int, balance: bool, lengths: list[int]) -> None:
        parts = Cutting(7, workers, balance).cut([window(30)])
        assert [len(part) for part in parts] == lengths

    @given(windows(20), WORKERS, st.booleans())
    def test_a_small_range_is_one_window(self, whole: Window, workers: int, balance: bool) -> None:
        plan = Cutting(20, workers, balance).cut([whole])
        assert plan == [whole]

    def test_a_day_more_is_balanced(self) -> None:
        parts = Cutting(7, 2, True).cut([window(8)])
        assert [len(part) for part in parts] == [4, 4]

    @given(RANGES, LENGTHS, WORKERS, st.booleans())
    def test_it_is_exact(
        self, ranges: list[Window], longest: int, workers: int, balance: bool
    ) -> None:
        plan = Cutting(longest, workers, balance).cut(ranges)
        assert_exact(plan, ranges, longest)

    def test_nothing_to_do(self) -> None:
        assert Cutting(7, 10, True).cut([]) == []
        assert cut_balanced([], 7, 10) == []
