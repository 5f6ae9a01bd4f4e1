"""Reports whose reader is gone, or whose disk is full: one clear error, and exit 1."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.exceptions import OutputError, ReaderGoneError
from tap_mixpanel_parallel.write.printing import whole_output
from tests.support.commands import PATIENCE, environment
from tests.support.harness import TAP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = "standard output can't be written: No space left on device"
CLOSED = "standard output is closed; give it a reader, or a file"
GONE = "stopped: the reader of the pipe is gone"
REPORTS = (
    "--about",
    "--about --format=json",
    "--discover",
    "--help",
    "--plan --config=tap.json",
    "--status --state=state.json",
    "--version",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and a state."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / "tap.json").write_text(json.dumps({"region": "sandbox", "start_date": "P2D"}))
    (folder / "state.json").write_text("{}")
    return folder


def check(
    folder: Path,
    report: str,
    expected: str,
    *,
    redirect: str = "",
    output: int | None = None,
    **variables: str,
) -> None:
    """Print a report to where a shell leads it, or to a descriptor."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", TAP, *report.split()],  # noqa: S607
        cwd=folder,
        env=environment(**variables),
        stdout=output,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        check=False,
    )
    errors = done.stderr.decode().splitlines()
    assert done.returncode == 1, errors
    assert f"{expected} (see docs/failures.md#" in errors[-1]
    assert not [line for line in errors if "Traceback" in line or "Exception ignored" in line]


@pytest.mark.parametrize("report", REPORTS)
def test_on_a_full_disk(folder: Path, report: str) -> None:
    check(folder, report, FULL, redirect="> /dev/full")


@pytest.mark.parametrize("report", ["--about", "--plan --config=tap.json"])
def test_unbuffered_on_a_full_disk(folder: Path, report: str) -> None:
    check(folder, report, FULL, redirect="> /dev/full", PYTHONUNBUFFERED="1")


@pytest.mark.parametrize("report", ["--about", "--discover", "--status --state=state.json"])
def test_a_reader_that_is_gone(folder: Path, report: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        check(folder, report, GONE, output=writer)
    finally:
        os.close(writer)


@pytest.mark.parametrize("report", ["--about", "--discover", "--status --state=state.json"])
def test_no_standard_output(folder: Path, report: str) -> None:
    check(folder, report, CLOSED, redirect=">&-")


def test_a_descriptor_for_reading(folder: Path) -> None:
    error = "standard output can't be written: Bad file descriptor"
    check(folder, "--version", error, redirect="1< tap.json")


def test_a_state_from_a_standard_input_that_is_closed(folder: Path) -> None:
    check(
        folder,
        "--status",
        "state: standard input is closed; give it a file that holds a JSON object",
        redirect="<&-",
    )


@contextmanager
def into_a_pipe() -> Iterator[int]:
    """Standard output is a pipe; its other end."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="latin-1") as out, redirect_stdout(out):
        yield reader
    with suppress(OSError):
        os.close(reader)


def write(*texts: str) -> None:
    with whole_output():
        for text in texts:
            sys.stdout.write(text)


class TestWholeOutput:
    """Within this process."""

    def test_all_of_it_is_there_at_the_end(self) -> None:
        with into_a_pipe() as pipe:
            before = sys.stdout
            write("whole")
            assert os.read(pipe, 100) == b"whole"
            assert sys.stdout is before

    def test_what_the_encoding_lacks(self) -> None:
        with into_a_pipe() as pipe:
            write("é █ \ud83d")
            assert os.read(pipe, 100) == b"\xe9 \\u2588 \\ud83d"

    def test_a_descriptor_that_does_not_wait(self) -> None:
        received = bytearray()
        with into_a_pipe() as pipe:
            os.set_blocking(sys.stdout.fileno(), False)

            def read_all() -> None:
                while len(received) < 300_000:
                    received.extend(os.read(pipe, 1 << 12))

            reading = Thread(target=read_all)
            reading.start()
            write("x" * 200_000, "y" * 100_000)
            reading.join()
        assert received == b"x" * 200_000 + b"y" * 100_000

    def test_an_error_is_told_once(self) -> None:
        with into_a_pipe() as pipe:
            os.close(pipe)
            with pytest.raises(ReaderGoneError):
                write("x" * 100_000)
            gc.collect()  # with what is left of it, as the interpreter's end does

    def test_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", None)
        with pytest.raises(OutputError, match="standard output is closed"):
            write("nowhere")
