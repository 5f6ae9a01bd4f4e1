"""The folder of the files: what may lie there after a run, and what must at the end."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.expected import Table

_MAKING: Final = "tap-mixpanel-parallel-"
_STAGED: Final = "-staged-"


class Root:
    """The root of a trial's files; none is made where events leave as messages."""

    def __init__(self, path: Path) -> None:
        """Look into this folder."""
        self._path = path

    @property
    def left_behind(self) -> list[str]:
        """The folders in which runs made files."""
        return [path.name for path in self._paths if path.name.startswith(_MAKING)]

    @property
    def _paths(self) -> list[Path]:
        return sorted(self._path.iterdir()) if self._path.exists() else []

    def keys(self) -> set[str]:
        """The keys of the events in all files that have their names; so each must be whole."""
        return {
            key
            for path in self._paths
            if not path.name.startswith(_MAKING) and _STAGED not in path.name
            for key in _keys_in(path)
        }

    def check_end(self, table: Table, target: dict[str, Any]) -> None:
        """Hold it against what must be true once nothing is left to do.

        Args:
            table: What is loaded.
            target: The loader's settings.
        """
        assert not self.left_behind, f"left behind: {self.left_behind}"
        if target.get("delete_batch_files") is False:
            keys = self.keys()
            missing = table.keyed.keys() - keys
            assert not missing, f"files are missing: of {sorted(missing)}"
            assert len(keys) == len(table), (
                f"{len(keys)} events in files, {len(table)} in the table"
            )
        else:
            assert not self._paths, f"files are left: {[path.name for path in self._paths]}"


def _keys_in(path: Path) -> list[str]:
    if path.suffix == ".gz":
        with gzip.open(path) as lines:
            return [json.loads(line)["event_id"] for line in lines]
    keys: list[str] = pq.read_table(path).column("event_id").to_pylist()
    return keys
