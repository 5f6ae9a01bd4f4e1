"""The recipes that watch what is loaded, run as they are written."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import pytest

from tests.support.commands import run
from tests.support.recipes import recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DAY = date(2025, 1, 5)
ACCOUNT = {"PROJECT_ID": "1234", "SERVICE_ACCOUNT_USERNAME": "etl", "SERVICE_ACCOUNT_SECRET": "s3"}


def state_of(*loaded: tuple[date, date]) -> dict[str, Any]:
    days = [[str(first), str(last)] for first, last in loaded]
    return {"singer_state": {"bookmarks": {"events": {"loaded": days, "unsettled": []}}}}


@pytest.mark.parametrize(
    ("ages", "is_stale"), [([1], False), ([9, 1], False), ([4], True), ([1, 4], False), ([], True)]
)
def test_an_alert_on_what_is_stale(tmp_path: Path, ages: list[int], is_stale: bool) -> None:
    """The last day of each range is so many days ago."""
    today = datetime.now(UTC).date()
    ends = [today - timedelta(days=age) for age in ages]
    (tmp_path / "state.json").write_text(json.dumps(state_of(*((end, end) for end in ends))))
    getting, _, rest = recipe("stale").partition("\n")
    assert getting.startswith("meltano --environment=prod state get prod:tap-mixpanel-parallel-to")
    done = run("bash", "-c", f"cat state.json \\\n{rest}", cwd=tmp_path)
    assert done.returncode == is_stale, done.stderr
    newest = max(map(str, ends), default=None)
    assert done.stderr == (
        f"stale: the newest day that is loaded is {newest}\n" if is_stale else ""
    )


@contextmanager
def query_api(counts: Mapping[str, int]) -> Iterator[str]:
    """Mixpanel's query API, as far as its documentation of `/events` says what it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            asked = {name: value for name, (value,) in parse_qs(url.query).items()}
            assert url.path == "/api/query/events"
            assert self.headers["Authorization"] == f"Basic {b64encode(b'etl:s3').decode()}"
            names = json.loads(asked.pop("event"))
            assert asked == {
                "project_id": "1234",
                "type": "general",
                "unit": "day",
                "from_date": str(DAY),
                "to_date": str(DAY),
            }
            values = {name: {str(DAY): counts[name]} for name in names if name in counts}
            answer = {"data": {"series": [str(DAY)], "values": values}, "legend_size": len(values)}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/query"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"Sign Up": 300, "達成 🎉": 5}, ""),
        ({"Sign Up": 302, "達成 🎉": 5, "Other": 9}, ""),
        ({"Sign Up": 304, "達成 🎉": 5}, "Sign Up: 300 here, 304 at Mixpanel\n"),
        ({"Sign Up": 296}, "Sign Up: 300 here, 296 at Mixpanel\n達成 🎉: 5 here, 0 at Mixpanel\n"),
    ],
)
def test_counts_against_mixpanel_s_own(tmp_path: Path, there: dict[str, int], told: str) -> None:
    """In a table as both loaders make it."""
    here = Counter({"Sign Up": 300, "達成 🎉": 5})
    with duckdb.connect(tmp_path / "warehouse.duckdb") as database:
        database.execute("CREATE SCHEMA mixpanel")
        database.execute("CREATE TABLE mixpanel.events (event VARCHAR, time TIMESTAMP)")
        for time in ("2025-01-04 23:59:59.999", "2025-01-06"):
            database.execute("INSERT INTO mixpanel.events VALUES ('Sign Up', ?)", [time])
        for event in here.elements():
            database.execute("INSERT INTO mixpanel.events VALUES (?, '2025-01-05 12:00')", [event])
    (tmp_path / "counts.py").write_text(recipe("counts"))
    with query_api(there) as url:
        done = run(
            *(sys.executable, "counts.py", "warehouse.duckdb", str(DAY)),
            cwd=tmp_path,
            settings={"MIXPANEL_QUERY_URL": url, "PYTHONUTF8": "1"}
            | {f"TAP_MIXPANEL_PARALLEL_{name}": value for name, value in ACCOUNT.items()},
        )
    assert done.stderr == told
    assert done.returncode == bool(told)
