"""The sandbox over HTTP on the loopback interface: exports, refusals, limits, its life."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
import zlib
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import requests

from tap_mixpanel_parallel.sandbox import Fault, Limits, Project, Sandbox, Shaping
from tests.sandbox.served import BODY, DAYS, LINES, NOON, PROJECT, RANGE, error, get, lines, raw


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

    def test_a_trailing_slash(self, sandbox: Sandbox) -> None:
        assert get(sandbox, path="/export/").content == BODY

    def test_a_form(self, sandbox: Sandbox) -> None:
        where = 'properties["plan"] == "Pro (annual)" and "é&=" != "+"'
        form = RANGE | {"project_id": "1", "where": where}
        with requests.Session() as session:
            for path in ("/export", "/export/"):
                response = session.post(
                    sandbox.url + path, data=form, auth=sandbox.auth, timeout=10
                )
                assert response.content == get(sandbox, params={"where": where}).content != b""
            mixed = session.post(
                f"{sandbox.url}/export?project_id=1", data=RANGE, auth=sandbox.auth, timeout=10
            )
            assert mixed.content == BODY
            empty = session.post(sandbox.url + "/export", auth=sandbox.auth, timeout=10)
            assert error(empty) == "Missing required parameter: project_id"

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ("Transfer-Encoding: chunked", 411),
            ("Content-Length: -1", 411),
            ("Content-Length: ²", 411),
            ("Content-Length: 1048577", 413),
        ],
    )
    def test_a_form_of_unknown_or_large_size(
        self, sandbox: Sandbox, headers: str, status: int
    ) -> None:
        request = f"POST /api/2.0/export HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=10) as connection:
            connection.sendall(request.encode("latin-1"))
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"Connection: close" in answer
        assert sandbox.requests == []

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
            ({"where": "1 = 2"}, "Invalid where expression: not understood at '= 2'"),
            ({"limit": "0"}, "limit must be a number from 1 to 100000"),
            ({"limit": "100001"}, "limit must be a number from 1 to 100000"),
            ({"limit": "some"}, "limit must be a number from 1 to 100000"),
            ({"limit": "9" * 4400}, "limit must be a number from 1 to 100000"),
            ({"event": "[" * 9000}, "event must be a JSON array of event names"),
            (
                {"where": "(" * 9000},
                "Invalid where expression: it is nested more than 40 levels deep",
            ),
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

    @pytest.mark.parametrize("header", ["Bearer abc", "Basic", "Basic ", "abc"])
    def test_headers_that_are_not_basic_authentication(self, sandbox: Sandbox, header: str) -> None:
        response = get(sandbox, auth=None, headers={"Authorization": header})
        assert (response.status_code, error(response)) == (400, "Unable to authenticate request")

    @pytest.mark.parametrize(
        ("text", "project_id", "status"),
        [
            ("sandbox:sandbox-secret", "1", 200),
            ("sandbox:sandbox-secret", None, 400),
            ("sandbox:wrong", "1", 401),
            ("sandbox", "1", 401),
            ("sandbox-project-secret:", None, 200),
            ("sandbox-project-secret", None, 200),
            ("sandbox-project-secret", "1", 400),
            ("sandbox-project-secret:wrong", None, 401),
            ("\xff", None, 401),
        ],
    )
    @pytest.mark.parametrize("encoded", [True, False])
    def test_basic_in_base64_and_in_plain_text(
        self, sandbox: Sandbox, text: str, project_id: str | None, status: int, encoded: bool
    ) -> None:
        raw = text.encode("latin-1")
        header = b"Basic " + (base64.b64encode(raw) if encoded else raw)
        response = get(
            sandbox,
            auth=lambda request: request,  # else a .netrc could add another
            headers={"Authorization": header},
            params={"project_id": project_id},
        )
        assert response.status_code == status

    def test_other_places(self, sandbox: Sandbox) -> None:
        for path in ("/exports", "/export//", "/engage"):
            assert get(sandbox, path=path).status_code == 404
            assert requests.post(sandbox.url + path, data=RANGE, timeout=10).status_code == 404
        response = requests.put(sandbox.url + "/export", data=b"x" * 100, timeout=10)
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
