"""How many events each day has, in the days of the project."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from tap_mixpanel_parallel.convert.conversion import Conversion, ConversionOptions
from tap_mixpanel_parallel.fetch.job import Download
from tap_mixpanel_parallel.plan.windows import Window
from tests.support.bodies import MESSAGES, NOW

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Part

MINUTE = 60_000
DAY = 86_400_000


def ms(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY


def converted(folder: Path, window: Window, zone: str, times: list[int]) -> Part:
    """The part of a body with an event at each of these times, as Mixpanel stores them."""
    lines = [
        b'{"event":"a","properties":{"time":%d,"$insert_id":"%d"}}\n' % pair[::-1]
        for pair in enumerate(times)
    ]
    path = folder / "1.body"
    path.write_bytes(b"".join(lines))
    download = Download(path, compressed=False, size=path.stat().st_size, received_at=NOW)
    conversion = Conversion(window, download, ConversionOptions(ZoneInfo(zone)), MESSAGES)
    for _ in conversion:
        pass
    return conversion.part


# Clocks change in each at some moment of the window: at night, at midnight, by half an hour.
@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        ("UTC", date(2025, 1, 1), date(2025, 1, 3)),
        ("America/Los_Angeles", date(2021, 11, 6), date(2021, 11, 8)),
        ("America/Sao_Paulo", date(2017, 10, 14), date(2017, 10, 16)),
        ("Australia/Lord_Howe", date(2021, 10, 2), date(2021, 10, 4)),
        ("Asia/Kathmandu", date(2021, 1, 1), date(2021, 1, 2)),
        ("Pacific/Kiritimati", date(2021, 1, 1), date(2021, 1, 2)),
    ],
)
def test_each_event_counts_on_its_day(tmp_path: Path, zone: str, first: date, last: date) -> None:
    window = Window(first, last)
    times = list(range(ms(first), ms(last) + DAY, 7 * MINUTE + 1))
    part = converted(tmp_path, window, zone, times)
    expected = Counter(time // DAY - ms(first) // DAY for time in times)
    assert part.by_day == {day: expected[n] for n, day in enumerate(window.days())}


def test_an_event_outside_counts_on_no_day(tmp_path: Path) -> None:
    window = Window(date(2025, 1, 1), date(2025, 1, 3))
    noon = ms(window.first) + DAY // 2
    times = [noon, noon - DAY, noon + 3 * DAY, -(1 << 61), 1 << 61, noon + 2 * DAY]
    part = converted(tmp_path, window, "UTC", times)
    assert part.by_day == {window.first: 1, window.last: 1}
    assert (part.events, part.strays) == (6, 4)
