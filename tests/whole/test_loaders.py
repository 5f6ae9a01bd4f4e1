"""What `docs/loaders.md` says that loaders do, seen from real ones."""

from __future__ import annotations

import csv
import json
import subprocess
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pytest

from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tests.support.commands import PATIENCE, environment, run
from tests.support.exact import digits
from tests.support.expected import AS_OF, assert_same, expected, loaded
from tests.support.harness import Body, Lab, body
from tests.support.loaders import PAGE, program
from tests.support.recipes import recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.harness import Output, State

# The first of them installs the loaders.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DAY: Final = "2025-01-06"
NOON: Final = 1736164800000


def event(insert_id: str, more: str = "", processed_ms: int = NOON) -> bytes:
    return (
        f'{{"event":"A","properties":{{"time":{NOON},"distinct_id":"u","$insert_id":"{insert_id}",'
        f'"mp_processing_time_ms":{processed_ms}{more and "," + more}}}}}'
    ).encode()


class Pipe:
    """The tap and target-duckdb in a pipe, again and again."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.sandbox, self.lab = sandbox, Lab(folder, sandbox)
        self.lab.settings |= {"start_date": DAY, "end_date": DAY, "lookback_days": 0}

    def serve(self, *lines: bytes) -> None:
        """Have Mixpanel export these lines."""
        self.sandbox.faults = [Fault(Body(body(lines)))]

    def load(
        self, state: State | None = None, **settings: Any
    ) -> tuple[Output, subprocess.CompletedProcess[bytes]]:
        """Run both; the tap has to succeed."""
        out = self.lab.run(state, **settings)
        assert out.code == 0, out.errors
        done = subprocess.run(
            self.lab.target(),
            input=out.text,
            env=environment(),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        return out, done

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database."""
        with duckdb.connect(str(self.lab.database)) as database:
            return database.execute(sql).fetchall()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    with Sandbox(Project(), limits=None, as_of=lambda: AS_OF) as sandbox:
        yield Pipe(tmp_path, sandbox)


def state_of(out: Output) -> State:
    return {"bookmarks": {"events": out.bookmark}}


class TestEveryLoader:
    """What holds for all that keep one row for each key."""

    @pytest.mark.parametrize(
        ("deduplicate", "kept"), [(False, ["last exported"]), (True, ["last ingested"])]
    )
    def test_which_duplicate_stays(self, pipe: Pipe, deduplicate: bool, kept: list[str]) -> None:
        pipe.serve(
            event("i", '"which":"first"', NOON),
            event("i", '"which":"last ingested"', NOON + 2),
            event("i", '"which":"last exported"', NOON + 1),
        )

        pipe.load(deduplicate=deduplicate)

        rows = pipe.query("select properties->>'$.which' from mixpanel.events")
        assert [which for (which,) in rows] == kept

    def test_what_mixpanel_deleted_stays_until_its_days_are_deleted(self, pipe: Pipe) -> None:
        kept, gone = event("kept"), event("gone")
        pipe.serve(kept, gone)
        out, _ = pipe.load()
        pipe.serve(kept)

        again, _ = pipe.load(state_of(out), replay=f"{DAY}..{DAY}")

        assert len(again.records) == 1
        assert_same(loaded(pipe.lab.database), expected([kept, gone]))

        pipe.query(recipe("deleted"))
        pipe.load(state_of(again), replay=f"{DAY}..{DAY}")

        assert_same(loaded(pipe.lab.database), expected([kept]))

    def test_a_day_counts_as_loaded_whatever_a_stream_map_filters(self, pipe: Pipe) -> None:
        pipe.serve(event("a"), event("b"))
        out, _ = pipe.load(stream_maps={"events": {"__filter__": "insert_id == 'a'"}})
        assert [record["insert_id"] for record in out.records] == ["a"]
        assert [str(day) for day in out.loaded] == [DAY]
        before = len(pipe.sandbox.requests)

        again, _ = pipe.load(
            state_of(out), stream_maps={"events": {"__filter__": "insert_id == 'b'"}}
        )

        assert len(pipe.sandbox.requests) == before
        assert not again.records

        pipe.load(state_of(again), replay=f"{DAY}..{DAY}")

        rows = pipe.query("select insert_id from mixpanel.events order by all")
        assert rows == [("a",), ("b",)]


