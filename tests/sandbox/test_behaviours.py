"""The behaviours that `docs/sandbox.md` lists, each seen from a running sandbox."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tap_mixpanel_parallel.sandbox import Fault, Limits, Project, Sandbox, poisoned_lines
from tests.sandbox.page import table
from tests.sandbox.served import BODY, DAYS, LINES, NOON, PROJECT, RANGE, error, get, lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKS: dict[str, Callable[[], None]] = {}


def check(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def add(function: Callable[[], None]) -> Callable[[], None]:
        assert name not in CHECKS
        CHECKS[name] = function
        return function

    return add


@contextmanager
def served(project: Project = PROJECT, **options: Any) -> Iterator[Sandbox]:
    with Sandbox(project, **{"limits": None, "as_of": lambda: NOON} | options) as sandbox:
        yield sandbox


def answer(sandbox: Sandbox, header: str | bytes | None = None, **params: Any) -> tuple[int, str]:
    """Give the status, and the error's text if there is one."""
    options: dict[str, Any] = {}
    if header is not None:
        options = {"auth": lambda request: request, "headers": {"Authorization": header}}
    response = get(sandbox, params=params, **options)
    return response.status_code, "" if response.status_code == 200 else error(response)


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def events(sandbox: Sandbox, **params: Any) -> list[dict[str, Any]]:
    response = get(sandbox, params=params)
    assert response.status_code == 200
    return [json.loads(line) for line in lines(response) if line]


def properties(sandbox: Sandbox, **params: Any) -> list[dict[str, Any]]:
    return [event["properties"] for event in events(sandbox, **params)]


def selected(where: str) -> int:
    with served() as sandbox:
        return len(events(sandbox, where=where))


def statuses(count: int, **options: Any) -> list[tuple[int, str]]:
    with served(limits=Limits(clock=lambda: 0.0, **options)) as sandbox:
        return [answer(sandbox, limit="1") for _ in range(count)]


def one_status(expected: int, text: str, **params: Any) -> Callable[[], None]:
    def function() -> None:
        with served() as sandbox:
            status, said = answer(sandbox, **params)
            assert (status, text in said) == (expected, True)

    return function


def played(fault: str) -> requests.Response:
    with served(faults=[Fault.parse(fault)]) as sandbox:
        return get(sandbox)


check("service account")(one_status(200, ""))
check("project secret")(
    one_status(200, "", header=basic("sandbox-project-secret:"), project_id=None)
)
check("secret without colon")(
    one_status(200, "", header=basic("sandbox-project-secret"), project_id=None)
)
check("secret with project_id")(one_status(400, "", header=basic("sandbox-project-secret:")))
check("no credentials")(one_status(400, "Unable to authenticate request", header=""))
check("wrong credentials")(one_status(401, "", header=basic("sandbox:wrong")))
check("other project")(one_status(403, "access", project_id="2"))
check("other region")(one_status(403, "access", project_id="3"))
check("project_id missing")(one_status(400, "project_id", project_id=None))
check("bad date")(one_status(400, "from_date", from_date="6 January 2025"))
check("bad where")(one_status(400, "where", where="1 +"))


@check("plain Basic")
def _() -> None:
    with served() as sandbox:
        assert answer(sandbox, "Basic sandbox:sandbox-secret") == (200, "")


@check("HTTPS")
def _() -> None:
    with served() as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")


@check("path")
def _() -> None:
    with served() as sandbox:
        assert [get(sandbox, path=path).content for path in ("/export", "/export/")] == [BODY] * 2


@check("form")
def _() -> None:
    with served() as sandbox:
        form = RANGE | {"project_id": "1"}
        for path in ("/export", "/export/"):
            response = requests.post(sandbox.url + path, form, auth=sandbox.auth, timeout=10)
            assert response.content == BODY


@check("other methods")
def _() -> None:
    with served() as sandbox:
        response = requests.put(f"{sandbox.url}/export", auth=sandbox.auth, timeout=10)
        assert response.status_code == 405


@check("dates")
def _() -> None:
    with served() as sandbox:
        days = {datetime.fromtimestamp(p["time"] / 1000, UTC).date() for p in properties(sandbox)}
        assert days == set(DAYS)
        assert answer(sandbox, from_date=None)[0] == answer(sandbox, to_date=None)[0] == 400


