"""The sandbox's parts that need no server: project, poison, faults' text, limits, `where`."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from itertools import islice
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest

from tap_mixpanel_parallel.sandbox import (
    Cut,
    Fault,
    Limits,
    Line,
    Project,
    Reset,
    Shaping,
    Stall,
    Status,
    TerminatedEarly,
    poisoned_lines,
)
from tap_mixpanel_parallel.sandbox.answers import RefusedError
from tap_mixpanel_parallel.sandbox.calendar import HOUR, Day
from tap_mixpanel_parallel.sandbox.faults import FaultPlan
from tap_mixpanel_parallel.sandbox.limits import Gate
from tap_mixpanel_parallel.sandbox.query import Query
from tap_mixpanel_parallel.sandbox.vocabulary import event_names
from tap_mixpanel_parallel.sandbox.where import compile_where

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


class TestFaultText:
    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("status=500,times=2", Fault(Status(500), times=2)),
            (
                r"status=503,body=<h1>a\, b</h1>,content_type=text/html,retry_after=1",
                Fault(Status(503, b"<h1>a, b</h1>", "text/html", "1")),
            ),
            ("status=204,body=", Fault(Status(204, b""))),
            ("reset", Fault(Reset())),
            ("reset=10", Fault(Reset(10))),
            (
                "cut=-5,clean,days=2025-01-05..2025-01-11",
                Fault(Cut(-5, clean=True), days=(date(2025, 1, 5), date(2025, 1, 11))),
            ),
            ("cut,days=2025-01-05", Fault(Cut(), days=(date(2025, 1, 5), date(2025, 1, 5)))),
            ("stall=2.5,at=middle", Fault(Stall(2.5, "middle"))),
            (
                "terminated_early,after_lines=10,probability=0.2,seed=7",
                Fault(TerminatedEarly(after_lines=10), probability=0.2, seed=7),
            ),
            (
                'line={"a": 1},after=1,each_range',
                Fault(Line(b'{"a": 1}'), after=1, each_range=True),
            ),
        ],
    )
    def test_parse(self, text: str, fault: Fault) -> None:
        assert Fault.parse(text) == fault

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "unknown fault ''; there are status, "),
            ("explode", "unknown fault 'explode'; there are status, "),
            ("status", "fault 'status' needs a value: status=..."),
            ("status=many", "status=many: invalid literal"),
            ("empty=1", "fault 'empty' takes no value"),
            ("cut,cleanly", "fault 'cut' has no option 'cleanly'; it has at, clean, days, "),
            ("cut,clean=yes", "'clean' is a flag"),
            ("cut,times", "'times' needs a value"),
            ("cut,days=2025-01-05..2025-01-01", "days end before they start"),
            ("cut,days=soon", "days=soon: "),
            ("cut,probability=2", "probability must be between 0 and 1"),
            ("cut,times=-1", "must not be negative"),
        ],
    )
    def test_errors_say_what_is_wrong(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            Fault.parse(text)


class TestFaultPlan:
    QUERY = Query(date(2025, 1, 1), date(2025, 1, 7))
    OTHER = Query(date(2025, 1, 8), date(2025, 1, 14))

    @staticmethod
    def hits(plan: FaultPlan, query: Query, times: int) -> list[bool]:
        return [plan.draw(query) is not None for _ in range(times)]

    def test_after_and_times(self) -> None:
        plan = FaultPlan([Fault.parse("cut,after=1,times=2")])
        assert self.hits(plan, self.QUERY, 5) == [False, True, True, False, False]

    def test_each_range(self) -> None:
        plan = FaultPlan([Fault.parse("cut,times=1,each_range")])
        assert self.hits(plan, self.QUERY, 2) == [True, False]
        assert self.hits(plan, self.OTHER, 2) == [True, False]

    def test_days_overlap(self) -> None:
        plan = FaultPlan([Fault.parse("cut,days=2025-01-07")])
        assert self.hits(plan, self.QUERY, 1) == [True]
        assert self.hits(plan, self.OTHER, 1) == [False]

    def test_dice_fall_the_same_way_again(self) -> None:
        fault = Fault.parse("cut,probability=0.3,seed=7")
        first = self.hits(FaultPlan([fault]), self.QUERY, 200)
        assert first == self.hits(FaultPlan([fault]), self.QUERY, 200)
        assert 30 < sum(first) < 90

    def test_the_first_that_hits_wins(self) -> None:
        one, two = Fault.parse("cut,times=1"), Fault.parse("empty,times=1")
        plan = FaultPlan([one, two])
        assert [plan.draw(self.QUERY) for _ in range(3)] == [one, two, None]


class TestLimits:
    @staticmethod
    def refusal(gate: Gate) -> tuple[str, dict[str, str]]:
        with pytest.raises(RefusedError) as refused:
            gate.enter()
        assert refused.value.answer.status == 429
        return json.loads(refused.value.answer.body)["error"], dict(refused.value.answer.headers)

    def test_each_limit(self) -> None:
        now = 0.0
        gate = Gate(Limits(per_hour=4, per_second=2, concurrent=3, clock=lambda: now), "1")
        gate.enter()
        gate.enter()
        assert "3/2 queries running in the last second" in self.refusal(gate)[0]
        now = 1.0
        gate.enter()
        message, headers = self.refusal(gate)
        assert message == "too many export requests in progress for this project"
        assert headers == {}
        gate.leave()
        gate.enter()
        gate.leave()
        now = 3599.9
        message, _ = self.refusal(gate)
        assert (
            "3/3 queries running concurrently and 5/4 queries running in the last hour" in message
        )
        now = 3600.0
        gate.enter()

    def test_retry_after(self) -> None:
        now = 0.0
        gate = Gate(Limits(per_hour=1, retry_after=True, clock=lambda: now), "1")
        gate.enter()
        now = 99.5
        assert self.refusal(gate)[1] == {"Retry-After": "3501"}

    def test_no_limits(self) -> None:
        gate = Gate(None, "1")
        for _ in range(1000):
            gate.enter()


class TestWhere:
    EVENT: ClassVar[dict[str, Any]] = {"plan": "pro", "seats": 3, "ok": True, 'a"b': "c"}

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ('properties["plan"] == "pro"', True),
            ('properties["plan"]!="pro"', False),
            ('properties["seats"] == 3', True),
            ('properties["seats"] == 3.0', True),
            ('properties["seats"] == "3"', False),
            ('properties["ok"] == true', True),
            ('properties["ok"] == 1', False),
            ('properties["none"] == "x"', False),
            ('properties["none"] != "x"', True),
            (r' properties["a\"b"] == "c" ', True),
            ('properties["plan"] == "pro" and properties["seats"] == 4', False),
            ('properties["seats"] == 4 or properties["ok"] == true', True),
            (
                'properties["plan"]=="pro" or properties["seats"]==4 and properties["ok"]==false',
                True,
            ),
        ],
    )
    def test_understood(self, expression: str, expected: bool) -> None:
        assert compile_where(expression)(self.EVENT) is expected

    @pytest.mark.parametrize(
        "expression",
        [
            "",
            "true",
            'properties["a"]',
            'properties["a"] > 3',
            'properties["a"] == 3 nand properties["b"] == 4',
            'properties["a"] == 3 and',
            'user["a"] == 3',
        ],
    )
    def test_refused(self, expression: str) -> None:
        with pytest.raises(ValueError, match="not understood"):
            compile_where(expression)


def test_limit_stops_the_generation() -> None:
    years = Query(date(2012, 1, 1), date(2024, 12, 31), limit=3)
    lines = years.lines(Project(events_per_day=10**6), LATER)
    assert len(list(islice(lines, 10))) == 3


def test_shaping() -> None:
    assert Shaping(1.5, 0.5).delay(4) == 3.5
    with pytest.raises(ValueError, match="bytes_per_second"):
        Shaping(bytes_per_second=0)
