"""The spool in a folder that others can write: what is theirs is left, and nothing waits."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import socket
import stat
import subprocess
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from tap_mixpanel_parallel.convert.conversion import Conversion, ConversionOptions, Part
from tap_mixpanel_parallel.convert.files import Messages
from tap_mixpanel_parallel.exceptions import OutputError, SpoolError
from tap_mixpanel_parallel.fetch.job import Arrival, Download
from tap_mixpanel_parallel.fetch.spool import Spool, create, read_back, spool_error, write_all
from tap_mixpanel_parallel.plan.state import ExportState
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.sandbox import Shaping
from tap_mixpanel_parallel.write.output import Output
from tests.support.harness import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.failures.conftest import LabMaker
    from tests.support.harness import Lab

NAME = "tap-mixpanel-parallel-aaaaaaaa"
DAY = Window(date(2025, 1, 6), date(2025, 1, 6))
TARGET = "precious"
"""A folder beside the spool that looks like a run's folder, and whose files must stay."""


def a_link(spool: Path) -> None:
    """A link to a folder with a lock that can be read."""
    (spool / NAME).symlink_to(spool.parent / TARGET)


def a_link_to_nothing(spool: Path) -> None:
    (spool / NAME).symlink_to(spool.parent / "nothing")


def a_link_of_an_ended_run(spool: Path) -> None:
    (spool / f"{NAME}-ended").symlink_to(spool.parent / TARGET)


def a_fifo_for_a_lock(spool: Path) -> None:
    """Opening it waits for somebody who writes."""
    (spool / NAME).mkdir()
    os.mkfifo(spool / NAME / "lock")
    (spool / NAME / "a.body").touch()


def a_socket_for_a_lock(spool: Path) -> None:
    (spool / NAME).mkdir()
    before = Path.cwd()
    os.chdir(spool / NAME)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("lock")
    finally:
        os.chdir(before)


def a_folder_for_a_lock(spool: Path) -> None:
    (spool / NAME / "lock").mkdir(parents=True)


def a_link_for_a_lock(spool: Path) -> None:
    (spool / NAME).mkdir()
    (spool / NAME / "lock").symlink_to(spool.parent / TARGET / "lock")


def a_fifo(spool: Path) -> None:
    os.mkfifo(spool / NAME)


def a_file(spool: Path) -> None:
    (spool / NAME).write_text("of somebody's")


def another_users_folder(spool: Path) -> None:
    a_folder_of_a_run(spool)
    try:
        os.chown(spool / NAME, 12345, 12345)
    except PermissionError:
        pytest.skip("only root can give a folder away")


def a_folder_of_a_run(spool: Path) -> None:
    (spool / NAME).mkdir()
    (spool / NAME / "lock").touch()
    (spool / NAME / "a.body").write_text("events")


TRAPS = (
    a_link,
    a_link_to_nothing,
    a_link_of_an_ended_run,
    a_fifo_for_a_lock,
    a_socket_for_a_lock,
    a_folder_for_a_lock,
    a_link_for_a_lock,
    a_fifo,
    a_file,
    another_users_folder,
)


def tree(folder: Path) -> dict[str, Any]:
    """All that is in a folder."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        found[str(path.relative_to(folder))] = (stat.S_IFMT(status.st_mode), status.st_uid, content)
    return found


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that everybody can write, and a precious one beside it."""
    (tmp_path / TARGET).mkdir()
    (tmp_path / TARGET / "lock").touch()
    (tmp_path / TARGET / "thesis.tex").write_text("years of work")
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o1777)
    return tmp_path / "spool"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("trap", TRAPS)
def test_what_is_no_folder_of_an_ended_run_is_left(
    shared: Path, trap: Callable[[Path], None]
) -> None:
    trap(shared)
    before = tree(shared.parent)

    with Spool(shared) as spool:
        (spool.path / "1.body").touch()

    assert tree(shared.parent) == before


