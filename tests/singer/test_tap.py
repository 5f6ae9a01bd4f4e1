"""The tap as every SDK tap is tested, its command line, and its documents."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from singer_sdk.exceptions import ConfigValidationError
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from tap_mixpanel_parallel import TapMixpanelParallel
from tap_mixpanel_parallel.exceptions import SettingsError
from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA
from tests.support.commands import ROOT, run
from tests.support.recipes import assert_lists, recipe, section

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

SANDBOX: dict[str, Any] = {"region": "sandbox", "start_date": "P3D"}
SETTINGS: dict[str, Any] = CONFIG_SCHEMA["properties"]

TestSdkSuite = get_tap_test_class(
    TapMixpanelParallel, config=SANDBOX, suite_config=SuiteConfig(max_records_limit=1)
)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(TapMixpanelParallel.cli, arguments)


def test_discovery_needs_no_settings() -> None:
    (stream,) = json.loads(invoke("--discover").stdout)["streams"]

    assert stream["tap_stream_id"] == "events"
    assert stream["key_properties"] == ["event_id"]
    assert stream["replication_key"] == "time"


def test_from_python_settings_are_refused_as_the_sdk_refuses_them() -> None:
    config = {"region": "sandbox", "start_date": "soon", "workers": 0, "flattening_separator": 1}

    with pytest.raises(ConfigValidationError) as caught:
        TapMixpanelParallel(config=config | {"batch_config": {"x": 1}})

    names = ["start_date", "workers", "flattening_separator", "batch_config"]
    assert sorted({re.split("[.:]", text)[0] for text in caught.value.errors}) == sorted(names)


def test_a_tap_without_validation_names_each_problem_as_it_is_used() -> None:
    tap = TapMixpanelParallel(
        config={"region": "sandbox", "start_date": "soon", "workers": 0}, validate_config=False
    )

    with pytest.raises(SettingsError) as caught:
        tap.run_sync()

    assert [text.partition(":")[0] for text in caught.value.problems] == ["workers", "start_date"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "options", "problem"),
    [
        (
            '{"region": "sandbox", "start_date": "soon"}',
            "",
            "start_date: 'soon' is not a valid date",
        ),
        ('{"start_date": "2025-01-01"}', "", "service_account_username"),
        ('{"region": "sandbox", "start_date": "P3D"}', "--workers 101", "workers: 101"),
        ('{"region": "sandbox", "start_date": "P3D"}', "--state none.json", "can't be read"),
        ('{"region": "sandbox", "start_date": "P3D"}', "--state tap.json", "no 'bookmarks'"),
        ("{", "", "config: tap.json can't be read"),
    ],
)
def test_bad_input_is_one_clear_message(
    tmp_path: Path, config: str, options: str, problem: str
) -> None:
    (tmp_path / "tap.json").write_text(config)

    done = run("tap-mixpanel-parallel", "--config", "tap.json", *options.split(), cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr.count("ERROR") == 1
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_readme_lists_every_setting() -> None:
    assert_lists("README.md", SETTINGS, required="start_date")


def test_every_dependency_has_a_bound() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert [r for r in declared if not re.search("(~=|>=)", r)] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "printed"),
    [
        (section("From Python", "python"), r"\d{4}-.*\+00:00 .+ \S+\n"),
        (recipe("events in python"), r"\d{4}-.*\+00:00 .+ \S+\n"),
        (recipe("messages in python"), r'{"type":"SCHEMA"'),
    ],
    ids=["readme", "events", "messages"],
)
def test_the_examples_for_python_run(tmp_path: Path, code: str, printed: str) -> None:
    (tmp_path / "example.py").write_text(code)

    done = run("python", "example.py", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert re.match(printed, done.stdout)
    assert done.stderr.endswith(" True []\n") == ("run()" in code)


@pytest.mark.slow
def test_the_example_for_states_in_python_goes_on(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(recipe("state in python"))

    runs = [run("python", "example.py", cwd=tmp_path) for _ in range(2)]

    assert [done.returncode for done in runs] == [0, 0], runs[1].stderr
    counts = [int(done.stdout.removesuffix(" events\n")) for done in runs]
    assert counts[0] > 0
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["bookmarks"]["events"]["loaded"]


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        ({"x": "((("}, "Failed to parse expression ((("),
        ({"x": "nope"}, "nope"),
        ({"x": "1/0"}, "can't be mapped: "),
        ({"event_id": None}, "Removing key property 'event_id'"),
    ],
    ids=str,
)
def test_a_bad_stream_map_is_one_clear_message(
    tmp_path: Path, maps: dict[str, str | None], said: str
) -> None:
    config = {"region": "sandbox", "start_date": "P1D", "stream_maps": {"events": maps}}
    (tmp_path / "tap.json").write_text(json.dumps(config))
    done = run("tap-mixpanel-parallel", "--config", "tap.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "stream_maps: " in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_before_the_tap_is_imported_is_silent() -> None:
    code = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "singer_sdk":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from tap_mixpanel_parallel.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_stream_that_is_closed(closed: str) -> None:
    config = shlex.quote(json.dumps({"region": "sandbox", "start_date": "P1D"}))
    code = f"echo {config} | tap-mixpanel-parallel --config /dev/stdin {closed}"
    done = run("bash", "-c", code, cwd=ROOT)
    if closed == ">&-":
        assert done.returncode == 1
        assert "standard output is closed" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    else:
        assert done.returncode == 0
        assert json.loads(done.stdout.splitlines()[-1])["type"] == "STATE"
