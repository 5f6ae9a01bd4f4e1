"""Servers, proxies and caches that mix answers up, break HTTP's rules, or never end."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from tap_mixpanel_parallel.sandbox import (
    AnotherWindow,
    ChunkSize,
    Endless,
    Fault,
    Project,
    SecondAnswer,
    Status,
    Trickle,
)
from tests.failures.conftest import DAYS
from tests.support.commands import PATIENCE
from tests.support.expected import lines_of
from tests.support.harness import Body, Identity, Lab, Output, identities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.failures.conftest import LabMaker

SECOND: Final = (DAYS[1], DAYS[1])
REFUSAL: Final = b'{"error": "Invalid service account credentials"}'


def assert_only_the_second_day_failed(lab: Lab, output: Output, why: str) -> None:
    [failure] = output.failures
    assert output.code == 1
    assert re.search(why, failure["error"]), failure["error"]
    assert failure["context"]["from_date"] == str(DAYS[1])
    assert "Traceback" not in output.errors
    assert output.loaded == [DAYS[0], *DAYS[2:]]
    lines = [line for day in output.loaded for line in lines_of(lab.sandbox.project, day, day)]
    assert readable(output.identities) == readable(identities(lines))


def readable(events: Counter[Identity]) -> Counter[Identity]:
    """Those without a lone surrogate, for which the tap has another character."""
    mended = re.compile("[\ud800-\udfff\ufffd]")
    return Counter({key: n for key, n in events.items() if not mended.search("".join(key))})


class TestAnotherWindow:
    """A cache or a proxy that answers with the body of another request."""

    @pytest.mark.parametrize("days_off", [-30, -2, -1, 1, 2, 30])
    @pytest.mark.parametrize("poison", [True, False])
    def test_its_body_is_not_taken(self, make_lab: LabMaker, days_off: int, poison: bool) -> None:
        lab = make_lab(Project(events_per_day=40, poison=poison))
        lab.sandbox.faults = [Fault(AnotherWindow(days_off), days=SECOND)]

        output = lab.run()

        other = DAYS[1] + timedelta(days=days_off)
        why = rf"belongs to another request: none of its \d+ events lies on these days.* {other}T"
        assert_only_the_second_day_failed(lab, output, why if not poison else "another request")

    @pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Kiritimati"])
    @pytest.mark.parametrize("settings", [{}, {"deduplicate": True}])
    def test_in_every_zone(self, make_lab: LabMaker, zone: str, settings: dict[str, Any]) -> None:
        lab = make_lab(Project(events_per_day=40, timezone=zone, poison=True))
        lab.settings |= {"project_timezone": zone, "window_days": 2} | settings
        lab.sandbox.faults = [Fault(AnotherWindow(-2), days=SECOND, times=1)]

        output = lab.run(max_attempts=2)

        assert output.code == 0, output.errors
        assert "attempt 1 of 2 failed: the answer belongs to another request" in output.errors
        everything = identities(lines_of(lab.sandbox.project, DAYS[0], DAYS[-1]))
        assert readable(output.identities).keys() == readable(everything).keys()

    def test_a_body_of_which_half_is_wanted(self, make_lab: LabMaker) -> None:
        """A cache's, from a request for other days."""
        lab = make_lab()
        lab.sandbox.faults = [Fault(AnotherWindow(-1), times=1)]

        output = lab.run(window_days=4, max_attempts=2)

        assert output.code == 0, output.errors
        why = r"another request: \d+ of its \d+ events lie far from these days; the first .*-05T"
        assert re.search(why, output.errors)
        assert output.identities == identities(lines_of(lab.sandbox.project, DAYS[0], DAYS[-1]))

    def test_a_cache_that_answers_everything_with_the_first_body(self, make_lab: LabMaker) -> None:
        """Seven windows, each asked for once more than there are wrong answers."""
        first = date(2025, 1, 1)
        windows = [first + timedelta(days=5 * n) for n in range(7)]
        lab = make_lab(
            faults=[
                Fault(AnotherWindow((first - start).days), days=(start, start), times=1)
                for start in windows[1:]
            ]
        )

        output = lab.run(
            start_date=str(first),
            end_date="2025-02-04",
            window_days=5,
            max_attempts=2,
            parallel=True,
            workers=7,
        )

        assert output.code == 0, output.errors
        assert output.errors.count("belongs to another request") == 6
        assert output.identities == identities(
            lines_of(lab.sandbox.project, first, date(2025, 2, 4))
        )

    def test_single_events_outside_are_loaded_and_told(self, lab: Lab) -> None:
        body = (
            b'{"event":"A","properties":{"time":TIME,"$insert_id":"1"}}\n'
            b'{"event":"B","properties":{"time":1,"$insert_id":"2"}}\n'
            b'{"event":"C","properties":{"time":"2031-01-01T00:00:00Z","$insert_id":"3"}}\n'
        )
        lab.sandbox.faults = [Fault(Body(body), days=SECOND)]

        output = lab.run()

        assert output.code == 0, output.errors
        told = f"{DAYS[1]}..{DAYS[1]}: events whose time lies outside these days: 2; they are hand"
        assert told in output.errors
        assert {"A", "B", "C"} <= {record["event"] for record in output.records}

    def test_what_a_time_zone_explains_is_loaded(self, lab: Lab) -> None:
        """A project whose days are cut elsewhere than is known, with a few events only."""
        times = (f"{DAYS[0]}T10:00:00", f"{DAYS[2]}T13:59:59.999")
        body = b"".join(b'{"event":"A","properties":{"time":"%s"}}\n' % t.encode() for t in times)
        lab.sandbox.faults = [Fault(Body(body), days=SECOND)]

        output = lab.run()

        assert output.code == 0, output.errors
        assert "outside these days: 2; they are handed on too" in output.errors

    def test_a_second_late_answer_on_a_kept_connection(self, lab: Lab) -> None:
        lab.sandbox.faults = [Fault(SecondAnswer())]

        output = lab.run()

        assert output.code == 0, output.errors
        assert output.identities == identities(lines_of(lab.sandbox.project, DAYS[0], DAYS[-1]))


