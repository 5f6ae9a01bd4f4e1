"""The disk: full, not writable, and left as it was found."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tap_mixpanel_parallel.fetch import spool as spool_module
from tap_mixpanel_parallel.sandbox import Damage, Fault, Line, Project, Shaping, Status
from tests.failures.conftest import DAYS
from tests.support.commands import PATIENCE, environment
from tests.support.expected import lines_of
from tests.support.harness import Body, Lab, Output, identities, on_time, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mixpanel_parallel.sandbox.effects import Source
    from tests.failures.conftest import LabMaker


@dataclass(frozen=True)
class BigAndDamaged(Damage):
    """Another body, and damaged."""

    body: bytes = b""

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give the body."""
        yield on_time(self.body, source)


FULL: Final = Path("/dev/full")
BIG: Final = b"".join(
    b'{"event":"A","properties":{"time":TIME,"$insert_id":"%d","v":"%s"}}\n' % (n, b"x" * 1000)
    for n in range(1500)
)


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Lab]:
    """A lab whose spool has 2 MB."""
    options = ["-t", "tmpfs", "-o", "size=2m", "tmpfs", str(lab.spool)]
    mounted = subprocess.run(["mount", *options], capture_output=True, check=False)  # noqa: S607
    if mounted.returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield lab
    finally:
        left_behind = [name for name in lab.left_behind if "quarantine" not in name]
        subprocess.run(["umount", str(lab.spool)], check=True)  # noqa: S607
    assert not left_behind


def assert_only_the_second_day_failed(lab: Lab, output: Output) -> None:
    [failure] = output.failures
    assert output.code == 1
    assert "Traceback" not in output.errors
    assert output.loaded == [DAYS[0], *DAYS[2:]]
    assert str(lab.spool) in failure["error"]
    assert "free some space there, or set spool_dir" in failure["error"]
    lines = [
        line for day in output.loaded for line in lines_of(Project(events_per_day=40), day, day)
    ]
    assert output.identities == identities(lines)


def test_a_window_that_does_not_fit(small_disk: Lab) -> None:
    small_disk.sandbox.faults = [Fault(Body(BIG * 2), days=(DAYS[1], DAYS[1]))]

    # More attempts, as the windows beside it may meet the full disk too, for a moment.
    output = small_disk.run(max_attempts=3)

    assert_only_the_second_day_failed(small_disk, output)
    assert "No space left on device" in output.failures[0]["error"]


def test_a_body_that_does_not_fit(small_disk: Lab) -> None:
    noise = os.urandom(3_000_000).hex().encode()
    small_disk.sandbox.faults = [Fault(Body(noise), days=(DAYS[1], DAYS[1]))]

    output = small_disk.run(max_attempts=3)

    assert_only_the_second_day_failed(small_disk, output)


def test_files_must_not_grow(lab: Lab) -> None:
    """As on a full disk, on machines where nothing can be mounted."""
    lab.sandbox.faults = [Fault(Body(BIG), days=(DAYS[1], DAYS[1]))]
    limited = ["sh", "-c", 'ulimit -f 1000; exec "$@"', "sh", *lab.tap()]

    done = subprocess.run(
        limited, env=environment(), capture_output=True, timeout=PATIENCE, check=False
    )

    output = Output(done.returncode, done.stdout, done.stderr.decode())
    assert_only_the_second_day_failed(lab, output)


@pytest.mark.slow
def test_a_rejected_body_gives_its_space_back(small_disk: Lab) -> None:
    """The checksum is damaged, so all of the window is written before it is rejected."""
    damaged = BigAndDamaged(at=-8, body=BIG)
    small_disk.sandbox.faults = [Fault(damaged, times=1, each_range=True), Fault(Body(BIG))]

    output = small_disk.run(max_attempts=2, parallel=True, workers=4, end_date=str(DAYS[1]))

    assert output.code == 0, output.errors


@pytest.mark.slow
def test_two_windows_do_not_fit_at_once(small_disk: Lab) -> None:
    """The next one is prepared once its reader has taken the first.

    Two windows, so that no body arrives in the moment in which the disk is full.
    """
    small_disk.sandbox.faults = [Fault(Body(BIG))]

    with small_disk.start(subprocess.PIPE, parallel=True, workers=4, end_date=str(DAYS[1])) as tap:
        wait_until(lambda: len(small_disk.sandbox.requests) == 2, "both windows")
        time.sleep(1)
        assert tap.stdout is not None
        printed = tap.stdout.read()
        tap.wait(PATIENCE)

    assert tap.returncode == 0, small_disk.errors
    assert printed.count(b'{"type":"RECORD"') == 2 * 1500


def test_the_quarantine_does_not_fit(small_disk: Lab) -> None:
    small_disk.sandbox.faults = [
        Fault(Body(b"9" * 3_000_000 + b"\n" + BIG.splitlines(keepends=True)[0]))
    ]
    output = small_disk.run(on_malformed_line="quarantine")

    assert output.code == 1
    assert "Traceback" not in output.errors
    assert "free some space there" in output.errors
    assert small_disk.left_behind == []


@pytest.mark.skipif(not FULL.exists(), reason="this system has no disk that is always full")
def test_standard_output_is_a_file_on_a_full_disk(lab: Lab) -> None:
    with FULL.open("wb") as file, lab.start(file) as tap:
        tap.wait(PATIENCE)

    assert tap.returncode == 1
    assert "No space left on device" in lab.errors
    assert "Traceback" not in lab.errors


