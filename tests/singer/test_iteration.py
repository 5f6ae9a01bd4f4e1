"""The events in Python: exact, window by window, with a state in and out."""

from __future__ import annotations

import json
import pydoc
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import util
from typing import TYPE_CHECKING, Any, Final

import duckdb
import polars as pl
import pyarrow as pa
import pytest

import tap_mixpanel_parallel
from tap_mixpanel_parallel import ExportFailedError, TapError, TapMixpanelParallel, iteration
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tap_mixpanel_parallel.write.output import Output
from tests.support.commands import ROOT
from tests.support.expected import assert_same, expected, lines_of, upserted
from tests.support.gate import Gate
from tests.support.harness import wait_until
from tests.support.pipeline import CollectingTap
from tests.support.projects import access_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PROJECT: Final = Project(seed=61, events_per_day=40)
AS_OF: Final = datetime(2025, 6, 1, tzinfo=UTC)
FIRST, LAST = date(2025, 1, 1), date(2025, 1, 4)
DAYS: Final = {"start_date": str(FIRST), "end_date": str(LAST), "window_days": 1}
QUICK: Final = {"requests_per_second": 1000, "requests_per_hour": 1_000_000, "max_attempts": 1}

Event = dict[str, Any]


@contextmanager
def served(project: Project = PROJECT, **more: Any) -> Iterator[dict[str, Any]]:
    """The settings of a tap that reads four days, a window each."""
    with Sandbox(project, limits=None, **{"as_of": lambda: AS_OF} | more) as sandbox:
        yield access_to(sandbox) | DAYS | QUICK


@pytest.fixture
def config() -> Iterator[dict[str, Any]]:
    with served() as settings:
        yield settings


def as_text(time: datetime | None) -> str | None:
    if time is None:
        return None
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_record(event: Event) -> Event:
    """The event with times as a message has them."""
    return event | {name: as_text(event[name]) for name in ("time", "processed_at")}


def days(events: Iterable[Event]) -> list[str]:
    """The days of some events, each once, in their order."""
    return list(dict.fromkeys(str(event["time"].date()) for event in events))


def loaded(tap: TapMixpanelParallel) -> list[list[str]]:
    found: list[list[str]] = tap.state["bookmarks"]["events"]["loaded"]
    return found


def test_events_are_the_records_of_the_messages(capfd: pytest.CaptureFixture[str]) -> None:
    with served(Project(seed=62, events_per_day=40, poison=True)) as config:
        tap = CollectingTap(config)
        tap.run()
        capfd.readouterr()
        events = list(TapMixpanelParallel(config).events())

    records = [message["record"] for message in tap.messages if message["type"] == "RECORD"]
    assert [as_record(event) for event in events] == records
    assert {event["time"].tzinfo for event in events} == {UTC}
    assert capfd.readouterr().out == ""


def test_properties_can_be_the_exported_text(config: dict[str, Any]) -> None:
    events = list(TapMixpanelParallel(config | {"properties_format": "string"}).events())

    records = map(as_record, events)
    assert_same(upserted(records), expected(lines_of(PROJECT, FIRST, LAST, AS_OF)))
    assert {type(event["properties"]) for event in events} == {str}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("9" * 400, 10**400 - 1),
        ("9" * 5000, Decimal("9" * 5000)),
        ("1e400", float("inf")),
        ('{"a":1,"a":2}', {"a": 2}),
    ],
)
def test_any_number_can_be_read(text: str, value: object) -> None:
    assert iteration._parsed(b'{"v":%s}' % text.encode()) == {"v": value}


