"""What tests in several files share."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support.commands import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator

# The same examples in every run, however long a busy machine takes for one.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")

# The SDK warns of Python's end of life, months before a date; pyproject.toml says the same.
os.environ["PYTHONWARNINGS"] = "ignore:Python 3:FutureWarning"

# Requests that a test makes count for no other test, nor for who runs the tests: see `history`.
_CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
os.environ.setdefault("PIP_CACHE_DIR", f"{_CACHE}/pip")
os.environ.setdefault("UV_CACHE_DIR", f"{_CACHE}/uv")
_TESTS = count()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where no test's own files for caches are."""
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def history(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the taps of a test remember their requests; it is made when one does."""
    folder = cache / str(next(_TESTS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


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
