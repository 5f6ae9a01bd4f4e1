"""Queries and shaping without a server."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import islice

import pytest

from tap_mixpanel_parallel.sandbox import (
    Project,
    Shaping,
)
from tap_mixpanel_parallel.sandbox.query import Query

LATER = datetime(2026, 1, 1, tzinfo=UTC)


def test_limit_stops_the_generation() -> None:
    years = Query(date(2012, 1, 1), date(2024, 12, 31), limit=3)
    lines = years.lines(Project(events_per_day=10**6), LATER)
    assert len(list(islice(lines, 10))) == 3


def test_shaping() -> None:
    assert Shaping(1.5, 0.5).delay(4) == 3.5
    with pytest.raises(ValueError, match="bytes_per_second"):
        Shaping(bytes_per_second=0)
