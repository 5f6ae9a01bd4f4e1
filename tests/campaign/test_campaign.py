"""The campaign's short form."""

from __future__ import annotations

import pytest

from tests.campaign.lanes import LANES
from tests.campaign.trial import play


@pytest.mark.slow
@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("seed", range(1, 3))
def test_every_table_is_exact(lane: str, seed: int) -> None:
    report = play(lane, seed)

    again = f"repeat it with: python -m tests.campaign --lane {lane} --only {seed}"
    assert report.problem is None, again