def test_the_state_says_what_was_taken_to_its_end(config: dict[str, Any]) -> None:
    tap = TapMixpanelParallel(config)
    taken: list[Event] = []
    events = tap.events()
    for event in events:
        taken.append(event)
        if len(days(taken)) == 3:
            break
        whole = len(days(taken)) - 1
        assert loaded(tap) == ([["2025-01-01", f"2025-01-0{whole}"]] if whole else [])
    events.close()
    state = json.loads(json.dumps(tap.state))
    assert loaded(tap) == [["2025-01-01", "2025-01-02"]]

    rest = list(TapMixpanelParallel(config, state=state).events())

    assert days(rest) == ["2025-01-03", "2025-01-04"]
    records = map(as_record, [*taken, *rest])
    assert_same(upserted(records), expected(lines_of(PROJECT, FIRST, LAST, AS_OF)))


def test_the_same_tap_goes_on_where_it_was_left(config: dict[str, Any]) -> None:
    tap = TapMixpanelParallel(config)
    for event in tap.events():
        if event["time"].date() > FIRST:
            break

    assert days(tap.events()) == [f"2025-01-0{day}" for day in (2, 3, 4)]
    assert list(tap.events()) == []


def own_threads() -> list[str]:
    """The threads of taps, told by their names from those of the sandbox."""
    names = [thread.name for thread in threading.enumerate()]
    return [n for n in names if n.endswith("(call)") or n in {"scheduler", "display"}]


def test_who_leaves_early_leaves_nothing_behind(tmp_path: Path) -> None:
    """Not even the requests that are under way: Mixpanel does not answer them."""
    with Gate(AS_OF) as gate, served(as_of=gate) as config:
        tap = TapMixpanelParallel(
            config | {"parallel": True, "workers": 3, "spool_dir": str(tmp_path)}
        )
        gate.let_pass(1)
        events = tap.events()
        next(events)
        gate.wait_for(3)
        assert own_threads()

        events.close()

        wait_until(lambda: own_threads() == [], "the threads end")
        gate.open()
    assert list(tmp_path.iterdir()) == []
    assert loaded(tap) == []


@pytest.fixture
def _program() -> Iterator[None]:
    """Handle Ctrl-C as a program does that does not care."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_program")
def test_an_interrupt_while_nothing_arrives_ends_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C in a terminal, and the square in a notebook."""
    with Gate(AS_OF) as gate, served(as_of=gate) as config:
        tap = TapMixpanelParallel(config | {"spool_dir": str(tmp_path)})
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        monkeypatch.setattr(Output, "check", lambda _: signal.raise_signal(signal.SIGINT))

        with pytest.raises(KeyboardInterrupt):
            next(tap.events())

        wait_until(lambda: own_threads() == [], "the threads end")
        gate.open()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_window_is_raised_after_the_others() -> None:
    with served(faults=[Fault.parse("status=500,days=2025-01-02")]) as config:
        tap = TapMixpanelParallel(config)
        taken: list[Event] = []
        with pytest.raises(ExportFailedError) as caught:
            taken.extend(tap.events())
        warned = TapMixpanelParallel(config | {"on_failed_window": "warn"})
        same = list(warned.events())

    assert days(taken) == days(same) == [f"2025-01-0{day}" for day in (1, 3, 4)]
    assert [str(each.window.first) for each in caught.value.result.failed] == ["2025-01-02"]
    assert caught.value.result == tap.result
    assert warned.result is not None
    assert not warned.result.success
    (failed,) = tap.state["bookmarks"]["events"]["partitions"]
    assert failed["context"]["from_date"] == "2025-01-02"


def test_nothing_is_given_of_a_window_that_ends_early() -> None:
    with served(faults=[Fault.parse("cut,days=2025-01-02")]) as config:
        events = TapMixpanelParallel(config | {"on_failed_window": "warn"}).events()
        assert "2025-01-02" not in days(events)


def test_tables_hold_the_same(config: dict[str, Any]) -> None:
    tap = TapMixpanelParallel(config)
    table = tap.arrow().read_all()
    events = list(TapMixpanelParallel(config | {"properties_format": "string"}).events())

    assert table.to_pylist() == events
    assert loaded(tap) == [[str(FIRST), str(LAST)]]
    assert {field.type for field in table.schema} == {pa.string(), pa.timestamp("ms", "UTC")}


