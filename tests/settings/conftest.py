"""What the tests of settings share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _without_an_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the machine's own certificates again and again takes its time."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
