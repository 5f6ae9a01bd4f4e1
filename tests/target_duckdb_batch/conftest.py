"""Fixtures of the loader's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.target_duckdb_batch.harness import NEWEST, Lab

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """An empty database."""
    return Lab(tmp_path)


@pytest.fixture(params=["installed", "newest"])
def python_path(request: pytest.FixtureRequest) -> str:
    """What makes a process find the DuckDB of the environment, or the newest."""
    if request.param == "installed":
        return ""
    if not NEWEST.is_dir():
        pytest.skip(f"{NEWEST} is made by `make`")
    return str(NEWEST)
