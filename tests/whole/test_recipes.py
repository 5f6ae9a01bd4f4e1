"""The first steps and the recipes of the documents, run as they are written."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from tap_mixpanel_parallel.plan.windows import Window, merge
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox, Shaping
from tests.support.commands import BIN, ROOT, run
from tests.support.expected import assert_same, expected, lines_of, loaded, upserted
from tests.support.projects import AS_OF, MAIN, sandbox_of
from tests.support.recipes import recipe, section

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.sandbox import ExportRequest

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
FIRST, LAST = date(2025, 1, 1), date(2025, 1, 14)


def days_of(requests: list[ExportRequest]) -> list[str]:
    """The days that were requested, each once, merged."""
    asked = [Window(r.from_date, r.to_date) for r in requests if r.from_date and r.to_date]
    assert sum(map(len, asked)) == sum(map(len, merge(asked))), "a day was requested twice"
    return [str(window) for window in merge(asked)]


class Warehouse(NamedTuple):
    """What the first steps have made."""

    folder: Path
    sandbox: Sandbox
    done: subprocess.CompletedProcess[str]

    @property
    def database(self) -> Path:
        return self.folder / "output" / "warehouse.duckdb"

    def run(self, code: str, **variables: str) -> str:
        """Run a recipe's code in the folder, and give what it prints."""
        done = run("bash", "-ec", code, cwd=self.folder, settings=variables)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def warehouse(meltano_project: Path) -> Iterator[Warehouse]:
    """The first steps, in a project with all plugins of the recipes."""
    manifest, env = meltano_project / "meltano.yml", meltano_project / ".env"
    original = manifest.read_text()
    extended = original
    for kind, name in (("extractors", "several projects"), ("loaders", "jsonl")):
        assert extended.count(f"\n  {kind}:\n") == 1
        extended = extended.replace(f"\n  {kind}:\n", f"\n  {kind}:\n{recipe(name)}")
    manifest.write_text(extended)
    (meltano_project / ".env.example").write_text((ROOT / ".env.example").read_text())
    (meltano_project / ".venv").mkdir()
    (meltano_project / ".venv" / "bin").symlink_to(BIN)
    copy, install, *rest = section("With Meltano, on your project").splitlines()
    assert install.endswith("pip install '.[meltano]'"), "what is tested with"
    try:
        with sandbox_of(MAIN, "1234") as sandbox:
            copied = run("bash", "-ec", copy, cwd=meltano_project)
            assert copied.returncode == 0, copied.stderr
            env.write_text(filled_in(env.read_text(), sandbox))
            sandbox.shaping = Shaping(first_byte_seconds=0.5)  # so that requests overlap
            done = run("bash", "-ec", "\n".join(rest), cwd=meltano_project)
            sandbox.shaping = Shaping()
            yield Warehouse(meltano_project, sandbox, done)
    finally:
        manifest.write_text(original)
        env.unlink(missing_ok=True)


def filled_in(example: str, sandbox: Sandbox) -> str:
    """An `.env` as a person fills it in, and what leads it to a sandbox."""
    username, secret = sandbox.auth
    for name, value in {
        "PROJECT_ID": sandbox.credentials.project_id,
        "SERVICE_ACCOUNT_USERNAME": username,
        "SERVICE_ACCOUNT_SECRET": secret,
    }.items():
        empty = f"TAP_MIXPANEL_PARALLEL_{name}=\n"
        assert example.count(empty) == 1
        example = example.replace(empty, f"{empty.strip()}{value}\n")
    assert f"TAP_MIXPANEL_PARALLEL_START_DATE={FIRST}\n" in example
    return example + "".join(
        f"TAP_MIXPANEL_PARALLEL_{name}={value}\n"
        for name, value in {
            "API_URL": sandbox.url,
            "END_DATE": LAST,
            "REQUESTS_PER_SECOND": 100,
        }.items()
    )


def test_the_first_steps(warehouse: Warehouse) -> None:
    assert warehouse.done.returncode == 0, warehouse.done.stderr
    assert_same(loaded(warehouse.database), expected(lines_of(MAIN, FIRST, LAST, AS_OF)))
    assert warehouse.sandbox.max_concurrent > 1


def test_the_status_of_what_is_loaded(warehouse: Warehouse) -> None:
    get_state = section("Seeing what goes on").partition("meltano ")
    calendar = warehouse.run("".join(get_state[1:]))
    assert calendar.startswith("14 days loaded, 0 failed, 0 missing between")


