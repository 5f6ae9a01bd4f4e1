"""The folder where windows wait on disk: one for each run, gone with it.

`spool_dir` may be everybody's, as /tmp is, so that anybody may put there what looks like a
run's folder. What is opened there is opened by descriptor, follows no link and waits for
nobody; what is removed was found to be this user's own. The same holds for the files of a run:
where the folder has no sticky bit, others can put their own in its place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import tempfile
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from tap_mixpanel_parallel.exceptions import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX: Final = "tap-mixpanel-parallel-"
"""What the names of the folders begin with."""

_LOCK: Final = "lock"
_OURS: Final = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}(-ended)?")
"""The names that `mkdtemp` makes, and nobody else."""

_TRIES: Final = 100
"""Folders that a run makes at most: another run may sweep one before its lock is held."""

_FOLDER: Final = os.O_DIRECTORY | os.O_NOFOLLOW
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK
"""Not blocking, as opening a FIFO waits for its other end."""

_OWN: Final = 0o600

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TOO_MANY_OPEN: Final = {errno.EMFILE, errno.ENFILE}


class Spool:
    """A run's folder. Context manager: entering sweeps what killed runs left behind.

    A run holds a lock in its folder, and the kernel lets it go however the run ends: a
    folder whose lock is free belongs to nobody.
    """

    def __init__(self, parent: Path, setting: str = "spool_dir") -> None:
        """Keep the run's folder in `parent`, which a setting names."""
        self._parent = parent
        self._setting = setting
        self.path = parent

    def __enter__(self) -> Self:
        """Make the folder.

        Raises:
            SpoolError: If it can't be made.
        """
        with contextlib.suppress(OSError):
            _sweep(self._parent)
        try:
            if not any(self._make() for _ in range(_TRIES)):
                raise FileExistsError(errno.EAGAIN, "others remove each folder that is made there")
        except OSError as error:
            raise spool_error(self._parent, error, self._setting) from None
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the folder with all that is in it."""
        path = self.path
        with contextlib.suppress(OSError):
            # No request that is still under way makes a file in it from now on.
            path = path.rename(f"{path}-ended")
        with contextlib.suppress(OSError):
            _remove_files(self._folder)
            path.rmdir()
        self._opened.close()

    def _make(self) -> bool:
        """Make a folder and hold its lock; False if another run was quicker to sweep it."""
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent))
        with contextlib.ExitStack() as stack:
            try:
                self._folder = stack.enter_context(_open(self.path, _FOLDER))
                flags = _FILE | os.O_WRONLY | os.O_CREAT | os.O_EXCL
                self._lock = stack.enter_context(_open(_LOCK, flags, within=self._folder))
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.stat(_LOCK, dir_fd=self._folder)
            except (FileNotFoundError, BlockingIOError):
                return False
            self._opened = stack.pop_all()
            return True


def _sweep(parent: Path) -> None:
    """Remove this user's folders whose runs have ended."""
    with _open(parent, os.O_DIRECTORY) as within:
        for path in parent.iterdir():
            if _OURS.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    _sweep_folder(path.name, within)


def _sweep_folder(name: str, within: int) -> None:
    with _open(name, _FOLDER, within=within) as folder:
        if os.fstat(folder).st_uid != os.geteuid():
            return
        with contextlib.suppress(FileNotFoundError), _open(_LOCK, _FILE, within=folder) as lock:
            if not stat.S_ISREG(os.fstat(lock).st_mode):
                return
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_files(folder)
        os.rmdir(name, dir_fd=within)


def _remove_files(folder: int) -> None:
    """Remove a folder's files, its lock last: whatever ends this midway, the next run goes on."""
    for name in sorted(os.listdir(folder), key=_LOCK.__eq__):
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def _open(path: Path | str, flags: int, *, within: int | None = None) -> Iterator[int]:
    fd = os.open(path, flags, mode=_OWN, dir_fd=within)
    try:
        yield fd
    finally:
        os.close(fd)


def create(path: Path) -> FileIO:
    """Make a file of a run, to write it; nobody else can read it.

    Raises:
        SpoolError: If it can't be made, or if there is something of its name.
    """
    with spooling(path):
        return FileIO(_open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of it: the system may take a part, on a disk that is about to be full."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def read_back(path: Path) -> BinaryIO:
    """Open a file that a run has made.

    Raises:
        OSError: If it can't be opened, or if something else has its name.
    """
    file = os.fdopen(_open_file(path, os.O_RDONLY), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it was replaced by what is not a file")
    return file


def _open_file(path: Path, flags: int) -> int:
    with _open(path.parent, _FOLDER) as folder:
        return os.open(path.name, flags | _FILE, mode=_OWN, dir_fd=folder)


def spool_error(path: Path, error: OSError, setting: str = "spool_dir") -> SpoolError:
    """What to tell a person when `path`, which a setting names, can't be written."""
    remedy = f"set {setting} to a folder that can be written"
    if error.errno in _FULL:
        remedy = f"free some space there, or set {setting} to a folder with more"
    elif error.errno in _TOO_MANY_OPEN:
        remedy = "raise the limit of open files (ulimit -n), or lower workers"
    return SpoolError(
        f"{setting}: {path} can't be written ({error.strerror or error}); {remedy}",
        is_full=error.errno in _FULL,
    )


@contextlib.contextmanager
def spooling(path: Path, setting: str = "spool_dir") -> Iterator[None]:
    """Have what goes wrong with a file told to a person.

    Args:
        path: The file.
        setting: The setting that says where it lies.

    Raises:
        SpoolError: Instead of any error of the file's.
    """
    try:
        yield
    except OSError as error:
        raise spool_error(path.parent, error, setting) from None
