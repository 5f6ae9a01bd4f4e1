"""Files hold what RECORD messages hold, however the run goes, and every reader finds it there."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tap_mixpanel_parallel.convert.times import format_utc
from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tests.support.files import FORMATS, as_event, batch_config, events_of, exact, manifest
from tests.support.harness import Body, body
from tests.support.pipeline import CollectingTap, FrozenClock
from tests.support.poison import DAY, POISON
from tests.support.projects import access_to
from tests.target_duckdb_batch.harness import NEWEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.files import Event

PROJECT: Final = Project(seed=5, events_per_day=40)
NOW: Final = datetime(2025, 3, 1, 12, tzinfo=UTC)
LATER: Final = NOW.replace(hour=13)
DAYS: Final = {"start_date": "2025-01-06", "end_date": "2025-01-15", "window_days": 3}


class Runs:
    """Runs of the tap against a sandbox, each with the state that the last one left."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.state: dict[str, Any] = {}
        self.clock = FrozenClock(NOW)

    def __call__(
        self, *, catalog: dict[str, Any] | None = None, **settings: Any
    ) -> list[dict[str, Any]]:
        config = {
            **access_to(self.sandbox),
            **DAYS,
            "properties_format": "string",
            "requests_per_second": 1000,
            "requests_per_hour": 1_000_000,
            "max_attempts": 1,
        }
        tap = CollectingTap(
            config=config | settings,
            state=json.loads(json.dumps(self.state)),
            catalog=catalog,
            clock=self.clock,
        )
        try:
            tap.run()
        finally:
            self.state = next(m for m in reversed(tap.messages) if m["type"] == "STATE")["value"]
        return tap.messages


@contextmanager
def runs_of(*faults: Fault, project: Project = PROJECT) -> Iterator[Runs]:
    with Sandbox(project, limits=None, as_of=lambda: NOW, faults=faults) as sandbox:
        yield Runs(sandbox)


@pytest.fixture
def runs() -> Iterator[Runs]:
    with runs_of() as started:
        yield started


def records_of(messages: list[dict[str, Any]]) -> list[Event]:
    return [as_event(message["record"]) for message in messages if message["type"] == "RECORD"]


def in_order(events: list[Event]) -> list[Event]:
    return sorted(events, key=lambda event: str(sorted(event.items(), key=str)))


