"""The failure table, row by row: what goes wrong, and what then."""

from __future__ import annotations

import re
import socket
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from tap_mixpanel_parallel.sandbox import (
    Cut,
    Damage,
    Effect,
    Empty,
    Fault,
    HalfLine,
    Line,
    Plain,
    Project,
    Reset,
    Sandbox,
    Stall,
    Status,
    TerminatedEarly,
)
from tests.failures.conftest import DAYS
from tests.support.expected import AS_OF, lines_of
from tests.support.harness import Body, Identity, Lab, Output, identities

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PROJECT: Final = Project(events_per_day=40)
FIRST: Final = date(2025, 1, 1)


@dataclass(frozen=True)
class PlainCut(Cut):
    """An uncompressed body, cut."""

    name: ClassVar[str] = "plain_cut"
    gzip: ClassVar[bool] = False


@dataclass(frozen=True)
class PlainHalfLine(HalfLine):
    """An uncompressed body whose last line is cut."""

    name: ClassVar[str] = "plain_half_line"
    gzip: ClassVar[bool] = False


NO_EVENTS: Final = (
    b"99",
    b"[]",
    b"null",
    b'"text"',
    b"{}",
    b'{"event": 1}',
    b'{"event": 1, "properties": {"time": 1}}',
    b'{"event": "A", "properties": []}',
    b'{"event": "A", "properties": {}}',
    b'{"event": "A", "properties": {"time": null}}',
    b'{"event": "A", "properties": {"time": "soon"}}',
    b'{"event": "A", "properties": {"time": true}}',
    b'{"event": "A", "properties": {"time": 1}}}',
    b'{"event": "A", "properties": {"time": 1} "x": 2}',
    b'{"event": "A", "properties": {"time": 1, "x": NaN}}',
    b'{"event": "A", "properties": {"time": 1, "x": "\xff"}}',
    b'{"event": "A", "properties": {"time": 1, "x": "\t"}}',
    b"[" * 100_000,
    b"<h1>busy</h1>",
)

TRANSIENT: Final[dict[str, tuple[Effect, str]]] = {
    "reset before the headers": (Reset(), "reset|aborted"),
    "reset in the body": (Reset("middle"), "reset|broken"),
    "silence": (Stall(None, "middle"), r"no byte for 1 seconds"),
    "silence after the headers": (Stall(None, 0), r"no byte for 1 seconds"),
    "408": (Status(408), "HTTP 408"),
    "500 in JSON": (Status(500), "HTTP 500: a fault as ordered"),
    "502 in HTML": (Status(502, b"<h1>Bad <b>gateway</b></h1>", "text/html"), "502: Bad gateway"),
    "503 without a body": (Status(503, b""), "HTTP 503"),
    "504": (Status(504, b"\xff\xfe", "text/plain"), "HTTP 504"),
    "599": (Status(599), "HTTP 599"),
    "204": (Status(204, b""), "HTTP 204"),
    "429": (Status(429, b"too many in progress", retry_after="0"), "HTTP 429"),
    "cut": (Cut("middle"), "ended|broken|incomplete|invalid"),
    "cut at the first byte": (Cut(0), "ended|broken|incomplete|invalid"),
    "cut before the last byte": (Cut(-1), "ended|broken|incomplete|invalid"),
    "cut, yet ended": (Cut("middle", clean=True), "cut or damaged"),
    "cut before the first byte, yet ended": (Cut(0, clean=True), "gzip without a byte"),
    "cut after the first byte, yet ended": (Cut(1, clean=True), "cut or damaged"),
    "cut in gzip's checksum, yet ended": (Cut(-8, clean=True), "cut or damaged"),
    "cut before the last byte, yet ended": (Cut(-1, clean=True), "cut or damaged"),
    "uncompressed and cut": (PlainCut("middle"), "ended|broken|incomplete|invalid"),
    "uncompressed, cut, yet ended": (PlainCut(-100, clean=True), "is not an event"),
    "gzip damaged at its start": (Damage(0), "cut or damaged"),
    "gzip damaged": (Damage("middle"), "cut or damaged"),
    "gzip's checksum damaged": (Damage(-8), "cut or damaged"),
    "gzip's length damaged": (Damage(-1), "cut or damaged"),
    "terminated early": (TerminatedEarly(), "ended the export early: line"),
    "terminated early, alone": (TerminatedEarly(after_lines=0), "ended the export early: line 1 "),
    "export terminated early": (TerminatedEarly(b"export terminated early"), "ended the export"),
    "export terminated early, alone": (
        TerminatedEarly(b"export terminated early", after_lines=0),
        "ended the export early: line 1 ",
    ),
    "an error after rows": (
        TerminatedEarly(b'{"error": "query failed"}'),
        "with an error: line .*query failed",
    ),
    "an error alone": (Body(b'{"error": "query failed"}\n'), "with an error: line 1 .*query fail"),
    "an error among rows": (Line(b'{"error": {"code": 7}}'), "with an error: line"),
    "half a line": (HalfLine(), "is not an event"),
    "half a line, uncompressed": (PlainHalfLine(), "is not an event"),
    "an HTML page": (Body(b"<html><body>busy</body></html>"), "line 1 is not an event"),
    **{repr(line[:60]): (Line(line), r"line \d+ is not an event") for line in NO_EVENTS},
}

