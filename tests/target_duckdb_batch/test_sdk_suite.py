"""The SDK's own tests of a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.testing import get_target_test_class
from singer_sdk.testing.suites import SingerTestSuite
from singer_sdk.testing.target_tests import (
    TargetRecordMissingRequiredProperty,
)

from target_duckdb_batch.target import TargetDuckDBBatch

if TYPE_CHECKING:
    from pathlib import Path

CONFIG: dict[str, Any] = {"default_target_schema": "sdk"}

Suite: Any = get_target_test_class(
    TargetDuckDBBatch,
    config=CONFIG,
    custom_suites=[SingerTestSuite(kind="target", tests=[TargetRecordMissingRequiredProperty])],
)


class TestTarget(Suite):  # type: ignore[misc]
    """The suite, each test with a database of its own."""

    @pytest.fixture(autouse=True)
    def _database(self, tmp_path: Path) -> None:
        CONFIG["filepath"] = str(tmp_path / "sdk.duckdb")
