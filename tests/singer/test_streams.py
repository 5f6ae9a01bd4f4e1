"""Two ways from records to messages: the fast one, and the SDK's where it changes a record."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import pytest

from tap_mixpanel_parallel import mapped
from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tests.support.harness import Body
from tests.support.pipeline import CollectingTap, Collector
from tests.support.projects import access_to

AS_OF: Final = datetime(2025, 6, 1, tzinfo=UTC)
PROJECT: Final = Project(events_per_day=40, poison=True)
DAYS: Final = {"start_date": "2025-01-31", "end_date": "2025-02-02"}

Messages = list[dict[str, Any]]


class ExactCollector(Collector):
    """Keeps the messages with every number's digits."""

    def write_lines(self, lines: bytes) -> None:
        self.messages += (json.loads(line, parse_float=Decimal) for line in lines.split(b"\n")[:-1])


class Tap(CollectingTap):
    """The tap, with its messages kept."""

    message_writer_class = ExactCollector


def run(
    catalog: dict[str, Any] | None = None,
    faults: tuple[Fault, ...] = (),
    **settings: Any,
) -> Messages:
    with Sandbox(PROJECT, limits=None, as_of=lambda: AS_OF, faults=faults) as sandbox:
        config = {
            **access_to(sandbox),
            "requests_per_second": 1000,
            "requests_per_hour": 1_000_000,
        }
        tap = Tap(config=config | DAYS | settings, catalog=catalog)
        assert tap.run().success
    for message in tap.messages:
        # The moment at which a window came differs from run to run.
        assert bool(message.pop("time_extracted", None)) == (message["type"] == "RECORD")
        if message["type"] == "STATE":  # so do those at which requests started
            del message["value"]["bookmarks"]["events"]["requests"]
    return tap.messages


def records(messages: Messages) -> Messages:
    return [message["record"] for message in messages if message["type"] == "RECORD"]


def deselecting(*names: str) -> dict[str, Any]:
    """The tap's catalog without some fields."""
    catalog: dict[str, Any] = json.loads(Tap(config={"region": "sandbox"} | DAYS).catalog_json_text)
    for entry in catalog["streams"][0]["metadata"]:
        if entry["breadcrumb"] and entry["breadcrumb"][-1] in names:
            entry["metadata"]["selected"] = False
    return catalog


def run_through_the_sdk(**settings: Any) -> Messages:
    """Run the tap as if something changed its records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "is_unchanged", lambda _: False)
        return run(**settings)


@pytest.fixture(scope="module")
def fast() -> Messages:
    return run()


@pytest.mark.parametrize("properties_format", ["object", "string"])
def test_both_ways_give_the_same_messages(properties_format: str) -> None:
    fast = run(properties_format=properties_format)

    assert fast == run_through_the_sdk(properties_format=properties_format)
    assert len(records(fast)) > 100


def test_a_stream_map(fast: Messages) -> None:
    maps = {"events": {"day": "time[:10]", "properties": None, "__filter__": "event != ''"}}

    mapped = run(stream_maps=maps)

    wanted = [
        {**{name: r[name] for name in r if name != "properties"}, "day": r["time"][:10]}
        for r in records(fast)
        if r["event"]
    ]
    assert records(mapped) == wanted
    assert 0 < len(wanted) < len(records(fast))


def test_an_alias(fast: Messages) -> None:
    aliased = run(stream_maps={"events": {"__alias__": "shop"}})

    assert {m["stream"] for m in aliased if m["type"] == "RECORD"} == {"shop"}
    assert records(aliased) == records(fast)


def test_flattening(fast: Messages) -> None:
    flat = run(flattening_enabled=True, flattening_max_depth=1)

    # `properties` has no schema of its own, so it becomes one column of JSON text.
    for one, other in zip(records(flat), records(fast), strict=True):
        text = one.pop("properties")
        assert json.loads(text, parse_float=Decimal) == other["properties"]
        assert one == {name: other[name] for name in other if name != "properties"}


def test_flattening_of_text() -> None:
    flat = run(properties_format="string", flattening_enabled=True, flattening_max_depth=1)

    (schema,) = (message["schema"] for message in flat if message["type"] == "SCHEMA")
    assert schema["properties"]["properties"]["type"] == ["string", "null"]
    assert all(isinstance(record["properties"], str) for record in records(flat))


def test_deselected_fields(fast: Messages) -> None:
    deselected = run(catalog=deselecting("properties", "insert_id"))

    names = ("event_id", "event", "time", "distinct_id", "processed_at")
    assert records(deselected) == [{name: r[name] for name in names} for r in records(fast)]


@pytest.mark.parametrize(
    ("settings", "way"),
    [({}, "fast"), ({"flattening_enabled": True, "flattening_max_depth": 1}, "SDK's")],
)
def test_which_way_serves_is_logged(
    settings: dict[str, Any], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        run(**settings)

    told = [(r.levelname, r.message) for r in caplog.records if "record path" in r.message]
    level, message = told.pop()
    assert not told
    assert level == ("DEBUG" if way == "fast" else "INFO")
    assert [message] == [
        f"the {way} record path serves"
        + ("" if way == "fast" else ": a stream map, flattening or a selection changes records")
    ]


def test_a_number_that_the_sdk_can_t_read_is_one_clear_error() -> None:
    body = b'{"event":"A","properties":{"time":1,"$insert_id":"i","n":%s}}\n' % (b"9" * 5000)

    with pytest.raises(TapError, match=r"stream_maps: event .* can't be mapped"):
        run_through_the_sdk(faults=(Fault(Body(body)),))


def test_the_days_are_all_there(fast: Messages) -> None:
    state = [message for message in fast if message["type"] == "STATE"][-1]

    assert state["value"]["bookmarks"]["events"]["loaded"] == [list(DAYS.values())]
    days = {date(2025, 1, 31), date(2025, 2, 1), date(2025, 2, 2)}
    assert days <= {date.fromisoformat(r["time"][:10]) for r in records(fast)}