def test_what_is_loaded_is_stale(warehouse: Warehouse) -> None:
    done = run("bash", "-c", recipe("stale"), cwd=warehouse.folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(f"stale: the newest day that is loaded is {LAST}\n")


def test_the_demo_does_not_read_the_real_project(warehouse: Warehouse) -> None:
    makefile = (ROOT / "Makefile").read_text()
    command = re.search(r"^demo:.*?(meltano [^\n]*) run ", makefile, re.DOTALL | re.MULTILINE)
    assert command
    show = "--environment=sandbox config print tap-mixpanel-parallel"  # it takes no default
    config = json.loads(warehouse.run(f"{command[1]} {show}"))
    assert (config["region"], config["start_date"]) == ("sandbox", "P90D")
    assert "project_id" not in config


def test_the_same_command_fetches_new_days_and_what_failed(warehouse: Warehouse) -> None:
    """Into a table and a state of its own, with `end_date` in place of days that go by."""
    database, sandbox = warehouse.folder / "output" / "daily.duckdb", warehouse.sandbox
    asked = []
    for end, broken in (("02-10", None), ("02-13", "2025-02-12"), ("02-13", None)):
        sandbox.faults = [Fault.parse(f"status=500,days={broken}")] if broken else []
        before = len(sandbox.requests)
        done = run(
            *("bash", "-ec", recipe("again")),
            cwd=warehouse.folder,
            settings={
                "MELTANO_DATABASE_URI": f"sqlite:///{warehouse.folder}/daily.db",
                "TARGET_DUCKDB_FILEPATH": str(database),
                "TAP_MIXPANEL_PARALLEL_START_DATE": "2025-02-01",
                "TAP_MIXPANEL_PARALLEL_END_DATE": f"2025-{end}",
                "TAP_MIXPANEL_PARALLEL_WINDOW_DAYS": "1",
                "TAP_MIXPANEL_PARALLEL_MAX_ATTEMPTS": "1",
            },
        )
        assert (done.returncode == 0) == (broken is None), done.stderr
        asked.append(days_of(sandbox.requests[before:]))
    assert asked == [
        ["2025-02-01..2025-02-10"],
        ["2025-02-11..2025-02-13"],
        ["2025-02-12..2025-02-12"],
    ]
    wanted = lines_of(MAIN, date(2025, 2, 1), date(2025, 2, 13), AS_OF)
    assert_same(loaded(database), expected(wanted))


def test_a_replay_requests_only_its_days(warehouse: Warehouse) -> None:
    before = len(warehouse.sandbox.requests)
    warehouse.run(recipe("replay"))
    assert days_of(warehouse.sandbox.requests[before:]) == ["2025-01-05..2025-01-11"]
    assert_same(loaded(warehouse.database), expected(lines_of(MAIN, FIRST, LAST, AS_OF)))


def test_one_project_to_two_loaders(warehouse: Warehouse) -> None:
    """The settings of the second loader are the recipe "jsonl"."""
    assert recipe("jsonl") in (warehouse.folder / "meltano.yml").read_text()
    before = len(warehouse.sandbox.requests)

    warehouse.run(recipe("two loaders"))

    again = warehouse.sandbox.requests[before:]
    assert days_of(again) == [f"{FIRST}..{LAST}"], "one pair has it all, the other nothing"
    with (warehouse.folder / "output" / "events.jsonl").open() as file:
        records = [json.loads(line) for line in file]
    lines = lines_of(MAIN, FIRST, LAST, AS_OF)
    assert len(records) == len(lines)
    assert_same(upserted(records), expected(lines))
    assert_same(loaded(warehouse.database), expected(lines))


def test_several_projects(warehouse: Warehouse) -> None:
    """Beside `.env`, whose variables are for the plugin that they inherit from."""
    assert recipe("several projects") in (warehouse.folder / "meltano.yml").read_text()
    shop = Project(seed=22, events_per_day=20)
    app = Project(seed=23, events_per_day=20)
    with sandbox_of(shop, "1111") as of_shop, sandbox_of(app, "2222") as of_app:
        variables = {
            f"TAP_MIXPANEL_{name}_{setting}": value
            for name, sandbox in (("SHOP", of_shop), ("APP", of_app))
            for setting, value in {
                "API_URL": sandbox.url,
                "SERVICE_ACCOUNT_USERNAME": sandbox.auth[0],
                "SERVICE_ACCOUNT_SECRET": sandbox.auth[1],
            }.items()
        }
        warehouse.run(
            "meltano --environment=prod run"
            " tap-mixpanel-shop target-duckdb tap-mixpanel-app target-duckdb",
            **variables,
        )

    states = warehouse.run("meltano --environment=prod state list").split()
    for name, project in (("shop", shop), ("app", app)):
        rows = loaded(warehouse.database, table=f"{name}_events")
        assert_same(rows, expected(lines_of(project, FIRST, LAST, AS_OF)))
        assert f"prod:tap-mixpanel-{name}-to-target-duckdb" in states


def test_a_shell_pipe_that_fails_at_first(tmp_path: Path) -> None:
    """The first run fails, and the next loads what it left, with the same script."""
    (tmp_path / "load.sh").write_text(recipe("pipe"))
    (tmp_path / "target.json").write_text(section("As a Singer pipe", language="json", number=1))
    example = json.loads(section("As a Singer pipe", language="json"))
    with sandbox_of(MAIN, "1234") as sandbox:
        username, secret = sandbox.auth
        real = {"service_account_username": username, "service_account_secret": secret}
        days = {"start_date": str(FIRST), "end_date": str(LAST)}
        quick = {"api_url": sandbox.url, "requests_per_second": 100, "max_attempts": 1}

        def load(**settings: Any) -> int:
            (tmp_path / "tap.json").write_text(json.dumps(example | days | quick | settings))
            return run("bash", "load.sh", cwd=tmp_path).returncode

        assert load() == 1
        kept = json.loads((tmp_path / "state.json").read_text())
        assert kept["bookmarks"]["events"]["loaded"] == []
        sandbox.faults = [Fault.parse("status=500,days=2025-01-12")]
        assert load(**real) == 1
        sandbox.faults = []
        before = len(sandbox.requests)
        assert load(**real) == 0
        assert len(sandbox.requests) == before + 1

    assert_same(loaded(tmp_path / "warehouse.duckdb"), expected(lines_of(MAIN, FIRST, LAST, AS_OF)))


def test_a_back_fill_within_the_hourly_limit(tmp_path: Path) -> None:
    claim = re.search(
        r"With `window_days: (\d+)` and ten workers, ([\d,]+) days are (\d+) requests",
        (ROOT / "docs/recipes.md").read_text(),
    )
    assert claim
    window_days, days, requests = (int(number.replace(",", "")) for number in claim.groups())
    config: dict[str, Any] = {
        "region": "sandbox",
        "start_date": "2022-01-01",
        "end_date": "2024-12-31",
        "parallel": True,
    }

    def plan(code: str, **settings: Any) -> str:
        (tmp_path / "tap.json").write_text(json.dumps(config | settings))
        done = run("bash", "-ec", code, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    advice = plan(recipe("back-fill"))
    assert f"window_days: {window_days} would fit into one" in advice
    assert re.match(r"157 requests are needed .* it takes over 2 hours;", advice)
    whole, _, _tail = recipe("back-fill").partition(" | ")
    followed = json.loads(plan(f"{whole} --format json", window_days=window_days))
    assert (followed["days"], followed["requests"]) == (days, requests) == (1096, 60)
    assert followed["waits_hours"] == 0


def test_a_project_created_before_2023(tmp_path: Path) -> None:
    zone = json.loads(recipe("time zone"))["project_timezone"]
    project = Project(seed=24, events_per_day=60, timezone=zone)
    with sandbox_of(project, "1234") as sandbox:
        config = {
            "api_url": sandbox.url,
            "project_id": "1234",
            "service_account_username": sandbox.auth[0],
            "service_account_secret": sandbox.auth[1],
            "start_date": "2025-01-04",
            "end_date": "2025-01-06",
        }
        (tmp_path / "tap.json").write_text(json.dumps(config | json.loads(recipe("time zone"))))
        done = run("tap-mixpanel-parallel", "--config", "tap.json", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    messages = map(json.loads, done.stdout.split("\n")[:-1])
    records = [message["record"] for message in messages if message["type"] == "RECORD"]
    lines = lines_of(project, date(2025, 1, 4), date(2025, 1, 6), AS_OF)
    assert_same(upserted(records), expected(lines, zone=zone))
    days = set()
    for record in records:
        wall = datetime.fromtimestamp(record["properties"]["time"] / 1000, UTC)
        local = datetime.fromisoformat(record["time"]).astimezone(ZoneInfo(zone))
        assert abs((local.replace(tzinfo=UTC) - wall).total_seconds()) < 0.001
        days.add(local.date())
    assert days == {date(2025, 1, day) for day in (4, 5, 6)}
