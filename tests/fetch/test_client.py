"""One window's request: what is sent, what each answer means, and no secret in any error."""

from __future__ import annotations

import base64
import errno
import gzip
import json
import math
import os
import re
import resource
import time
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, quote_plus, urlsplit
from zoneinfo import ZoneInfo

import pytest
import requests
import urllib3

from tap_mixpanel_parallel.convert.body import read_blocks
from tap_mixpanel_parallel.convert.conversion import Conversion, ConversionOptions
from tap_mixpanel_parallel.convert.record_lines import row_encoder
from tap_mixpanel_parallel.exceptions import (
    AttemptError,
    IncompleteExportError,
    LaterThanTodayError,
    OversizeError,
    RateLimitError,
    RefusedError,
    SpoolError,
    TapError,
    TransportError,
)
from tap_mixpanel_parallel.fetch import answers as answers_module
from tap_mixpanel_parallel.fetch import client as client_module
from tap_mixpanel_parallel.fetch.client import download as fetch
from tap_mixpanel_parallel.fetch.job import Download, Job, Query
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.sandbox import Fault, Limits, Project, Sandbox
from tap_mixpanel_parallel.settings.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from requests_mock import Mocker

COUNTED = "requests of others and of earlier runs count too"
HOST = "data.mixpanel.com"
URL = f"https://{HOST}/api/2.0"
WEEK = Window(date(2025, 1, 6), date(2025, 1, 8))
SECRET = "p&ss w/rd+42"
ACCOUNT = Credentials("bob@mp", SECRET, "123")


class Client:
    """Makes attempts with one query."""

    def __init__(self, url: str, credentials: Credentials, **options: Any) -> None:
        self.query = Query(url, credentials, **options)

    def download(self, window: Window, path: Path) -> Download:
        return fetch(Job(window, self.query, path))