@check("future")
def _() -> None:
    evening = datetime(2025, 6, 1, 20, tzinfo=UTC)
    for zone, status in (("UTC", 400), ("Asia/Tokyo", 200)):
        with served(Project(timezone=zone), as_of=lambda: evening) as sandbox:
            assert answer(sandbox, from_date="2025-06-01", to_date="2025-06-01")[0] == 200
            found = answer(sandbox, from_date="2025-06-01", to_date="2025-06-02")
            assert found == (status, "to_date cannot be later than today" * (status == 400))


@check("time zone")
@check("local time")
def _() -> None:
    with served(Project(timezone="Asia/Tokyo")) as sandbox:
        day = {"from_date": "2025-01-06", "to_date": "2025-01-06"}
        found = properties(sandbox, **day)
        assert {datetime.fromtimestamp(p["time"] / 1000, UTC).date() for p in found} == {DAYS[0]}
        # Ingested soon after: `time` is nine hours ahead of the instant, which is UTC.
        assert min(p["mp_processing_time_ms"] - p["time"] for p in found) < -8.9 * 3_600_000


@check("time")
def _() -> None:
    with served() as sandbox:
        for value, unit in (("true", 1), ("false", 1000), (None, 1000)):
            found = [p["time"] for p in properties(sandbox, time_in_ms=value)]
            assert found == [json.loads(line)["properties"]["time"] // unit for line in LINES]


@check("ISO time")
@check("system events")
@check("size of an event")
def _() -> None:
    with served(Project(events_per_day=0, poison=True)) as sandbox:
        found = events(sandbox, from_date="2025-01-01", to_date="2025-01-01")
        assert len(found) == len(list(poisoned_lines(date(2025, 1, 1))))
        assert "2025-01-01T10:00:00" in [event["properties"]["time"] for event in found]
        assert {"$identify", "$create_alias", "$merge"} < {event["event"] for event in found}
        assert any("$mp_api_endpoint" in event["properties"] for event in found)
        assert any(event["event"] == "Poison: one megabyte" for event in found)


@check("limit")
def _() -> None:
    with served() as sandbox:
        assert len(events(sandbox, limit="7")) == 7
        assert answer(sandbox, limit="100000")[0] == 200
        assert answer(sandbox, limit="100001")[0] == 400


@check("event")
def _() -> None:
    with served() as sandbox:
        names = {event["event"] for event in events(sandbox, event='["Search","Purchase"]')}
        assert names == {"Search", "Purchase"}
        assert answer(sandbox, event="Search")[0] == 400


@check("where")
def _() -> None:
    plan = 'properties["Plan"]'
    some = selected(f'{plan} == "pro"')
    assert 0 < some < len(LINES)
    assert selected(f'not ({plan} != "pro") and "r" in {plan} and 2 * (1 + 1) == 4') == some
    assert selected(f'not defined({plan}) or string({plan}) in ["pro"]') == some


@check("where types")
def _() -> None:
    plan = 'properties["Plan"]'
    assert selected(f'{plan} == 1 or {plan} < 1 or properties["no such"]') == 0


@check("where cursor")
def _() -> None:
    noon = int(datetime(2025, 1, 7, 12, tzinfo=UTC).timestamp())
    later = [line for line in LINES if json.loads(line)["properties"]["time"] >= noon * 1000]
    assert selected(f'properties["$time"]>=datetime({noon})') == len(later) > 0


@check("where user")
def _() -> None:
    assert selected('defined(user["$email"])') == 0


@check("where event")
def _() -> None:
    assert selected('event["Plan"] == "pro"') == selected('properties["Plan"] == "pro"') > 0


@check("where texts")
def _() -> None:
    assert selected('defined("a" < "b")') == 0
    tagged = sum(b'"sale"' in line for line in LINES)
    assert selected('"sale" in properties["tags"]') == tagged > 0


@check("where precedence")
def _() -> None:
    assert selected("true or false and false") == len(LINES)
    assert selected("not 1 == 2") == len(LINES)


@check("where null")
def _() -> None:
    nulls = sum('"plan":null' in line.decode() for line in LINES)
    assert selected('not defined(properties["plan"])') == nulls > 0
    assert selected("1") == 0


@check("where error")
def _() -> None:
    with served() as sandbox:
        [only] = events(sandbox, where="true and 1")
        assert only.keys() == {"error"}


@check("lines")
@check("chunked")
@check("gzip")
def _() -> None:
    with served() as sandbox:
        response = get(sandbox)
        assert response.headers["Content-Type"] == "text/plain"
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in response.headers
        assert response.content.decode("utf-8").encode() == BODY
        for options in ({"params": {"limit": "1"}}, {"headers": {"Accept-Encoding": "identity"}}):
            assert "Content-Encoding" not in get(sandbox, **options).headers


@check("no events")
def _() -> None:
    with served(Project(events_per_day=0)) as sandbox:
        response = get(sandbox)
        assert (response.status_code, response.content) == (200, b"")


@check("order")
def _() -> None:
    with served() as sandbox:
        times = [p["time"] for p in properties(sandbox)]
        assert times not in (sorted(times), sorted(times, reverse=True))


@check("hourly limit")
def _() -> None:
    *accepted, (status, text) = statuses(61, per_second=1000)
    assert accepted == [(200, "")] * 60
    assert (status, "61/60 queries running in the last hour" in text) == (429, True)


@check("second limit")
def _() -> None:
    *accepted, (status, text) = statuses(4)
    assert accepted == [(200, "")] * 3
    assert (status, "in the last second" in text) == (429, True)


@check("concurrent limit")
def _() -> None:
    assert Limits().concurrent == 100
    options = Limits(concurrent=1, clock=lambda: 0.0)
    with served(limits=options, faults=[Fault.parse("stall")]) as sandbox:
        first = get(sandbox, stream=True)
        text = "too many export requests in progress for this project"
        assert answer(sandbox) == (429, text)
        first.close()


@check("refused requests")
def _() -> None:
    with served(limits=Limits(per_hour=1)) as sandbox:
        refused = [answer(sandbox, limit="x"), answer(sandbox, project_id="2"), answer(sandbox)]
        assert [status for status, _ in refused] == [400, 403, 200]


@check("Retry-After")
def _() -> None:
    for retry_after, expected in ((False, None), (True, "3600")):
        limits = Limits(per_hour=0, retry_after=retry_after, clock=lambda: 0.0)
        with served(limits=limits) as sandbox:
            assert get(sandbox).headers.get("Retry-After") == expected


@check("duplicates")
def _() -> None:
    with served(Project()) as sandbox:
        found = lines(get(sandbox))
        assert len(set(found)) < len(found)


@check("late events")
def _() -> None:
    sizes = []
    for day in (9, 14, 20):
        moment = datetime(2025, 1, day, tzinfo=UTC)
        with served(as_of=lambda moment=moment: moment) as sandbox:
            sizes.append(len(events(sandbox)))
    assert sizes[0] < sizes[1] == sizes[2]


@check("merged users")
def _() -> None:
    with served(Project()) as sandbox:
        merged = [p for p in properties(sandbox) if "$distinct_id_before_identity" in p]
        assert merged
        assert all(p["distinct_id"] != p["$distinct_id_before_identity"] for p in merged)


@check("odd ids")
def _() -> None:
    with served(Project()) as sandbox:
        found = properties(sandbox)
        ids = [p.get("distinct_id") for p in found]
        assert None in ids
        assert "" in ids
        assert any(isinstance(each, int) for each in ids)
        assert any("$insert_id" not in p for p in found)


@check("cut in the body")
def _() -> None:
    assert lines(played("terminated_early"))[-1] == b"terminated early"
    assert b'{"error": "oops"}' in lines(played('line={"error": "oops"}'))


@check("cut connection")
def _() -> None:
    for fault in ("cut", "reset", "reset=100"):
        with pytest.raises(requests.RequestException):
            played(fault)


@check("removed events")
def _() -> None:
    for moment in (NOON, datetime(2026, 1, 1, tzinfo=UTC)):
        with served(as_of=lambda moment=moment: moment) as sandbox:
            assert len(events(sandbox)) == len(LINES)


ROWS = [row[0] for row in table("behaviour")]


def test_each_row_has_a_check() -> None:
    assert sorted(CHECKS) == sorted(ROWS)
    assert all(len(row) == 4 for row in table("behaviour"))


@pytest.mark.parametrize("row", ROWS)
def test_behaviour(row: str) -> None:
    CHECKS[row]()
