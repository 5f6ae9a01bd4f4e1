"""docs/querying.md and the end of the demo: each query runs on the demo's events."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pytest

from tap_mixpanel_parallel import TapMixpanelParallel
from tap_mixpanel_parallel.iteration import describe
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.sandbox import Project, Sandbox
from tests.support.commands import ROOT, run
from tests.support.projects import access_to
from tests.support.recipes import recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from duckdb import DuckDBPyConnection

PAGE: Final = (ROOT / "docs/querying.md").read_text()
QUERIES: Final = {
    (name, form): sql
    for name, form, sql in re.findall(
        r"<!-- query: (.*?), (columns|json) -->\n```sql\n(.*?)```", PAGE, re.DOTALL
    )
}
QUESTIONS: Final = [name for name, form in QUERIES if form == "columns"]
LAST: Final = date(2025, 5, 30)
FIRST: Final = LAST - timedelta(days=59)
TABLE: Final = """
CREATE TABLE mixpanel.events AS
SELECT event_id, event, time AT TIME ZONE 'UTC' AS time, distinct_id, insert_id,
  processed_at AT TIME ZONE 'UTC' AS processed_at, properties::JSON AS properties
FROM batches
"""

Row = dict[str, Any]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as the demo makes it, and the view that `--describe` prints."""
    path = tmp_path_factory.mktemp("querying") / "output" / "warehouse.duckdb"
    path.parent.mkdir()
    with (
        Sandbox(Project(), limits=None, as_of=lambda: datetime(2025, 6, 1, tzinfo=UTC)) as sandbox,
        duckdb.connect(str(path)) as connection,
    ):
        tap = TapMixpanelParallel(
            access_to(sandbox)
            | {"start_date": str(FIRST), "end_date": str(LAST), "requests_per_second": 1000}
            | {"parallel": True, "deduplicate": True}
        )
        batches = tap.arrow()
        connection.execute("CREATE SCHEMA mixpanel")
        connection.execute(TABLE)
        assert batches is not None
        week = Window(LAST - timedelta(days=6), LAST)
        connection.execute(describe(tap.stream, week).to_json()["view"])
    return path


@pytest.fixture
def database(path: Path) -> Iterator[DuckDBPyConnection]:
    with duckdb.connect(str(path), read_only=True) as connection:
        yield connection


def rows(database: DuckDBPyConnection, name: str, form: str = "json") -> list[Row]:
    answer = database.execute(QUERIES[name, form])
    names = [column[0] for column in answer.description or ()]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


@pytest.fixture(scope="module")
def events(path: Path) -> list[Row]:
    """The events, with their properties read by Python."""
    with duckdb.connect(str(path), read_only=True) as connection:
        table = connection.execute(
            "SELECT event, time, distinct_id, processed_at, properties FROM mixpanel.events"
        ).fetchall()
    return [
        {"event": e, "time": t, "user": u, "processed_at": p} | {"p": json.loads(text)}
        for e, t, u, p, text in table
    ]


def test_there_are_eight_questions_in_two_forms() -> None:
    assert len(QUESTIONS) == 8
    assert PAGE.count("```sql\n") == len(QUERIES) == 17


@pytest.mark.parametrize("name", QUESTIONS)
def test_columns_and_json_give_the_same_answer(database: DuckDBPyConnection, name: str) -> None:
    answer = rows(database, name)

    assert answer
    assert rows(database, name, "columns") == answer
    assert all(any(row[column] is not None for row in answer) for column in answer[0])


def test_daily_users(database: DuckDBPyConnection, events: list[Row]) -> None:
    users: defaultdict[date, set[str]] = defaultdict(set)
    web: defaultdict[date, set[str]] = defaultdict(set)
    for event in events:
        day, user = event["time"].date(), event["user"]
        if user is not None:
            users[day].add(user)
            if event["p"]["mp_lib"] == "web":
                web[day].add(user)

    assert rows(database, "daily users") == [
        {"day": day, "users": len(users[day]), "on_the_web": len(web[day])} for day in sorted(users)
    ]
    assert len(users) == 60


def test_a_funnel(database: DuckDBPyConnection, events: list[Row]) -> None:
    by_user: defaultdict[str, list[Row]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event["time"]):
        by_user[event["user"]].append(event)
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for user, theirs in by_user.items():
        start = next((event for event in theirs if event["event"] == "Sign Up"), None)
        if not user or start is None:
            continue
        count = counts[start["p"]["method"]]
        count[0] += 1
        since = start["time"]
        for step, name in ((1, "Add To Cart"), (2, "Purchase")):
            times = [event["time"] for event in theirs if event["event"] == name]
            reached = [t for t in times if since <= t <= start["time"] + timedelta(days=7)]
            if not reached:
                break
            count[step] += 1
            since = reached[0]

    answer = {row.pop("method"): list(row.values()) for row in rows(database, "funnel")}
    assert answer == counts
    assert all(signed > added > bought > 0 for signed, added, bought in answer.values())


