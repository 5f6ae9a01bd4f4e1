"""The whole way: `meltano run` and shell pipes, real loaders, exact content."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
import pytest

from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox, Shaping
from tests.support.commands import run
from tests.support.exact import digits, doubles
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.meltano import MeltanoRun, tap_environment
from tests.support.projects import access_to
from tests.support.recipes import section

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

PROJECT = Project(seed=11, events_per_day=90)
FIRST, LAST = date(2025, 1, 1), date(2025, 2, 5)
DAYS = {"start_date": str(FIRST), "end_date": str(LAST)}
AS_OF = datetime(2025, 3, 1, tzinfo=UTC)
BROKEN = (date(2025, 1, 15), date(2025, 1, 15))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(PROJECT, limits=None, as_of=lambda: AS_OF) as started:
        yield started


@pytest.mark.parametrize(
    ("parallel", "properties_format"), [("true", "object"), ("false", "object"), ("true", "string")]
)
def test_meltano_loads_every_event(
    meltano_project: Path, sandbox: Sandbox, parallel: str, properties_format: str
) -> None:
    pipeline = MeltanoRun(meltano_project, f"whole-{parallel}-{properties_format}")
    settings = tap_environment(
        sandbox, **DAYS, parallel=parallel, properties_format=properties_format
    )
    sandbox.shaping = Shaping(first_byte_seconds=0.5)  # so that requests overlap, if any do

    done = pipeline(settings)

    assert done.returncode == 0, done.stderr
    normal = digits if properties_format == "string" else doubles
    assert_same(
        loaded(pipeline.database, normal=normal),
        expected(lines_of(PROJECT, FIRST, LAST, AS_OF), normal=normal),
    )
    assert pipeline.bookmark()["loaded"] == [[str(FIRST), str(LAST)]]
    assert (sandbox.max_concurrent > 1) == (parallel == "true")
    windows = re.findall(r"\d handed to the loader: .* of \d+ windows", done.stderr)
    assert len(windows) == int(re.findall(r"to fetch in (\d+) windows", done.stderr)[0])
    assert "METRIC" not in done.stderr


def test_meltano_keeps_what_loaded_and_repairs_the_rest(
    meltano_project: Path, sandbox: Sandbox
) -> None:
    pipeline = MeltanoRun(meltano_project, "repair")
    settings = tap_environment(sandbox, **DAYS, parallel="true")
    sandbox.faults = [Fault.parse("status=500,days=2025-01-15..2025-01-15")]

    broken = pipeline(settings)

    assert broken.returncode != 0
    state = pipeline.bookmark()
    (failed,) = state["partitions"]
    first, last = (date.fromisoformat(failed["context"][k]) for k in ("from_date", "to_date"))
    assert first <= BROKEN[0] <= last
    assert failed["status"] == "failed"
    assert "HTTP 500" in failed["error"]
    before, after = first - timedelta(days=1), last + timedelta(days=1)
    rest = lines_of(PROJECT, FIRST, before, AS_OF) + lines_of(PROJECT, after, LAST, AS_OF)
    assert_same(loaded(pipeline.database), expected(rest))

    sandbox.faults = []
    requests = len(sandbox.requests)
    repaired = pipeline(settings)

    assert repaired.returncode == 0, repaired.stderr
    again = sandbox.requests[requests:]
    assert [(r.from_date, r.to_date) for r in again] == [(first, last)]
    everything = expected(lines_of(PROJECT, FIRST, LAST, AS_OF))
    assert_same(loaded(pipeline.database), everything)
    assert pipeline.bookmark()["partitions"] == []


def test_shell_pipe(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "tap.json").write_text(
        json.dumps(
            {
                **access_to(sandbox),
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

    everything = expected(lines_of(PROJECT, FIRST, LAST, AS_OF))
    assert_same(loaded(tmp_path / "warehouse.duckdb"), everything)
    saved = json.loads((tmp_path / "state.json").read_text())["bookmarks"]["events"]
    assert saved["loaded"] == [[str(FIRST), str(LAST)]]
    assert "nothing to fetch" in done.stderr

    sql = section("The key", "sql")
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as database:
        ((events, recomputed),) = database.execute(sql).fetchall()
    assert events == recomputed > 0