def test_a_swept_folder_takes_nothing_along_that_its_entries_lead_to(shared: Path) -> None:
    precious = tree(shared.parent / TARGET)
    a_folder_of_a_run(shared)
    (shared / NAME / "b.body").symlink_to(shared.parent / TARGET / "thesis.tex")
    (shared / NAME / "inner").symlink_to(shared.parent / TARGET)

    with Spool(shared):
        pass

    assert list(shared.iterdir()) == []
    assert tree(shared.parent / TARGET) == precious


def test_a_folder_that_is_replaced_is_not_removed_by_its_name(shared: Path) -> None:
    """Without the sticky bit, others can put their link where the run's folder was."""
    precious = tree(shared.parent / TARGET)
    with Spool(shared) as spool:
        (spool.path / "1.body").touch()
        moved = spool.path.rename(shared / "moved")
        spool.path.symlink_to(shared.parent / TARGET)

    assert list(moved.iterdir()) == []
    assert tree(shared.parent / TARGET) == precious


def test_a_run_passes_traps(lab: Lab, shared: Path) -> None:
    """As a process, from the first request to the last."""
    a_link(shared)
    other = shared / NAME.replace("a" * 8, "b" * 8)
    other.mkdir()
    os.mkfifo(other / "lock")
    before = tree(shared.parent / TARGET)

    output = lab.run(spool_dir=str(shared))

    assert output.code == 0, output.errors
    assert sorted(shared.iterdir()) == [shared / NAME, other]
    assert tree(shared.parent / TARGET) == before


def a_link_to_a_file(path: Path) -> None:
    path.symlink_to(path.parent.parent / TARGET / "thesis.tex")


def a_link_to_no_file(path: Path) -> None:
    path.symlink_to(path.parent.parent / TARGET / "new")


def a_hard_link(path: Path) -> None:
    path.hardlink_to(path.parent.parent / TARGET / "thesis.tex")


def a_link_for_the_folder(path: Path) -> None:
    path.parent.rmdir()
    path.parent.symlink_to(path.parent.parent / TARGET)


IN_THE_WAY = (a_file, a_fifo, a_link_to_a_file, a_link_to_no_file, a_hard_link)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("trap", [*IN_THE_WAY, Path.mkdir, a_link_for_the_folder])
def test_a_file_is_made_where_nothing_is(shared: Path, trap: Callable[[Path], None]) -> None:
    path = shared / NAME
    trap(shared if trap in {a_file, a_fifo} else path)
    before = tree(shared.parent)

    with pytest.raises(SpoolError, match=r"spool_dir: .* can't be written"):
        create(path)

    assert tree(shared.parent) == before


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "trap", [a_fifo, a_link_to_a_file, a_link_to_no_file, Path.mkdir, a_link_for_the_folder]
)
def test_what_is_read_back_is_a_file(shared: Path, trap: Callable[[Path], None]) -> None:
    path = shared / NAME
    (shared.parent / TARGET / NAME).write_text("another's")
    trap(shared if trap is a_fifo else path)

    with pytest.raises(OSError, match=r"."):
        read_back(path)


def test_a_file_is_its_user_s_own(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with create(tmp_path / "1.body") as file:
            write_all(file, b"events")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "1.body").stat().st_mode) == 0o600
    with read_back(tmp_path / "1.body") as file:
        assert file.read() == b"events"


def download(path: Path, body: bytes) -> Download:
    path.write_bytes(body)
    return Download(path, compressed=False, size=len(body), received_at=datetime.now(UTC))


def convert(body: Download) -> Part:
    options = ConversionOptions(ZoneInfo("UTC"), tolerate_malformed=True)
    form = Messages(lambda records: b"{}\n" * len(records))
    conversion = Conversion(DAY, body, options, form)
    for _ in conversion:
        pass
    return conversion.part


LINES = b'bad\n{"event":"A","properties":{"time":1736121600000}}\n'


