"""One window's request: authentication, errors, and the body on disk."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests
import urllib3

from tap_mixpanel_parallel.exceptions import (
    AttemptError,
    IncompleteExportError,
    OversizeError,
    RefusedError,
    SpoolError,
    TapError,
    TransportError,
)
from tap_mixpanel_parallel.fetch.answers import (
    check_age,
    check_framing,
    error_of,
    is_gzip,
    may_refuse_all,
)
from tap_mixpanel_parallel.fetch.connection import Deadline, OwnConnection
from tap_mixpanel_parallel.fetch.redaction import Redactor
from tap_mixpanel_parallel.fetch.spool import spooling
from tap_mixpanel_parallel.wording import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.settings.credentials import Credentials

_CHUNK: Final = 1 << 16
_ALONE: Final = 10
"""A body that is so many times as large as all else in the spool fills the disk by itself."""

_CONNECT_TIMEOUT: Final = 60.0
_ERROR_SECONDS: Final = 5.0
"""How long the text of an error may take: its status is what counts."""

_TLS_HINT: Final = (
    "; where a proxy signs connections anew, REQUESTS_CA_BUNDLE names the file of its certificate"
)

_FILES_HINT: Final = "; raise the limit of open files (ulimit -n), or lower workers"


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
        attempt_timeout: float = 21_600.0,
        most_bytes: int = 20_000_000_000,
        trust_env: bool = True,
    ) -> None:
        """Request with these credentials and filters.

        Args:
            url: Base URL of the API, e.g. `https://data.mixpanel.com/api/2.0`.
            credentials: How to authenticate.
            events: Only events of these names; none means all.
            where: Mixpanel's filter expression.
            timeout: Seconds without a byte after which an attempt has failed.
            attempt_timeout: Seconds after which it has failed however its bytes come.
            most_bytes: The largest body.
            trust_env: Whether the environment may name a proxy (see requests).
        """
        self._url = f"{url}/export"
        self._host = urlsplit(url).netloc
        self._credentials = credentials
        self._redact = Redactor(credentials)
        self._timeout = timeout
        self._attempt_timeout = attempt_timeout
        self._most_bytes = most_bytes
        self._trust_env = trust_env
        self._connect_timeout = min(_CONNECT_TIMEOUT, timeout)
        self._headers = {
            "Accept": "text/plain",
            "Accept-Encoding": "gzip",
            "User-Agent": f"tap-mixpanel-parallel/{version('tap-mixpanel-parallel')}",
            "Connection": "close",
            "Cache-Control": "no-cache, no-store",
            "Pragma": "no-cache",  # the same, to a cache of HTTP/1.0
        }
        self._parameters = {"time_in_ms": "true"}
        if credentials.project_id is not None:
            self._parameters["project_id"] = credentials.project_id
        if events:
            self._parameters["event"] = json.dumps(list(events))
        if where:
            self._parameters["where"] = where

    def download(
        self,
        window: Window,
        path: Path,
        *,
        limit: int | None = None,
        on_bytes: Callable[[int], None] = lambda _: None,
        on_error: Callable[[], None] = lambda: None,
    ) -> Download:
        """Fetch one window, once, into a file.

        What it returns has arrived whole, as far as the transport tells. Whether it is
        gzip that ends with its checksum, and events of these days, shows when it is read.

        Args:
            window: The days.
            path: The file to write.
            limit: At most so many events.
            on_bytes: Called with the size of each piece as it arrives.
            on_error: Called as soon as it is known that Mixpanel may refuse every request.

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
        connection = OwnConnection()
        deadline = Deadline(connection, self._attempt_timeout)
        try:
            with connection, deadline:
                download = self._download(connection, parameters, path, on_bytes, on_error)
        except RefusedError:
            raise
        except Exception as error:  # noqa: BLE001 - libraries raise anything over a broken answer
            raise self._explain(error, path, is_overdue=deadline.is_over) from None
        if deadline.is_over:  # so it ends where it was broken off
            raise self._overdue()
        return download

    def _download(
        self,
        connection: OwnConnection,
        parameters: dict[str, str],
        path: Path,
        on_bytes: Callable[[int], None],
        on_error: Callable[[], None],
    ) -> Download:
        session = connection.session
        session.trust_env = self._trust_env
        # UTF-8 bytes: requests would encode text as Latin-1 and fail at 東京.
        session.auth = (
            self._credentials.username.encode(),  # type: ignore[assignment]
            self._credentials.password.encode(),
        )
        started = time.monotonic()
        with session.get(
            self._url,
            params=parameters,
            headers=self._headers,
            timeout=(self._connect_timeout, self._timeout),
            stream=True,
            # A redirect could carry the credentials to another host.
            allow_redirects=False,
        ) as response:
            if response.status_code != requests.codes.ok:
                if may_refuse_all(response.status_code):
                    on_error()
                with Deadline(connection, _ERROR_SECONDS):
                    raise error_of(response, self._redact)
            check_framing(response)
            check_age(response, time.monotonic() - started)
            compressed = is_gzip(response)
            size = _save(response, path, on_bytes, self._most_bytes)
        if compressed and size == 0:
            raise IncompleteExportError("the answer is cut: gzip without a byte")
        return Download(path, compressed, size, datetime.now(UTC))

    def _explain(self, error: Exception, path: Path, *, is_overdue: bool) -> TapError:
        """Why an attempt has failed, for a person."""
        if is_overdue:
            return self._overdue()
        if isinstance(error, SpoolError):
            return _alone(path, error)
        if isinstance(error, TapError):
            return error
        if isinstance(error, requests.ConnectTimeout):
            text = f"no connection to {self._host} within {self._connect_timeout:g} seconds"
        elif isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
            text = f"no byte for {self._timeout:g} seconds (request_timeout)"
        else:
            known = isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError))
            kind = "" if known else f"{type(error).__name__}: "
            text = f"{self._host}: {kind}{self._redact(_root_cause(error))}{_hint(error)}"
        return TransportError(text)

    def _overdue(self) -> TransportError:
        return TransportError(
            f"not whole after {self._attempt_timeout:g} seconds (attempt_timeout)"
        )


def _hint(error: Exception) -> str:
    """What to do about an error that a machine's settings cause."""
    if isinstance(error, requests.exceptions.SSLError):
        return _TLS_HINT
    return _FILES_HINT if os.strerror(errno.EMFILE) in str(error) else ""


def _save(
    response: requests.Response, path: Path, on_bytes: Callable[[int], None], most_bytes: int
) -> int:
    """Write the body as it comes, compressed or not.

    Raises:
        SpoolError: If the file can't be written.
        OversizeError: If there is more of it than of any window.
    """
    size = 0
    # urllib3 makes errors of its own of the socket's, so an OSError is the file's.
    with spooling(path), path.open("wb") as file:
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            file.write(chunk)
            size += len(chunk)
            on_bytes(len(chunk))
            if size > most_bytes:
                raise OversizeError(
                    f"the answer is larger than {most_bytes / 1_000_000:,.0f} MB (max_window_mb); "
                    "if it is a real export, lower window_days or raise max_window_mb"
                )
    return size


def _alone(path: Path, error: SpoolError) -> AttemptError:
    """The error, or that there is no use in another attempt, as others take hardly any room."""
    sizes = {}
    for each in path.parent.glob("*.*"):
        with suppress(OSError):  # others come and go
            sizes[each.name] = each.stat().st_size
    size = sizes.pop(path.name, 0)
    if size <= _ALONE * sum(sizes.values()):
        return error
    return OversizeError(f"{error}; {format_bytes(size)} of this window alone have taken it all")


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
