"""The commands of this environment, as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

BIN: Final = Path(sys.executable).parent
ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 60.0
"""Seconds after which something hangs: far more than anything takes on a busy machine."""

_CONFIGURES: Final = ("MELTANO_", "TAP_", "TARGET_", "LOGLEVEL")


def environment(settings: Mapping[str, str] | None = None, /, **more: str) -> dict[str, str]:
    """This environment without what configures the commands, and with these variables."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(_CONFIGURES)}
    path = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return {**kept, **path, **(settings or {}), **more}


def run(
    *command: str, cwd: Path, settings: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with these variables."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
