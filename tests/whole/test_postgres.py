"""Legal events that crash loaders, through target-postgres into a real PostgreSQL."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest

from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tests.support import postgres
from tests.support.commands import PATIENCE, environment
from tests.support.exact import Number, Pairs, digits, parsed
from tests.support.expected import AS_OF, Normal, Row, Table, assert_same, expected, lines_of
from tests.support.files import batch_config
from tests.support.harness import Body, Lab, body, last_state
from tests.support.loaders import PAGE, program
from tests.support.poison import DAY, SANE
from tests.support.recipes import recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from tests.support.harness import State
    from tests.support.postgres import Database, Server

# The first of them installs the loaders.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ADVISED: Final[dict[str, Any]] = json.loads(recipe("postgres"))
PLAIN: Final = {"default_target_schema": "mixpanel"}
LINES: Final = list(SANE.values())
WITHOUT_NULL: Final = [line for line in LINES if rb"\u0000" not in line]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres.running() as started:
        yield started


@pytest.fixture(scope="module")
def _database(server: Server) -> Database:
    return server.create_database("events")


@pytest.fixture
def database(_database: Database) -> Database:
    """An empty one; to make and remove one for each test costs more than the test."""
    _database.execute("drop schema if exists mixpanel cascade")
    return _database


class Pipe:
    """The tap and target-postgres in a pipe, again and again, from a sandbox into a database."""

    def __init__(self, folder: Path, sandbox: Sandbox, database: Database) -> None:
        self.lab, self.database = Lab(folder, sandbox), database
        self.lab.settings |= {"start_date": str(DAY), "end_date": str(DAY)}

    def load(
        self,
        loader: Mapping[str, Any] = ADVISED,
        state: State | None = None,
        time_zone: str = "UTC",
        **settings: Any,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it; the tap has to succeed."""
        config = self.lab.write("postgres.json", {"sqlalchemy_url": self.database.url, **loader})
        out = self.lab.run(state, **settings)
        assert out.code == 0, out.errors
        return subprocess.run(
            (program("target-postgres"), "--config", config),
            input=out.text,
            env=environment(PGTZ=time_zone),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )


@pytest.fixture
def pipe(tmp_path: Path, database: Database) -> Iterator[Callable[[list[bytes]], Pipe]]:
    sandbox = Sandbox(Project(), limits=None, as_of=lambda: AS_OF)

    def serving(lines: list[bytes]) -> Pipe:
        sandbox.faults = [Fault(Body(body(lines)))]
        return Pipe(tmp_path, sandbox, database)

    with sandbox:
        yield serving


def test_text_is_exact(pipe: Callable[[list[bytes]], Pipe], database: Database) -> None:
    done = pipe(LINES).load(properties_format="string")

    assert done.returncode == 0, done.stderr.decode()
    assert type_of_properties(database) == "text"
    assert_same(loaded(database, digits), wanted(LINES, digits))
    assert any(rb"\u0000" in line for line in LINES)
    with pytest.raises(RuntimeError, match="unsupported Unicode escape sequence"):
        database.execute("select sum(length((properties::jsonb)::text)) from mixpanel.events")


