"""What is installed, and what the project says of itself in more than one file."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from email import message_from_bytes
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import pytest
import yaml  # type: ignore[import-untyped]

from tests.support.commands import BIN, ROOT, run
from tests.support.recipes import section

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGES = ("tap_mixpanel_parallel", "target_duckdb_batch")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SUPPORTED = [
    name.rpartition(" ")[2]
    for name in PROJECT["classifiers"]
    if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", name)
]
"""The versions of Python."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    """The project's wheel, built as a release builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = run(*command, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    with ZipFile(path) as file:
        yield file


def source_files(folder: Path) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_is_typed(wheel: ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    assert "Typing :: Typed" in message_from_bytes(wheel.read(metadata)).get_all("Classifier", [])
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel.namelist())


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == set().union(*(source_files(ROOT / package) for package in PACKAGES))


def test_what_is_an_extra_is_imported_where_it_is_used() -> None:
    """A run that needs none of them does not wait for them either."""
    extras = ("adlfs", "dask", "distributed", "duckdb", "gcsfs", "pyarrow", "s3fs")
    program = (
        "import sys, tap_mixpanel_parallel.__main__, tap_mixpanel_parallel.tap\n"
        f"sys.exit(' '.join({{*{extras}}} & {{*sys.modules}}) or None)"
    )
    done = run(sys.executable, "-c", program, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_commit_is_checked_as_make_lint_checks() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]

    def checks(commands: list[str]) -> list[str]:
        """Each command's tool, with the words that say what it checks."""
        told = [re.match(r"(ruff \w+|\S+(?: --builtin-schema \S+)?)", line) for line in commands]
        return sorted(match[0] for match in told if match)

    assert checks([hook["entry"].removeprefix(".venv/bin/") for hook in hooks]) == checks(
        [line.strip() for line in recipe[1].splitlines()]
    )


def test_ci_runs_on_each_supported_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    lowest, newest = SUPPORTED[0], SUPPORTED[-1]
    beyond = f"3.{int(newest.removeprefix('3.')) + 1}"
    jobs = workflow["jobs"]
    (setup,) = (s["with"] for s in jobs["lowest"]["steps"] if "python-version" in s.get("with", {}))

    tested, shown = (jobs[name]["strategy"]["matrix"]["python"] for name in ("test", "demo"))
    assert tested + shown == SUPPORTED
    assert setup["python-version"] == lowest
    assert PROJECT["requires-python"] == f">={lowest},<{beyond}"
    assert f"Python {lowest} to {newest}" in (ROOT / "README.md").read_text()
    assert f"Python {lowest} to {newest} is needed" in (ROOT / "Makefile").read_text()


@pytest.mark.slow
def test_uv_installs_the_commands(tmp_path: Path) -> None:
    """As docs/installation.md says it."""
    commands = tmp_path / "bin"
    settings = {
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(commands),
        "UV_PYTHON": sys.executable,
        # This environment's commands must not hide those that uv has installed.
        "PATH": os.pathsep.join([str(commands), str(BIN), os.environ["PATH"]]),
    }
    done = run("bash", "-ec", section("With uv", "bash"), cwd=ROOT, settings=settings)
    assert done.returncode == 0, done.stderr
    assert {each.name for each in commands.iterdir()} == PROJECT["scripts"].keys()
    assert done.stdout.startswith(f"{PROJECT['name']} v{PROJECT['version']}, ")