@pytest.mark.parametrize("suffix", ["lines", "malformed"])
def test_a_conversion_makes_its_files_anew(shared: Path, suffix: str) -> None:
    """After one that failed, as others were in its way."""
    body = download(shared / "1.body", LINES)
    (shared / f"1.{suffix}").symlink_to(shared.parent / TARGET / "thesis.tex")
    before = tree(shared.parent / TARGET)

    with pytest.raises(SpoolError, match="File exists"):
        convert(body)
    part = convert(body)

    assert tree(shared.parent / TARGET) == before
    assert part.path.read_bytes() == b"{}\n"
    assert part.malformed
    for path in (part.path, part.malformed.path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_body_that_is_replaced_by_a_link_is_not_read(shared: Path) -> None:
    body = download(shared.parent / TARGET / "1.body", LINES)
    (shared / "1.body").symlink_to(body.path)

    with pytest.raises(SpoolError):
        convert(replace(body, path=shared / "1.body"))


def test_lines_that_are_replaced_by_a_link_are_not_written(shared: Path) -> None:
    (shared / "1.lines").symlink_to(shared.parent / TARGET / "thesis.tex")
    output = Output(None, lambda _: None)

    with pytest.raises(OutputError, match="can't be read back"):
        output.begin(Arrival(DAY, 1, 0.0), Part(DAY, shared / "1.lines", 1), ExportState())


@pytest.mark.parametrize("suffix", ["body", "lines"])
def test_a_folder_that_others_replace_leads_nowhere(
    make_lab: LabMaker, shared: Path, suffix: str
) -> None:
    """Where the sticky bit is missing, they can rename it, and put links into theirs."""
    shared.chmod(0o777)
    before = tree(shared.parent / TARGET)
    lab = make_lab(shaping=Shaping(first_byte_seconds=1))
    with lab.start(subprocess.DEVNULL, spool_dir=str(shared), end_date="2025-01-06") as tap:
        wait_until(lambda: lab.sandbox.max_concurrent, "a request")
        [folder] = shared.iterdir()
        folder.rename(shared / "moved")
        folder.mkdir()
        link = folder / f"2025-01-06..2025-01-06.1.{suffix}"
        link.symlink_to(shared.parent / TARGET / "thesis.tex")
        tap.wait(PATIENCE)

    assert tap.returncode == 1, lab.errors
    assert "can't be written (File exists)" in lab.errors
    assert "Traceback" not in lab.errors
    assert tree(shared.parent / TARGET) == before


def sweeping(monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    """Have another run sweep each folder before its lock is held, so many times."""
    make = tempfile.mkdtemp

    def make_swept(*args: Any, **options: Any) -> str:
        nonlocal times
        path = str(make(*args, **options))
        if times > 0:
            times -= 1
            Path(path).rmdir()
        return path

    monkeypatch.setattr(tempfile, "mkdtemp", make_swept)


def test_a_folder_that_another_run_sweeps_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeping(monkeypatch, times=3)
    with Spool(tmp_path) as spool:
        assert spool.path.is_dir()


def test_folders_that_always_go_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeping(monkeypatch, times=math.inf)
    with pytest.raises(SpoolError, match="others remove each folder"), Spool(tmp_path):
        pass


@pytest.mark.timeout(10)
def test_a_lock_that_is_held_at_once_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run sweeps the folder, and is stopped meanwhile."""
    lock = fcntl.flock
    held: list[int] = []

    def hold_first(fd: int, operation: int) -> None:
        if not held:
            held.append(os.open(next(tmp_path.glob("*/lock")), os.O_RDONLY))
            lock(held[0], fcntl.LOCK_EX)
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", hold_first)
    with Spool(tmp_path) as spool:
        [first] = set(tmp_path.iterdir()) - {spool.path}
    os.close(held[0])
    assert list(tmp_path.iterdir()) == [first]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "free some space there, or set spool_dir to a folder with more"),
        (errno.EDQUOT, "free some space there, or set spool_dir to a folder with more"),
        (errno.EMFILE, "raise the limit of open files (ulimit -n), or lower workers"),
        (errno.EROFS, "set spool_dir to a folder that can be written"),
    ],
    ids=errno.errorcode.get,
)
def test_the_remedy_fits_the_error(code: int, remedy: str) -> None:
    error = spool_error(Path("/spool"), OSError(code, os.strerror(code)))
    assert str(error) == f"spool_dir: /spool can't be written ({os.strerror(code)}); {remedy}"