class TestDuckDb:
    """What target-duckdb does."""

    def test_properties_is_json_in_both_formats_and_in_one_table(self, pipe: Pipe) -> None:
        lines = [event("a", '"v":1.50'), event("b", '"v":"é"')]
        for line, properties_format in zip(lines, ("string", "object"), strict=True):
            pipe.serve(line)
            pipe.load(properties_format=properties_format)

        columns = pipe.query(
            "select data_type from information_schema.columns"
            " where table_name = 'events' and column_name like 'properties%'"
        )
        assert columns == [("JSON",)]
        assert_same(loaded(pipe.lab.database), expected(lines))

    @pytest.mark.parametrize("letters", [249_000 * "🎉", 495_000 * "ж"], ids=["emoji", "Cyrillic"])
    def test_a_megabyte_of_letters_fits_as_text_alone(self, pipe: Pipe, letters: str) -> None:
        line = event("i", f'"v":"{letters}"')
        assert 990_000 < len(line) < 1_000_000
        pipe.serve(event("before"), line)

        _, failed = pipe.load(properties_format="object")

        assert failed.returncode != 0
        assert "max_line_size" in failed.stderr.decode()
        assert not failed.stdout, "no state"

        _, done = pipe.load(properties_format="string")

        assert done.returncode == 0, done.stderr.decode()
        wanted = expected([event("before"), line], normal=digits)
        assert_same(loaded(pipe.lab.database, normal=digits), wanted)

    def test_a_megabyte_of_quotes_fits_as_text(self, pipe: Pipe) -> None:
        """CSV doubles them; nothing grows more."""
        line = event("i", f'"v":[{",".join(333_000 * [chr(34) * 2])}]')
        assert 990_000 < len(line) < 1_000_000
        pipe.serve(line)

        _, done = pipe.load(properties_format="string")

        assert done.returncode == 0, done.stderr.decode()
        assert_same(loaded(pipe.lab.database, normal=digits), expected([line], normal=digits))


class TestCsv:
    """What target-csv does."""

    @pytest.mark.parametrize("properties_format", ["string", "object"])
    def test_what_a_field_holds(self, pipe: Pipe, properties_format: str) -> None:
        pipe.serve(event("i", '"plan":"pro","paid":true'))

        ((row,),) = to_csv(pipe, {}, properties_format=properties_format).values()

        if properties_format == "string":
            assert json.loads(row["properties"])["paid"] is True
        else:
            assert "'plan': 'pro', 'paid': True" in row["properties"]
            assert "'plan': 'pro', 'paid': True" in PAGE

    def test_a_run_begins_the_file_anew(self, pipe: Pipe) -> None:
        pipe.serve(event("first"))
        to_csv(pipe, {"overwrite_behavior": "append_records"})
        pipe.serve(event("second"))

        files = to_csv(pipe, {"overwrite_behavior": "append_records"})

        assert [[row["insert_id"] for row in rows] for rows in files.values()] == [["second"]]

    def test_a_file_for_each_run(self, pipe: Pipe) -> None:
        for insert_id in ("first", "second"):
            pipe.serve(event(insert_id), event(insert_id))
            files = to_csv(pipe, json.loads(recipe("csv")))

        assert [[row["insert_id"] for row in rows] for rows in files.values()] == [
            ["first", "first"],
            ["second", "second"],
        ]


def to_csv(pipe: Pipe, loader: dict[str, Any], **settings: Any) -> dict[str, list[dict[str, str]]]:
    """Run the tap and target-csv, and read all of its files."""
    folder = pipe.lab.folder / "output"
    out = pipe.lab.run(**settings)
    done = subprocess.run(
        (
            program("target-csv"),
            "--config",
            pipe.lab.write("csv.json", {"output_path": "output"} | loader),
        ),
        input=out.text,
        cwd=pipe.lab.folder,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    files = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            files[path.name] = list(csv.DictReader(file))
    return files


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (recipe("dollar").replace("\\$", "$"), 'properties["rowser"] == "Firefox"'),
        (recipe("dollar"), 'properties["$Browser"] == "Firefox"'),
    ],
    ids=["as it is", "advised"],
)
def test_a_dollar_in_meltano_s_file(meltano_project: Path, line: str, asked: str) -> None:
    assert asked.partition(" ==")[0] in " ".join(PAGE.split())
    manifest = meltano_project / "meltano.yml"
    original = manifest.read_text()
    place = "              start_date: P90D\n"
    assert place in original
    try:
        manifest.write_text(original.replace(place, f"{place}              {line}", 1))
        done = run(
            *("meltano", "--environment=sandbox", "invoke", "tap-mixpanel-parallel"),
            cwd=meltano_project,
            settings={"TAP_MIXPANEL_PARALLEL_START_DATE": "P1D"},
        )
    finally:
        manifest.write_text(original)

    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.split("\n") if line.startswith("{")]
    states = [message["value"] for message in messages if message["type"] == "STATE"]
    assert states[-1]["bookmarks"]["events"]["selection"]["where"] == asked
