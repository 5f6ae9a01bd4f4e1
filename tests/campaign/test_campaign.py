"""The campaign's short form."""

from __future__ import annotations

import pytest

from tests.campaign.trial import play


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 7))
def test_every_table_is_exact(seed: int) -> None:
    report = play(seed)

    assert report.problem is None, f"repeat it with: python -m tests.campaign --only {seed}"
