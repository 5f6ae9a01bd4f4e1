"""A tap and a table, over a small project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.pipeline import PROJECT, Pipeline, noon, pipeline_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    """A pipeline at noon of January 20."""
    with pipeline_of(PROJECT, noon("2025-01-20")) as ready:
        yield ready
