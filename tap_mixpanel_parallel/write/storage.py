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
import secrets
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.fetch.spool import spooling
from tap_mixpanel_parallel.write.roots import open_root
from tap_mixpanel_parallel.write.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Part
    from tap_mixpanel_parallel.settings.batch import BatchConfig

_SUFFIXES: Final = {"parquet": "parquet", "jsonl": "jsonl.gz"}
_STORED: Final = r"(?P<stored>\d{8}T\d{12}Z-\d{6})-[0-9_-]+\.\d{4}\.[a-z.]+"


class Storage:
    """Stores the files of windows. Context manager.

    Attributes:
        staging: Where other machines put files, to be stored.
    """

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
        self.staging = Staging(config, f"{self._start}staged-")
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
        self._root.open()
        self._root.make()
        self._root.abort_uploads(self._start)
        with self.probing():  # before the first request: can files be stored?
            pass
        self._sweep()
        started = f"{now:%Y%m%dT%H%M%S%f}Z"
        if started > self._last:  # or else a clock went back, and the numbers go on
            self._last = f"{started}-{0:06}"
        return self._root.folder(self._stack, spool)

    @contextmanager
    def probing(self) -> Iterator[str]:
        """Have a small file in the root while the block runs; its name.

        Raises:
            TapError: If there can't be one.
        """
        name = f"{self.staging.start}{secrets.token_hex(8)}"
        self._root.write(name, b"")
        yield name
        self._root.remove(name)

    def remove_staged(self) -> None:
        """Remove what is staged and has no name, also halves of uploads.

        What can't be removed is left to the next run.
        """
        self._root.abort_uploads(self._start)
        with suppress(TapError):
            for found in self._root.names():
                if found.startswith(self.staging.start):
                    with suppress(TapError):
                        self._root.remove(found)

    def _sweep(self) -> None:
        """Remove what is staged, and what does not count as loaded."""
        name = re.compile(re.escape(self._start) + _STORED)
        for found in self._root.names():
            match = name.fullmatch(found)
            if found.startswith(self.staging.start) or (match and match["stored"] > self._last):
                self._root.remove(found)

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
            for file in part.staged or part.files:
                names.append(f"{self._start}{stored}-{days}.{len(names):04}.{suffix}")
                if isinstance(file, str):
                    self._root.rename(file, names[-1])
                else:
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
