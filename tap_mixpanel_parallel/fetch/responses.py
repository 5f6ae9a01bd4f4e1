"""What the head of an answer means, and what an answer says that is not an export."""

from __future__ import annotations

import html
import json
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Literal

import requests

from tap_mixpanel_parallel.exceptions import (
    AnotherBodyError,
    IncompleteExportError,
    LaterThanTodayError,
    RateLimitError,
    RefusedError,
    TapError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_LONGEST_ANSWER: Final = 200
_PASSING: Final = frozenset({408, 429})
"""Statuses of a client's error that another attempt may not meet; each of a server's is one."""

_MOST_DIGITS: Final = 20
_LONG_SECONDS: Final = 60.0
"""What no limit but that of an hour makes a client wait."""

_REMEDIES: Final = {
    400: "check events, where and project_timezone",
    401: "check service_account_username and service_account_secret (or project_secret), "
    "and region",
    402: "the raw export is not part of the project's plan",
    403: "give the service account access to the project, and check project_id and region",
}


def is_gzip(response: requests.Response) -> bool:
    """Whether the body is gzip.

    Raises:
        TransportError: If it is encoded in a way that was not asked for.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in {"gzip", "x-gzip"}:
        return True
    if encoding not in {"identity", ""}:
        raise TransportError(f"the answer is encoded as {encoding!r}, which was not asked for")
    return False


def check_framing(response: requests.Response) -> None:
    """Refuse an answer that shows its end only by the end of the connection.

    Raises:
        IncompleteExportError: If it is one.
    """
    coding = response.headers.get("Transfer-Encoding", "").strip().lower()
    length = response.headers.get("Content-Length", "").strip()
    if coding != "chunked" and not (length.isascii() and length.isdigit()):
        raise IncompleteExportError(
            "the answer names neither its length nor its end, so it can't be proven complete"
        )


def date_of(response: requests.Response) -> datetime | None:
    """When an answer was made, by the server's clock (RFC 9110, 6.6.1)."""
    try:
        moment = parsedate_to_datetime(response.headers.get("Date", ""))
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None


def check_age(response: requests.Response, elapsed: float) -> None:
    """Refuse an answer that is older than its request, so a cache's (RFC 9111, 5.1).

    Raises:
        AnotherBodyError: If it is older.
    """
    age = response.headers.get("Age", "").strip()
    if age.isascii() and age.isdigit() and len(age) < _MOST_DIGITS and int(age) > elapsed + 1:
        raise AnotherBodyError(
            f"a cache on the way answers, with what Mixpanel said {int(age):,} seconds ago"
        )


def may_refuse_all(status: int) -> bool:
    """Whether a status is of those that another request meets as well."""
    return status not in _PASSING and 300 <= status < 500  # noqa: PLR2004


def error_of(response: requests.Response, redact: Callable[[str], str]) -> TapError:
    """What an answer means that is not an export.

    Args:
        response: The answer; its body is not read yet.
        redact: Keeps secrets out of what it says.
    """
    status = response.status_code
    said = redact(_read_error(response, redact))[:_LONGEST_ANSWER]
    answer = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if status == requests.codes.too_many_requests:
        wait = _retry_after(response)
        return RateLimitError(
            f"{answer}; requests of others and of earlier runs count too", wait, _span(said, wait)
        )
    if not may_refuse_all(status):
        return TransportError(answer)
    if status < 400:  # noqa: PLR2004
        return RefusedError(
            f"{answer}: Mixpanel redirects, and credentials follow no redirect; "
            "check region and api_url"
        )
    refusal = f"Mixpanel refuses the export. {answer}"
    if status == requests.codes.bad_request and "later than today" in said.lower():
        return LaterThanTodayError(
            f"{refusal}; check the clock of this machine, and project_timezone"
        )
    return RefusedError(f"{refusal}; {_remedy(status, said)}")


def _remedy(status: int, said: str) -> str:
    """What to check where Mixpanel refuses, by what it says."""
    if status == requests.codes.bad_request:
        if "authenticate" in said.lower():
            status = requests.codes.unauthorized
        elif "project id" in said.lower() or "project_id" in said.lower():
            return "check region and project_id: each region knows its own projects only"
    return _REMEDIES.get(status, "check region and api_url")


def _read_error(response: requests.Response, redact: Callable[[str], str]) -> str:
    """What the answer says, in one line; secrets go before its form is changed."""
    try:
        body = response.raw.read(1 << 14, decode_content=True)
        text = redact(body.decode("utf-8", "replace"))
        parsed = json.loads(text)
        text = str(parsed["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = html.unescape(re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL))
    except Exception:  # noqa: BLE001 - libraries raise anything over a broken answer
        return ""
    return " ".join(text.split())


def _span(said: str, retry_after: float | None) -> Literal["hour", "moment"] | None:
    """Which limit a 429 is about: that of an hour, if it says nothing."""
    said = said.lower()
    if "hour" in said or (retry_after or 0) >= _LONG_SECONDS:
        return "hour"
    if "in progress" in said or "second" in said or "concurrent" in said:
        return "moment"
    return "hour" if retry_after is None else None


def _retry_after(response: requests.Response) -> float | None:
    """Seconds to wait, from `Retry-After` as a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        if value.isascii() and value.isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
