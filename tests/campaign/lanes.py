"""The lanes of the campaign: the ways from the tap into the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from tests.support.commands import BIN
from tests.support.files import FORMATS
from tests.support.harness import TARGET

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

Victim = Literal["tap", "target", "converter", "worker"]
Settings = dict[str, Any]

ROOT: Final = "files"
"""The folder of the files, in the folder in which a trial runs."""


@dataclass(frozen=True)
class Lane:
    """A way from the tap into the table.

    Attributes:
        loader: The loader's command.
        victims: Whom signals go to, each as often as it is here.
        draw_tap: Gives settings of the tap.
        draw_target: Gives settings of the loader.
    """

    name: str
    loader: str
    victims: tuple[Victim, ...]
    draw_tap: Callable[[Random], Settings]
    draw_target: Callable[[Random], Settings]


def _messages(_: Random) -> Settings:
    return {}


def _target_duckdb(dice: Random) -> Settings:
    return {"batch_size_rows": dice.choice((50, 200, 1000, 100_000))}


def _files(dice: Random) -> Settings:
    return {
        "processes": dice.choice((1, 2, 2)),
        "batch_config": {
            "encoding": {"format": dice.choice(FORMATS)},
            "storage": {"root": ROOT, "prefix": dice.choice(("", "mine-"))},
            "batch_size": dice.choice((1, 30, 200, 1_000_000, 1_000_000)),
        },
    }


def _machines(dice: Random) -> Settings:
    return {"executor": "dask", "batch_config": _files(dice)["batch_config"]}


def _target_duckdb_batch(dice: Random) -> Settings:
    return {"delete_batch_files": dice.random() < 0.6}


_BATCH: Final = str(BIN / "target-duckdb-batch")

LANES: Final = {
    lane.name: lane
    for lane in (
        Lane("messages", TARGET, ("tap", "tap", "target"), _messages, _target_duckdb),
        Lane("files", _BATCH, ("tap", "tap", "target", "converter"), _files, _target_duckdb_batch),
    )
}

ON_MACHINES: Final = Lane(
    "machines", _BATCH, ("tap", "target", "worker", "worker"), _machines, _target_duckdb_batch
)
"""The way through a cluster, which is there for as long as the campaign: `machines` has it."""
