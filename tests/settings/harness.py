"""A configuration, and what is made of it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from tap_mixpanel_parallel.exceptions import SettingsError
from tap_mixpanel_parallel.settings.settings import Settings

TODAY = date(2025, 6, 1)
UNSET = dict.fromkeys(["region", "project_id", "events", "where", "project_timezone"])
SECRET = "hunter2-s3cret"
ACCOUNT = {
    "project_id": "123",
    "service_account_username": "bob.mp-service-account",
    "service_account_secret": SECRET,
}
CONFIG: dict[str, Any] = ACCOUNT | {"start_date": "2025-01-01"}


def read(config: dict[str, Any] | None = None, **replaced: Any) -> Settings:
    merged = (CONFIG if config is None else config) | replaced
    given = {name: value for name, value in merged.items() if value is not ...}
    return Settings.from_config(given, today=lambda _: TODAY)


def problems(config: dict[str, Any] | None = None, **replaced: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(config, **replaced)
    found = list(caught.value.problems)
    assert not any(SECRET in text for text in [*found, str(caught.value)])
    return found
