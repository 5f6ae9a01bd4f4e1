"""Late events in files: a window that is read again replaces what it has loaded before."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.sandbox import Project, Sandbox
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.files import FORMATS, batch_config
from tests.support.pipeline import CollectingTap, FrozenClock, noon
from tests.support.projects import access_to
from tests.target_duckdb_batch.harness import Lab

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = Project(seed=3, events_per_day=200)
FIRST, LAST = date(2025, 1, 5), date(2025, 1, 9)


@pytest.mark.parametrize("form", FORMATS)
def test_the_table_is_that_of_the_last_read(tmp_path: Path, form: str) -> None:
    """Each run reads all days again, in windows that lie otherwise, into another prefix."""
    lab, clock = Lab(tmp_path), FrozenClock(noon(LAST))
    settings = {
        "start_date": str(FIRST),
        "end_date": str(LAST),
        "requests_per_second": 1000,
        "properties_format": "string",
    }
    state: dict[str, Any] = {}
    rows = []
    with Sandbox(PROJECT, limits=None, as_of=clock.now) as sandbox:
        for number, days in enumerate((3, 2, 5)):
            clock.moment = noon(LAST) + number * timedelta(days=2)
            tap = CollectingTap(
                config=access_to(sandbox)
                | settings
                | {"window_days": days, "deduplicate": days == 2}
                | batch_config(form, tmp_path / "root", prefix=f"{number}-", batch_size=70),
                state=json.loads(json.dumps(state)),
                clock=clock,
            )
            assert tap.run().success
            lab.load(*tap.messages)
            state = tap.messages[-1]["value"]
            rows.append(loaded(lab.path))
            ((count, keys),) = lab.query(
                "SELECT count(*), count(DISTINCT event_id) FROM lab.mixpanel.events"
            )
            assert count == keys
            assert_same(rows[-1], expected(lines_of(PROJECT, FIRST, LAST, clock.now())))

    before, after = rows[0].keyed, rows[-1].keyed
    assert after.keys() - before.keys(), "the test needs late events"
    assert any(after[key] != row for key, row in before.items()), "and users that were merged"
    assert list((tmp_path / "root").iterdir()) == []
