"""One window's request: authentication, errors, and the body on disk."""

from __future__ import annotations

import html
import json
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests
import urllib3

from tap_mixpanel_parallel.exceptions import (
    IncompleteExportError,
    RateLimitError,
    RefusedError,
    TransportError,
)
from tap_mixpanel_parallel.redaction import Redactor
from tap_mixpanel_parallel.spool import spooling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tap_mixpanel_parallel.auth import Credentials
    from tap_mixpanel_parallel.windows import Window

_CHUNK: Final = 1 << 16
_CONNECT_TIMEOUT: Final = 60.0
_LONGEST_ANSWER: Final = 200

_REMEDIES: Final = {
    400: "check events, where and project_timezone",
    401: "check service_account_username and service_account_secret (or project_secret), "
    "and region",
    402: "the raw export is not part of the project's plan",
    403: "give the service account access to the project, and check project_id and region",
}

_TLS_HINT: Final = (
    "; where a proxy signs connections anew, REQUESTS_CA_BUNDLE names the file of its certificate"
)


@dataclass(frozen=True, slots=True)
class Download:
    """A window's body on disk, as received.

    Attributes:
        path: The file.
        compressed: Whether it is gzip.
        size: Its length in bytes.
        received_at: When its last byte came.
    """

    path: Path
    compressed: bool
    size: int
    received_at: datetime


