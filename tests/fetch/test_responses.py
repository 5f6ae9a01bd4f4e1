"""What each answer that is no export means, and no secret in any error."""

from __future__ import annotations

import base64
import errno
import gzip
import math
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
import requests
import urllib3

from tap_mixpanel_parallel.exceptions import (
    LaterThanTodayError,
    RateLimitError,
    RefusedError,
    TapError,
    TransportError,
)
from tap_mixpanel_parallel.fetch import responses
from tap_mixpanel_parallel.settings.credentials import Credentials
from tests.support.mocked import HOST, SECRET, URL, WEEK, answer, client, error, problem

if TYPE_CHECKING:
    from pathlib import Path

    from requests_mock import Mocker

COUNTED = "requests of others and of earlier runs count too"


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
        monkeypatch.setattr(responses.time, "time", lambda: now)
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
        ("said", "retry_after", "span"),
        [
            ("1/100 queries running concurrently and 61/60 in the last hour", None, "hour"),
            ("1/100 queries running concurrently and 4/3 in the last second", None, "moment"),
            ("too many export requests in progress for this project", "1", "moment"),
            ("too many export requests in progress for this project", "3600", "hour"),
            ("", None, "hour"),
            ("slow down", "60", "hour"),
            ("slow down", "30", None),
            ("", "0", None),
        ],
    )
    def test_which_limit_it_is(
        self,
        requests_mock: Mocker,
        path: Path,
        said: str,
        retry_after: str | None,
        span: str | None,
    ) -> None:
        """As docs/failures.md has it."""
        headers = {} if retry_after is None else {"Retry_After": retry_after}
        answer(requests_mock, problem(said), 429, **headers)
        found = error(path)
        assert isinstance(found, RateLimitError)
        assert found.span == span

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
