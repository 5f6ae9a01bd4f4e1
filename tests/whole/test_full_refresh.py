"""Meltano merges a new state into the saved one: what the new one says must be all that counts."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meltano.core.utils import merge

from tap_mixpanel_parallel.plan.bookmark import to_bookmark
from tap_mixpanel_parallel.plan.state import ExportState, FailedWindow
from tap_mixpanel_parallel.sandbox import Project, Sandbox
from tap_mixpanel_parallel.settings.settings import Settings
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.meltano import PREFIX, MeltanoRun, tap_environment
from tests.support.projects import access_to
from tests.support.strategies import DAYS, windows

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.plan.windows import Window

PROJECT = Project(seed=11, events_per_day=60)
FIRST, LAST = date(2025, 1, 1), date(2025, 1, 4)
LOADED_DAYS = {"start_date": str(FIRST), "end_date": str(LAST)}
AS_OF = datetime(2025, 3, 1, tzinfo=UTC)
SETTINGS: dict[str, Any] = {
    "project_id": "1234",
    "events": ["Purchase", "Search"],
    "where": 'properties["plan"] == "pro"',
    "project_timezone": "America/Los_Angeles",
    "region": "eu",
}
FILTERS = {
    "events": '["Purchase", "Search", "Page View"]',
    "where": 'properties["$os"] == "iOS"',
    "project_timezone": "America/Los_Angeles",
}
SELECTIONS = st.fixed_dictionaries(
    {}, optional={name: st.just(value) for name, value in SETTINGS.items()}
)
STEPS = st.lists(st.tuples(st.booleans(), windows()), max_size=6)


def state_of(settings: dict[str, Any], steps: list[tuple[bool, Window]], today: date) -> Any:
    account = {"service_account_username": "a", "service_account_secret": "b"}
    config = {"region": "sandbox", "start_date": "2025-01-01", "project_id": "1"} | settings
    if config["region"] != "sandbox":
        config |= account
    checked = Settings.from_config(config, today=lambda _: date(2026, 1, 1))
    state = ExportState(selection=checked.selection)
    for finished, days in steps:
        if finished:
            state = state.finish(days, today=today, lookback_days=5)
        else:
            state = state.fail(FailedWindow(days, 1, "HTTP 500", ""))
    return {"bookmarks": {"events": to_bookmark(state)}}


@given(SELECTIONS, SELECTIONS, STEPS, STEPS, DAYS)
def test_nothing_of_the_saved_state_survives(
    before: dict[str, Any],
    after: dict[str, Any],
    old: list[tuple[bool, Window]],
    new: list[tuple[bool, Window]],
    today: date,
) -> None:
    saved, written = state_of(before, old, today), state_of(after, new, today)
    merged = merge(json.loads(json.dumps(written)), saved)  # type: ignore[no-untyped-call]
    assert merged == written


@pytest.mark.slow
def test_what_changes_is_gone_after_a_full_refresh(meltano_project: Path) -> None:
    """Filters go, and a project replaces the sandbox's: no project at a URL is that one."""
    pipeline = MeltanoRun(meltano_project, "refresh")
    with Sandbox(PROJECT, limits=None, as_of=lambda: AS_OF, project_id="1234") as sandbox:
        after = tap_environment(sandbox, **LOADED_DAYS, **access_to(sandbox))
        account = {name: after[name] for name in after if "ACCOUNT" in name or "URL" in name}
        synthetic = {name: text for name, text in after.items() if name not in account}
        before = synthetic | tap_environment(sandbox, **FILTERS)
        first = pipeline({name: text for name, text in before.items() if "URL" not in name})
        assert first.returncode == 0, first.stderr
        refused = pipeline(after)
        assert refused.returncode != 0
        assert "load into another database" in refused.stderr, refused.stderr

        pipeline.database = pipeline.database.with_name("project.duckdb")
        refreshed = pipeline(after, "--full-refresh")
        again = pipeline(after)
        mixed = pipeline(synthetic | account | {f"{PREFIX}API_URL": ""}, "--full-refresh")

    assert refreshed.returncode == 0, refreshed.stderr
    assert again.returncode == 0, again.stderr
    assert "nothing to fetch" in again.stderr
    assert mixed.returncode != 0
    assert "region: 'sandbox' makes synthetic events" in mixed.stderr
    selection = pipeline.bookmark()["selection"]
    assert selection == dict.fromkeys(SETTINGS) | {"project_id": "1234"}
    assert_same(loaded(pipeline.database), expected(lines_of(PROJECT, FIRST, LAST, AS_OF)))
