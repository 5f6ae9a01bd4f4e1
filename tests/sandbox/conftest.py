"""A running sandbox without limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
from tests.sandbox.served import NOON, PROJECT


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(PROJECT, limits=None, as_of=lambda: NOON) as sandbox:
        yield sandbox
