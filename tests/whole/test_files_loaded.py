"""Files through target-duckdb-batch: pipes, Meltano, kills at any moment, full disks."""

from __future__ import annotations

import json
import random
import subprocess
import time
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox, Shaping
from tests.support.commands import BIN, PATIENCE, environment, run
from tests.support.exact import digits
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.files import FORMATS, batch_config
from tests.support.harness import Body, Lab, body, last_state
from tests.support.meltano import tap_environment
from tests.support.poison import DAY, SANE
from tests.support.recipes import recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

PROJECT: Final = Project(seed=3, events_per_day=300)
FIRST, LAST = date(2025, 1, 1), date(2025, 1, 20)
DAYS: Final = {"start_date": str(FIRST), "end_date": str(LAST)}
NOW: Final = datetime(2025, 3, 1, tzinfo=UTC)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Sandbox(PROJECT, limits=None, as_of=lambda: NOW) as sandbox:
        lab = Lab(tmp_path, sandbox)
        lab.settings |= DAYS | {"parallel": True, "workers": 3, "window_days": 2}
        yield lab
    assert lab.left_behind == []


def target(lab: Lab) -> list[str]:
    return [str(BIN / "target-duckdb-batch"), *lab.target()[1:3]]


def loader_settings(lab: Lab) -> None:
    lab.write("target.json", {"filepath": str(lab.database), "default_target_schema": "mixpanel"})


class Pipe:
    """The tap and the loader, and what the loader prints."""

    def __init__(self, lab: Lab, state: dict[str, Any] | None) -> None:
        loader = target(lab)
        loader_settings(lab)
        self._logs = [(lab.folder / name).open("wb") for name in ("tap.log", "loader.log")]
        self._states = (lab.folder / "states").open("wb")
        self.tap = subprocess.Popen(
            lab.tap(state), stdout=subprocess.PIPE, stderr=self._logs[0], env=environment()
        )
        self.loader = subprocess.Popen(
            loader,
            stdin=self.tap.stdout,
            stdout=self._states,
            stderr=self._logs[1],
            env=environment(),
        )
        assert self.tap.stdout is not None
        self.tap.stdout.close()
        self._folder = lab.folder

    def end(self) -> dict[str, Any] | None:
        """Wait for both; the last state that the loader has printed."""
        for process in (self.tap, self.loader):
            process.wait(PATIENCE)
        for file in (*self._logs, self._states):
            file.close()
        return last_state((self._folder / "states").read_bytes())


