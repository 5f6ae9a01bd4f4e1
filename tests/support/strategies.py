"""What the property-based tests draw from."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tap_mixpanel_parallel.plan.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

DAYS = st.dates(date(2024, 11, 1), date(2025, 4, 30))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def windows(draw: st.DrawFn, longest: int = 40) -> Window:
    first = draw(DAYS)
    return Window(first, first + timedelta(days=draw(st.integers(0, longest - 1))))


RANGES = st.lists(windows(), max_size=6)


def days_of(parts: Iterable[Window]) -> set[date]:
    """The days of some windows, one by one."""
    return {day for part in parts for day in part.days()}


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            "a",
            "u",
            "d83d",
            "é",
            "🎉",
            "\u2028",
            r"\\",
            r"\"",
            r"\n",
            r"\/",
            r"\u0041",
            r"\u0000",
            r"\ud83d",
            r"\uD83D",
            r"\uDBFF",
            r"\ude00",
            r"\uDE00",
            r"\udfff",
            r"\ud800",
            r"\ud7ff",
            r"\ue000",
            r"\ufffd",
            "\ud83d",
            "\ude00",
        ]
    ),
    max_size=12,
).map("".join)
"""What stands in a JSON string: escapes and their likes, surrogates, whole and lone."""
