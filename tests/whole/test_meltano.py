"""The whole way: `meltano run` and shell pipes, real loaders, exact content."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import duckdb
import pytest

from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox, Shaping
from tests.support.recipes import section
from tests.support.reference import assert_same, lines_of, rows_of, run, table

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.slow

PROJECT = Project(seed=11, events_per_day=90)
FIRST, LAST = date(2025, 1, 1), date(2025, 2, 5)
AS_OF = datetime(2025, 3, 1, tzinfo=UTC)
BROKEN = (date(2025, 1, 15), date(2025, 1, 15))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(PROJECT, limits=None, as_of=lambda: AS_OF) as started:
        yield started


def tap_environment(sandbox: Sandbox, **settings: str) -> dict[str, str]:
    values = {
        "region": "sandbox",
        "api_url": sandbox.url,
        "start_date": str(FIRST),
        "end_date": str(LAST),
        "requests_per_second": "100",
        "max_attempts": "1",
    } | settings
    return {f"TAP_MIXPANEL_PARALLEL_{name.upper()}": value for name, value in values.items()}


class MeltanoRun:
    """Runs of the pipeline into one DuckDB file, under one state id."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.database = folder / "output" / f"{name}.duckdb"

    def __call__(
        self, settings: Mapping[str, str], *options: str
    ) -> subprocess.CompletedProcess[str]:
        return run(
            *("meltano", "run", "--state-id-suffix", self.name, *options),
            *("tap-mixpanel-parallel", "target-duckdb"),
            cwd=self.folder,
            settings={**settings, "TARGET_DUCKDB_FILEPATH": str(self.database)},
        )

    def state(self) -> dict[str, object]:
        state_id = f"sandbox:tap-mixpanel-parallel-to-target-duckdb:{self.name}"
        done = run("meltano", "state", "get", state_id, cwd=self.folder)
        bookmark = json.loads(done.stdout)["singer_state"]["bookmarks"]["events"]
        assert isinstance(bookmark, dict)
        return bookmark


@pytest.mark.parametrize(
    ("parallel", "properties_format"), [("true", "object"), ("false", "object"), ("true", "string")]
)
def test_meltano_loads_every_event(
    meltano_project: Path, sandbox: Sandbox, parallel: str, properties_format: str
) -> None:
    pipeline = MeltanoRun(meltano_project, f"whole-{parallel}-{properties_format}")
    settings = tap_environment(sandbox, parallel=parallel, properties_format=properties_format)
    sandbox.shaping = Shaping(first_byte_seconds=0.5)  # so that requests overlap, if any do

    done = pipeline(settings)

    assert done.returncode == 0, done.stderr
    assert_same(table(pipeline.database), rows_of(lines_of(PROJECT, FIRST, LAST, AS_OF)))
    assert pipeline.state()["loaded"] == [[str(FIRST), str(LAST)]]
    assert (sandbox.max_concurrent > 1) == (parallel == "true")


def test_meltano_keeps_what_loaded_and_repairs_the_rest(
    meltano_project: Path, sandbox: Sandbox
) -> None:
    pipeline = MeltanoRun(meltano_project, "repair")
    settings = tap_environment(sandbox, parallel="true")
    sandbox.faults = [Fault.parse("status=500,days=2025-01-15..2025-01-15")]

    broken = pipeline(settings)

    assert broken.returncode != 0
    state = pipeline.state()
    assert isinstance(state["partitions"], list)
    (failed,) = state["partitions"]
    first, last = (date.fromisoformat(failed["context"][k]) for k in ("from_date", "to_date"))
    assert first <= BROKEN[0] <= last
    assert failed["status"] == "failed"
    assert "HTTP 500" in failed["error"]
    missing = rows_of(lines_of(PROJECT, first, last, AS_OF))
    everything = rows_of(lines_of(PROJECT, FIRST, LAST, AS_OF))
    with_ids = {key for key, row in everything.items() if row.insert_id}
    loaded = {key for key, row in table(pipeline.database).items() if row.insert_id}
    assert loaded == with_ids - missing.keys()

    sandbox.faults = []
    before = len(sandbox.requests)
    repaired = pipeline(settings)

    assert repaired.returncode == 0, repaired.stderr
    again = sandbox.requests[before:]
    assert [(r.from_date, r.to_date) for r in again] == [(first, last)]
    assert_same(table(pipeline.database), everything)
    assert pipeline.state()["partitions"] == []


def test_shell_pipe(tmp_path: Path, sandbox: Sandbox) -> None:
    username, secret = sandbox.auth
    (tmp_path / "tap.json").write_text(
        json.dumps(
            {
                "api_url": sandbox.url,
                "project_id": "1",
                "service_account_username": username,
                "service_account_secret": secret,
                "start_date": str(FIRST),
                "end_date": str(LAST),
                "requests_per_second": 100,
            }
        )
    )
    (tmp_path / "target.json").write_text(
        json.dumps({"filepath": "warehouse.duckdb", "default_target_schema": "mixpanel"})
    )
    pipe = (
        "tap-mixpanel-parallel --config tap.json --parallel --workers 4 $STATE"
        " | target-duckdb --config target.json | tail -1 > state.new"
        "; [ -s state.new ] && mv state.new state.json"
    )

    for state in ("", "--state state.json"):
        done = run(
            "bash", "-c", f"set -o pipefail; {pipe}", cwd=tmp_path, settings={"STATE": state}
        )
        assert done.returncode == 0, done.stderr

    assert_same(
        table(tmp_path / "warehouse.duckdb"), rows_of(lines_of(PROJECT, FIRST, LAST, AS_OF))
    )
    saved = json.loads((tmp_path / "state.json").read_text())["bookmarks"]["events"]
    assert saved["loaded"] == [[str(FIRST), str(LAST)]]
    assert "nothing to fetch" in done.stderr

    sql = section("The key", "sql")
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as database:
        ((events, recomputed),) = database.execute(sql).fetchall()
    assert events == recomputed > 0