@pytest.mark.parametrize("form", FORMATS)
def test_poison_through_the_loader(lab: Lab, form: str) -> None:
    lab.sandbox.faults = [Fault(Body(body(SANE.values())))]
    root = lab.folder / "root"
    lab.settings |= {"start_date": str(DAY), "end_date": str(DAY), **batch_config(form, root)}
    lab.settings |= {"properties_format": "string"}

    pipe = Pipe(lab, None)
    pipe.end()

    assert (pipe.tap.returncode, pipe.loader.returncode) == (0, 0)
    assert_same(loaded(lab.database, normal=digits), expected(SANE.values(), normal=digits))
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("first", ["project", "sandbox"])
@pytest.mark.parametrize("way", ["messages", "files"])
def test_a_sandbox_and_a_project_are_not_mixed(lab: Lab, first: str, way: str) -> None:
    """Without a state, as in a full refresh: only the loader knows what the table holds."""
    days = {"start_date": str(FIRST), "end_date": str(FIRST)}
    files = batch_config("parquet", lab.folder / "root") if way == "files" else {}
    project = lab.settings | days | files
    sandbox = {"region": "sandbox", "spool_dir": str(lab.spool), **days, **files}
    steps = [project, sandbox] if first == "project" else [sandbox, project]
    codes = []
    for lab.settings in steps:
        pipe = Pipe(lab, None)
        pipe.end()
        codes.append(pipe.loader.returncode)
        if len(codes) == 1:
            held = loaded(lab.database)

    assert codes == [0, 1]
    assert held
    assert_same(loaded(lab.database), held)
    log = (lab.folder / "loader.log").read_text()
    new, old = ("synthetic", "not known to be synthetic")
    if first == "sandbox":
        new, old = "not synthetic", "synthetic"
    assert f"its rows are {new}, those of mixpanel.events are {old}" in log, log


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_and_run_again(lab: Lab, seed: int) -> None:
    """Whoever is killed, and whenever: the table is right in the end, and no file is left."""
    chance = random.Random(seed)  # noqa: S311 - it draws a schedule
    root = lab.folder / "root"
    form = chance.choice(FORMATS)
    lab.settings |= batch_config(form, root, batch_size=chance.choice([100, 1_000_000]))
    lab.sandbox.shaping = Shaping(first_byte_seconds=0.1)
    state: dict[str, Any] | None = None
    for _ in range(4):
        pipe = Pipe(lab, state)
        time.sleep(chance.uniform(0.7, 2.2))
        victim = chance.choice([pipe.tap, pipe.loader])
        victim.kill()
        state = pipe.end() or state

    pipe = Pipe(lab, state)
    state = pipe.end()

    assert (pipe.tap.returncode, pipe.loader.returncode) == (0, 0), lab.folder
    assert state is not None
    assert state["bookmarks"]["events"]["loaded"] == [[str(FIRST), str(LAST)]]
    assert_same(loaded(lab.database), expected(lines_of(PROJECT, FIRST, LAST, NOW)))
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_root_that_is_full(lab: Lab, form: str) -> None:
    root = lab.folder / "root"
    root.mkdir()
    options = ["-t", "tmpfs", "-o", "size=100k", "tmpfs", str(root)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:  # noqa: S607
        pytest.skip("no tmpfs can be mounted here")
    try:
        done = lab.run(**batch_config(form, root), window_days=20, parallel=False)
        left = list(root.iterdir())
    finally:
        subprocess.run(["umount", str(root)], check=True)  # noqa: S607

    [failure] = done.failures
    assert done.code == 1
    assert "Traceback" not in done.errors
    assert "Exception ignored" not in done.errors
    assert failure["error"] == (
        f"batch_config.storage.root: {failure['error'].split()[1]} can't be written (No space left "
        "on device); free some space there, or set batch_config.storage.root to a folder with more"
    )
    assert left == []


def test_a_signal_leaves_no_half_of_a_file(lab: Lab) -> None:
    root = lab.folder / "root"
    lab.sandbox.shaping = Shaping(first_byte_seconds=0.2)
    with lab.start(subprocess.PIPE, **batch_config("parquet", root)) as tap:
        assert tap.stdout is not None
        while b'"BATCH"' not in tap.stdout.readline():
            pass
        tap.terminate()
        tap.wait(PATIENCE)

    assert tap.returncode == 143
    assert [path.suffix for path in root.iterdir() if path.suffix != ".parquet"] == []


def test_the_recipe(lab: Lab) -> None:
    _, *code = recipe("files").splitlines()
    lab.settings |= batch_config("parquet", lab.folder / "root")
    lab.tap()
    loader_settings(lab)

    done = run("bash", "-ec", "set -o pipefail\n" + "\n".join(code), cwd=lab.folder)

    assert done.returncode == 0, done.stderr
    state = json.loads((lab.folder / "state.json").read_text())
    assert state["bookmarks"]["events"]["loaded"] == [[str(FIRST), str(LAST)]]
    assert_same(loaded(lab.database), expected(lines_of(PROJECT, FIRST, LAST, NOW)))


def test_meltano(meltano_project: Path, lab: Lab) -> None:
    settings = tap_environment(lab.sandbox, **DAYS)
    for _ in range(2):
        done = run(
            *("meltano", "--environment=files", "run", "--state-id-suffix", "files"),
            *("tap-mixpanel-parallel", "target-duckdb-batch"),
            cwd=meltano_project,
            settings=settings,
        )
        assert done.returncode == 0, done.stderr

    assert "nothing to fetch" in done.stderr
    database = meltano_project / "output" / "files.duckdb"
    assert_same(loaded(database), expected(lines_of(PROJECT, FIRST, LAST, NOW)))
    assert list((meltano_project / "output" / "files").iterdir()) == []