class ExportClient:
    """Requests windows from Mixpanel's raw export. Thread-safe."""

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        *,
        events: Sequence[str] = (),
        where: str | None = None,
        timeout: float = 600.0,
        trust_env: bool = True,
    ) -> None:
        """Request with these credentials and filters.

        Args:
            url: Base URL of the API, e.g. `https://data.mixpanel.com/api/2.0`.
            credentials: How to authenticate.
            events: Only events of these names; none means all.
            where: Mixpanel's filter expression.
            timeout: Seconds without a byte after which an attempt has failed.
            trust_env: Whether the environment may name a proxy (see requests).
        """
        self._url = f"{url}/export"
        self._host = urlsplit(url).netloc
        self._credentials = credentials
        self._redact = Redactor(credentials)
        self._timeout = timeout
        self._trust_env = trust_env
        self._connect_timeout = min(_CONNECT_TIMEOUT, timeout)
        self._agent = f"tap-mixpanel-parallel/{version('tap-mixpanel-parallel')}"
        self._parameters = {"time_in_ms": "true"}
        if credentials.project_id is not None:
            self._parameters["project_id"] = credentials.project_id
        if events:
            self._parameters["event"] = json.dumps(list(events))
        if where:
            self._parameters["where"] = where
        self._local = threading.local()

    def download(
        self,
        window: Window,
        path: Path,
        *,
        limit: int | None = None,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> Download:
        """Fetch one window, once, into a file.

        What it returns has arrived whole, as far as the transport tells. Whether it is
        gzip that ends with its checksum, and events, shows when it is read.

        Args:
            window: The days.
            path: The file to write.
            limit: At most so many events.
            on_bytes: Called with the size of each piece as it arrives.

        Raises:
            RefusedError: If no request can do better.
            AttemptError: If another attempt may do better.
        """
        parameters = self._parameters | {
            "from_date": str(window.first),
            "to_date": str(window.last),
        }
        if limit is not None:
            parameters["limit"] = str(limit)
        try:
            with self._session().get(
                self._url,
                params=parameters,
                timeout=(self._connect_timeout, self._timeout),
                stream=True,
                # A redirect could carry the credentials to another host.
                allow_redirects=False,
            ) as response:
                self._check_status(response)
                _check_framing(response)
                compressed = _is_gzip(response)
                size = _save(response, path, on_bytes)
        except requests.ConnectTimeout:
            raise TransportError(
                f"no connection to {self._host} within {self._connect_timeout:g} seconds"
            ) from None
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise TransportError(
                f"no byte for {self._timeout:g} seconds (request_timeout)"
            ) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            hint = _TLS_HINT if isinstance(error, requests.exceptions.SSLError) else ""
            cause = self._redact(_root_cause(error))
            raise TransportError(f"{self._host}: {cause}{hint}") from None
        if compressed and size == 0:
            raise IncompleteExportError("the answer is cut: gzip without a byte")
        return Download(path, compressed, size, datetime.now(UTC))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = self._trust_env
            # UTF-8 bytes: requests would encode text as Latin-1 and fail at 東京.
            session.auth = (
                self._credentials.username.encode(),  # type: ignore[assignment]
                self._credentials.password.encode(),
            )
            session.headers.update(
                {
                    "Accept": "text/plain",
                    "Accept-Encoding": "gzip",
                    "User-Agent": self._agent,
                }
            )
        return session

    def _check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if status == requests.codes.ok:
            return
        said = self._redact(_read_error(response, self._redact))[:_LONGEST_ANSWER]
        answer = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        if status == requests.codes.too_many_requests:
            raise RateLimitError(
                f"{answer}; requests of others and of earlier runs count too",
                _retry_after(response),
            )
        if status == requests.codes.request_timeout or status >= 500 or status < 300:  # noqa: PLR2004
            raise TransportError(answer)
        if status < 400:  # noqa: PLR2004
            raise RefusedError(
                f"{answer}: Mixpanel redirects, and credentials follow no redirect; "
                "check region and api_url"
            )
        if status == requests.codes.bad_request and "authenticate" in said.lower():
            status = requests.codes.unauthorized
        remedy = _REMEDIES.get(status, "check region and api_url")
        raise RefusedError(f"Mixpanel refuses the export. {answer}; {remedy}")


def _is_gzip(response: requests.Response) -> bool:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in {"gzip", "x-gzip"}:
        return True
    if encoding not in {"identity", ""}:
        raise TransportError(f"the answer is encoded as {encoding!r}, which nobody asked for")
    return False


def _check_framing(response: requests.Response) -> None:
    """Refuse an answer whose end only the end of the connection would show."""
    coding = response.headers.get("Transfer-Encoding", "").strip().lower()
    length = response.headers.get("Content-Length", "").strip()
    if coding != "chunked" and not (length.isascii() and length.isdigit()):
        raise IncompleteExportError(
            "the answer names neither its length nor its end, so it can't be proven complete"
        )


def _save(response: requests.Response, path: Path, on_bytes: Callable[[int], None]) -> int:
    """Write the body as it comes, compressed or not.

    Raises:
        SpoolError: If the file can't be written.
    """
    size = 0
    # urllib3 makes errors of its own of the socket's, so an OSError is the file's.
    with spooling(path), path.open("wb") as file:
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            file.write(chunk)
            size += len(chunk)
            on_bytes(len(chunk))
    return size


def _read_error(response: requests.Response, redact: Callable[[str], str]) -> str:
    """What the answer says, in one line; secrets go before its form is changed."""
    try:
        body = response.raw.read(1 << 14, decode_content=True)
        text = redact(body.decode("utf-8", "replace"))
        parsed = json.loads(text)
        text = str(parsed["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = html.unescape(re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL))
    except urllib3.exceptions.HTTPError:
        return ""
    return " ".join(text.split())


def _retry_after(response: requests.Response) -> float | None:
    """Seconds to wait, from `Retry-After` as a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        if value.isascii() and value.isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _root_cause(error: BaseException) -> str:
    """The innermost reason, which is the one that names what happened."""
    inner: BaseException = error
    while True:
        nested = getattr(inner, "reason", None)
        if not isinstance(nested, BaseException):
            nested = next((arg for arg in inner.args if isinstance(arg, BaseException)), None)
        if nested is None:
            break
        inner = nested
    text = " ".join(str(inner).split()) or type(inner).__name__
    # urllib3 puts the connection object's repr in front.
    return re.sub(r"^(<[^>]*>|\w+\([^)]*\)): ", "", text)
