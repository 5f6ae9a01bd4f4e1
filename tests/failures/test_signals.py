"""SIGTERM and Ctrl-C: gone within two seconds, and the last state tells what was emitted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tap_mixpanel_parallel.sandbox import Fault, Project, Shaping, Status
from tests.failures.conftest import DAYS
from tests.support.commands import BIN, PATIENCE, environment
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.harness import Lab, Output, State, identities, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.failures.conftest import LabMaker

SECONDS: Final = 2.0
ROOT: Final = Path(__file__).parents[2]
FIRST: Final = date(2025, 1, 1)
PROJECT: Final = Project(events_per_day=40)
MANY: Final[State] = {
    "start_date": str(FIRST),
    "end_date": "2025-04-30",
    "parallel": True,
    "workers": 4,
}
BOTH: Final = (signal.SIGTERM, signal.SIGINT)


def requested(lab: Lab) -> bool:
    return lab.sandbox.max_concurrent > 0


def emitted(lab: Lab) -> bool:
    return b'"loaded"' in (lab.folder / "stdout").read_bytes()


@dataclass(frozen=True)
class Moment:
    """When the signal comes.

    Attributes:
        has_come: Whether it is there.
        sandbox: How the sandbox is made.
        settings: The tap's.
    """

    has_come: Callable[[Lab], bool]
    sandbox: dict[str, Any]
    settings: dict[str, Any]


MOMENTS: Final = {
    "no byte yet": Moment(requested, {"shaping": Shaping(first_byte_seconds=600)}, {}),
    "no byte yet, for ten workers": Moment(
        requested,
        {"shaping": Shaping(first_byte_seconds=600)},
        {"parallel": True, "workers": 10, "end_date": "2025-01-30"},
    ),
    "between windows": Moment(emitted, {"shaping": Shaping(first_byte_seconds=0.05)}, MANY),
    "bytes trickle in": Moment(emitted, {"shaping": Shaping(bytes_per_second=20_000)}, MANY),
    "a pause before another attempt": Moment(
        lambda lab: len(lab.sandbox.requests) > 0,
        {"faults": [Fault(Status(429, retry_after="3600"))]},
        {"max_attempts": 5},
    ),
    "a pause for the limit": Moment(emitted, {}, {"requests_per_hour": 1}),
}


def assert_covers_what_was_emitted(output: Output) -> None:
    """Whole lines; the last is a state; its days are those of the records, and whole."""
    assert output.messages[-1]["type"] == "STATE"
    lines = [line for day in output.loaded for line in lines_of(PROJECT, day, day)]
    assert output.identities == identities(lines)


@pytest.mark.slow
@pytest.mark.parametrize("signum", BOTH)
@pytest.mark.parametrize("name", MOMENTS)
def test_a_signal(make_lab: LabMaker, name: str, signum: signal.Signals) -> None:
    moment = MOMENTS[name]
    lab = make_lab(PROJECT, **moment.sandbox)
    lab.settings["balance_windows"] = False
    path = lab.folder / "stdout"
    with path.open("wb") as file, lab.start(file, **moment.settings) as tap:
        wait_until(lambda: moment.has_come(lab), name)
        tap.send_signal(signum)
        sent = time.monotonic()
        tap.wait(PATIENCE)
        took = time.monotonic() - sent

    output = Output(tap.returncode, path.read_bytes(), lab.errors)
    assert output.code == 128 + signum
    assert took < SECONDS
    assert f"stopped by {signum.name}" in output.errors
    assert "Traceback" not in output.errors
    assert_covers_what_was_emitted(output)
    assert len(output.loaded) < 120


@pytest.mark.slow
@pytest.mark.parametrize("signum", BOTH)
def test_the_reader_sleeps(make_lab: LabMaker, signum: signal.Signals) -> None:
    """What the pipe holds by then stays: the last state in it tells which windows are whole."""
    lab = make_lab(PROJECT)
    with lab.start(subprocess.PIPE, **MANY) as tap:
        assert tap.stdout is not None
        text = tap.stdout.read1()
        wait_until(lambda: len(lab.sandbox.requests) >= 8, "the pipe is full")
        time.sleep(0.5)
        tap.send_signal(signum)
        sent = time.monotonic()
        tap.wait(PATIENCE)
        took = time.monotonic() - sent
        output = Output(tap.returncode, text + tap.stdout.read(), lab.errors)

    assert output.code == 128 + signum
    assert took < SECONDS
    messages = output.messages
    states = [n for n, message in enumerate(messages) if message["type"] == "STATE"]
    whole = [m["record"] for m in messages[: states[-1]] if m["type"] == "RECORD"]
    lines = [line for day in output.loaded for line in lines_of(PROJECT, day, day)]
    assert len(whole) == len(lines)
    days = {
        datetime.fromisoformat(record["time"]).date() for record in output.records[len(whole) :]
    }
    assert len(days) <= 1, "of at most one window, a part is emitted"
    assert not days & set(output.loaded)


@pytest.mark.slow
@pytest.mark.parametrize("signum", BOTH)
def test_any_moment_of_the_start(make_lab: LabMaker, signum: signal.Signals) -> None:
    """A process that is not up yet ends as any other does, or as told."""
    for number in range(1, 9):
        lab = make_lab(PROJECT)
        path = lab.folder / "stdout"
        with path.open("wb") as file, lab.start(file, **MANY) as tap:
            time.sleep(number * 0.06)
            tap.send_signal(signum)
            sent = time.monotonic()
            tap.wait(PATIENCE)
            took = time.monotonic() - sent
        output = Output(tap.returncode, path.read_bytes(), lab.errors)
        assert output.code in {128 + signum, -signum}, (number, output.code, output.errors)
        assert took < SECONDS
        if output.text.count(b'"STATE"'):
            assert_covers_what_was_emitted(output)


def test_a_second_signal_ends_at_once(make_lab: LabMaker) -> None:
    lab = make_lab(PROJECT)
    with lab.start(subprocess.PIPE, **MANY) as tap:
        wait_until(lambda: len(lab.sandbox.requests) >= 8, "the pipe is full")
        for _ in range(3):
            tap.send_signal(signal.SIGINT)
            time.sleep(0.02)
        tap.wait(SECONDS)

    # Python itself dies of a signal that comes as late as that.
    assert tap.returncode in {128 + signal.SIGINT, -signal.SIGINT}
    lab.run(end_date=str(FIRST), parallel=False)  # sweeps


@pytest.mark.parametrize("signum", BOTH)
def test_a_signal_while_the_interpreter_shuts_down(lab: Lab, signum: signal.Signals) -> None:
    program = (
        "import atexit, os, sys; from tap_mixpanel_parallel.__main__ import main; "
        "atexit.register(os.kill, os.getpid(), int(sys.argv.pop())); main()"
    )
    _, *arguments = lab.tap()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, str(int(signum))],
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )

    output = Output(done.returncode, done.stdout, done.stderr.decode())
    assert output.code == -signum
    assert "Traceback" not in output.errors
    assert output.loaded == list(DAYS)


@pytest.fixture
def meltano_project(tmp_path: Path) -> Path:
    """A copy of the project's own, whose plugins are those that are installed here."""
    text = (ROOT / "meltano.yml").read_text()
    text = re.sub(r"^ *pip_url: .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"(executable: )(\S+)", rf"\g<1>{BIN}/\g<2>", text)
    (tmp_path / "meltano.yml").write_text(text)
    (tmp_path / "output").mkdir()
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("signum", BOTH)
def test_through_meltano(make_lab: LabMaker, meltano_project: Path, signum: signal.Signals) -> None:
    lab = make_lab(PROJECT, shaping=Shaping(first_byte_seconds=0.2))
    settings = lab.settings | {"start_date": str(FIRST), "end_date": "2025-04-30"}
    settings |= {"balance_windows": "false", "parallel": "false"}
    prefix = "TAP_MIXPANEL_PARALLEL_"
    env = environment(
        **{f"{prefix}{name.upper()}": str(value) for name, value in settings.items()},
        TARGET_DUCKDB_FILEPATH=str(lab.database),
    )
    command = [str(BIN / "meltano"), "run", "tap-mixpanel-parallel", "target-duckdb"]
    run = subprocess.Popen(
        command,
        cwd=meltano_project,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(lab.sandbox.requests) >= 5 or run.poll() is not None, "five windows")
        # Ctrl-C reaches every process of the terminal; a scheduler's SIGTERM reaches Meltano.
        (os.killpg if signum == signal.SIGINT else os.kill)(run.pid, signum)
        log = run.communicate(timeout=PATIENCE)[0].decode()
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    time.sleep(0.5)  # what was under way ends, and is counted
    made = len(lab.sandbox.requests)
    time.sleep(0.5)
    assert len(lab.sandbox.requests) == made, "the tap goes on"
    assert run.returncode != 0, log
    everything = expected(lines_of(PROJECT, FIRST, date(2025, 4, 30)))
    assert not loaded(lab.database) - everything

    lab.sandbox.shaping = Shaping()
    again = subprocess.run(
        command, cwd=meltano_project, env=env, capture_output=True, timeout=PATIENCE, check=False
    )

    assert again.returncode == 0, again.stderr.decode()
    assert_same(loaded(lab.database), everything)
