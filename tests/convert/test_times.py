"""Mixpanel's times in UTC, against the zone database itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap_mixpanel_parallel.convert import times
from tap_mixpanel_parallel.convert.times import LocalTime, UtcText, bounded, format_utc, parse_time

DAY_MS = 86_400_000
FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall time
ZONES = ["America/Los_Angeles", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
CHANGES = [
    datetime.fromisoformat(text)
    for text in (
        "2010-09-26T00:00",  # Apia
        "2011-04-02T04:00",  # Apia
        "2011-12-30T00:00",  # Apia leaves out a day
        "2024-03-10T02:00",  # Los Angeles
        "2024-04-07T02:00",  # Lord Howe
        "2024-10-06T02:00",  # Lord Howe
        "2024-11-03T02:00",  # Los Angeles
    )
]
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2037, 12, 31))  # noqa: DTZ001
NEAR_A_CHANGE = st.builds(
    lambda change, seconds: change + timedelta(milliseconds=seconds),
    st.sampled_from(CHANGES),
    st.integers(-100_000_000, 100_000_000),
)


def milliseconds(wall: datetime) -> int:
    return (wall - EPOCH) // timedelta(milliseconds=1)


def in_utc(wall: datetime, zone: str) -> str:
    moment = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def text_of(local: LocalTime, wall: datetime) -> str:
    return format_utc(local.to_utc(milliseconds(wall)))


class TestZones:
    @pytest.mark.parametrize("zone", [*ZONES, "UTC"])
    @given(st.lists(NEAR_A_CHANGE | MOMENTS, min_size=1, max_size=20))
    def test_any_time(self, zone: str, walls: list[datetime]) -> None:
        local = LocalTime(ZoneInfo(zone))
        assert [text_of(local, wall) for wall in walls] == [in_utc(wall, zone) for wall in walls]

    @pytest.mark.parametrize("zone", ZONES)
    def test_every_minute_around_each_change(self, zone: str) -> None:
        local = LocalTime(ZoneInfo(zone))
        for change in CHANGES:
            for minute in range(-26 * 60, 26 * 60):
                wall = change + timedelta(minutes=minute)
                assert text_of(local, wall) == in_utc(wall, zone)

    @pytest.mark.parametrize(
        "wall", ["2010-03-14T00:00", "2010-03-14T01:05", "2010-11-07T00:00", "2010-11-07T00:05"]
    )
    def test_a_change_that_is_not_at_a_quarter(self, wall: str) -> None:
        """Until 2011 clocks there changed a minute after midnight."""
        moment, zone = datetime.fromisoformat(wall), "America/St_Johns"
        assert text_of(LocalTime(ZoneInfo(zone)), moment) == in_utc(moment, zone)

    @pytest.mark.parametrize(
        ("zone", "wall", "expected"),
        [
            ("UTC", "2025-01-31T23:59:59.999", "2025-01-31T23:59:59.999Z"),
            ("America/Los_Angeles", "2024-07-01T00:00:00.001", "2024-07-01T07:00:00.001Z"),
            ("America/Los_Angeles", "2024-03-10T01:59:59.999", "2024-03-10T09:59:59.999Z"),
            ("America/Los_Angeles", "2024-03-10T03:00", "2024-03-10T10:00:00.000Z"),
            ("America/Los_Angeles", "2024-11-03T01:30", "2024-11-03T08:30:00.000Z"),
            ("America/Los_Angeles", "2024-11-03T02:00", "2024-11-03T10:00:00.000Z"),
            ("Asia/Kolkata", "2024-07-01T00:00", "2024-06-30T18:30:00.000Z"),
            ("Australia/Lord_Howe", "2024-04-07T01:45", "2024-04-06T14:45:00.000Z"),
            ("Australia/Lord_Howe", "2024-04-07T02:00", "2024-04-06T15:30:00.000Z"),
            ("Australia/Lord_Howe", "2024-10-06T02:30", "2024-10-05T15:30:00.000Z"),
            ("Pacific/Apia", "2011-12-29T23:59:59.999", "2011-12-30T09:59:59.999Z"),
            ("Pacific/Apia", "2011-12-31T00:00", "2011-12-30T10:00:00.000Z"),
        ],
    )
    def test_examples(self, zone: str, wall: str, expected: str) -> None:
        moment = datetime.fromisoformat(wall)
        assert text_of(LocalTime(ZoneInfo(zone)), moment) == expected


class TestCalendar:
    @given(st.integers(FIRST_MS, LAST_MS))
    def test_every_year_that_rfc_3339_has(self, time_ms: int) -> None:
        text = format_utc(time_ms)
        assert len(text) == 24
        assert datetime.fromisoformat(text) - datetime.fromtimestamp(0, UTC) == timedelta(
            milliseconds=time_ms
        )

    @pytest.mark.parametrize("zone", [*ZONES, "UTC"])
    @pytest.mark.parametrize(
        ("time_ms", "expected"),
        [
            (-(10**14), "0001-01-01T00:00:00.000Z"),
            (-(10**30), "0001-01-01T00:00:00.000Z"),
            (3 * 10**14, "9999-12-31T23:59:59.999Z"),
            (10**300, "9999-12-31T23:59:59.999Z"),
        ],
    )
    def test_years_beyond_are_clamped(self, zone: str, time_ms: int, expected: str) -> None:
        assert format_utc(LocalTime(ZoneInfo(zone)).to_utc(time_ms)) == expected
        assert format_utc(bounded(time_ms)) == expected

    @pytest.mark.parametrize("zone", ZONES)
    @pytest.mark.parametrize("time_ms", [FIRST_MS, LAST_MS])
    def test_the_ends_of_the_calendar_have_an_offset(self, zone: str, time_ms: int) -> None:
        assert format_utc(LocalTime(ZoneInfo(zone)).to_utc(time_ms))[:4] in {"0001", "9999"}

    @pytest.mark.parametrize("zone", [*ZONES, "Pacific/Kiritimati", "Etc/GMT+12"])
    @given(
        st.sampled_from([FIRST_MS, LAST_MS, 0]),
        st.lists(st.integers(-3 * DAY_MS, 3 * DAY_MS), max_size=9),
    )
    def test_a_time_of_a_zone_is_one_that_rfc_3339_has(
        self, zone: str, near: int, since: list[int]
    ) -> None:
        """Whatever was converted before, and is remembered."""
        local = LocalTime(ZoneInfo(zone))
        for time_ms in since:
            utc_ms = local.to_utc(near + time_ms)
            assert utc_ms == bounded(utc_ms)
            assert utc_ms == LocalTime(ZoneInfo(zone)).to_utc(near + time_ms)

    @given(st.integers(-(10**16), 10**16))
    def test_bounded(self, time_ms: int) -> None:
        found = bounded(time_ms)
        assert FIRST_MS <= found <= LAST_MS
        assert found == time_ms or not FIRST_MS <= time_ms <= LAST_MS

    def test_what_is_remembered_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(times, "_MOST_MINUTES", 120)
        utc, local = UtcText(), LocalTime(ZoneInfo("Asia/Kolkata"))
        for hour in range(1000):
            time_ms = hour * 3_600_000 + 61_001
            assert utc.write((time_ms, None)) == [format_utc(time_ms), None]
            assert local.to_utc(time_ms) == time_ms - 19_800_000
        assert len(utc._minutes) <= 180
        assert len(local._offsets) <= 120


class TestParse:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (0, (0, False)),
            (1735689600123, (1735689600123, False)),
            (-1, (-1, False)),
            (1735689600123.0, (1735689600123, False)),
            (1735689600123.9, (1735689600123, False)),
            (-0.5, (-1, False)),
            (1e300, (int(1e300), False)),
            ("1970-01-01", (0, False)),
            ("1970-01-01T00:00:01", (1000, False)),
            ("1970-01-01 00:00:01.5", (1500, False)),
            ("1970-01-01T00:00:00.0019", (1, False)),
            ("1970-01-01T00:00:01Z", (1000, True)),
            ("1970-01-01T02:00:01+02:00", (1000, True)),
            ("1969-12-31T20:00:00-04:00", (0, True)),
            ("0001-01-01T00:00:00+14:00", (-62_135_647_200_000, True)),
        ],
    )
    def test_values(self, value: object, expected: tuple[int, bool]) -> None:
        assert parse_time(value) == expected

    @pytest.mark.parametrize(
        "value",
        [None, True, False, [], {}, b"0", "", "soon"] + [float("nan"), float("inf"), float("-inf")],
    )
    def test_what_is_no_time(self, value: object) -> None:
        with pytest.raises(ValueError, match=r"time is|isoformat"):
            parse_time(value)

    @given(st.datetimes(timezones=st.timezones() | st.none()))
    @example(datetime(2024, 11, 3, 1, 30, tzinfo=ZoneInfo("America/Los_Angeles")))
    def test_iso_text(self, moment: datetime) -> None:
        time_ms, named = parse_time(moment.isoformat())
        assert named is (moment.tzinfo is not None)
        offset = moment.utcoffset() or timedelta()
        since = moment.replace(tzinfo=None) - EPOCH - offset
        assert time_ms == since // timedelta(milliseconds=1)
