"""`meltano run` into a DuckDB file, in an installed project."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.commands import run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from pathlib import Path

    from tap_mixpanel_parallel.sandbox import Sandbox

PREFIX = "TAP_MIXPANEL_PARALLEL_"
PIPELINE = ("tap-mixpanel-parallel", "target-duckdb")


def tap_environment(sandbox: Sandbox, **settings: str) -> dict[str, str]:
    """The variables of a tap that reads a sandbox, with these settings."""
    values = {
        "region": "sandbox",
        "api_url": sandbox.url,
        "requests_per_second": "100",
        "max_attempts": "1",
    } | settings
    return {f"{PREFIX}{name.upper()}": value for name, value in values.items()}


def saved_bookmark(folder: Path, environment: str, suffix: str) -> dict[str, Any]:
    """What Meltano has saved for the stream under a state id."""
    state_id = f"{environment}:{'-to-'.join(PIPELINE)}:{suffix}"
    done = run("meltano", "state", "get", state_id, cwd=folder)
    bookmark: dict[str, Any] = json.loads(done.stdout)["singer_state"]["bookmarks"]["events"]
    return bookmark


class MeltanoRun:
    """Runs of the pipeline into one DuckDB file, under one state id."""

    def __init__(self, folder: Path, name: str) -> None:
        """Run in this project; the name is that of the file, and the state id's suffix."""
        self.folder, self.name = folder, name
        self.database = folder / "output" / f"{name}.duckdb"

    def __call__(
        self, settings: Mapping[str, str], *options: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the pipeline with these variables."""
        return run(
            *("meltano", "run", "--state-id-suffix", self.name, *options, *PIPELINE),
            cwd=self.folder,
            settings={**settings, "TARGET_DUCKDB_FILEPATH": str(self.database)},
        )

    def bookmark(self) -> dict[str, Any]:
        """What Meltano has saved for the stream."""
        return saved_bookmark(self.folder, "sandbox", self.name)