@pytest.mark.parametrize("spool", ["nowhere", "a file"])
def test_a_spool_that_is_no_folder_is_named_before_the_first_request(lab: Lab, spool: str) -> None:
    path = lab.folder / spool
    if spool == "a file":
        path.touch()

    output = lab.run(spool_dir=str(path))

    assert output.code == 1
    assert "spool_dir" in output.errors
    assert "Traceback" not in output.errors
    assert output.text == b""
    assert lab.sandbox.requests == []


def test_no_folder_for_temporary_files(lab: Lab) -> None:
    """As in a container that can't be written: no file takes a byte."""
    del lab.settings["spool_dir"]
    limited = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *lab.tap()]

    done = subprocess.run(
        limited, env=environment(), capture_output=True, timeout=PATIENCE, check=False
    )

    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert (
        b"spool_dir: is not set, and the system has no writable folder for temporary files; "
        b"give a writable folder (see docs/failures.md#settings-and-files)"
    ) in done.stderr.splitlines()[-1]
    assert lab.sandbox.requests == []


@pytest.mark.slow
def test_what_a_killed_run_leaves_the_next_one_sweeps(make_lab: LabMaker) -> None:
    lab = make_lab(shaping=Shaping(bytes_per_second=2000))
    with lab.start(subprocess.DEVNULL, parallel=True, workers=4) as tap:
        wait_until(lambda: list(lab.spool.rglob("*.body")), "a body")
        tap.send_signal(signal.SIGKILL)
        tap.wait(PATIENCE)
    killed = lab.left_behind
    lab.sandbox.shaping = Shaping()
    other = make_lab(shaping=Shaping(first_byte_seconds=600))
    with other.start(subprocess.DEVNULL, spool_dir=str(lab.spool)) as slow:
        wait_until(lambda: other.sandbox.max_concurrent, "a run beside it")
        beside = lab.left_behind

        output = lab.run()

        assert lab.left_behind == beside, "a run that is under way keeps its spool"
        slow.send_signal(signal.SIGTERM)
        slow.wait(PATIENCE)

    assert len(killed) == 1
    assert len(beside) == 1
    assert killed != beside, "the first of the two to start has swept"
    assert output.code == 0
    assert lab.left_behind == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [Fault(Status(401)), Fault(Status(500)), Fault(Line(b"99"), each_range=True, after=1)]
)
def test_nothing_is_left_while_requests_are_under_way(make_lab: LabMaker, fault: Fault) -> None:
    for _ in range(3):
        lab = make_lab(faults=[fault], shaping=Shaping(first_byte_seconds=0.02))
        lab.run(parallel=True, workers=8, end_date="2025-02-28", balance_windows=False)
        assert lab.left_behind == []


def test_a_run_that_was_killed_while_it_cleaned_up_is_swept(lab: Lab) -> None:
    (lab.spool / "tap-mixpanel-parallel-abcdefgh").mkdir()

    output = lab.run()

    assert output.code == 0
    assert lab.left_behind == []


def test_a_request_under_way_makes_no_file_while_the_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = spool_module._remove_files

    def remove_late(folder: int) -> None:
        with pytest.raises(FileNotFoundError):
            (spool.path / "late.body").touch()
        remove(folder)

    with spool_module.Spool(tmp_path) as spool:
        (spool.path / "begun.body").touch()
        monkeypatch.setattr(spool_module, "_remove_files", remove_late)

    assert list(tmp_path.iterdir()) == []


def test_only_what_runs_have_left_behind_is_swept(tmp_path: Path) -> None:
    for name in ("abcdefgh", "0_1_2_3_", "abcdefgh-ended"):
        folder = tmp_path / f"tap-mixpanel-parallel-{name}"
        folder.mkdir()
        (folder / "lock").touch()
        (folder / "2025-01-01..2025-01-07.1.body").touch()
    others = {"tap-mixpanel-parallel-spool", "tap-mixpanel-parallel-src", "abcdefgh"}
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "tap-mixpanel-parallel-src" / "lock").touch()

    with spool_module.Spool(tmp_path):
        pass

    assert {path.name for path in tmp_path.iterdir()} == others


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space there, or set spool_dir to a folder with more"),
        (errno.EDQUOT, "free some space there, or set spool_dir to a folder with more"),
        (errno.EMFILE, "raise the limit of open files (ulimit -n), or lower workers"),
        (errno.ENFILE, "raise the limit of open files (ulimit -n), or lower workers"),
        (errno.EACCES, "set spool_dir to a folder that can be written"),
        (errno.EROFS, "set spool_dir to a folder that can be written"),
        (None, "set spool_dir to a folder that can be written"),
    ],
)
def test_each_error_has_its_remedy(number: int | None, remedy: str) -> None:
    error = OSError("odd") if number is None else OSError(number, os.strerror(number))
    text = str(spool_module.spool_error(Path("/spool"), error))
    assert text.startswith("spool_dir: /spool can't be written (")
    assert text.endswith(f"); {remedy}")


def test_too_many_open_files(lab: Lab) -> None:
    """Each window takes a few; what says so names no disk space."""
    lab.settings |= {"parallel": True, "workers": 20, "end_date": "2025-01-25"}
    lab.sandbox.shaping = Shaping(first_byte_seconds=1)
    limited = ["sh", "-c", 'ulimit -n 24; exec "$@"', "sh", *lab.tap()]

    done = subprocess.run(
        limited, env=environment(), capture_output=True, timeout=PATIENCE, check=False
    )

    output = Output(done.returncode, done.stdout, done.stderr.decode())
    assert output.code == 1
    assert "Too many open files" in output.errors
    assert "raise the limit of open files (ulimit -n), or lower workers" in output.errors
    assert "free some space" not in output.errors
    assert "Traceback" not in output.errors
