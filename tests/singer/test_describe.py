"""`--describe` on the command line: one request, and a report."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from click.testing import CliRunner

from tap_mixpanel_parallel import TapMixpanelParallel
from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox, Status
from tests.support.commands import run
from tests.support.expected import lines_of
from tests.support.projects import access_to
from tests.support.tap_at import tap_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

NOW: Final = datetime(2025, 2, 12, 3, tzinfo=UTC)
PROJECT: Final = Project(seed=64, events_per_day=30)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(PROJECT, limits=None, as_of=lambda: NOW) as started:
        yield started


@pytest.fixture(autouse=True)
def _a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clock, "now", lambda _: NOW)


def config_of(sandbox: Sandbox, folder: Path, **settings: Any) -> str:
    path = folder / "tap.json"
    own = {"start_date": "2025-01-01", "spool_dir": str(folder), "requests_per_second": 1000}
    path.write_text(json.dumps(access_to(sandbox) | own | settings))
    return str(path)


def describe(config: str, *options: str) -> Result:
    return CliRunner().invoke(TapMixpanelParallel.cli, ["--config", config, *options])


def asked(sandbox: Sandbox) -> list[tuple[date | None, date | None]]:
    return [(request.from_date, request.to_date) for request in sandbox.requests]


@pytest.mark.slow
def test_the_command_prints_a_report_and_nothing_else(sandbox: Sandbox, tmp_path: Path) -> None:
    config = config_of(sandbox, tmp_path)

    done = run(*tap_at(NOW, ["--config", config, "--describe"]), cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert asked(sandbox) == [(date(2025, 2, 5), date(2025, 2, 11))]
    days = lines_of(PROJECT, date(2025, 2, 5), date(2025, 2, 11), NOW)
    assert done.stdout.startswith(f"{len(days)} events on 2025-02-05..2025-02-11 (7 days)\n")
    assert '"type"' not in done.stdout.partition("The setting property_columns")[0]
    assert done.stdout.endswith("FROM mixpanel.events;\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tap.json"]


def test_the_week_is_that_of_the_project(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is still the day before there."""
    config = config_of(sandbox, tmp_path, project_timezone="America/Los_Angeles")

    assert describe(config, "--describe").exit_code == 0
    assert asked(sandbox) == [(date(2025, 2, 4), date(2025, 2, 10))]


@pytest.mark.parametrize("options", [["--describe=2025-01-01..2025-02-12"], ["--describe", "x"]])
def test_days_can_be_chosen(sandbox: Sandbox, tmp_path: Path, options: list[str]) -> None:
    options = [option.replace("x", "2025-01-01..2025-02-12") for option in options]

    ended = describe(config_of(sandbox, tmp_path), *options, "--format", "json")

    assert ended.exit_code == 0
    found = json.loads(ended.stdout)
    assert (found["from_date"], found["to_date"], found["days"]) == ("2025-01-01", "2025-02-12", 43)
    assert found["count"] == len(lines_of(PROJECT, date(2025, 1, 1), date(2025, 2, 12), NOW))
    assert len(asked(sandbox)) == 1


def test_the_filters_of_the_settings_count(sandbox: Sandbox, tmp_path: Path) -> None:
    config = config_of(sandbox, tmp_path, events=["Purchase"])

    found = json.loads(describe(config, "--describe", "--format", "json").stdout)

    assert [each["event"] for each in found["events"]] == ["Purchase"]
    assert found["selection"] == {"events": ["Purchase"], "where": None}


@pytest.mark.parametrize(
    "days", ["yesterday", "2025-01-02..2025-01-01", "2025-02-12..2025-02-13", "1969-01-01", ""]
)
def test_bad_days_are_refused_before_any_request(
    sandbox: Sandbox, tmp_path: Path, days: str, caplog: pytest.LogCaptureFixture
) -> None:
    ended = describe(config_of(sandbox, tmp_path), f"--describe={days}")

    assert ended.exit_code == 1
    assert ended.stdout == ""
    (error,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert error == (
        f"describe: {days!r} is not a range of days from 1970-01-01 to 2025-02-12; "
        "give e.g. 2025-01-05..2025-01-11 (see docs/failures.md#settings-and-files)"
    )
    assert asked(sandbox) == []


def test_a_failure_is_an_error(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults = [Fault.parse("status=500")]
    config = config_of(sandbox, tmp_path, max_attempts=1)

    ended = describe(config, "--describe")

    assert (ended.exit_code, ended.stdout) == (1, "")
    assert caplog.records[-1].getMessage().startswith("HTTP 500")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tap.json"]


LOOKS: Final = pytest.mark.parametrize("option", ["--describe", "--test"])


def error_of(ended: Result, caplog: pytest.LogCaptureFixture) -> str:
    assert ended.exit_code == 1
    assert '"RECORD"' not in ended.stdout
    return caplog.records[-1].getMessage()


@LOOKS
def test_no_request_is_left_in_this_hour(
    sandbox: Sandbox, tmp_path: Path, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is loaded, no state helps, and nobody waits for an hour: it says when."""
    config = config_of(sandbox, tmp_path, requests_per_hour=1)
    assert describe(config, option).exit_code == 0

    assert error_of(describe(config, option), caplog) == (
        "the hourly limit is reached; the next request may start at 04:00:02 UTC. Try again then "
        "(see docs/failures.md#rate-limit)"
    )
    assert len(asked(sandbox)) == 1


@LOOKS
@pytest.mark.parametrize(
    ("retry_after", "when"), [(None, "within an hour"), ("1800", "at 03:30:00 UTC")]
)
def test_mixpanel_takes_no_request(
    sandbox: Sandbox,
    tmp_path: Path,
    option: str,
    retry_after: str | None,
    when: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.faults = [Fault(Status(429, b"61/60 in the last hour", retry_after=retry_after))]

    assert error_of(describe(config_of(sandbox, tmp_path), option), caplog) == (
        "Mixpanel takes no request for now (HTTP 429: 61/60 in the last hour; requests of others "
        f"and of earlier runs count too); the next request may start {when}. Try again then "
        "(see docs/failures.md#rate-limit)"
    )
    assert len(asked(sandbox)) == 1


def test_an_attempt_that_failed_counts_for_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults = [Fault.parse("cut,times=1")]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tap_mixpanel_parallel.fetch.retries.RetryPolicy.pause", lambda *_: 0.0)
        ended = describe(config_of(sandbox, tmp_path), "--describe", "--format", "json")

    days = lines_of(PROJECT, date(2025, 2, 5), date(2025, 2, 11), NOW)
    assert json.loads(ended.stdout)["count"] == len(days)
    assert len(asked(sandbox)) == 2