def types(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


POISONED: Final = {"start_date": str(DAY), "end_date": str(DAY)}


@pytest.fixture(scope="module")
def poisoned() -> Iterator[Runs]:
    with runs_of(Fault(Body(body(POISON.values())))) as runs:
        yield runs


@pytest.fixture(scope="module")
def records(poisoned: Runs) -> list[Event]:
    poisoned.state = {}
    found = records_of(poisoned(**POISONED))
    assert len(found) == len(POISON)
    return found


@pytest.fixture(scope="module")
def parquet(poisoned: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    poisoned.state = {}
    root = tmp_path_factory.mktemp("root")
    (path,) = manifest(poisoned(**POISONED, **batch_config("parquet", root)))
    return path


READ_BY_DUCKDB: Final = """
import duckdb, json, sys
duckdb.sql("set TimeZone = 'UTC'")
events = duckdb.read_parquet(sys.argv[1])
rows = duckdb.sql(
    "select * exclude (time, processed_at, properties), epoch_ms(time) as time,"
    " epoch_ms(processed_at) as processed_at, properties::varchar as properties"
    " from events"
)
kinds = "select typeof(time), typeof(properties) from events limit 1"
(types,) = duckdb.sql(kinds).fetchall()
json.dump([types, duckdb.__version__, rows.columns, rows.fetchall()], sys.stdout)
"""


class TestPoison:
    """Legal events that crash loaders."""

    @pytest.mark.parametrize("form", FORMATS)
    def test_each_format_holds_the_same(
        self, poisoned: Runs, records: list[Event], tmp_path: Path, form: str
    ) -> None:
        poisoned.state = {}
        messages = poisoned(**POISONED, **batch_config(form, tmp_path))

        assert events_of(messages) == records

    def test_polars_reads_it(self, parquet: Path, records: list[Event]) -> None:
        frame = pl.read_parquet(parquet)

        assert frame.schema["time"] == pl.Datetime("ms", "UTC")
        assert frame.schema["properties"] == pl.String
        assert [exact(row) for row in frame.iter_rows(named=True)] == records

    @pytest.mark.parametrize("version", ["oldest", "newest"])
    def test_duckdb_reads_it(self, parquet: Path, records: list[Event], version: str) -> None:
        if version == "newest" and not NEWEST.is_dir():
            pytest.skip(f"{NEWEST} is made by `make`")
        path = {"PYTHONPATH": str(NEWEST)} if version == "newest" else {}
        done = subprocess.run(
            [sys.executable, "-c", READ_BY_DUCKDB, str(parquet)],
            env=path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        kinds, read_by, names, rows = json.loads(done.stdout)

        assert read_by.startswith("1.2.") is (version == "oldest"), read_by
        assert kinds == ["TIMESTAMP WITH TIME ZONE", "JSON"]
        found = []
        for row in rows:
            event = dict(zip(names, row, strict=True))
            for name in ("time", "processed_at"):
                event[name] = None if event[name] is None else format_utc(event[name])
            found.append(as_event(event))
        assert found == records

    def test_its_types(self, parquet: Path) -> None:
        schema = pq.read_schema(parquet)

        assert schema.field("event_id").type == pa.string()
        assert schema.field("properties").type in {pa.string(), pa.json_()}  # by its version
        assert schema.field("time").type == pa.timestamp("ms", "UTC")
        assert schema.field("processed_at").type == pa.timestamp("ms", "UTC")
        assert str(pq.ParquetFile(parquet).schema.column(6).logical_type) == "JSON"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("properties_format", ["object", "string"])
def test_a_window_is_one_message_and_then_its_state(
    runs: Runs, tmp_path: Path, form: str, properties_format: str
) -> None:
    messages = runs(**batch_config(form, tmp_path), properties_format=properties_format)

    windows = len(runs.sandbox.requests)
    assert windows == 4
    assert types(messages) == ["SCHEMA", "STATE", *["BATCH", "STATE"] * windows, "STATE"]
    compression = {"parquet": "zstd", "jsonl": "gzip"}[form]
    for message in messages:
        if message["type"] == "BATCH":
            assert message["stream"] == "events"
            assert message["encoding"] == {"format": form, "compression": compression}
            assert len(message["manifest"]) == 1
    assert sorted(manifest(messages)) == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_has_so_many_records_at_most(runs: Runs, tmp_path: Path, form: str) -> None:
    records = records_of(runs(window_days=10))
    runs.state = {}

    messages = runs(**batch_config(form, tmp_path, batch_size=150), window_days=10)

    assert len(manifest(messages)) == -(-len(records) // 150)
    assert types(messages).count("BATCH") == 1
    assert events_of(messages) == records


@pytest.mark.parametrize("form", FORMATS)
def test_a_window_without_events_has_no_file(tmp_path: Path, form: str) -> None:
    with runs_of(Fault(Body(b""))) as runs:
        messages = runs(**batch_config(form, tmp_path))

    assert types(messages) == ["SCHEMA", "STATE", *["STATE"] * 5]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMATS)
def test_deselected_fields_are_left_out(runs: Runs, tmp_path: Path, form: str) -> None:
    catalog = json.loads(CollectingTap(config={"region": "sandbox", **DAYS}).catalog_json_text)
    for entry in catalog["streams"][0]["metadata"]:
        if entry["breadcrumb"] and entry["breadcrumb"][-1] in {"properties", "processed_at"}:
            entry["metadata"]["selected"] = False
    records = records_of(runs(catalog=catalog))
    runs.state = {}

    messages = runs(catalog=catalog, **batch_config(form, tmp_path))

    assert events_of(messages) == records
    assert list(records[0]) == ["event_id", "event", "time", "distinct_id", "insert_id"]
    (schema,) = (message["schema"] for message in messages if message["type"] == "SCHEMA")
    assert list(schema["properties"]) == list(records[0])
    assert schema["x-key-determines"] == "time"
    assert "x-newest-by" not in schema


@pytest.mark.parametrize("is_given", [False, True])
def test_the_schema_tells_what_a_key_settles(runs: Runs, is_given: bool) -> None:
    tap = CollectingTap(config={"region": "sandbox", **DAYS})
    catalog = json.loads(tap.catalog_json_text) if is_given else None

    (schema,) = (m["schema"] for m in runs(catalog=catalog) if m["type"] == "SCHEMA")

    assert schema["x-key-determines"] == "time"
    assert schema["x-newest-by"] == "processed_at"


def test_a_stream_map_takes_that_back(runs: Runs) -> None:
    messages = runs(stream_maps={"events": {"time": "'2025-01-01'"}})

    (schema,) = (message["schema"] for message in messages if message["type"] == "SCHEMA")
    assert "x-key-determines" not in schema


BROKEN: Final = date(2025, 1, 10)
BAD: Final = b"half a li\n"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("faults", "settings"),
    [
        pytest.param(["status=500,days=2025-01-10"], {}, id="failed window"),
        pytest.param(["cut,clean,days=2025-01-10"], {}, id="cut"),
        pytest.param(["half_line,days=2025-01-10"], {"on_failed_window": "warn"}, id="warned"),
        pytest.param([], {"deduplicate": True}, id="deduplicate"),
        pytest.param([], {"replay": "2025-01-08..2025-01-09"}, id="replay"),
        pytest.param(["quarantine"], {"on_malformed_line": "quarantine"}, id="quarantine"),
    ],
)
def test_each_run_does_what_it_does_with_records(
    tmp_path: Path, form: str, faults: list[str], settings: dict[str, Any]
) -> None:
    """The events, the days that count as loaded, and the days of the run after it."""
    given = [
        Fault(Body(BAD + body(PROJECT.lines(BROKEN, as_of=NOW))), days=(BROKEN, BROKEN))
        if text == "quarantine"
        else Fault.parse(text)
        for text in faults
    ]
    outcomes = []
    project = PROJECT
    root = tmp_path / "root"
    settings |= {"spool_dir": str(tmp_path)}
    for more in ({}, batch_config(form, root)):
        with runs_of(*given, project=project) as runs:
            first = runs(**settings, **more)
            runs.sandbox.faults = []
            second = runs(**settings, **more)
            bookmark = runs.state["bookmarks"]["events"] | {"stored": None, "requests": []}
            read = [str(request.from_date) for request in runs.sandbox.requests]
        for failure in bookmark["partitions"]:
            del failure["failed_at"]
        of = events_of if more else records_of
        outcomes.append(
            (in_order(of(first)), in_order(of(second)), bookmark, read, quarantined(tmp_path))
        )
        if more:
            announced = {path.name for path in manifest([*first, *second])}
            assert {path.name for path in root.iterdir()} == announced

    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0]


def quarantined(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.glob("*quarantine*")}


class TestWhatIsLeftBehind:
    """A later run removes what no loader has confirmed, and nothing else."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "root" / "deep"

    def names(self, root: Path) -> set[str]:
        return {path.name for path in root.iterdir()}

    def test_a_run_whose_states_were_lost(self, runs: Runs, root: Path) -> None:
        lost = manifest(runs(**batch_config("jsonl", root)))
        runs.state = {}
        runs.clock.moment = LATER

        found = manifest(runs(**batch_config("jsonl", root)))

        assert not {*lost} & {*found}, "they would be overwritten"
        assert lost
        assert self.names(root) == {path.name for path in found}

    def test_what_came_after_the_last_state(self, runs: Runs, root: Path) -> None:
        messages = runs(**batch_config("jsonl", root))
        states = [message["value"] for message in messages if message["type"] == "STATE"]
        files = manifest(messages)
        runs.state = states[2]  # two windows are loaded
        runs.clock.moment = LATER

        again = runs(**batch_config("jsonl", root))

        assert self.names(root) == {path.name for path in [*files[:2], *manifest(again)]}
        assert in_order(events_of([*messages[:6], *again])) == in_order(records_after(runs))

    def test_what_is_loaded_stays(self, runs: Runs, root: Path) -> None:
        files = manifest(runs(**batch_config("jsonl", root)))
        for _ in range(2):
            files += manifest(runs(**batch_config("jsonl", root), replay="2025-01-08"))

        assert len(files) == 6
        assert self.names(root) == {path.name for path in files}

    def test_a_clock_that_went_back(self, runs: Runs, root: Path) -> None:
        files = manifest(runs(**batch_config("jsonl", root)))
        runs.clock.moment = NOW.replace(hour=1)

        files += manifest(runs(**batch_config("jsonl", root), replay="2025-01-08"))
        lost = manifest(runs(**batch_config("jsonl", root), replay="2025-01-08"))

        assert lost[0] > files[-1] > files[-2]
        assert self.names(root) == {path.name for path in [*files, *lost]}

    @pytest.mark.parametrize(
        "other",
        [{"events": ["Sign Up"]}, {"where": 'properties["x"] == 1'}, {"project_timezone": "Japan"}],
        ids=str,
    )
    def test_of_other_taps_stays(self, runs: Runs, root: Path, other: dict[str, Any]) -> None:
        runs(**batch_config("jsonl", root), **other)
        theirs = self.names(root)
        (root / "events.parquet").touch()
        runs.state = {}

        ours = manifest(runs(**batch_config("jsonl", root)))

        assert self.names(root) == theirs | {p.name for p in ours} | {"events.parquet"}

    def test_of_another_prefix_stays(self, runs: Runs, root: Path) -> None:
        theirs = manifest(runs(**batch_config("jsonl", root, prefix="a-")))
        runs.state = {}

        ours = manifest(runs(**batch_config("jsonl", root, prefix="b-")))

        assert self.names(root) == {path.name for path in [*theirs, *ours]}


def records_after(runs: Runs) -> list[Event]:
    runs.state = {}
    return records_of(runs())


def test_trying_the_settings_makes_no_file(runs: Runs, tmp_path: Path) -> None:
    root = tmp_path / "none"
    config = {**access_to(runs.sandbox), **DAYS, **batch_config("parquet", root)}
    assert CollectingTap(config=config).run_connection_test()
    assert not root.exists()


@pytest.mark.parametrize("form", FORMATS)
def test_a_root_of_any_storage(runs: Runs, form: str) -> None:
    storage = MemoryFileSystem()
    config = {"encoding": {"format": form}, "storage": {"root": f"memory://events-{form}/x"}}
    lost = runs(batch_config=config)
    runs.state = {}

    messages = runs(batch_config=config)

    urls = [url for m in messages if m["type"] == "BATCH" for url in m["manifest"]]
    assert len(urls) == types(lost).count("BATCH") == 4
    found = storage.ls(f"/events-{form}/x", detail=False)
    assert sorted(url.removeprefix("memory:/") for url in urls) == sorted(found)
    with storage.open(found[0]) as file:
        assert file.read(4)[:2] in {b"PA", b"\x1f\x8b"}


def test_a_window_that_is_stored_in_part_is_removed(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file = MemoryFileSystem.put_file

    def put_first(self: MemoryFileSystem, file: str, name: str) -> None:
        if ".0001." in name:
            raise PermissionError("denied")
        put_file(self, file, name)

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_first)
    encoding, storage = {"format": "jsonl"}, {"root": "memory://in-part"}
    messages = runs(batch_config={"encoding": encoding, "storage": storage, "batch_size": 10})

    assert types(messages).count("BATCH") == 0
    assert MemoryFileSystem().ls("/in-part") == []


def test_a_storage_that_fails_is_one_clear_error(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError("denied\nby policy at http://me:p@ssw0rd@host/x")

    config = {"encoding": {"format": "jsonl"}, "storage": {"root": "memory://failing"}}
    monkeypatch.setattr(MemoryFileSystem, "put_file", fail)
    messages = runs(batch_config=config)
    (failure,) = {p["error"] for p in runs.state["bookmarks"]["events"]["partitions"]}
    assert types(messages).count("BATCH") == 0
    assert failure.startswith("batch_config.storage.root: events-")
    assert "can't be stored: PermissionError: denied by policy at http://***@host/x" in failure

    monkeypatch.setattr(MemoryFileSystem, "ls", fail)
    with pytest.raises(TapError, match=r"root: memory://failing: can't be read: Permission"):
        runs(batch_config=config)
