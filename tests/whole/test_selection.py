"""Settings that select other events than those that are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.exceptions import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.pipeline import Pipeline


class TestChangedSelection:
    @pytest.mark.parametrize(
        ("name", "before", "after"),
        [
            ("events", None, ["Purchase"]),
            ("events", ["Purchase"], None),
            ("events", ["Purchase"], ["Purchase", "Search"]),
            ("where", None, 'properties["Revision"] == 2'),
            ("where", 'properties["Revision"] == 1', 'properties["Revision"] == 2'),
            ("project_timezone", "UTC", "Asia/Kolkata"),
            ("project_timezone", None, "Asia/Kolkata"),
            ("project_id", "1", "2"),
        ],
    )
    def test_it_stops_the_run_with_the_remedy(
        self, pipeline: Pipeline, name: str, before: Any, after: Any
    ) -> None:
        pipeline.settings |= {"start_date": "2025-01-08", "end_date": "2025-01-09"}
        pipeline.run(**{name: before} if before else {})
        state, requests = pipeline.state, len(pipeline.sandbox.requests)

        with pytest.raises(StateError) as caught:
            pipeline.run(**{name: after} if after else {})

        message = str(caught.value)
        assert name in message
        assert "--full-refresh" in message
        assert "another state id" in message
        assert len(pipeline.sandbox.requests) == requests
        assert pipeline.state == state

        pipeline.state = {}
        if name != "project_id":  # whose other project the sandbox does not have
            assert pipeline.run(**{name: after} if after else {}).result.success

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"events": ["Search", "Purchase"]}, {"events": ["Purchase", "Search"]}),
            ({}, {"events": []}),
            ({}, {"where": ""}),
            ({}, {"project_timezone": "UTC"}),
            ({"project_id": "1"}, {"project_id": 1}),
            ({}, {"properties_format": "string", "deduplicate": True, "workers": 3}),
        ],
        ids=str,
    )
    def test_what_selects_the_same_events_goes_on(
        self, pipeline: Pipeline, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        pipeline.settings |= {"start_date": "2025-01-08", "end_date": "2025-01-09"}
        pipeline.run(**before)
        assert pipeline.run(**after).asked == []

    def test_filters_are_mixpanels_own(self, pipeline: Pipeline) -> None:
        run = pipeline.run(
            events=["Purchase", "Search"],
            where='properties["Revision"] == 2',
            end_date="2025-01-15",
        )
        assert {record["event"] for record in run.records} <= {"Purchase", "Search"}
        assert run.records
        assert {record["properties"]["Revision"] for record in run.records} == {2}
