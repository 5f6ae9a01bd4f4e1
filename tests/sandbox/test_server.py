"""The sandbox over HTTP on the loopback interface: every refusal, every fault."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from datetime import UTC, date, datetime
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest
import requests
from requests.exceptions import ChunkedEncodingError

from tap_mixpanel_parallel.sandbox import Fault, Limits, Project, Sandbox, Shaping
from tap_mixpanel_parallel.sandbox.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Project(events_per_day=120)
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
RANGE = {"from_date": "2025-01-06", "to_date": "2025-01-08", "time_in_ms": "true"}
DAYS = (date(2025, 1, 6), date(2025, 1, 7), date(2025, 1, 8))
LINES = [line for day in DAYS for line in PROJECT.lines(day, as_of=NOON)]
BODY = b"".join(line + b"\n" for line in LINES)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(PROJECT, limits=None, as_of=lambda: NOON) as sandbox:
        yield sandbox


def get(sandbox: Sandbox, *, path: str = "/export", **options: Any) -> requests.Response:
    options["params"] = {"project_id": "1", **RANGE, **options.get("params", {})}
    options.setdefault("auth", sandbox.auth)
    options.setdefault("allow_redirects", False)
    return requests.get(sandbox.url + path, timeout=10, **options)


def raw(response: requests.Response) -> bytes:
    """Give the body as it came, still compressed. The request must be streamed."""
    return b"".join(response.raw.stream(65536, decode_content=False))


def error(response: requests.Response) -> str:
    assert response.headers["Content-Type"] == "application/json"
    return str(response.json()["error"])


class TestExport:
    def test_a_range_as_one_gzip_member_in_chunks(self, sandbox: Sandbox) -> None:
        response = get(sandbox, stream=True)
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/plain"
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in response.headers
        body = raw(response)
        member = zlib.decompressobj(31)
        assert member.decompress(body) == BODY
        assert member.eof
        assert not member.unused_data
        [request] = sandbox.requests
        assert (request.from_date, request.to_date) == (DAYS[0], DAYS[-1])
        assert (request.status, request.complete, request.gzip) == (200, True, True)
        assert (request.events, request.bytes_sent) == (len(LINES), len(body))
        assert request.started <= request.ended

    @pytest.mark.parametrize(
        ("accepted", "compressed"),
        [
            ("gzip", True),
            ("deflate, gzip;q=0.5, br", True),
            ("gzip;q=0", False),
            ("gzip; q=0.0, identity", False),
            ("identity", False),
            ("x-gzipped", False),
        ],
    )
    def test_gzip_only_when_accepted(
        self, sandbox: Sandbox, accepted: str, compressed: bool
    ) -> None:
        response = get(sandbox, headers={"Accept-Encoding": accepted})
        assert ("Content-Encoding" in response.headers) is compressed
        assert response.content == BODY

    def test_a_small_body_is_not_compressed(self, sandbox: Sandbox) -> None:
        response = get(sandbox, params={"limit": "1"})
        assert "Content-Encoding" not in response.headers
        assert response.content == LINES[0] + b"\n"

    def test_no_events(self, sandbox: Sandbox) -> None:
        response = get(sandbox, params={"from_date": "1999-01-01", "to_date": "1999-12-31"})
        assert (response.status_code, response.content) == (200, b"")

    def test_filters(self, sandbox: Sandbox) -> None:
        names = ["Purchase", "達成 🎉"]
        response = get(sandbox, params={"event": json.dumps(names)})
        assert response.content.splitlines() != []
        assert {json.loads(line)["event"] for line in lines(response)} <= set(names)
        response = get(sandbox, params={"where": 'properties["Plan"] == "pro"'})
        assert {json.loads(line)["properties"]["Plan"] for line in lines(response)} == {"pro"}
        response = get(sandbox, params={"limit": "7"})
        assert lines(response) == LINES[:7]

    def test_seconds_unless_told(self, sandbox: Sandbox) -> None:
        for value in ("false", ""):
            response = get(sandbox, params={"time_in_ms": value, "limit": "1"})
            assert json.loads(response.content)["properties"]["time"] < 10**10

    def test_keep_alive(self, sandbox: Sandbox) -> None:
        connection = HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
        credentials = base64.b64encode(":".join(sandbox.auth).encode()).decode()
        export = f"/api/2.0/export?{urlencode(RANGE | {'project_id': 1})}"
        own_ports = set()
        for path, status in [(export, 200), ("/nothing", 404), (export, 200), (export, 200)]:
            connection.request("GET", path, headers={"Authorization": f"Basic {credentials}"})
            own_ports.add(connection.sock.getsockname()[1])
            response = connection.getresponse()
            assert response.status == status
            assert response.read() == BODY or status == 404
        assert len(own_ports) == 1
        connection.close()

    def test_default_time_is_the_end_of_today(self) -> None:
        with Sandbox(PROJECT) as sandbox:
            today = PROJECT.today(datetime.now(UTC)).isoformat()
            assert len(get(sandbox, params={"from_date": today, "to_date": today}).content) > 0

    def test_cached_bodies(self) -> None:
        with Sandbox(PROJECT, limits=None, as_of=lambda: NOON, cache_bodies=True) as sandbox:
            assert [get(sandbox).content for _ in range(2)] == [BODY, BODY]
            first, second = sandbox.requests
            assert (first.events, first.bytes_sent) == (second.events, second.bytes_sent)
            identity = {"Accept-Encoding": "identity"}
            assert get(sandbox, headers=identity).content == BODY
            sandbox.faults = [Fault.parse("empty,times=1")]
            assert [get(sandbox).content for _ in range(2)] == [b"", BODY]


def body_of(day: date) -> bytes:
    return b"".join(line + b"\n" for line in PROJECT.lines(day, as_of=NOON))


def lines(response: requests.Response) -> list[bytes]:
    return response.content.removesuffix(b"\n").split(b"\n")


class TestRefusals:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"from_date": None}, "Missing required parameter: from_date"),
            ({"to_date": None}, "Missing required parameter: to_date"),
            ({"from_date": ""}, "from_date is not a date in the form yyyy-mm-dd: "),
            ({"from_date": "20250101"}, "from_date is not a date in the form yyyy-mm-dd: 20250101"),
            ({"to_date": "2025-02-30"}, "to_date is not a date in the form yyyy-mm-dd: 2025-02-30"),
            ({"from_date": "2025-01-09"}, "from_date cannot be later than to_date"),
            ({"to_date": "2025-06-02"}, "to_date cannot be later than today"),
            ({"event": "Purchase"}, "event must be a JSON array of event names"),
            ({"event": "[1]"}, "event must be a JSON array of event names"),
            ({"event": '{"a": 1}'}, "event must be a JSON array of event names"),
            ({"where": "1 < 2"}, "Invalid where expression: not understood at '1 < 2'"),
            ({"limit": "0"}, "limit must be a number from 1 to 100000"),
            ({"limit": "100001"}, "limit must be a number from 1 to 100000"),
            ({"limit": "some"}, "limit must be a number from 1 to 100000"),
        ],
    )
    def test_parameters(
        self, sandbox: Sandbox, params: dict[str, str | None], message: str
    ) -> None:
        response = get(sandbox, params=params)
        assert (response.status_code, error(response)) == (400, message)
        assert sandbox.requests[0].status == 400

    def test_today_is_allowed(self, sandbox: Sandbox) -> None:
        assert get(sandbox, params={"to_date": "2025-06-01"}).status_code == 200

    @pytest.mark.parametrize(
        ("auth", "project_id", "status", "message"),
        [
            (None, "1", 400, "Unable to authenticate request"),
            (("sandbox", "wrong"), "1", 401, "Invalid service account credentials"),
            (("wrong", "sandbox-secret"), "1", 401, "Invalid service account credentials"),
            (("sandbox", "sandbox-secret"), None, 400, "Missing required parameter: project_id"),
            (("sandbox", "sandbox-secret"), "2", 403, "You do not have access to this project"),
            (
                ("sandbox-project-secret", ""),
                "1",
                400,
                "project_id must not be sent along with a project secret",
            ),
            (("wrong-project-secret", ""), None, 401, "Invalid service account credentials"),
        ],
    )
    def test_credentials(
        self,
        sandbox: Sandbox,
        auth: tuple[str, str] | None,
        project_id: str | None,
        status: int,
        message: str,
    ) -> None:
        response = get(sandbox, auth=auth, params={"project_id": project_id})
        assert (response.status_code, error(response)) == (status, message)

    @pytest.mark.parametrize("header", ["Bearer abc", "Basic ???", "Basic", "Basic YWJj"])
    def test_headers_that_are_no_basic_authentication(self, sandbox: Sandbox, header: str) -> None:
        response = get(sandbox, auth=None, headers={"Authorization": header})
        assert (response.status_code, error(response)) == (400, "Unable to authenticate request")

    def test_project_secret(self, sandbox: Sandbox) -> None:
        auth = ("sandbox-project-secret", "")
        response = get(sandbox, auth=auth, params={"project_id": None})
        assert response.content == BODY

    def test_other_places(self, sandbox: Sandbox) -> None:
        for path in ("/exports", "/export/", "/engage"):
            assert get(sandbox, path=path).status_code == 404
        response = requests.post(sandbox.url + "/export", data=b"x" * 100, timeout=10)
        assert (response.status_code, response.headers["Connection"]) == (405, "close")
        assert requests.head(sandbox.url + "/export", timeout=10).status_code == 405
        assert sandbox.requests == []


class TestLimits:
    def test_per_second_and_per_hour(self) -> None:
        now = 0.0
        limits = Limits(per_hour=3, per_second=2, retry_after=True, clock=lambda: now)
        with Sandbox(PROJECT, limits=limits) as sandbox:
            assert [get(sandbox).status_code for _ in range(3)] == [200, 200, 429]
            now = 1.0
            assert get(sandbox).status_code == 200
            response = get(sandbox)
            assert response.headers["Retry-After"] == "3599"
            assert error(response) == (
                "Query rate limit exceeded for project_id: 1. 1/100 queries running"
                " concurrently and 4/3 queries running in the last hour."
            )
            now = 3600.0
            assert get(sandbox).status_code == 200
            assert [request.status for request in sandbox.requests].count(429) == 2

    def test_refused_requests_do_not_count(self) -> None:
        with Sandbox(PROJECT, limits=Limits(per_hour=1)) as sandbox:
            assert get(sandbox, auth=("a", "b")).status_code == 401
            assert get(sandbox, params={"limit": "x"}).status_code == 400
            assert get(sandbox).status_code == 200

    def test_concurrent(self) -> None:
        faults = [Fault.parse("stall,times=2")]
        limits = Limits(per_second=9, concurrent=2)
        with Sandbox(PROJECT, limits=limits, faults=faults) as sandbox:
            stalled = [get(sandbox, stream=True) for _ in range(2)]
            response = get(sandbox)
            assert response.status_code == 429
            assert error(response) == "too many export requests in progress for this project"
            assert sandbox.max_concurrent == 3
            for each in stalled:
                each.close()

    def test_a_finished_request_has_left(self) -> None:
        limits = Limits(per_hour=1000, per_second=1000, concurrent=1)
        with Sandbox(PROJECT, limits=limits) as sandbox:
            assert {get(sandbox).status_code for _ in range(50)} == {200}
            assert sandbox.max_concurrent == 1
            assert len(sandbox.requests) == 50


def whole(response: requests.Response) -> None:
    assert response.content == BODY


def damaged(response: requests.Response) -> None:
    with pytest.raises((gzip.BadGzipFile, zlib.error)):
        gzip.decompress(raw(response))


def broken(response: requests.Response) -> None:
    with pytest.raises((ChunkedEncodingError, requests.ConnectionError)):
        _ = response.content


def gzip_cut(response: requests.Response) -> None:
    body = raw(response)
    assert len(body) > 0
    with pytest.raises(EOFError):
        gzip.decompress(body)


def body_is(expected: Callable[[], list[bytes]], end: bytes = b"\n") -> Any:
    def check(response: requests.Response) -> None:
        assert response.content == b"\n".join(expected()) + end

    return check


MIDDLE = len(LINES) // 2
LATER = [line for day in (*DAYS[1:], date(2025, 1, 9)) for line in PROJECT.lines(day, as_of=NOON)]


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "check"),
        [
            ("cut", broken),
            ("cut=0", broken),
            ("cut=100", broken),
            ("cut=1000000000", broken),
            ("cut=-1", broken),
            ("cut,clean", gzip_cut),
            ("cut=100,clean", gzip_cut),
            ("cut=-1,clean", gzip_cut),
            ("cut=-9,clean", gzip_cut),
            ("cut=1000000000,clean", whole),
            ("reset=0", broken),
            ("reset=100", broken),
            ("reset=middle", broken),
            ("stall=0.01", whole),
            ("stall=0.01,at=0", whole),
            ("stall=0.01,at=-1", whole),
            ("stall=0.01,at=1000000000", whole),
            ("trickle=0.001,at=-5", whole),
            ("second_answer", whole),
            ("another_window=0", whole),
            ("another_window=1", body_is(lambda: LATER)),
            ("damage", damaged),
            ("damage=0", damaged),
            ("damage=-8", damaged),
            ("plain", whole),
            ("empty", body_is(list, b"")),
            ("terminated_early", body_is(lambda: [*LINES[:MIDDLE], b"terminated early"])),
            ("terminated_early,after_lines=0", body_is(lambda: [b"terminated early"])),
            (
                "terminated_early,after_lines=-1",
                body_is(lambda: [*LINES[:-1], b"terminated early"]),
            ),
            (
                "terminated_early=export terminated early,after_lines=3",
                body_is(lambda: [*LINES[:3], b"export terminated early"]),
            ),
            ("line=99", body_is(lambda: [*LINES[:MIDDLE], b"99", *LINES[MIDDLE:]])),
            ("line=[],after_lines=0", body_is(lambda: [b"[]", *LINES])),
            (
                'line={"error": "a\\, b"},after_lines=1000000',
                body_is(lambda: [*LINES, b'{"error": "a, b"}']),
            ),
            (
                "half_line",
                body_is(lambda: [*LINES[:-1], LINES[-1][: (len(LINES[-1]) + 1) // 2]], b""),
            ),
        ],
    )
    def test_bodies(
        self, sandbox: Sandbox, text: str, check: Callable[[requests.Response], None]
    ) -> None:
        fault = Fault.parse(f"{text},times=1")
        sandbox.faults = [fault]
        response = get(sandbox, stream=True)
        assert response.status_code == 200
        check(response)
        [request] = sandbox.requests
        assert request.fault == fault
        assert request.complete is (check is not broken)
        assert get(sandbox).content == BODY

    def test_bytes_before_a_reset(self, sandbox: Sandbox) -> None:
        sandbox.faults = [Fault.parse("reset=100")]
        broken(get(sandbox, stream=True))
        assert sandbox.requests[0].bytes_sent == 100

    def test_reset_before_the_headers(self, sandbox: Sandbox) -> None:
        sandbox.faults = [Fault.parse("reset")]
        with pytest.raises(requests.ConnectionError, match="reset by peer"):
            get(sandbox)
        assert sandbox.requests[0].status is None

    @pytest.mark.parametrize("text", ["chunk_size", "chunk_size=x,at=0"])
    def test_a_chunk_size_that_is_none(self, sandbox: Sandbox, text: str) -> None:
        sandbox.faults = [Fault.parse(text)]
        with pytest.raises((ChunkedEncodingError, requests.ConnectionError, ValueError)):
            _ = get(sandbox, stream=True).content

    def test_a_late_answer_precedes_the_next_on_the_connection(self, sandbox: Sandbox) -> None:
        sandbox.faults = [Fault.parse("second_answer,times=1")]
        first, second = ({"from_date": str(day), "to_date": str(day)} for day in DAYS[:2])
        with requests.Session() as session:
            found = [
                session.get(
                    f"{sandbox.url}/export",
                    params=RANGE | {"project_id": "1"} | params,
                    auth=sandbox.auth,
                    timeout=10,
                ).content
                for params in (first, second)
            ]
        assert found == [body_of(DAYS[0])] * 2

    def test_an_endless_body(self, sandbox: Sandbox) -> None:
        sandbox.faults = [Fault.parse("endless")]
        with get(sandbox, stream=True) as response:
            text = b"".join(islice(response.iter_content(len(BODY)), 4))
        assert text.startswith(BODY * 2)
        past = {"from_date": "1999-01-01", "to_date": "1999-01-01"}
        assert get(sandbox, params=past).content == b""

    def test_an_error_that_trickles(self, sandbox: Sandbox) -> None:
        sandbox.faults = [Fault.parse("status=401,body=abc,trickle=0.05")]
        started = time.monotonic()
        assert get(sandbox).content == b"abc"
        assert time.monotonic() - started > 0.1

    def test_plain(self, sandbox: Sandbox) -> None:
        sandbox.faults = [Fault.parse("plain")]
        assert "Content-Encoding" not in get(sandbox).headers

    @pytest.mark.parametrize(
        ("text", "status", "content_type", "body"),
        [
            ("status=500", 500, "application/json", b'{"error": "a fault as ordered"}'),
            ("status=502,body=<p>,content_type=text/html", 502, "text/html", b"<p>"),
            ("status=504,body=", 504, None, b""),
            (
                "status=200,body=maintenance,content_type=text/html",
                200,
                "text/html",
                b"maintenance",
            ),
            ("status=599", 599, "application/json", b'{"error": "a fault as ordered"}'),
        ],
    )
    def test_status(
        self, sandbox: Sandbox, text: str, status: int, content_type: str | None, body: bytes
    ) -> None:
        sandbox.faults = [Fault.parse(text)]
        response = get(sandbox)
        assert (response.status_code, response.content) == (status, body)
        assert response.headers.get("Content-Type") == content_type
        assert sandbox.requests[0].status == status

    def test_retry_after(self, sandbox: Sandbox) -> None:
        sandbox.faults = [Fault.parse("status=429,retry_after=7")]
        assert get(sandbox).headers["Retry-After"] == "7"

    def test_redirect(self, sandbox: Sandbox) -> None:
        sandbox.faults = [Fault.parse("redirect=http://127.0.0.1:1/login")]
        response = get(sandbox)
        assert response.status_code == 302
        assert response.headers["Location"] == "http://127.0.0.1:1/login"

    def test_refused_requests_have_no_faults(self, sandbox: Sandbox) -> None:
        sandbox.faults = [Fault.parse("status=500,times=1")]
        assert get(sandbox, auth=("a", "b")).status_code == 401
        assert get(sandbox).status_code == 500


class TestLife:
    def test_url_only_while_it_runs(self) -> None:
        sandbox = Sandbox()
        with pytest.raises(RuntimeError, match="not started"):
            _ = sandbox.url
        with sandbox.start():
            assert urlsplit(sandbox.url).path == "/api/2.0"
            with pytest.raises(RuntimeError, match="started already"):
                sandbox.start()
        with pytest.raises(RuntimeError, match="not started"):
            _ = sandbox.url
        sandbox.stop()

    def test_it_can_start_again_on_the_same_port(self) -> None:
        with Sandbox(PROJECT) as first:
            port = first.port
            get(first)
        with Sandbox(PROJECT, port=port, as_of=lambda: NOON) as second:
            assert get(second).content == BODY

    def test_stop_breaks_off_whatever_is_in_progress(self) -> None:
        slow = Shaping(first_byte_seconds=1000)
        results: list[object] = []

        def attempt(sandbox: Sandbox) -> None:
            try:
                results.append(get(sandbox).content)
            except requests.RequestException as error:
                results.append(error)

        faults = [Fault.parse("stall,times=1")]
        for options in ({"shaping": slow}, {"faults": faults}, {"shaping": Shaping(0, 0, 10)}):
            arguments: dict[str, Any] = {"limits": None, **options}
            with Sandbox(PROJECT, **arguments) as sandbox:
                idle = socket.create_connection(("127.0.0.1", sandbox.port))
                thread = threading.Thread(target=attempt, args=[sandbox])
                thread.start()
                while not sandbox.max_concurrent:
                    time.sleep(0.001)
            thread.join(5)
            idle.close()
            [request] = sandbox.requests
            assert not request.complete
        assert len(results) == 3
        assert all(isinstance(result, requests.RequestException) for result in results)

    def test_shaping_delivers_everything(self) -> None:
        shaping = Shaping(0.01, 0.001, bytes_per_second=10**7)
        with Sandbox(PROJECT, shaping=shaping, as_of=lambda: NOON) as sandbox:
            assert get(sandbox).content == BODY

    def test_quiet_also_when_clients_go_away(self, capfd: pytest.CaptureFixture[str]) -> None:
        with Sandbox(Project(events_per_day=20_000), limits=None) as sandbox:
            get(sandbox, stream=True).close()
            with socket.create_connection(("127.0.0.1", sandbox.port)) as connection:
                connection.sendall(b"GET /api/2.0/exp")
        [request] = sandbox.requests
        assert not request.complete
        assert capfd.readouterr() == ("", "")

    def test_parallel_requests_all_get_the_same(self, sandbox: Sandbox) -> None:
        bodies: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: bodies.append(get(sandbox).content)) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bodies == [BODY] * 20
        assert 1 <= sandbox.max_concurrent <= 20


class TestCommandLine:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_serves_until_a_signal(self, tmp_path: Path, number: signal.Signals) -> None:
        port_file = tmp_path / "port"
        arguments = ["--port=0", f"--port-file={port_file}", "--events-per-day=120"]
        arguments += ["--as-of=2025-06-01T12:00", "--fault=status=500,times=1"]
        command = [sys.executable, "-m", "tap_mixpanel_parallel.sandbox", *arguments]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            said = dict(word.split("=", 1) for word in process.stdout.readline().split())
            assert port_file.read_text() in said["api_url"]
            auth = (said["service_account_username"], said["service_account_secret"])
            parameters = {"project_id": said["project_id"], **RANGE}
            responses = [
                requests.get(said["api_url"] + "/export", params=parameters, auth=auth, timeout=10)
                for _ in range(2)
            ]
            process.send_signal(number)
            assert process.wait(10) == 0
        assert [response.status_code for response in responses] == [500, 200]
        assert responses[1].content == BODY

    def test_help_has_examples_and_faults(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="0"):
            main(["--help"])
        text = capsys.readouterr().out
        for word in ("--events-per-day", "examples:", "terminated_early", "each_range"):
            assert word in text

    def test_every_fault_in_the_help_is_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--help"])
        described = capsys.readouterr().out.partition("faults, for --fault:")[2]
        examples = [line[4:] for line in described.splitlines() if line.startswith("    ")]
        for example in examples:
            Fault.parse(example.partition("  ")[0])
        assert len(examples) > 10

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--fault", "explode"], "argument --fault: unknown fault 'explode'"),
            (["--as-of", "soon"], "argument --as-of: "),
            (["--events-per-day", "-1"], "events_per_day must not be negative"),
            (["--timezone", "Mars/Olympus"], "No time zone found with key Mars/Olympus"),
            (["--bytes-per-second", "0"], "bytes_per_second must be positive"),
        ],
    )
    def test_errors(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["--port=0", *arguments])
        assert message in capsys.readouterr().err
