"""One window's request: what is sent, and which body is a whole export."""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
import urllib3

from tap_mixpanel_parallel.convert.body import read_blocks
from tap_mixpanel_parallel.convert.conversion import Conversion, ConversionOptions
from tap_mixpanel_parallel.exceptions import (
    AnotherBodyError,
    AttemptError,
    IncompleteExportError,
    OversizeError,
    RateLimitError,
    RefusedError,
    SpoolError,
    TransportError,
)
from tap_mixpanel_parallel.fetch import client as client_module
from tap_mixpanel_parallel.fetch.spool import Spool
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.sandbox import Fault, Limits, Project, Sandbox
from tap_mixpanel_parallel.settings.credentials import Credentials
from tests.support.bodies import MESSAGES, files_of_at_most
from tests.support.mocked import URL, WEEK, Client, answer, client, error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from requests_mock import Mocker

    from tap_mixpanel_parallel.fetch.job import Download


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
        assert 0 < download.first_byte_seconds < download.seconds

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
        assert type(found) is AnotherBodyError
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
        assert f"{encoding!r}, which was not asked for" in str(found)

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

    @pytest.mark.parametrize(("beside", "expected"), [(0, OversizeError), (1_000, SpoolError)])
    def test_a_full_disk_with_folders_beside(
        self, requests_mock: Mocker, tmp_path: Path, beside: int, expected: type[AttemptError]
    ) -> None:
        """On a worker of a cluster each attempt has a folder of its own."""
        answer(requests_mock, b"x" * 1_001)
        with Spool(tmp_path) as mine, Spool(tmp_path) as another:
            (another.path / "window.body").write_bytes(b"x" * beside)
            with files_of_at_most(1_000):
                found = error(mine.path / "window.body")
        assert type(found) is expected

    def test_a_link_in_its_place(self, requests_mock: Mocker, path: Path) -> None:
        answer(requests_mock, b"x" * 1_000)
        (path.parent / "precious").write_bytes(b"x" * 100_000)
        path.symlink_to("precious")
        found = error(path)
        assert type(found) is SpoolError
        assert f"spool_dir: {path.parent} can't be written (File exists)" in str(found)
        assert (path.parent / "precious").stat().st_size == 100_000


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
                    MESSAGES,
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