class TestBrokenRules:
    @pytest.mark.parametrize("size", ["-5", "-0", "xyz", "", "1" * 40, "ffffffffffffffff", "é"])
    def test_a_chunk_size_is_none(self, lab: Lab, size: str) -> None:
        lab.sandbox.faults = [Fault(ChunkSize(size), days=SECOND)]

        output = lab.run()

        assert_only_the_second_day_failed(lab, output, r"127\.0\.0\.1:\d+: \S|cut or damaged")

    def test_it_is_tried_again(self, lab: Lab) -> None:
        lab.sandbox.faults = [Fault(ChunkSize(), times=1, each_range=True)]

        output = lab.run(max_attempts=2, parallel=True, workers=4)

        assert output.code == 0, output.errors
        assert output.identities == identities(lines_of(lab.sandbox.project, DAYS[0], DAYS[-1]))


class TestEnds:
    """Whatever trickles or goes on ends within a bound."""

    @pytest.mark.parametrize("at", [0, "middle"])
    def test_a_body_that_trickles(self, lab: Lab, at: Any) -> None:
        lab.sandbox.faults = [Fault(Trickle(0.1, at), days=SECOND)]

        output = lab.run(request_timeout=1, attempt_timeout=2)

        why = r"^not whole after 2 seconds \(attempt_timeout\)$"
        assert_only_the_second_day_failed(lab, output, why)

    def test_an_endless_body_is_fetched_once(self, lab: Lab) -> None:
        lab.sandbox.faults = [Fault(Endless(), days=SECOND)]

        output = lab.run(max_window_mb=1, max_attempts=3)

        why = r"larger than 1 MB \(max_window_mb\); .* lower window_days or raise max_window_mb"
        assert_only_the_second_day_failed(lab, output, why)
        assert output.failures[0]["attempts"] == 1
        assert [r.from_date for r in lab.sandbox.requests].count(DAYS[1]) == 1

    def test_a_disk_that_an_endless_body_fills_is_filled_once(self, lab: Lab) -> None:
        lab.sandbox.faults = [Fault(Endless(), days=SECOND)]
        limited = ["sh", "-c", 'ulimit -f 2000; exec "$@"', "sh", *lab.tap()]
        lab.write("tap.json", lab.settings | {"max_attempts": 3})

        done = subprocess.run(limited, capture_output=True, timeout=PATIENCE, check=False)

        output = Output(done.returncode, done.stdout, done.stderr.decode())
        assert_only_the_second_day_failed(lab, output, "free some space .* of this window alone")
        assert output.failures[0]["attempts"] == 1

    @pytest.mark.slow
    def test_a_refusal_whose_text_trickles_is_a_refusal(self, lab: Lab) -> None:
        lab.sandbox.faults = [Fault(Status(401, REFUSAL, trickle=1.0))]
        started = time.monotonic()

        output = lab.run(request_timeout=30, parallel=True, workers=4)

        assert output.code == 1
        assert "Mixpanel refuses the export. HTTP 401; check service_account" in output.errors
        assert time.monotonic() - started < 30
        assert len(lab.sandbox.requests) <= 4, "none starts while the text is waited for"

    def test_headers_that_trickle(self, lab: Lab) -> None:
        with trickling_server(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000) as port:
            output = lab.run(
                api_url=f"http://127.0.0.1:{port}",
                request_timeout=1,
                attempt_timeout=1,
                end_date=str(DAYS[0]),
            )

        assert output.code == 1
        assert "not whole after 1 seconds (attempt_timeout)" in output.errors


@contextmanager
def trickling_server(answer: bytes) -> Iterator[int]:
    """Answer each connection byte by byte; its port."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            for number in range(len(answer)):
                if over.wait(0.05):
                    return
                connection.sendall(answer[number : number + 1])

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)
