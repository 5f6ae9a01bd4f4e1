"""The log for machines: JSON lines, as Meltano configures them, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tests.support.commands import run
from tests.support.expected import lines_of

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = Project(seed=41, events_per_day=20)
AS_OF = datetime(2025, 3, 1, tzinfo=UTC)
DAYS = [date(2025, 1, day) for day in (1, 2, 3)]
BROKEN = DAYS[1]
STRUCTURED = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "singer_sdk.logging.StructuredFormatter"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "json",
            "stream": "ext://sys.stderr",
        }
    },
}


def entries(
    folder: Path, expected_code: int, level: str = "INFO", **config: Any
) -> list[dict[str, Any]]:
    """The log of a run; every line of it is an object."""
    configured = STRUCTURED | {"root": {"level": level, "handlers": ["stderr"]}}
    (folder / "logging.json").write_text(json.dumps(configured))
    (folder / "tap.json").write_text(json.dumps(config))
    done = run(
        *("tap-mixpanel-parallel", "--config", "tap.json"),
        cwd=folder,
        settings={"SINGER_SDK_LOG_CONFIG": "logging.json"},
    )
    assert done.returncode == expected_code, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def log_of_three(folder: Path, level: str) -> list[dict[str, Any]]:
    """The log of three windows, of which one fails."""
    fault = Fault.parse(f"status=500,days={BROKEN}")
    with Sandbox(PROJECT, limits=None, as_of=lambda: AS_OF, faults=[fault]) as sandbox:
        return entries(
            folder,
            1,
            level,
            region="sandbox",
            api_url=sandbox.url,
            start_date=str(DAYS[0]),
            end_date=str(DAYS[-1]),
            window_days=1,
            max_attempts=1,
            requests_per_second=100,
        )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The log at the usual level."""
    return log_of_three(tmp_path_factory.mktemp("log"), "INFO")


def test_every_line_is_an_entry(log: list[dict[str, Any]]) -> None:
    assert {entry["level"] for entry in log} == {"info", "error"}
    assert all(isinstance(entry["message"], str) for entry in log)


def test_metrics_are_for_who_asks(log: list[dict[str, Any]]) -> None:
    assert not [entry for entry in log if "METRIC" in entry["message"]]
    assert not [entry for entry in log if "record path" in entry["message"]]


def test_each_window_is_measured(tmp_path: Path) -> None:
    log = log_of_three(tmp_path, "DEBUG")
    assert [entry["metric_info"] for entry in log if entry["message"] == "METRIC"] == [
        {
            "type": "counter",
            "metric": "record_count",
            "value": 0 if day == BROKEN else len(lines_of(PROJECT, day, day, AS_OF)),
            "tags": {
                "stream": "events",
                "context": {"from_date": str(day), "to_date": str(day)},
                "status": "failed" if day == BROKEN else "succeeded",
            },
        }
        for day in DAYS
    ]


def test_each_window_s_end_is_told(log: list[dict[str, Any]]) -> None:
    told = [(e["level"], e["message"]) for e in log if e["message"].startswith("2025-01-0")]
    plan, *ends = told
    assert "3 days to fetch in 3 windows" in plan[1]
    for number, (day, (level, message)) in enumerate(zip(DAYS, ends, strict=True), 1):
        events = len(lines_of(PROJECT, day, day, AS_OF))
        loaded = ("info", f"{day}..{day} handed to the loader: {events} events, ")
        failed = ("error", f"{day}..{day} failed after 1 attempt: HTTP 500")
        expected = failed if day == BROKEN else loaded
        assert (level, message[: len(expected[1])]) == expected
        assert f"({number - (number > 1)} of 3 windows" in message


def test_a_table_is_one_entry(log: list[dict[str, Any]]) -> None:
    (table,) = [entry for entry in log if "from_date " in entry["message"]]
    assert table["level"] == "error"
    assert f"\n  {BROKEN}  {BROKEN}  " in table["message"]


def test_bad_settings_are_entries(tmp_path: Path) -> None:
    log = entries(tmp_path, 1, region="sandbox", start_date="soon", workers=0)
    errors = [entry["message"] for entry in log if entry["level"] == "error"]
    assert sorted(error.partition(":")[0] for error in errors) == ["start_date", "workers"]
