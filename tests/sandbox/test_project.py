"""The synthetic project and its poison."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tap_mixpanel_parallel.sandbox import (
    Project,
    poisoned_lines,
)
from tap_mixpanel_parallel.sandbox.calendar import HOUR, Day
from tap_mixpanel_parallel.sandbox.vocabulary import event_names

DAY = date(2025, 1, 8)  # a Wednesday
LATER = datetime(2026, 1, 1, tzinfo=UTC)
LONE_SURROGATE = re.compile(rb"[^\\](?:\\\\)*\\u[dD]83[dD](?!\\u)")


def export(project: Project, day: date = DAY, **options: Any) -> list[bytes]:
    return list(project.lines(day, **{"as_of": LATER} | options))


def properties(line: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)["properties"]
    return found


def identity(line: bytes) -> tuple[Any, ...]:
    found = properties(line)
    sent = found.get("$distinct_id_before_identity", found.get("distinct_id"))
    return json.loads(line)["event"], sent, found["time"], found.get("$insert_id")


class TestProject:
    def test_a_day_is_the_same_each_time_and_needs_no_other_day(self) -> None:
        first = export(Project())
        assert first == export(Project())
        assert first != export(Project(seed=2))
        assert first != export(Project(), DAY + timedelta(days=1))

    def test_a_seed_gives_the_same_bytes_on_every_python(self) -> None:
        digest = blake2b(b"\n".join(export(Project())), digest_size=8).hexdigest()
        assert digest == "fb202a34d858bfd5"

    def test_lines_are_events_of_their_day_in_no_order(self) -> None:
        lines = export(Project())
        start = int(datetime(2025, 1, 8, tzinfo=UTC).timestamp() * 1000)
        times = [properties(line)["time"] for line in lines]
        assert all(start <= time < start + 24 * HOUR for time in times)
        assert times != sorted(times)
        assert all(json.loads(line).keys() == {"event", "properties"} for line in lines)

    def test_size_and_number(self) -> None:
        week = [export(Project(events_per_day=1000), DAY + timedelta(days=n)) for n in range(7)]
        assert 0.9 < sum(map(len, week)) / 7000 < 1.1
        assert len(week[3]) < 0.8 * len(week[0])  # Saturday
        lines = [line for day in week for line in day]
        assert 600 < sum(map(len, lines)) / len(lines) < 900

    def test_an_empty_project(self) -> None:
        assert export(Project(events_per_day=0)) == []
        assert export(Project(created=DAY + timedelta(days=1))) == []
        with pytest.raises(ValueError, match="events_per_day"):
            Project(events_per_day=-1)
        with pytest.raises(KeyError):
            Project(timezone="Mars/Olympus")

    def test_event_filter_takes_lines_out_and_changes_none(self) -> None:
        project = Project(poison=True)
        name = event_names()[-1]
        everything = export(project)
        chosen = [line for line in everything if json.loads(line)["event"] == name]
        assert chosen
        assert export(project, events=[name]) == chosen
        assert export(project, events=["no such event"]) == []

    def test_seconds(self) -> None:
        pairs = zip(export(Project()), export(Project(), time_in_ms=False), strict=True)
        assert all(properties(a)["time"] // 1000 == properties(b)["time"] for a, b in pairs)

    def test_text_is_as_odd_as_in_a_real_project(self) -> None:
        text = b"\n".join(export(Project(events_per_day=3000))).decode()
        for odd in ("東京", "🎉", "\u2028", "\u0085", r"\"", r"\n", r"\\", '"Plan"', '"plan"'):
            assert odd in text
        for odd in ('"utm.campaign.first"', '"":', "\\u6771", '"price":', '":{"', '":[{"'):
            assert odd in text
        assert re.search(r'"price":\d+\.\d0\b', text)


class TestOddEvents:
    LINES = export(Project())

    def test_duplicates(self) -> None:
        repeated = [line for line, times in Counter(self.LINES).items() if times > 1]
        assert repeated
        distinct = set(self.LINES)
        again = [key for key, times in Counter(map(identity, distinct)).items() if times > 1]
        assert again
        for key in again:
            one, other = (properties(line) for line in distinct if identity(line) == key)
            changed = {name for name in one if one[name] != other[name]}
            assert changed == {"mp_processing_time_ms", "Revision"}

    def test_identical_events_without_insert_id_on_some_days(self) -> None:
        def twins(day: date) -> bool:
            counted = Counter(export(Project(), day))
            return any(b"$insert_id" not in line and n > 1 for line, n in counted.items())

        assert {twins(DAY + timedelta(days=n)) for n in range(3)} == {True, False}

    def test_missing_and_odd_ids(self) -> None:
        found = [properties(line) for line in self.LINES]
        assert any("$insert_id" not in each for each in found)
        ids = [each.get("distinct_id") for each in found]
        assert None in ids
        assert "" in ids
        assert any(isinstance(each, int) for each in ids)

    def test_lone_surrogates(self) -> None:
        text = b"\n".join(self.LINES)
        assert rb"\ud83d" in text
        assert rb"\uD83D" in text
        text.decode()  # escapes only: the bytes are proper UTF-8


class TestTime:
    def test_late_events_arrive_within_five_days_and_not_before(self) -> None:
        midnight = datetime(2025, 1, 9, tzinfo=UTC)
        exports = [
            export(Project(), as_of=midnight + timedelta(days=days)) for days in (0, 1, 5, 30)
        ]
        sizes = [len(lines) for lines in exports]
        assert sizes[0] < sizes[1] < sizes[2] <= sizes[3]
        for as_of, lines in zip((0, 1, 5), exports, strict=False):
            limit = (midnight + timedelta(days=as_of)).timestamp() * 1000
            assert all(properties(line)["mp_processing_time_ms"] <= limit for line in lines)

    def test_the_future_is_empty(self) -> None:
        morning = datetime(2025, 1, 8, 9, tzinfo=UTC)
        assert 0 < len(export(Project(poison=True), as_of=morning)) < len(export(Project()))
        assert export(Project(poison=True), DAY + timedelta(days=1), as_of=morning) == []

    def test_merges_rename_users_and_keep_the_sent_id(self) -> None:
        before = export(Project(), as_of=datetime(2025, 1, 14, tzinfo=UTC))
        after = {identity(line): properties(line) for line in export(Project())}
        renamed = 0
        for line in before:
            old, new = properties(line), after[identity(line)]
            if old.get("distinct_id") != new.get("distinct_id"):
                renamed += 1
                assert new["$distinct_id_before_identity"] == old["distinct_id"]
                assert old["distinct_id"].startswith("$device:")
                assert new["distinct_id"].startswith("user-")
        assert renamed > 0

    @pytest.mark.parametrize(
        ("zone", "day", "hours"),
        [
            ("Europe/Berlin", date(2025, 3, 30), 23),
            ("Europe/Berlin", date(2025, 10, 26), 25),
            ("America/Sao_Paulo", date(2018, 11, 4), 23),  # its midnight does not exist
            ("Asia/Kolkata", date(2025, 1, 1), 24),
            ("Pacific/Apia", date(2024, 6, 1), 24),
        ],
    )
    def test_days_are_cut_in_the_zone_and_times_are_local(
        self, zone: str, day: date, hours: int
    ) -> None:
        clock = Day.of(day, ZoneInfo(zone))
        assert clock.end - clock.start == hours * HOUR
        for line in export(Project(timezone=zone, events_per_day=300), day):
            found = properties(line)
            assert datetime.fromtimestamp(found["time"] / 1000, UTC).date() == day
            assert found["mp_processing_time_ms"] >= clock.start
        for instant in range(clock.start, clock.end, HOUR // 4):
            local = datetime.fromtimestamp(instant / 1000, ZoneInfo(zone)).replace(tzinfo=UTC)
            assert clock.wall(instant) == local.timestamp() * 1000

    def test_today_is_a_matter_of_the_zone(self) -> None:
        moment = datetime(2025, 1, 1, 23, 30, tzinfo=UTC)
        assert Project().today(moment) == date(2025, 1, 1)
        assert Project(timezone="Asia/Tokyo").today(moment) == date(2025, 1, 2)


class TestPoison:
    def test_every_line_is_a_legal_event(self) -> None:
        for line in poisoned_lines(DAY):
            assert b"\n" not in line
            event = json.loads(line.decode())
            assert isinstance(event["event"], str)
            assert "time" in event["properties"]

    def test_project_holds_each_of_them_once(self) -> None:
        plain, poisoned = export(Project()), export(Project(poison=True))
        assert Counter(poisoned) - Counter(plain) == Counter(poisoned_lines(DAY))
        assert export(Project(events_per_day=0, poison=True)) == list(poisoned_lines(DAY))

    def test_one_megabyte_on_the_first(self) -> None:
        assert max(map(len, poisoned_lines(date(2025, 1, 1)))) == 1_000_000
        assert max(map(len, poisoned_lines(DAY))) < 100_000

    def test_escapes_stay_as_written(self) -> None:
        text = b"\n".join(poisoned_lines(DAY))
        for raw in (rb"\ud83d", rb"\uD83D", rb'"\\ud83d"', rb"\uD83C\uDF89", rb"\u0000", b"1.10"):
            assert raw in text
        for raw in (b"1E5", b"-0.0", b'""', "\u2028".encode(), "\u0085".encode(), rb"\r\n"):
            assert raw in text
        assert LONE_SURROGATE.search(text)

    def test_names_tell_lines_apart_when_a_test_fails(self) -> None:
        names = {json.loads(line)["event"] for line in poisoned_lines(DAY)}
        assert len(names) > 50
