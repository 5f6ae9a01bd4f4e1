"""One window's request: authentication, errors, and the body on disk."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests
import urllib3

from tap_mixpanel_parallel.exceptions import (
    AttemptError,
    IncompleteExportError,
    OverdueError,
    OversizeError,
    SpoolError,
    TapError,
    TransportError,
)
from tap_mixpanel_parallel.fetch.connection import Connections, Deadline, OwnConnection
from tap_mixpanel_parallel.fetch.job import Download
from tap_mixpanel_parallel.fetch.redaction import Redactor
from tap_mixpanel_parallel.fetch.responses import (
    check_age,
    check_framing,
    date_of,
    error_of,
    is_gzip,
)
from tap_mixpanel_parallel.fetch.spool import PREFIX, create, spooling, write_all
from tap_mixpanel_parallel.wording import format_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.fetch.job import Job, Query

_CHUNK: Final = 1 << 16
_ALONE: Final = 10
"""A body that is so many times as large as all else in the spool fills the disk by itself."""

_CONNECT_TIMEOUT: Final = 60.0
_ERROR_SECONDS: Final = 1.0
"""How long the text of an error may take: other requests start until it is known."""

_HEADERS: Final = {
    "Accept": "text/plain",
    "Accept-Encoding": "gzip",
    "User-Agent": f"tap-mixpanel-parallel/{version('tap-mixpanel-parallel')}",
    "Connection": "close",
    "Cache-Control": "no-cache, no-store",
    "Pragma": "no-cache",  # the same, to a cache of HTTP/1.0
}

_TLS_HINT: Final = (
    "; where a proxy signs connections anew, REQUESTS_CA_BUNDLE names the file of its certificate"
)

_FILES_HINT: Final = "; raise the limit of open files (ulimit -n), or lower workers"


def download(job: Job, connections: Connections | None = None) -> Download:
    """Make one attempt at one window: fetch its body into a file.

    What it returns has arrived whole, as far as the transport tells. Whether it is gzip
    that ends with its checksum, and events of these days, shows when it is read.

    Args:
        job: The attempt.
        connections: Those that end together with this one.

    Raises:
        RefusedError: If no request can do better.
        AttemptError: If another attempt may do better; no file is left then.
    """
    connection, connections = OwnConnection(), connections or Connections()
    deadline = Deadline(connection, job.query.attempt_timeout)
    try:
        with connection, deadline, connections.use(connection):
            found = _request(job, connection)
    except Exception as error:  # noqa: BLE001 - libraries raise anything over a broken answer
        explained = _overdue(job) if deadline.is_over else _explain(error, job)
        job.path.unlink(missing_ok=True)
        raise explained from None
    if deadline.is_over:  # so it ends where it was broken off
        job.path.unlink(missing_ok=True)
        raise _overdue(job)
    return found


def _request(job: Job, connection: OwnConnection) -> Download:
    query, session = job.query, connection.session
    session.trust_env = query.trust_env
    # UTF-8 bytes: requests would encode text as Latin-1 and fail at 東京.
    session.auth = (
        query.credentials.username.encode(),  # type: ignore[assignment]
        query.credentials.password.encode(),
    )
    started = time.monotonic()
    with session.get(
        f"{query.url}/export",
        params=_parameters(job),
        headers=_HEADERS,
        timeout=(_connect_timeout(query), query.timeout),
        stream=True,
        # A redirect could carry the credentials to another host.
        allow_redirects=False,
    ) as response:
        if response.status_code != requests.codes.ok:
            with Deadline(connection, _ERROR_SECONDS):
                raise error_of(response, Redactor(query.credentials))
        check_framing(response)
        check_age(response, time.monotonic() - started)
        compressed = is_gzip(response)
        answered_at = date_of(response)
        size, began = _save(response, job.path, query.most_bytes)
    if compressed and size == 0:
        raise IncompleteExportError("the answer is cut: gzip without a byte")
    ended = time.monotonic()
    return Download(
        job.path,
        compressed,
        size,
        datetime.now(UTC),
        answered_at,
        first_byte_seconds=began - started,
        seconds=ended - started,
    )


def _parameters(job: Job) -> dict[str, str]:
    query = job.query
    chosen = {
        "time_in_ms": "true",
        "project_id": query.credentials.project_id,
        "event": json.dumps(query.events) if query.events else None,
        "where": query.where,
        "from_date": str(job.window.first),
        "to_date": str(job.window.last),
        "limit": None if query.event_limit is None else str(query.event_limit),
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _connect_timeout(query: Query) -> float:
    return min(_CONNECT_TIMEOUT, query.timeout)


def _explain(error: Exception, job: Job) -> TapError:
    """Why an attempt has failed, for a person."""
    if isinstance(error, SpoolError):
        return _alone(job.path, error) if error.is_full else error
    if isinstance(error, TapError):
        return error
    query = job.query
    host = urlsplit(query.url).netloc
    if isinstance(error, requests.ConnectTimeout):
        text = f"no connection to {host} within {_connect_timeout(query):g} seconds"
    elif isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        text = f"no byte for {query.timeout:g} seconds (request_timeout)"
    else:
        known = isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError))
        kind = "" if known else f"{type(error).__name__}: "
        cause = Redactor(query.credentials)(_root_cause(error))
        text = f"{host}: {kind}{cause}{_hint(error)}"
    return TransportError(text)


def _overdue(job: Job) -> OverdueError:
    return OverdueError(f"not whole after {job.query.attempt_timeout:g} seconds (attempt_timeout)")


def _hint(error: Exception) -> str:
    """What to do about an error that a machine's settings cause."""
    if isinstance(error, requests.exceptions.SSLError):
        return _TLS_HINT
    return _FILES_HINT if os.strerror(errno.EMFILE) in str(error) else ""


def _save(response: requests.Response, path: Path, most_bytes: int) -> tuple[int, float]:
    """Write the body as it comes, compressed or not.

    Returns:
        How many bytes it has, and when the first of them came.

    Raises:
        SpoolError: If the file can't be written.
        OversizeError: If there is more of it than of any window.
    """
    size, began = 0, 0.0
    # urllib3 makes errors of its own of the socket's, so an OSError is the file's.
    with create(path) as file, spooling(path):
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            began = began or time.monotonic()
            write_all(file, chunk)
            size += len(chunk)
            if size > most_bytes:
                raise OversizeError(
                    f"the answer is larger than {most_bytes / 1_000_000:,.0f} MB (max_window_mb); "
                    "if it is a real export, lower window_days or raise max_window_mb"
                )
    return size, began or time.monotonic()


def _alone(path: Path, error: SpoolError) -> AttemptError:
    """The error, or one that allows no other attempt, if other windows take almost no room.

    Others may have a folder of their own beside this one: on a worker of a cluster, all have.
    """
    sizes = {}
    for folder in (path.parent, *path.parent.parent.glob(f"{PREFIX}*")):
        with suppress(OSError):  # others come and go
            for each in folder.iterdir():
                with suppress(OSError):
                    sizes[each] = each.stat().st_size
    size = sizes.pop(path, 0)
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
