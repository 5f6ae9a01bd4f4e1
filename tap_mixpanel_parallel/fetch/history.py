"""A file that remembers when requests started, for this user's other runs of a project.

It is locked for each start, so runs at the same time share the limits. Without a folder of
its own (no HOME, a read-only one, somebody else's) a run goes without it. The folder may be
anybody's: what is opened there is this user's own regular file, by no link, and holds no more
than moments.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_FOLDER: Final = "tap-mixpanel-parallel"
_MOST_STARTS: Final = 10_000
_MOST_BYTES: Final = 32 * _MOST_STARTS
_TRIES: Final = 100
_PAUSE: Final = 0.01
"""Seconds between two tries to lock: a run that is stopped must not stop the others."""


class RequestHistory:
    """The file of one project."""

    def __init__(self, account: str, environ: Mapping[str, str] = os.environ) -> None:
        """Remember under this name.

        Args:
            account: Names the project; no secret can be found from it.
            environ: The environment, which says where caches go.
        """
        self._folder = _cache(environ)
        self._name = f"requests-{account}"

    def recall(self) -> tuple[float, ...]:
        """What is remembered; nothing is made or changed."""
        with contextlib.suppress(OSError), self._locked(os.O_RDONLY) as file:
            return _read(file)
        return ()

    @contextlib.contextmanager
    def shared(self) -> Iterator[list[float]]:
        """What is remembered, as a list to change, while other runs wait."""
        with contextlib.ExitStack() as stack:
            starts: list[float] = []
            file = None
            with contextlib.suppress(OSError):
                file = stack.enter_context(self._locked(os.O_RDWR | os.O_CREAT))
                starts += _read(file)
            yield starts
            if file is not None:
                with contextlib.suppress(OSError):
                    _write(file, starts)

    @contextlib.contextmanager
    def _locked(self, flags: int) -> Iterator[int]:
        """The open file, locked.

        Raises:
            OSError: If there is none, if it is not this user's own, or if it stays locked.
        """
        if self._folder is None:
            raise FileNotFoundError
        if flags & os.O_CREAT:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _open(self._folder, os.O_DIRECTORY) as folder:
            _check_own(folder)
            # Not blocking, as opening a FIFO waits for its other end.
            with _open(self._name, flags | os.O_NONBLOCK, within=folder) as file:
                found = _check_own(file)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                    raise PermissionError
                _lock(file)
                yield file


def _cache(environ: Mapping[str, str]) -> Path | None:
    """Where this user's caches go (XDG Base Directory Specification); None if nowhere."""
    for name, below in (("XDG_CACHE_HOME", ""), ("HOME", ".cache")):
        if (path := Path(environ.get(name, ""), below)).is_absolute():
            return path / _FOLDER
    return None


@contextlib.contextmanager
def _open(path: Path | str, flags: int, *, within: int | None = None) -> Iterator[int]:
    fd = os.open(path, flags | os.O_NOFOLLOW, mode=0o600, dir_fd=within)
    try:
        yield fd
    finally:
        os.close(fd)


def _check_own(fd: int) -> os.stat_result:
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        raise PermissionError
    return found


def _lock(file: int) -> None:
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_PAUSE)
    raise BlockingIOError


def _read(file: int) -> tuple[float, ...]:
    starts = []
    for line in os.pread(file, _MOST_BYTES, 0).split(b"\n"):
        with contextlib.suppress(ValueError):
            starts.append(float(line))
    return tuple(filter(math.isfinite, starts))


def _write(file: int, starts: Iterable[float]) -> None:
    """Replace what the file holds; a run that is killed meanwhile leaves no less in it."""
    text = "".join(f"{start:.3f}\n" for start in sorted(starts)[-_MOST_STARTS:]).encode()
    os.truncate(file, os.pwrite(file, text, 0))