HARMLESS: Final[dict[str, tuple[Effect, bytes | None]]] = {
    "uncompressed": (Plain(), None),
    "slow": (Stall(0.3), None),
    "an empty 200": (Empty(), b""),
    "a 200 of no length": (Status(200, b"", "text/plain"), b""),
    "no line end at the end": (
        Body(b'{"event":"A","properties":{"time":TIME}}'),
        b'{"event":"A","properties":{"time":1}}',
    ),
    "blank lines": (
        Body(b'\n \n{"event":"A","properties":{"time":TIME}}\n\n\r\n'),
        b'{"event":"A","properties":{"time":1}}',
    ),
    "line ends of Windows": (
        Body(b'{"event":"A","properties":{"time":TIME}}\r\n' * 2),
        b'{"event":"A","properties":{"time":1}}\n{"event":"A","properties":{"time":1}}',
    ),
}


@dataclass(frozen=True)
class Played:
    """A run in which each fault had a day of its own, with a whole day after each."""

    output: Output
    days: dict[str, date]
    leftovers: list[str]


def play(folder: Path, effects: Iterable[Effect], names: Iterable[str], **settings: Any) -> Played:
    """Run the tap over two days for each effect; it hits the first of them.

    Args:
        folder: Where to work.
        effects: What goes wrong.
        names: What each is called.
        settings: The tap's; with several attempts, each window's first one is hit only.
    """
    days = {name: FIRST + timedelta(days=2 * number) for number, name in enumerate(names)}
    times = 1 if settings.get("max_attempts", 1) > 1 else None
    faults = [
        Fault(effect, days=(day, day), times=times)
        for effect, day in zip(effects, days.values(), strict=True)
    ]
    with Sandbox(PROJECT, limits=None, as_of=lambda: AS_OF, faults=faults) as sandbox:
        lab = Lab(folder, sandbox)
        output = lab.run(
            start_date=str(FIRST),
            end_date=str(max(days.values()) + timedelta(days=1)),
            window_days=1,
            balance_windows=False,
            parallel=True,
            workers=20,
            request_timeout=1,
            **settings,
        )
    return Played(output, days, lab.left_behind)


