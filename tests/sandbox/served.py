"""A project, and requests for three of its days."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import requests

from tap_mixpanel_parallel.sandbox import Project, Sandbox

PROJECT = Project(events_per_day=120)
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
RANGE = {"from_date": "2025-01-06", "to_date": "2025-01-08", "time_in_ms": "true"}
DAYS = (date(2025, 1, 6), date(2025, 1, 7), date(2025, 1, 8))
LINES = [line for day in DAYS for line in PROJECT.lines(day, as_of=NOON)]
BODY = b"".join(line + b"\n" for line in LINES)


def get(sandbox: Sandbox, *, path: str = "/export", **options: Any) -> requests.Response:
    options["params"] = {"project_id": "1", **RANGE, **options.get("params", {})}
    options.setdefault("auth", sandbox.auth)
    options.setdefault("allow_redirects", False)
    return requests.get(sandbox.url + path, timeout=10, **options)


def raw(response: requests.Response) -> bytes:
    """Give the body as it came, still compressed. The request must be streamed."""
    return b"".join(response.raw.stream(65536, decode_content=False))


def error(response: requests.Response) -> str:
    assert response.headers["Content-Type"] == "application/json"
    return str(response.json()["error"])


def lines(response: requests.Response) -> list[bytes]:
    return response.content.removesuffix(b"\n").split(b"\n")
