"""What the property-based tests draw from."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tap_mixpanel_parallel.windows import Window

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
