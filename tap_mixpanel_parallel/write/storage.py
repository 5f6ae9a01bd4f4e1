"""The files of data: made out of sight, stored when whole, announced by a BATCH message.

A run that is killed may leave files behind: files that are not whole, and whole ones of
windows that no loader has confirmed. The next run removes both, without a lock on the root.

- Files are made in a run's own folder (see `fetch.spool`), and get their names in the root
  when the window is whole. The kernel tells which of these folders belong to nobody.
- The name of a stored file holds when its run began, and the number of its window in the run.
  Later windows are greater. The state that follows a BATCH message holds the same, so the
  state from which a run starts says which files a loader has taken. What is greater never
  counted as loaded: its days are read again, and so it is removed.

The names also hold what is read of which project (`Settings.fingerprint`), so other taps can
use the same root. Two pipelines that read the same need prefixes of their own.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from tap_mixpanel_parallel.exceptions import SpoolError, TapError
from tap_mixpanel_parallel.fetch.spool import Spool, spooling
from tap_mixpanel_parallel.settings.batch import ROOT_SETTING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Part
    from tap_mixpanel_parallel.settings.batch import BatchConfig

_SUFFIXES: Final = {"parquet": "parquet", "jsonl": "jsonl.gz"}
_STORED: Final = r"(?P<stored>\d{8}T\d{12}Z-\d{6})-[0-9_-]+\.\d{4}\.[a-z.]+"


class Storage:
    """Stores the files of windows. Context manager: entering removes what was left behind."""

    def __init__(
        self,
        config: BatchConfig,
        owner: str,
        stored: str | None,
        announce: Callable[[Sequence[str]], bytes],
    ) -> None:
        """Prepare; entering touches the root.

        Args:
            config: What the files are, and where they go.
            owner: What is read, of which project.
            stored: The last window that is loaded; None if none is.
            announce: The message that announces files, as a line.
        """
        self._config = config
        self._start = f"{config.prefix}events-{owner}-"
        self._last = stored or ""
        self._announce = announce
        self._stack = ExitStack()
        self._root = open_root(config)

    def begin(self, now: datetime, spool: Path) -> Path:
        """Remove what was left behind; the folder in which files are to be made.

        Args:
            now: When the run begins.
            spool: The run's folder for windows.

        Raises:
            TapError: If the root can't be used.
        """
        self._root.make()
        name = re.compile(re.escape(self._start) + _STORED)
        for found in self._root.names():
            match = name.fullmatch(found)
            if match and match["stored"] > self._last:
                self._root.remove(found)
        started = f"{now:%Y%m%dT%H%M%S%f}Z"
        if started > self._last:  # or else a clock went back, and the numbers go on
            self._last = f"{started}-{0:06}"
        return self._root.folder(self._stack, spool)

    @property
    def made_by(self) -> str:
        """The setting that says where files are made."""
        return self._root.made_by

    def store(self, part: Part) -> Part:
        """Give the files of a part their names, and write the message that announces them.

        Returns:
            The part, with its place among what is stored.

        Raises:
            SpoolError: If they can't be stored; the part is gone then.
        """
        started, number = self._last.rsplit("-", 1)
        stored = f"{started}-{int(number) + 1:06}"
        days = f"{part.window.first}_{part.window.last}"
        suffix = _SUFFIXES[self._config.format]
        names: list[str] = []
        try:
            for file in part.files:
                names.append(f"{self._start}{stored}-{days}.{len(names):04}.{suffix}")
                self._root.put(file, names[-1])
            with spooling(part.path):
                part.path.write_bytes(
                    self._announce([self._root.url(name) for name in names]) if names else b""
                )
        except BaseException:
            for each in names:
                with suppress(Exception):
                    self._root.remove(each)
            part.discard()
            raise
        self._last = stored
        return replace(part, stored=stored)

    def __enter__(self) -> Self:
        """Nothing more."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what is not stored."""
        self._stack.close()


def open_root(config: BatchConfig) -> LocalRoot | RemoteRoot:
    """The root of the files."""
    if config.path is not None:
        return LocalRoot(config.path)
    return RemoteRoot(config.root, config.params)


class LocalRoot:
    """A folder of this machine.

    Attributes:
        made_by: The setting that says where files are made.
    """

    made_by: Final = ROOT_SETTING

    def __init__(self, path: Path) -> None:
        """Use this folder."""
        self._path = path

    def make(self) -> None:
        """Make the folder if it is not there."""
        with spooling(self._path, ROOT_SETTING):
            self._path.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """The names of what is there."""
        with spooling(self._path / "*", ROOT_SETTING):
            return [path.name for path in self._path.iterdir()]

    def remove(self, name: str) -> None:
        """Remove a file."""
        with spooling(self._path / name, ROOT_SETTING):
            (self._path / name).unlink(missing_ok=True)

    def folder(self, stack: ExitStack, spool: Path) -> Path:  # noqa: ARG002
        """Where files are made: on the root's own file system, so that a name is one step."""
        return stack.enter_context(Spool(self._path, ROOT_SETTING)).path

    def put(self, file: Path, name: str) -> None:
        """Give a file its name."""
        with spooling(self._path / name, ROOT_SETTING):
            file.replace(self._path / name)

    def url(self, name: str) -> str:
        """A file's URL."""
        return f"file://{self._path / name}"


class RemoteRoot:
    """A folder of any storage that fsspec knows.

    Attributes:
        made_by: The setting that says where files are made.
    """

    made_by: Final = "spool_dir"

    def __init__(self, root: str, params: Any) -> None:
        """Use this folder."""
        self._root = root.rstrip("/")
        self._params = dict(params)

    def make(self) -> None:
        """Open the storage.

        Raises:
            TapError: If it can't be opened.
        """
        import fsspec  # noqa: PLC0415 - needed for no other root

        try:
            self._files, self._path = fsspec.core.url_to_fs(self._root, **self._params)
            self._files.makedirs(self._path, exist_ok=True)
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            raise TapError(f"{ROOT_SETTING}: can't be opened: {_said(error)}") from None

    def names(self) -> list[str]:
        """The names of what is there."""
        try:
            found = self._files.ls(self._path, detail=False)
        except FileNotFoundError:  # object storage has no empty folders
            return []
        except Exception as error:  # noqa: BLE001
            raise TapError(f"{ROOT_SETTING}: can't be read: {_said(error)}") from None
        return [str(path).rsplit("/", 1)[-1] for path in found]

    def remove(self, name: str) -> None:
        """Remove a file."""
        try:
            self._files.rm_file(f"{self._path}/{name}")
        except FileNotFoundError:
            return
        except Exception as error:  # noqa: BLE001
            raise TapError(f"{ROOT_SETTING}: {name} can't be removed: {_said(error)}") from None

    def folder(self, stack: ExitStack, spool: Path) -> Path:  # noqa: ARG002
        """Where files are made."""
        return spool

    def put(self, file: Path, name: str) -> None:
        """Bring a file there, under its name."""
        try:
            self._files.put_file(str(file), f"{self._path}/{name}")
        except Exception as error:  # noqa: BLE001
            raise SpoolError(f"{ROOT_SETTING}: {name} can't be stored: {_said(error)}") from None
        file.unlink(missing_ok=True)

    def url(self, name: str) -> str:
        """A file's URL."""
        return f"{self._root}/{name}"


def _said(error: Exception) -> str:
    """An error of a storage in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