def client(credentials: Credentials = ACCOUNT, **options: Any) -> Client:
    return Client(URL, credentials, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "window.body"


def answer(mock: Mocker, body: bytes = b"", status: int = 200, **headers: str) -> None:
    """Answer every export with this; a name's underscores stand for hyphens."""
    length = {"Content-Length": str(len(body))}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    mock.get(f"{URL}/export", content=body, status_code=status, headers=length | given)


def error(path: Path) -> TapError:
    """What a request ends with."""
    with pytest.raises(TapError) as caught:
        client().download(WEEK, path)
    text = str(caught.value)
    for secret in (SECRET, quote(SECRET, safe=""), quote_plus(SECRET)):
        assert secret not in text
    assert "\n" not in text
    return caught.value


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process grows beyond this size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def problem(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


class TestRequest:
    def test_a_service_account(self, requests_mock: Mocker, path: Path) -> None:
        answer(requests_mock, b"{}\n")
        client().download(WEEK, path)
        [request] = requests_mock.request_history
        assert request.url.startswith(f"{URL}/export?")
        assert request.qs == {
            "from_date": ["2025-01-06"],
            "to_date": ["2025-01-08"],
            "time_in_ms": ["true"],
            "project_id": ["123"],
        }
        assert request.headers["Accept-Encoding"] == "gzip"
        assert re.fullmatch(r"tap-mixpanel-parallel/\d+\.\d+\.\d+", request.headers["User-Agent"])
        assert request.headers["Connection"] == "close"
        assert request.headers["Cache-Control"] == "no-cache, no-store"
        assert request.headers["Pragma"] == "no-cache"
        assert request.timeout == (60.0, 600.0)

    def test_a_project_secret_goes_without_project_id(
        self, requests_mock: Mocker, path: Path
    ) -> None:
        answer(requests_mock)
        client(Credentials("s3cret", "", None)).download(WEEK, path)
        [request] = requests_mock.request_history
        assert "project_id" not in request.qs
        assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"s3cret:").decode()

    def test_filters(self, requests_mock: Mocker, path: Path) -> None:
        answer(requests_mock)
        where = 'properties["Plan"] == "pro" and x > 1'
        client(events=("Sign Up", "達成"), where=where, event_limit=7).download(WEEK, path)
        [request] = requests_mock.request_history
        sent = parse_qs(urlsplit(request.url).query)
        assert json.loads(sent["event"][0]) == ["Sign Up", "達成"]
        assert sent["where"] == [where]
        assert sent["limit"] == ["7"]

    @pytest.mark.parametrize(("name", "secret"), [("bob", "pass"), ("東京", "sécret:x"), ("ÿ", "")])
    def test_credentials_are_utf_8(
        self, requests_mock: Mocker, path: Path, name: str, secret: str
    ) -> None:
        answer(requests_mock)
        client(Credentials(name, secret, "1")).download(WEEK, path)
        [request] = requests_mock.request_history
        kind, _, encoded = request.headers["Authorization"].partition(" ")
        assert kind == "Basic"
        assert base64.b64decode(encoded).decode() == f"{name}:{secret}"

    def test_a_short_timeout_is_for_the_connection_as_well(
        self, requests_mock: Mocker, path: Path
    ) -> None:
        answer(requests_mock)
        client(timeout=5.0).download(WEEK, path)
        assert requests_mock.request_history[0].timeout == (5.0, 5.0)


class TestBody:
    @pytest.mark.parametrize(
        ("encoding", "compressed"),
        [("gzip", True), ("GZIP", True), (" x-gzip ", True), ("identity", False), ("", False)],
    )
    def test_it_is_kept_as_received(
        self, requests_mock: Mocker, path: Path, encoding: str, compressed: bool
    ) -> None:
        body = bytes(range(256)) * 1000
        answer(requests_mock, body, Content_Encoding=encoding)
        before = datetime.now(UTC)
        download = client().download(WEEK, path)
        assert path.read_bytes() == body
        assert (download.path, download.compressed, download.size) == (path, compressed, len(body))
        assert before <= download.received_at <= datetime.now(UTC)

    def test_chunks_need_no_length(self, requests_mock: Mocker, path: Path) -> None:
        headers = {"Content-Encoding": "gzip", "Transfer-Encoding": "Chunked"}
        requests_mock.get(f"{URL}/export", headers=headers, content=b"abc")
        assert client().download(WEEK, path).size == 3

    @pytest.mark.parametrize(
        "framing",
        [
            {},
            {"Content-Length": ""},
            {"Content-Length": "abc"},
            {"Content-Length": "-1"},
            {"Transfer-Encoding": "xchunked"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("encoding", [{}, {"Content-Encoding": "gzip"}], ids=str)
    def test_an_end_that_nothing_names_proves_nothing(
        self, requests_mock: Mocker, path: Path, framing: dict[str, str], encoding: dict[str, str]
    ) -> None:
        requests_mock.get(f"{URL}/export", headers=framing | encoding, content=b"abc")
        with pytest.raises(IncompleteExportError, match="neither its length nor its end"):
            client().download(WEEK, path)

    def test_an_empty_body_is_a_day_without_events(self, requests_mock: Mocker, path: Path) -> None:
        answer(requests_mock)
        assert client().download(WEEK, path).size == 0

    def test_an_empty_body_is_no_gzip(self, requests_mock: Mocker, path: Path) -> None:
        answer(requests_mock, Content_Encoding="gzip")
        found = error(path)
        assert type(found) is IncompleteExportError
        assert str(found) == "the answer is cut: gzip without a byte"

    def test_no_length_and_no_chunks(self, requests_mock: Mocker, path: Path) -> None:
        requests_mock.get(f"{URL}/export", content=b"{}\n")
        found = error(path)
        assert type(found) is IncompleteExportError
        assert "neither its length nor its end" in str(found)

    @pytest.mark.parametrize("age", ["3", "86400", " 120 "])
    def test_an_answer_that_is_older_than_its_request(
        self, requests_mock: Mocker, path: Path, age: str
    ) -> None:
        answer(requests_mock, b"{}\n", Age=age)
        found = error(path)
        assert type(found) is IncompleteExportError
        assert str(found).startswith("a cache on the way answers, with what Mixpanel said ")

    @pytest.mark.parametrize("age", ["", "0", "1", "-5", "soon", "9" * 5000])
    def test_an_answer_that_is_not(self, requests_mock: Mocker, path: Path, age: str) -> None:
        answer(requests_mock, b"{}\n", Age=age)
        assert client().download(WEEK, path).size == 3

    def test_a_body_that_is_larger_than_any(self, requests_mock: Mocker, path: Path) -> None:
        answer(requests_mock, b"x" * 2_000_001)
        with pytest.raises(OversizeError, match=r"larger than 2 MB \(max_window_mb\)"):
            client(most_bytes=2_000_000).download(WEEK, path)

    @pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
    def test_an_encoding_that_nobody_asked_for(
        self, requests_mock: Mocker, path: Path, encoding: str
    ) -> None:
        answer(requests_mock, b"x", Content_Encoding=encoding)
        found = error(path)
        assert type(found) is TransportError
        assert f"{encoding!r}, which nobody asked for" in str(found)

    @pytest.mark.parametrize("size", [1_001, 65_536, 100_000])
    def test_a_full_disk(self, requests_mock: Mocker, path: Path, size: int) -> None:
        """The system may take a part of a piece, and say so without an error."""
        answer(requests_mock, b"x" * size)
        (path.parent / "1.lines").write_bytes(b"x" * 1_000)
        with files_of_at_most(1_000):
            found = error(path)
        assert type(found) is SpoolError
        assert f"spool_dir: {path.parent} can't be written (File too large)" in str(found)
        assert not path.exists(), "nothing is left of an attempt that failed"

    def test_a_link_in_its_place(self, requests_mock: Mocker, path: Path) -> None:
        answer(requests_mock, b"x" * 1_000)
        (path.parent / "precious").write_bytes(b"x" * 100_000)
        path.symlink_to("precious")
        found = error(path)
        assert type(found) is SpoolError
        assert f"spool_dir: {path.parent} can't be written (File exists)" in str(found)
        assert (path.parent / "precious").stat().st_size == 100_000


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "body", "kind", "text"),
        [
            (
                400,
                problem("Unable to authenticate request"),
                RefusedError,
                "Mixpanel refuses the export. HTTP 400: Unable to authenticate request; check "
                "service_account_username and service_account_secret (or project_secret), and "
                "region",
            ),
            (
                400,
                problem("to_date cannot be later than today"),
                LaterThanTodayError,
                "Mixpanel refuses the export. HTTP 400: to_date cannot be later than today; "
                "check the clock of this machine, and project_timezone",
            ),
            (
                400,
                problem("Invalid where expression"),
                RefusedError,
                "Mixpanel refuses the export. HTTP 400: Invalid where expression; "
                "check events, where and project_timezone",
            ),
            (
                400,
                problem("Unable to find project: invalid project id for cluster us"),
                RefusedError,
                "Mixpanel refuses the export. HTTP 400: Unable to find project: invalid project "
                "id for cluster us; check region and project_id: each region knows its own "
                "projects only",
            ),
            (
                401,
                problem("Invalid service account credentials"),
                RefusedError,
                "Mixpanel refuses the export. HTTP 401: Invalid service account credentials; "
                "check service_account_username and service_account_secret (or project_secret), "
                "and region",
            ),
            (
                402,
                problem("Your plan does not allow API calls"),
                RefusedError,
                "Mixpanel refuses the export. HTTP 402: Your plan does not allow API calls; the "
                "raw export is not part of the project's plan",
            ),
            (
                403,
                b"",
                RefusedError,
                "Mixpanel refuses the export. HTTP 403; give the service account access to the "
                "project, and check project_id and region",
            ),
            (
                404,
                b"<h1>Not Found</h1>",
                RefusedError,
                "Mixpanel refuses the export. HTTP 404: Not Found; check region and api_url",
            ),
            (
                302,
                b"",
                RefusedError,
                "HTTP 302: Mixpanel redirects, and credentials follow no redirect; check region "
                "and api_url",
            ),
            (204, b"", TransportError, "HTTP 204"),
            (408, b"slow", TransportError, "HTTP 408: slow"),
            (
                500,
                b"<html><head><style>p {}</style><script>let x</script></head>\n"
                b"<body>Internal &amp; bad\n\n error</body></html>",
                TransportError,
                "HTTP 500: Internal & bad error",
            ),
            (502, b'{"status": "error"}', TransportError, 'HTTP 502: {"status": "error"}'),
            (503, b"", TransportError, "HTTP 503"),
            (599, b"[1]", TransportError, "HTTP 599: [1]"),
            (500, b"\xff\xfe", TransportError, "HTTP 500: \ufffd\ufffd"),
            (429, problem("too many"), RateLimitError, f"HTTP 429: too many; {COUNTED}"),
        ],
    )
    def test_statuses(
        self,
        requests_mock: Mocker,
        path: Path,
        status: int,
        body: bytes,
        kind: type[TapError],
        text: str,
    ) -> None:
        answer(requests_mock, body, status)
        found = error(path)
        assert type(found) is kind
        assert str(found) == text
        assert isinstance(found, RefusedError) is (kind is RefusedError)
        assert not path.exists()

    def test_no_redirect_is_followed(self, requests_mock: Mocker, path: Path) -> None:
        elsewhere = requests_mock.get("https://elsewhere.example/", content=b"{}\n")
        answer(requests_mock, b"", 302, Location="https://elsewhere.example/")
        assert isinstance(error(path), RefusedError)
        assert not elsewhere.called

    def test_a_long_answer_is_cut(self, requests_mock: Mocker, path: Path) -> None:
        answer(requests_mock, b"x" * 100_000, 500)
        assert str(error(path)) == "HTTP 500: " + "x" * 200

    def test_a_compressed_error(self, requests_mock: Mocker, path: Path) -> None:
        body = gzip.compress(problem("no"))
        answer(requests_mock, body, 500, Content_Encoding="gzip")
        assert str(error(path)) == "HTTP 500: no"

    def test_a_compressed_error_that_is_damaged(self, requests_mock: Mocker, path: Path) -> None:
        answer(requests_mock, b"no gzip", 500, Content_Encoding="gzip")
        assert str(error(path)) == "HTTP 500"

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("3600", 3600.0),
            ("0", 0.0),
            ("9" * 400, math.inf),
            ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
            ("Fri, 31 Dec 2027 23:59:59 +99999999999999", None),
            (" 7 ", 7.0),
            (None, None),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
            ("Wed, 15 Jan 2025 10:01:30 GMT", 90.0),
        ],
    )
    def test_retry_after(
        self,
        requests_mock: Mocker,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        value: str | None,
        seconds: float | None,
    ) -> None:
        now = datetime(2025, 1, 15, 10, tzinfo=UTC).timestamp()
        monkeypatch.setattr(answers_module.time, "time", lambda: now)
        answer(requests_mock, b"", 429, **({} if value is None else {"Retry_After": value}))
        found = error(path)
        assert isinstance(found, RateLimitError)
        assert found.retry_after == seconds

    def test_retry_after_as_the_standard_writes_it(self, requests_mock: Mocker, path: Path) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        answer(requests_mock, b"", 429, Retry_After=format_datetime(later, usegmt=True))
        found = error(path)
        assert isinstance(found, RateLimitError)
        assert found.retry_after == pytest.approx(3600, abs=10)

    @pytest.mark.parametrize(
        ("raised", "text"),
        [
            (requests.ReadTimeout("x"), "no byte for 600 seconds (request_timeout)"),
            (requests.ConnectTimeout("x"), f"no connection to {HOST} within 60 seconds"),
            (requests.ConnectionError("refused"), f"{HOST}: refused"),
            (
                requests.ConnectionError(
                    urllib3.exceptions.ProtocolError("aborted", ConnectionResetError(104, "reset"))
                ),
                "reset",
            ),
            (requests.ConnectionError(f"auth {SECRET} of bob"), "auth *** of bob"),
            (
                requests.ConnectionError(f"/x?a={quote(SECRET, safe='')}&b={quote_plus(SECRET)}"),
                "/x?a=***&b=***",
            ),
            (requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), "CERTIFICATE_VERIFY_FAIL"),
            (requests.exceptions.SSLError("x"), f"{HOST}: x; where a proxy signs"),
            (requests.exceptions.ChunkedEncodingError("broken"), f"{HOST}: broken"),
            (urllib3.exceptions.IncompleteRead(7, 9), f"{HOST}: "),
            (ValueError(f"no {SECRET}"), f"{HOST}: ValueError: no ***"),
            (MemoryError(), f"{HOST}: MemoryError: MemoryError"),
            (
                requests.ConnectionError(OSError(errno.EMFILE, os.strerror(errno.EMFILE))),
                "Too many open files; raise the limit of open files (ulimit -n), or lower workers",
            ),
        ],
        ids=[
            "read timeout",
            "connect timeout",
            "refused",
            "reset",
            "secret",
            "quoted",
            "tls",
            "tls's hint",
            "broken",
            "cut",
            "none of a library's own",
            "without a text",
            "files",
        ],
    )
    def test_transport(
        self, requests_mock: Mocker, path: Path, raised: Exception, text: str
    ) -> None:
        requests_mock.get(f"{URL}/export", exc=raised)
        found = error(path)
        assert type(found) is TransportError
        assert text in str(found)
        assert found.__suppress_context__


