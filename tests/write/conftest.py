"""What the tests of standard output share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.write import stdout
from tests.support.pipe import Pipe

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with Pipe() as pipe:
        yield pipe


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wake up often, and grant little grace."""
    monkeypatch.setattr(stdout, "_WAKE_MS", 1)
    monkeypatch.setattr(stdout, "_GRACE_SECONDS", 0.01)
    monkeypatch.setattr(stdout, "_NAP_SECONDS", 0)
