"""Each effect, as a client sees it."""

from __future__ import annotations

import gzip
import time
import zlib
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
import requests
from requests.exceptions import ChunkedEncodingError

from tap_mixpanel_parallel.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable
from tests.sandbox.served import BODY, DAYS, LINES, NOON, PROJECT, RANGE, get, raw


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


def body_of(day: date) -> bytes:
    return b"".join(line + b"\n" for line in PROJECT.lines(day, as_of=NOON))


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