def test_revenue_by_plan(database: DuckDBPyConnection, events: list[Row]) -> None:
    revenue: Counter[str] = Counter()
    for event in events:
        if event["event"] == "Purchase":
            revenue[event["p"]["Plan"]] += event["p"]["price"] * event["p"]["Quantity"]

    answer = {row["plan"]: row["revenue"] for row in rows(database, "revenue by plan")}
    assert answer == pytest.approx(revenue, abs=0.01)


def test_top_pages(database: DuckDBPyConnection, events: list[Row]) -> None:
    views = Counter(e["p"]["$current_url"] for e in events if e["event"] == "Page View")

    assert [(row["page"], row["views"]) for row in rows(database, "top pages")] == sorted(
        views.items(), key=lambda item: (-item[1], item[0])
    )[:5]


def test_weekly_retention(database: DuckDBPyConnection, events: list[Row]) -> None:
    weeks: defaultdict[str, set[date]] = defaultdict(set)
    for event in events:
        if event["user"] is not None and event["p"]["Is Employee"] is False:
            day = event["time"].date()
            weeks[event["user"]].add(day - timedelta(days=day.weekday()))
    cohorts: defaultdict[date, list[int]] = defaultdict(lambda: [0] * 5)
    for theirs in weeks.values():
        first = min(theirs)
        for n in range(5):
            cohorts[first][n] += first + timedelta(days=7 * n) in theirs

    answer = rows(database, "weekly retention")
    found = {
        row["first_week"]: [each for each in row.values() if isinstance(each, int)]
        for row in answer
    }
    assert found == cohorts
    assert max(row["week_1"] for row in answer) > 0


def test_one_users_events(database: DuckDBPyConnection, events: list[Row]) -> None:
    times = sorted(event["time"] for event in events if event["user"] == "user-0000042")

    assert [row["time"] for row in rows(database, "one user")] == times[:-21:-1]


def test_late_events(database: DuckDBPyConnection, events: list[Row]) -> None:
    late = Counter(
        event["p"]["mp_lib"]
        for event in events
        if event["processed_at"] > event["time"] + timedelta(days=1)
    )

    assert {row["mp_lib"]: row["a_day_late"] for row in rows(database, "late events")} == {
        library: late[library] for library in ("android", "swift", "web")
    }


def test_coverage(database: DuckDBPyConnection, events: list[Row]) -> None:
    having = Counter(name for event in events for name in event["p"])
    coupons = [e["p"]["Coupon"] for e in events if e["event"] == "Purchase"]
    share = sum(each is not None for each in coupons) / len(coupons)

    answer = {row["property"]: row["events"] for row in rows(database, "every property")}
    assert answer == having
    (purchases,) = (r for r in rows(database, "coverage") if r["event"] == "Purchase")
    assert purchases["coupon"] == pytest.approx(share, abs=0.001)


def test_the_file_opens_in_python(path: Path) -> None:
    done = run(sys.executable, "-c", recipe("open in python"), cwd=path.parents[1])

    assert done.returncode == 0, done.stderr
    assert "Page View" in done.stdout


def test_the_demo_ends_with_two_questions_and_the_line_that_opens_the_database(
    path: Path,
) -> None:
    folder = path.parents[1]
    (folder / "output" / "sandbox.duckdb").write_bytes(path.read_bytes())
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(
        r"^demo:.*\n(\t.*\n)*\tpython demo/questions\.py .*\n\n", makefile, re.MULTILINE
    )

    questions = str(ROOT / "demo" / "questions.py")
    done = run(sys.executable, questions, "output/sandbox.duckdb", cwd=folder)

    assert done.returncode == 0, done.stderr
    for name in ("revenue by plan", "top pages"):
        assert QUERIES[name, "json"] in done.stdout
    assert re.search(r"│ enterprise │ +\d+ │ +\d+\.\d+ │", done.stdout)
    assert "https://shop.example/pricing" in done.stdout
    (line,) = re.findall(r'^  \.?\S+/bin/python (-i -c ".*")$', done.stdout, re.MULTILINE)
    asked = "print(database.sql('SELECT count(*) FROM mixpanel.events'))"
    opened = run("bash", "-c", f'{sys.executable} {line} <<< "{asked}"', cwd=folder)
    assert re.search(r"│ +\d{5} │", opened.stdout), opened.stderr