def test_a_table_goes_to_each_library_in_a_line(config: dict[str, Any]) -> None:
    wanted = sum(1 for _ in TapMixpanelParallel(config).events())

    assert len(pl.DataFrame(TapMixpanelParallel(config).arrow())) == wanted
    events = TapMixpanelParallel(config).arrow()
    counted = duckdb.sql("select count(*), count(properties->>'$.\"$os\"') from events").fetchone()
    assert counted is not None
    assert events is not None
    assert counted[0] == wanted >= counted[1] > 0


def test_a_data_frame_of_pandas(config: dict[str, Any]) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = TapMixpanelParallel(config).arrow().read_pandas()

    assert list(frame["event"]) == [e["event"] for e in TapMixpanelParallel(config).events()]


def test_a_table_of_no_events_has_columns() -> None:
    with served(Project(events_per_day=0)) as config:
        table = TapMixpanelParallel(config).arrow().read_all()

    assert table.num_rows == 0
    assert table.column_names[:2] == ["event_id", "event"]


def test_batches_that_are_left_early_leave_nothing_behind(
    config: dict[str, Any], tmp_path: Path
) -> None:
    tap = TapMixpanelParallel(config | {"spool_dir": str(tmp_path)})
    for batch in tap.arrow():
        assert batch.num_rows
        break

    wait_until(lambda: own_threads() == [], "the threads end")
    assert list(tmp_path.iterdir()) == []
    assert loaded(tap) == []


def test_a_deselected_field_is_left_out(config: dict[str, Any]) -> None:
    catalog = json.loads(TapMixpanelParallel(config).catalog_json_text)
    for entry in catalog["streams"][0]["metadata"]:
        if entry["breadcrumb"] == ["properties", "processed_at"]:
            entry["metadata"]["selected"] = False

    event = next(TapMixpanelParallel(config, catalog=catalog).events())
    table = TapMixpanelParallel(config, catalog=catalog).arrow().read_all()

    assert list(event) == table.column_names
    assert "processed_at" not in event


def test_a_deselected_stream_has_no_events_and_needs_no_request() -> None:
    nowhere = {"region": "sandbox", "api_url": "http://127.0.0.1:9"} | DAYS | QUICK
    catalog = json.loads(TapMixpanelParallel(nowhere).catalog_json_text)
    for entry in catalog["streams"][0]["metadata"]:
        if entry["breadcrumb"] == []:
            entry["metadata"]["selected"] = False

    assert list(TapMixpanelParallel(nowhere, catalog=catalog).events()) == []
    assert TapMixpanelParallel(nowhere, catalog=catalog).arrow().read_all().num_rows == 0


@pytest.mark.parametrize("name", ["events", "arrow"])
def test_what_would_change_records_is_refused(config: dict[str, Any], name: str) -> None:
    tap = TapMixpanelParallel(config | {"stream_maps": {"events": {"x": "1"}}})

    with pytest.raises(TapError, match=rf"^stream_maps: {name}\(\) gives events as they are"):
        getattr(tap, name)()


def test_a_table_without_pyarrow_names_the_extra(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iteration, "find_spec", lambda _: None)

    with pytest.raises(TapError, match=r"install tap-mixpanel-parallel\[files\]"):
        TapMixpanelParallel(config).arrow()
    assert util.find_spec("pyarrow") is not None


def test_help_and_completion_show_the_public_names() -> None:
    names = {*tap_mixpanel_parallel.__all__}
    code = "import tap_mixpanel_parallel as m; print(*(n for n in dir(m) if n[0] != '_'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert set(done.stdout.split()) == names, "before any of them is imported"
    shown = pydoc.render_doc(tap_mixpanel_parallel, renderer=pydoc.plaintext)
    assert [name for name in names if f"class {name}(" not in shown] == []
    tap = pydoc.render_doc(TapMixpanelParallel, renderer=pydoc.plaintext)
    assert " events(self) -> " in tap
    assert " arrow(self) -> " in tap