class TestSecrets:
    FORMS = pytest.mark.parametrize(
        "said",
        [
            SECRET,
            quote(SECRET, safe=""),
            quote_plus(SECRET),
            f"https://bob%40mp:{quote(SECRET, safe='')}@data.mixpanel.com",
            f"{SECRET}{SECRET}",
            "Basic " + base64.b64encode(f"bob@mp:{SECRET}".encode()).decode(),
        ],
        ids=["plain", "quoted", "form", "url", "twice", "header"],
    )

    @FORMS
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
    @pytest.mark.parametrize("as_json", [True, False])
    def test_what_the_server_echoes(
        self, requests_mock: Mocker, path: Path, status: int, as_json: bool, said: str
    ) -> None:
        answer(requests_mock, problem(said) if as_json else said.encode(), status)
        text = str(error(path))
        assert "***" in text
        assert base64.b64encode(f"bob@mp:{SECRET}".encode()).decode() not in text

    def test_a_secret_that_is_cut(self, requests_mock: Mocker, path: Path) -> None:
        answer(requests_mock, b"x" * 191 + b" " + SECRET.encode(), 500)
        assert SECRET[:6] not in str(error(path))

    def test_a_project_secret(self, requests_mock: Mocker, path: Path) -> None:
        answer(requests_mock, b"bad s3cret", 500)
        with pytest.raises(TransportError, match=r"^HTTP 500: bad \*\*\*$"):
            client(Credentials("s3cret", "", None)).download(WEEK, path)


