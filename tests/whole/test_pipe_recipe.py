"""The script for a pipe, with each of its steps failing: no good state is lost."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tap_mixpanel_parallel.sandbox import Fault, Status
from tests.support.commands import BIN, run
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.projects import AS_OF, MAIN, sandbox_of
from tests.support.recipes import recipe, section

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


def tap(*, run: str = "", status: str = f'exec {BIN}/tap-mixpanel-parallel "$@"') -> str:
    """The tap, with these in place of a run and of `--status`."""
    return f'case "$*" in *--status*) {status} ;; *) {run or BOTH} ;; esac'


def state(last: str) -> str:
    """A state in which the days up to this one are loaded."""
    bookmark = {"loaded": [["2025-01-01", last]], "unsettled": []}
    return json.dumps({"bookmarks": {"events": bookmark}}) + "\n"


OLD, FIRST, NEW = state("2025-01-01"), state("2025-01-02"), state("2025-01-03")


class Step(NamedTuple):
    """How a step fails, as a script, and whose state is there afterwards."""

    name: str
    script: str
    saved: str


PRINT = "printf '%s'"
HALF = f"{PRINT} '{FIRST}{NEW[:40]}'"
BOTH = f"{PRINT} '{FIRST}{NEW}'"
KILLED = "kill -9 $$"
STEPS = (
    Step("rm", "exit 1", OLD),
    Step("tap-mixpanel-parallel", "exit 1", OLD),
    Step("tap-mixpanel-parallel", tap(run=f"{BOTH}; exit 1"), NEW),
    Step("tap-mixpanel-parallel", tap(run=f"{BOTH}; {KILLED}"), NEW),
    Step("target-duckdb", "exit 1", OLD),
    Step("target-duckdb", f"{PRINT} '{FIRST}'; {KILLED}", FIRST),
    Step("target-duckdb", f"{HALF}; {KILLED}", OLD),
    Step("target-duckdb", f"{HALF}; cat > /dev/null", OLD),
    Step("target-duckdb", f"{PRINT} 'loaded\n'; exit 1", OLD),
    Step("tail", "exit 1", OLD),
    Step("tail", f"{PRINT} '{NEW[:40]}'; exit 1", OLD),
    Step("tail", f"{PRINT} '{NEW[:40]}'; {KILLED}", OLD),
    Step("sync", "exit 1", OLD),
    Step("tap-mixpanel-parallel", tap(status="exit 1"), OLD),
    Step("tap-mixpanel-parallel", tap(status=KILLED), OLD),
    Step("mv", "exit 1", OLD),
    Step("mv", KILLED, OLD),
)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.name}: {step.script[-30:]}")
def test_a_step_that_fails_leaves_a_whole_state(tmp_path: Path, step: Step) -> None:
    (tmp_path / "load.sh").write_text(recipe("pipe"))
    (tmp_path / "state.json").write_text(OLD)
    scripts = {
        "tap-mixpanel-parallel": tap(),
        "target-duckdb": "cat",
        step.name: step.script,
    }
    for name, script in scripts.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"

    done = run("bash", "load.sh", cwd=tmp_path, settings={"PATH": path})

    assert done.returncode != 0
    assert (tmp_path / "state.json").read_text() == step.saved
    assert not (tmp_path / "state.json").is_symlink()


def test_an_empty_state_is_an_error(tmp_path: Path) -> None:
    """It is not taken for none, which would read every day again."""
    (tmp_path / "load.sh").write_text(recipe("pipe"))
    (tmp_path / "state.json").touch()
    for name in ("tap", "target"):
        (tmp_path / f"{name}.json").write_text("{}")
    done = run("bash", "load.sh", cwd=tmp_path)
    assert done.returncode != 0
    assert "state: state.json is empty" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def small_disk(folder: Path, pages: int) -> Iterator[Path]:
    """A disk of so many pages."""
    folder.mkdir()
    size = f"size={pages * mmap.PAGESIZE}"
    options = ["-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, check=False)  # noqa: S607
    if mounted.returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def fill(path: Path, *, but: int) -> None:
    """Fill the disk with a file, but for some pages."""
    free = os.statvfs(path.parent)
    path.write_bytes(b"x" * (free.f_bavail * free.f_frsize - but * mmap.PAGESIZE))
    assert os.statvfs(path.parent).f_bavail * free.f_frsize == but * mmap.PAGESIZE


@pytest.mark.parametrize("pages", [0, 1])
def test_a_full_disk(tmp_path: Path, pages: int) -> None:
    """A new state finds no page there, or one of the two that it needs."""
    days = [date(2025, 1, 1) + timedelta(days=n) for n in range(58)]
    target = json.loads(section("As a Singer pipe", language="json", number=1))
    target |= {"filepath": str(tmp_path / "warehouse.duckdb"), "temp_dir": str(tmp_path)}
    with small_disk(tmp_path / "small", 32) as disk, sandbox_of(MAIN, "1234") as sandbox:
        config = json.loads(section("As a Singer pipe", language="json")) | {
            "service_account_username": sandbox.auth[0],
            "service_account_secret": sandbox.auth[1],
            "api_url": sandbox.url,
            "window_days": 1,
            "start_date": str(days[0]),
            "requests_per_second": 1000,
            "requests_per_hour": 1_000_000,
            "max_attempts": 1,
        }
        (disk / "target.json").write_text(json.dumps(target))
        (disk / "load.sh").write_text(recipe("pipe"))

        def load(end: date, *broken: date) -> tuple[int, Any]:
            sandbox.faults = [Fault(Status(500), days=(day, day)) for day in broken]
            (disk / "tap.json").write_text(json.dumps(config | {"end_date": str(end)}))
            done = run("bash", "load.sh", cwd=disk)
            assert "Traceback" not in done.stderr
            return done.returncode, (disk / "state.json").read_bytes()

        code, old = load(days[-3], *days[1:-3:2])
        assert code != 0
        assert len(old) > mmap.PAGESIZE, "a page holds no half of it"
        fill(disk / "filler", but=pages)

        assert load(days[-1], *days[3::2]) == (1, old)

        assert json.loads(old)
        (disk / "filler").unlink()
        code, new = load(days[-1])
        assert code == 0
        assert json.loads(new) != json.loads(old)
    wanted = expected(lines_of(MAIN, days[0], days[-1], AS_OF))
    assert_same(loaded(tmp_path / "warehouse.duckdb"), wanted)
