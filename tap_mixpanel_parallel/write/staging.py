"""Files that another machine puts into the root, for the run to give them their names.

A staged file never has a final name, so whoever stores one too many does no harm: every run
removes all that is staged as it begins and as it ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.exceptions import SpoolError
from tap_mixpanel_parallel.write.roots import open_root

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Part
    from tap_mixpanel_parallel.settings.batch import BatchConfig
    from tap_mixpanel_parallel.write.roots import LocalRoot, RemoteRoot


@dataclass(frozen=True, slots=True)
class Staging:
    """Where files are staged. It can be pickled.

    Attributes:
        config: What the files are, and where they go.
        start: What the names of staged files begin with.
    """

    config: BatchConfig
    start: str

    def put(self, part: Part, name: str) -> Part:
        """Bring the files of a part there.

        Args:
            part: The part, on this machine's disk.
            name: What tells it from all others.

        Returns:
            The part, on no machine's disk.

        Raises:
            SpoolError: If one can't be stored.
        """
        root, staged = self._root(), []
        for number, file in enumerate(part.files):
            staged.append(f"{self.start}{name}.{number:04}")
            root.put(file, staged[-1])
        if part.malformed is not None:
            root.put(part.malformed.path, self._malformed(name))
        return replace(part, files=(), staged=tuple(staged))

    def take(self, part: Part, name: str, path: Path) -> Part:
        """Bring what the run needs of a staged part to this machine: its malformed lines.

        Args:
            part: The part, as `put` has returned it.
            name: What tells it from all others.
            path: The file for its messages; that of the lines is beside it.

        Raises:
            SpoolError: If they can't be read.
        """
        part = replace(part, path=path)
        if part.malformed is None:
            return part
        lines = path.with_suffix(".malformed")
        self._root().get(self._malformed(name), lines)
        return replace(part, malformed=replace(part.malformed, path=lines))

    def check(self, probe: str, name: str) -> None:
        """See that this machine sees the root as the run does.

        Args:
            probe: A file that the run has put there.
            name: What tells this machine from all others.

        Raises:
            TapError: If it does not, or can't write there.
        """
        root = self._root()
        if probe not in root.names():
            raise SpoolError("another machine's root: a file that the run has put there is missing")
        root.write(f"{self.start}{name}", b"")
        root.remove(f"{self.start}{name}")

    def _malformed(self, name: str) -> str:
        return f"{self.start}{name}.malformed"

    def _root(self) -> LocalRoot | RemoteRoot:
        root = open_root(self.config)
        root.open()
        return root
