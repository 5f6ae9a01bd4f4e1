"""A run's numbers as a line of JSON, and reports that say nothing but their answer."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.exceptions import MapExpressionError

from tap_mixpanel_parallel.cli import one_clear_message
from tap_mixpanel_parallel.convert.malformed import Malformed
from tap_mixpanel_parallel.exceptions import ExportFailedError, MalformedLineError
from tap_mixpanel_parallel.report.results import ParallelFetchResult
from tap_mixpanel_parallel.report.summary import numbers_at_the_end, numbers_of
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tests.report.events import Counting, failed, written
from tests.support.commands import run
from tests.support.expected import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROJECT = Project(seed=41, events_per_day=20)
AS_OF = datetime(2025, 3, 1, tzinfo=UTC)
DAYS = [date(2025, 1, day) for day in (1, 2, 3)]
FLATTENED = {"flattening_enabled": True, "flattening_max_depth": 1}
LOG = logging.getLogger("test")
NOTHING = {
    "windows": 0,
    "windows_handed_over": 0,
    "windows_failed": 0,
    "events": 0,
    "duplicates": 0,
    "quarantined_lines": 0,
    "column_misfits": {},
    "bytes": 0,
    "requests": 0,
    "seconds": 0.0,
    "failed": [],
}


def test_all_numbers(tmp_path: Path) -> None:
    run = Counting(tmp_path, windows=4)
    for second, (day, attempt) in enumerate([(1, 1), (2, 1), (3, 1), (3, 2), (4, 1)]):
        run.at(second / 10, run.requested(day, attempt))
    malformed = Malformed(tmp_path / "y", 2, MalformedLineError(1, b"", "x"), b"")
    run.at(1, written(tmp_path, 1, 70, 1000, malformed, duplicates=3, misfits={"os": 1, "plan": 2}))
    run.at(2, written(tmp_path, 2, 30, 500, misfits={"plan": 4}))
    run.at(3, failed(3, attempts=2))
    run.clock.seconds = 112.3456
    assert numbers_of(run.progress) == {
        "windows": 4,
        "windows_handed_over": 2,
        "windows_failed": 1,
        "events": 100,
        "duplicates": 3,
        "quarantined_lines": 2,
        "column_misfits": {"os": 1, "plan": 6},
        "bytes": 1500,
        "requests": 5,
        "seconds": 12.346,
        "failed": [
            {"from_date": "2025-01-03", "to_date": "2025-01-03", "attempts": 2, "error": "HTTP 500"}
        ],
    }


def test_before_the_plan() -> None:
    assert numbers_of(None) == NOTHING


def test_a_run_that_ends_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(SystemExit),
        numbers_at_the_end(lambda: {"events": 7}),
        one_clear_message(LOG),
    ):
        raise ExportFailedError("2 windows failed", ParallelFetchResult((), 0.0))
    told = json.loads(capsys.readouterr().err)
    assert told == {"exit_code": 1, "error": "2 windows failed", "events": 7}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MapExpressionError("no such field"), "MapExpressionError: no such field"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (KeyError("surprise"), "KeyError: 'surprise'"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
    ],
)
def test_a_run_that_ends_with_an_error_of_others(
    capsys: pytest.CaptureFixture[str], error: BaseException, told: str
) -> None:
    ends = (SystemExit, type(error))
    with pytest.raises(ends), numbers_at_the_end(dict), one_clear_message(LOG):
        raise error
    assert json.loads(capsys.readouterr().err) == {"exit_code": 1, "error": told}


def test_a_run_that_ends_before_its_windows(tmp_path: Path) -> None:
    fault = Fault.parse("status=401")
    with Sandbox(PROJECT, limits=None, as_of=lambda: AS_OF, faults=[fault]) as sandbox:
        settings(tmp_path, sandbox, summary_format="json", parallel=False)
        done = run("tap-mixpanel-parallel", "--config", "tap.json", cwd=tmp_path)
        made = len(sandbox.requests)
    told = json.loads(done.stderr.splitlines()[-1])
    assert (told["exit_code"], told["windows_failed"], told["requests"]) == (1, 0, made)
    assert made == 1


def test_nobody_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with numbers_at_the_end(dict):
        pass


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """It refuses one day."""
    fault = Fault.parse(f"status=500,days={DAYS[1]}")
    with Sandbox(PROJECT, limits=None, as_of=lambda: AS_OF, faults=[fault]) as sandbox:
        yield sandbox


def settings(folder: Path, sandbox: Sandbox, **more: Any) -> None:
    config = {
        "region": "sandbox",
        "api_url": sandbox.url,
        "start_date": str(DAYS[0]),
        "end_date": str(DAYS[-1]),
        "window_days": 1,
        "max_attempts": 1,
        "parallel": True,
        "requests_per_second": 100,
    }
    (folder / "tap.json").write_text(json.dumps(config | more))


def test_it_is_the_last_line_of_a_run(tmp_path: Path, sandbox: Sandbox) -> None:
    settings(tmp_path, sandbox, summary_format="json")
    done = run("tap-mixpanel-parallel", "--config", "tap.json", cwd=tmp_path)
    assert done.returncode == 1
    told = json.loads(done.stderr.splitlines()[-1])
    events = sum(len(lines_of(PROJECT, day, day, AS_OF)) for day in (DAYS[0], DAYS[2]))
    assert (told["exit_code"], told["windows"], told["windows_failed"]) == (1, 3, 1)
    assert told["error"].startswith("1 of 3 windows failed")
    assert (told["events"], told["requests"]) == (events, 3)
    assert [failure["from_date"] for failure in told["failed"]] == [str(DAYS[1])]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--plan"], ""),
        (["--status"], ""),
        (["--test"], "the settings and the credentials work"),
        (["--discover"], ""),
        (["--about"], ""),
        (["--version"], ""),
    ],
)
def test_a_report_says_its_answer_and_nothing_else(
    tmp_path: Path, sandbox: Sandbox, options: list[str], said: str
) -> None:
    settings(tmp_path, sandbox, summary_format="json", **FLATTENED)
    (tmp_path / "state.json").write_text("{}")
    done = run(
        *("tap-mixpanel-parallel", "--config", "tap.json", "--state", "state.json", *options),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert [line.split(" | ")[-1] for line in done.stderr.splitlines()] == ([said] if said else [])


def test_a_plan_still_warns(tmp_path: Path, sandbox: Sandbox) -> None:
    settings(tmp_path, sandbox, parallel=False, workers=4)
    done = run("tap-mixpanel-parallel", "--config", "tap.json", "--plan", cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert "WARNING" in line
    assert "workers: 4 has no effect without parallel" in line
