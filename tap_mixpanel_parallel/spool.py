"""The folder where windows wait on disk: one for each run, gone with it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tap_mixpanel_parallel.exceptions import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_PREFIX: Final = "tap-mixpanel-parallel-"
_LOCK: Final = "lock"
_OURS: Final = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}(-ended)?")
"""The names that `mkdtemp` makes, and nobody else."""

_MORE_SPACE: Final = "free some space there, or set spool_dir to a folder with more"
_MORE_FILES: Final = "raise the limit of open files (ulimit -n), or lower workers"
_REMEDIES: Final[dict[int | None, str]] = {
    errno.ENOSPC: _MORE_SPACE,
    errno.EDQUOT: _MORE_SPACE,
    errno.EFBIG: _MORE_SPACE,
    errno.EMFILE: _MORE_FILES,
    errno.ENFILE: _MORE_FILES,
}


class Spool:
    """A run's folder. Context manager: entering sweeps what killed runs left behind.

    A run holds a lock in its folder, and the kernel lets it go however the run ends: a
    folder whose lock is free belongs to nobody.
    """

    def __init__(self, parent: Path) -> None:
        """Keep the run's folder in `parent`."""
        self._parent = parent
        self.path = parent

    def __enter__(self) -> Self:
        """Make the folder.

        Raises:
            SpoolError: If it can't be made.
        """
        self._sweep()
        try:
            while not self._make():  # swept before its lock was held
                pass
        except OSError as error:
            raise spool_error(self._parent, error) from None
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the folder with all that is in it."""
        folder = self.path
        with contextlib.suppress(OSError):
            # No request that is still under way makes a file in it from now on.
            folder = self.path.rename(f"{self.path}-ended")
        _remove(folder)
        self._lock.close()

    def _make(self) -> bool:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
        try:
            self._lock = (self.path / _LOCK).open("w")
        except FileNotFoundError:
            return False
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        if (self.path / _LOCK).exists():
            return True
        self._lock.close()
        return False

    def _sweep(self) -> None:
        for folder in self._parent.glob(f"{_PREFIX}*"):
            if not _OURS.fullmatch(folder.name):
                continue
            with contextlib.suppress(OSError):
                if not (folder / _LOCK).exists():
                    folder.rmdir()
                    continue
                with (folder / _LOCK).open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, its lock last: whatever ends this midway, the next run sweeps the rest."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name != _LOCK:
                path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def spool_error(path: Path, error: OSError) -> SpoolError:
    """What to tell a person when `path` can't be written."""
    remedy = _REMEDIES.get(error.errno, "set spool_dir to a folder that can be written")
    return SpoolError(f"spool_dir: {path} can't be written ({error.strerror or error}); {remedy}")


@contextlib.contextmanager
def spooling(path: Path) -> Iterator[None]:
    """Have what goes wrong with a file of the spool told to a person.

    Raises:
        SpoolError: Instead of any error of the file's.
    """
    try:
        yield
    except OSError as error:
        raise spool_error(path.parent, error) from None
