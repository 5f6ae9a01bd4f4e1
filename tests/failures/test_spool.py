"""The spool in a folder that others can write: what is theirs is left, and nothing waits."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.exceptions import SpoolError
from tap_mixpanel_parallel.fetch.spool import Spool, spool_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Lab

NAME = "tap-mixpanel-parallel-aaaaaaaa"
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