def play_transient(folder: Path, **settings: Any) -> Played:
    """Run the tap over every transient fault."""
    return play(folder, [effect for effect, _ in TRANSIENT.values()], TRANSIENT, **settings)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Every fault lasts."""
    return play_transient(tmp_path_factory.mktemp("lasting"))


@pytest.mark.slow
class TestLasting:
    """Windows whose every attempt fails."""

    @pytest.mark.parametrize("name", TRANSIENT)
    def test_the_window_fails_with_the_reason(self, lasting: Played, name: str) -> None:
        day = str(lasting.days[name])
        [failure] = [f for f in lasting.output.failures if f["context"]["from_date"] == day]

        assert failure["context"]["to_date"] == day
        assert failure["status"] == "failed"
        assert failure["attempts"] == 1
        assert re.search(TRANSIENT[name][1], failure["error"], re.IGNORECASE)
        assert lasting.days[name] not in lasting.output.loaded
        # The table at the end.
        assert re.search(rf"^  {day}  {day} +1  \S", lasting.output.errors, re.MULTILINE)

    def test_the_others_are_loaded_whole_and_nothing_else(self, lasting: Played) -> None:
        whole = [day + timedelta(days=1) for day in lasting.days.values()]

        assert lasting.output.loaded == whole
        lines = [line for day in whole for line in lines_of(PROJECT, day, day)]
        assert lasting.output.identities == identities(lines)

    def test_the_run_fails(self, lasting: Played) -> None:
        count = len(lasting.days)

        assert lasting.output.code == 1
        assert f"{count} of {2 * count} windows failed and are not loaded" in lasting.output.errors
        assert "Traceback" not in lasting.output.errors
        assert not lasting.leftovers


@pytest.mark.slow
def test_what_fails_once_is_tried_again(tmp_path: Path) -> None:
    played = play_transient(tmp_path, max_attempts=2)

    last = max(played.days.values()) + timedelta(days=1)
    assert played.output.code == 0, played.output.errors
    assert played.output.bookmark["loaded"] == [[str(FIRST), str(last)]]
    assert played.output.failures == []
    assert played.output.identities == identities(lines_of(PROJECT, FIRST, last))
    for name, day in played.days.items():
        told = rf"{day}\.\.{day}: attempt 1 of 2 failed: .*({TRANSIENT[name][1]}).*; again in \d"
        assert re.search(told, played.output.errors, re.IGNORECASE), name


def test_what_is_no_fault_loads(tmp_path: Path) -> None:
    played = play(tmp_path, [effect for effect, _ in HARMLESS.values()], HARMLESS)

    last = max(played.days.values()) + timedelta(days=1)
    wanted = Counter[Identity]()
    for name, day in played.days.items():
        body = HARMLESS[name][1]
        wanted += identities(lines_of(PROJECT, day, day) if body is None else body.split(b"\n"))
        wanted += identities(lines_of(PROJECT, day + timedelta(days=1), day + timedelta(days=1)))
    assert played.output.code == 0, played.output.errors
    assert played.output.bookmark["loaded"] == [[str(FIRST), str(last)]]
    assert played.output.identities == wanted


def test_connection_refused(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    output = lab.run(api_url=f"http://127.0.0.1:{port}")

    assert output.code == 1
    assert "no data was retrieved: all 4 windows failed" in output.errors
    errors = [failure["error"] for failure in output.failures]
    assert all(f"127.0.0.1:{port}: " in error for error in errors), errors
    assert all("Connection refused" in error for error in errors), errors
    assert output.records == output.loaded == []


@pytest.mark.parametrize(
    ("status", "said", "check"),
    [
        (400, b'{"error": "Invalid where expression"}', "check events, where"),
        (400, b'{"error": "Unable to authenticate request"}', "check service_account_username"),
        (401, b'{"error": "Invalid service account credentials"}', "service_account_secret"),
        (402, b'{"error": "Your plan does not allow API calls"}', "not part of the project's plan"),
        (403, b'{"error": "You do not have access to this project"}', "access to the project"),
        (404, b"<title>Not found</title>", "check region and api_url"),
    ],
)
def test_a_refusal_stops_the_run(lab: Lab, status: int, said: bytes, check: str) -> None:
    third = DAYS[2]
    lab.sandbox.faults = [Fault(Status(status, said), days=(third, third))]

    output = lab.run()

    text = re.sub(rb'<.*?>|\{"error": "|"\}', b"", said).decode()
    assert output.code == 1
    assert f"HTTP {status}: {text}" in output.errors
    assert check in output.errors
    assert "Traceback" not in output.errors
    assert output.loaded == list(DAYS[:2])
    assert output.identities == identities(lines_of(PROJECT, DAYS[0], DAYS[1]))
    asked = [request.from_date for request in lab.sandbox.requests]
    assert asked[:3] == list(DAYS[:3])
    assert len(lab.sandbox.requests) <= 4, "what was under way, and no more"


@pytest.mark.parametrize(("on_failed_window", "code"), [("fail", 1), ("warn", 0)])
def test_some_windows_fail_and_the_next_run_reads_only_them(
    lab: Lab, on_failed_window: str, code: int
) -> None:
    lab.sandbox.faults = [Fault(Status(500), days=(DAYS[1], DAYS[2]))]

    broken = lab.run(on_failed_window=on_failed_window)
    lab.sandbox.faults = []
    before = len(lab.sandbox.requests)
    mended = lab.run(state=broken.messages[-1]["value"])

    assert broken.code == code
    assert broken.loaded == [DAYS[0], DAYS[3]]
    assert "2 of 4 windows failed" in broken.errors
    assert mended.code == 0
    assert [r.from_date for r in lab.sandbox.requests[before:]] == [DAYS[1], DAYS[2]]
    assert mended.loaded == list(DAYS)
    assert mended.failures == []
    whole = identities(lines_of(PROJECT, DAYS[0], DAYS[-1]))
    assert broken.identities + mended.identities == whole


@pytest.mark.parametrize("on_failed_window", ["fail", "warn"])
def test_all_windows_fail(lab: Lab, on_failed_window: str) -> None:
    lab.sandbox.faults = [Fault(Status(500))]

    output = lab.run(on_failed_window=on_failed_window)

    assert output.code == 1
    assert "no data was retrieved" in output.errors
    assert output.records == []


def test_an_error_that_is_nested_too_deeply_to_read(lab: Lab) -> None:
    lab.sandbox.faults = [Fault(Status(500, b"[" * 10_000))]

    output = lab.run()

    assert output.code == 1
    assert "Traceback" not in output.errors
    assert [failure["context"] for failure in output.failures] == [
        {"from_date": str(DAYS[0]), "to_date": str(DAYS[-1])}
    ]
