"""What tests in several files share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support.commands import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

# The same examples in every run, however long a busy machine takes for one.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")

# The SDK warns of Python's end of life, months before a date; pyproject.toml says the same.
os.environ["PYTHONWARNINGS"] = "ignore:Python 3:FutureWarning"


@pytest.fixture(scope="session")
def meltano_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's own `meltano.yml`, installed."""
    folder = tmp_path_factory.mktemp("meltano")
    manifest = (ROOT / "meltano.yml").read_text()
    assert "pip_url: -e .[" in manifest
    manifest = manifest.replace("pip_url: -e .[", f"pip_url: -e {ROOT}[")
    (folder / "meltano.yml").write_text(manifest)
    (folder / "output").mkdir()
    done = run("meltano", "install", cwd=folder, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