PROJECT = Project(events_per_day=120)
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
LINES = [each for day in WEEK.days() for each in PROJECT.lines(day, as_of=NOON)]


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with Sandbox(PROJECT, limits=None, as_of=lambda: NOON) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(server: Sandbox) -> Iterator[Sandbox]:
    yield server
    server.faults = ()


def visitor(sandbox: Sandbox, **options: Any) -> Client:
    account = sandbox.credentials
    credentials = Credentials(account.username, account.secret, account.project_id)
    return Client(sandbox.url, credentials, **options)


def read(download: Download) -> list[bytes]:
    """The lines of a body, which is no longer needed then."""
    lines = [each for block in read_blocks(download) for each in block.lines]
    download.path.unlink()
    return lines


class TestSandbox:
    @pytest.mark.parametrize("fault", [None, "plain"])
    def test_a_window(self, sandbox: Sandbox, path: Path, fault: str | None) -> None:
        if fault:
            sandbox.faults = [Fault.parse(fault)]
        download = visitor(sandbox).download(WEEK, path)
        assert download.compressed is (fault is None)
        assert download.size == path.stat().st_size
        found = read(download)
        assert len(found) == len(LINES)
        plain = [each for each in LINES if b"\\ud83d" not in each.lower()]
        assert set(plain) <= set(found)

    def test_filters_and_limit(self, sandbox: Sandbox, path: Path) -> None:
        found = read(visitor(sandbox, events=["Purchase"]).download(WEEK, path))
        assert {json.loads(each)["event"] for each in found} == {"Purchase"}
        where = 'properties["Plan"] == "pro"'
        found = read(visitor(sandbox, where=where).download(WEEK, path))
        assert {json.loads(each)["properties"]["Plan"] for each in found} == {"pro"}
        assert len(read(visitor(sandbox, event_limit=3).download(WEEK, path))) == 3

    def test_a_project_secret(self, sandbox: Sandbox, path: Path) -> None:
        credentials = Credentials(sandbox.credentials.project_secret, "", None)
        download = Client(sandbox.url, credentials).download(WEEK, path)
        assert len(read(download)) == len(LINES)

    @pytest.mark.parametrize(
        ("credentials", "status"),
        [
            (Credentials("sandbox", "wrong", "1"), 401),
            (Credentials("sandbox", "sandbox-secret", "2"), 403),
            (Credentials("sandbox", "sandbox-secret", None), 400),
            (Credentials("wrong", "", None), 401),
        ],
    )
    def test_refused(
        self, sandbox: Sandbox, path: Path, credentials: Credentials, status: int
    ) -> None:
        with pytest.raises(RefusedError, match=f"HTTP {status}: "):
            Client(sandbox.url, credentials).download(WEEK, path)

    @pytest.mark.parametrize(
        "fault", ["cut", "cut=1", "cut=-1", "cut,seed=2", "reset", "reset=500"]
    )
    @pytest.mark.parametrize("plain", [True, False])
    def test_broken_off(
        self,
        sandbox: Sandbox,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        fault: str,
        plain: bool,
    ) -> None:
        sandbox.faults = [Fault.parse(fault)]
        fetcher = visitor(sandbox)
        if plain:
            monkeypatch.setitem(client_module._HEADERS, "Accept-Encoding", "identity")
        with pytest.raises(TransportError):
            fetcher.download(WEEK, path)

    @pytest.mark.parametrize(
        "fault",
        ["cut,clean", "cut=-1,clean", "damage=-8", "damage", "half_line", "terminated_early"],
    )
    def test_spoiled_but_whole_to_the_transport(
        self, sandbox: Sandbox, path: Path, fault: str
    ) -> None:
        sandbox.faults = [Fault.parse(fault)]
        download = visitor(sandbox).download(WEEK, path)
        with pytest.raises(IncompleteExportError):
            list(
                Conversion(
                    WEEK,
                    download,
                    ConversionOptions(ZoneInfo("UTC")),
                    row_encoder(properties_as_text=False),
                )
            )

    @pytest.mark.parametrize("fault", ["stall", "stall,at=0", "stall,at=-1"])
    def test_stalled(self, sandbox: Sandbox, path: Path, fault: str) -> None:
        sandbox.faults = [Fault.parse(fault)]
        started = time.monotonic()
        with pytest.raises(TransportError, match=r"no byte for 0\.05 seconds \(request_timeout\)"):
            visitor(sandbox, timeout=0.05).download(WEEK, path)
        assert time.monotonic() - started < 5

    def test_each_request_has_its_own_connection(
        self, sandbox: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where the server keeps it: what it sends twice is nobody's next answer."""
        sandbox.faults = [Fault.parse("second_answer")]
        fetcher = visitor(sandbox)
        monkeypatch.setitem(client_module._HEADERS, "Connection", "keep-alive")
        for day in WEEK.days():
            found = read(fetcher.download(Window(day, day), path))
            assert len(found) == len(list(PROJECT.lines(day, as_of=NOON)))

    @pytest.mark.parametrize("fault", ["trickle=0.02", "trickle=0.02,at=0", "stall"])
    def test_an_attempt_ends(self, sandbox: Sandbox, path: Path, fault: str) -> None:
        sandbox.faults = [Fault.parse(fault)]
        started = time.monotonic()
        with pytest.raises(TransportError, match=r"^not whole after 0\.1 seconds \(attempt_timeo"):
            visitor(sandbox, attempt_timeout=0.1).download(WEEK, path)
        assert time.monotonic() - started < 5

    def test_an_attempt_that_ends_while_it_connects(
        self, sandbox: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect = urllib3.connection.HTTPConnection._new_conn

        def connect_late(connection: urllib3.connection.HTTPConnection) -> Any:
            time.sleep(0.5)
            return connect(connection)

        monkeypatch.setattr(urllib3.connection.HTTPConnection, "_new_conn", connect_late)
        sandbox.faults = [Fault.parse("stall")]
        started = time.monotonic()
        with pytest.raises(TransportError, match=r"^not whole after 0\.1 seconds \(attempt_timeo"):
            visitor(sandbox, attempt_timeout=0.1).download(WEEK, path)
        assert time.monotonic() - started < 5

    def test_the_text_of_an_error_may_not_take_long(
        self, sandbox: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client_module, "_ERROR_SECONDS", 0.1)
        for status, kind in [(503, AttemptError), (401, RefusedError), (403, RefusedError)]:
            sandbox.faults = [Fault.parse(f"status={status},trickle=0.1")]
            started = time.monotonic()
            with pytest.raises(kind, match=rf"HTTP {status}(;|$)"):
                visitor(sandbox).download(WEEK, path)
            assert time.monotonic() - started < 5

    @pytest.mark.parametrize("size", ["-5", "x", ""])
    def test_a_chunk_size_that_is_none(self, sandbox: Sandbox, path: Path, size: str) -> None:
        sandbox.faults = [Fault.parse(f"chunk_size={size}")]
        with pytest.raises(TransportError):
            visitor(sandbox).download(WEEK, path)

    def test_the_next_request_is_not_disturbed(self, sandbox: Sandbox, path: Path) -> None:
        fetcher = visitor(sandbox, timeout=5)
        for fault in ("cut", "reset", "status=500", "status=429,retry_after=3", "reset=10"):
            sandbox.faults = [Fault.parse(f"{fault},times=1")]
            with pytest.raises(AttemptError):
                fetcher.download(WEEK, path)
            assert len(read(fetcher.download(WEEK, path))) == len(LINES)

    def test_redirected(self, sandbox: Sandbox, path: Path) -> None:
        sandbox.faults = [Fault.parse(f"redirect={sandbox.url}/export")]
        before = len(sandbox.requests)
        with pytest.raises(RefusedError, match="HTTP 302"):
            visitor(sandbox).download(WEEK, path)
        assert len(sandbox.requests) == before + 1

    def test_limited(self, path: Path) -> None:
        limits = Limits(per_hour=1, retry_after=True)
        with Sandbox(PROJECT, limits=limits, as_of=lambda: NOON) as limited:
            fetcher = visitor(limited)
            fetcher.download(WEEK, path)
            with pytest.raises(RateLimitError, match="running in the last hour") as caught:
                fetcher.download(WEEK, path)
            assert caught.value.retry_after is not None
            assert 3500 < caught.value.retry_after <= 3600

    def test_nobody_there(self, path: Path) -> None:
        with Sandbox(PROJECT) as gone:
            fetcher = visitor(gone)
        with pytest.raises(TransportError, match="refused"):
            fetcher.download(WEEK, path)