def test_files_are_exact(
    pipe: Callable[[list[bytes]], Pipe], database: Database, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    files = batch_config("jsonl", root, batch_size=7)

    done = pipe(LINES).load(properties_format="string", **files)

    assert done.returncode == 0, done.stderr.decode()
    assert type_of_properties(database) == "text"
    assert_same(loaded(database, digits), wanted(LINES, digits))
    state = last_state(done.stdout)
    assert state
    assert state["bookmarks"]["events"]["loaded"] == [[str(DAY), str(DAY)]]
    assert len(list(root.iterdir())) == -(-len(LINES) // 7), "it removes no file"


@pytest.mark.parametrize("loader", [PLAIN, ADVISED], ids=["plain", "advised"])
def test_an_object_is_exact_but_for_the_null_character(
    pipe: Callable[[list[bytes]], Pipe], database: Database, loader: Mapping[str, Any]
) -> None:
    done = pipe(WITHOUT_NULL).load(loader)

    assert done.returncode == 0, done.stderr.decode()
    assert type_of_properties(database) == "jsonb"
    assert_same(loaded(database, values), wanted(WITHOUT_NULL, values))


@pytest.mark.parametrize(
    ("loader", "properties_format", "error"),
    [
        (PLAIN, "string", "PostgreSQL text fields cannot contain NUL (0x00) bytes"),
        (ADVISED, "object", "unsupported Unicode escape sequence"),
    ],
)
def test_the_null_character_else_fails_clearly(
    pipe: Callable[[list[bytes]], Pipe],
    database: Database,
    loader: Mapping[str, Any],
    properties_format: str,
    error: str,
) -> None:
    done = pipe(LINES).load(loader, properties_format=properties_format)

    assert done.returncode != 0
    assert error in done.stderr.decode()
    assert error in " ".join(PAGE.split())
    assert not done.stdout, "no state"
    assert not loaded(database, digits)


@pytest.mark.parametrize(("first", "then"), [("object", "string"), ("string", "object")])
def test_a_table_takes_the_other_format(
    pipe: Callable[[list[bytes]], Pipe], database: Database, first: str, then: str
) -> None:
    half = len(WITHOUT_NULL) // 2
    pipe(WITHOUT_NULL[:half]).load(properties_format=first)
    kind = type_of_properties(database)

    done = pipe(WITHOUT_NULL[half:]).load(properties_format=then)

    assert done.returncode == 0, done.stderr.decode()
    assert type_of_properties(database) == kind
    assert_same(loaded(database, values), wanted(WITHOUT_NULL, values))


def test_without_copy_a_jsonb_table_refuses_text(
    pipe: Callable[[list[bytes]], Pipe], database: Database
) -> None:
    pipe(WITHOUT_NULL).load(PLAIN)

    done = pipe(WITHOUT_NULL).load(PLAIN, properties_format="string")

    assert done.returncode != 0
    assert 'column "properties" is of type jsonb' in done.stderr.decode()
    assert_same(loaded(database, values), wanted(WITHOUT_NULL, values))


@pytest.mark.parametrize("loader", [PLAIN, ADVISED], ids=["plain", "advised"])
def test_times_where_the_session_is_not_in_utc(
    pipe: Callable[[list[bytes]], Pipe], database: Database, loader: Mapping[str, Any]
) -> None:
    (line,) = (line for line in LINES if b"Poison: control characters" in line)
    (row,) = wanted([line], values).keyed.values()
    shift = 9 * 3_600_000 if loader is PLAIN else 0

    done = pipe([line]).load(loader, time_zone="Asia/Tokyo")

    assert done.returncode == 0, done.stderr.decode()
    (stored,) = loaded(database, values).keyed.values()
    assert stored == replace(row, time_ms=row.time_ms + shift)


def test_a_poisoned_project_day_by_day(tmp_path: Path, database: Database) -> None:
    project = Project(events_per_day=100, poison=True)
    first, last = DAY - timedelta(days=6), DAY
    with Sandbox(project, limits=None, as_of=lambda: AS_OF) as sandbox:
        pipe = Pipe(tmp_path, sandbox, database)
        state = None
        for end in (first + timedelta(days=3), last):
            done = pipe.load(
                state=state,
                start_date=str(first),
                end_date=str(end),
                parallel=True,
                properties_format="string",
            )
            assert done.returncode == 0, done.stderr.decode()
            state = last_state(done.stdout)

    assert state
    assert state["bookmarks"]["events"]["loaded"] == [[str(first), str(last)]]
    assert_same(loaded(database, digits), wanted(lines_of(project, first, last), digits))


def type_of_properties(database: Database) -> str:
    return database.execute(
        "select data_type from information_schema.columns"
        " where table_name = 'events' and column_name = 'properties'"
    ).strip()


def loaded(database: Database, normal: Normal) -> Table:
    """What the loader has loaded."""
    found = database.rows(
        "select event_id, event, distinct_id, insert_id, properties::text as properties,"
        " round(extract(epoch from time) * 1000) as time_ms from mixpanel.events"
    )
    rows = [
        (
            row["event_id"],
            Row(
                event=row["event"] or None,
                time_ms=row["time_ms"],
                distinct_id=row["distinct_id"] or None,
                insert_id=row["insert_id"] or None,
                properties=normal(parsed(row["properties"])),
            ),
        )
        for row in found
    ]
    keyed = {key: row for key, row in rows if row.insert_id}
    return Table(keyed, Counter(row for _, row in rows if not row.insert_id))


def wanted(lines: Iterable[bytes], normal: Normal) -> Table:
    """What it should have loaded, with U+FFFD for what no column can hold."""
    return expected(lines, normal=normal).map(
        lambda row: replace(
            row,
            event=without_null(row.event),
            distinct_id=without_null(row.distinct_id),
            insert_id=without_null(row.insert_id),
        )
    )


def without_null(text: str | None) -> str | None:
    return text and text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def values(value: Any) -> str:
    """As `jsonb` has it: a number is its value, and of one name the last stays."""

    def plain(value: Any) -> Any:
        if isinstance(value, Pairs):
            return {name: plain(item) for name, item in value}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, Number):
            number = f"{Decimal(value):f}"
            number = number.rstrip("0").rstrip(".") if "." in number else number
            return {"number": "0" if number == "-0" else number}
        return value

    return json.dumps(plain(value), sort_keys=True)
