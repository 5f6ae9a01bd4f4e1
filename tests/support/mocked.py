"""Mixpanel as `requests_mock` answers for it, and a client that asks."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest

from tap_mixpanel_parallel.exceptions import (
    TapError,
)
from tap_mixpanel_parallel.fetch.client import download
from tap_mixpanel_parallel.fetch.job import Download, Job, Query
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.settings.credentials import Credentials

if TYPE_CHECKING:
    from pathlib import Path

    from requests_mock import Mocker

HOST = "data.mixpanel.com"
URL = f"https://{HOST}/api/2.0"
WEEK = Window(date(2025, 1, 6), date(2025, 1, 8))
SECRET = "p&ss w/rd+42"
ACCOUNT = Credentials("bob@mp", SECRET, "123")


class Client:
    """Makes attempts with one query."""

    def __init__(self, url: str, credentials: Credentials, **options: Any) -> None:
        """Ask this server."""
        self.query = Query(url, credentials, **options)

    def download(self, window: Window, path: Path) -> Download:
        """Make one attempt."""
        return download(Job(window, self.query, path))


def client(credentials: Credentials = ACCOUNT, **options: Any) -> Client:
    """A client of an account."""
    return Client(URL, credentials, **options)


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


def problem(message: str) -> bytes:
    """An error's body, as Mixpanel writes it."""
    return json.dumps({"error": message}).encode()
