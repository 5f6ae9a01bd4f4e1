"""Properties as columns: the same values in every form, in every loader, after any change."""

from __future__ import annotations

import json
import logging
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import yaml  # type: ignore[import-untyped]
from singer_sdk.exceptions import ConfigValidationError

from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tests.support import columns
from tests.support.columns import COLUMNS
from tests.support.commands import BIN, PATIENCE, environment
from tests.support.expected import AS_OF
from tests.support.files import batch_config, manifest, rows_in
from tests.support.harness import Body, Lab, body
from tests.support.meltano import MeltanoRun, tap_environment
from tests.support.pipeline import CollectingTap, Pipeline, noon
from tests.support.poison import DAY, SANE
from tests.support.projects import access_to
from tests.support.recipes import recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

NAMES = [column["name"] for column in COLUMNS]
DAYS = {"start_date": str(DAY), "end_date": str(DAY)}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A project of one day: the poison, and an event for each value."""
    with Sandbox(Project(), limits=None, as_of=lambda: AS_OF) as sandbox:
        sandbox.faults = [Fault(Body(body([*SANE.values(), *columns.lines()])))]
        yield sandbox


def as_held(row: dict[str, Any]) -> tuple[Any, ...]:
    """The columns' values in the form of `columns.rows`."""
    values = {name: row[name] for name in NAMES}
    moment, text = values["of_date_time"], values["of_json"]
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if moment is not None:
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        values["of_date_time"] = (aware - EPOCH) // timedelta(milliseconds=1)
    values["of_json"] = None if text is None else text.encode()
    return tuple(values.values())


def of_values(rows: Iterable[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    return {row["insert_id"]: as_held(row) for row in rows if row["event"] == "value"}


@pytest.mark.parametrize("properties_format", ["object", "string"])
@pytest.mark.parametrize("form", ["fast", "mapped", "jsonl", "parquet", "parquet by processes"])
def test_every_form_has_the_same_values(
    sandbox: Sandbox, tmp_path: Path, form: str, properties_format: str
) -> None:
    config: dict[str, Any] = {
        **access_to(sandbox),
        **DAYS,
        "properties_format": properties_format,
        "property_columns": COLUMNS,
    }
    if form == "mapped":
        config |= {"stream_maps": {"events": {"one": "1"}}}
    elif form != "fast":
        config |= batch_config(form.partition(" ")[0], tmp_path)
        config |= {"processes": 2 if "processes" in form else 1}
    tap = CollectingTap(config=config)

    result = tap.run()

    records = [each["record"] for each in tap.messages if each["type"] == "RECORD"]
    rows = records or [row for path in manifest(tap.messages) for row in rows_in(path)]
    assert of_values(rows) == columns.rows()
    assert len(rows) == len(SANE) + len(columns.VALUES)
    assert result.misfits == columns.misfits()


@pytest.mark.parametrize("way", ["events", "arrow"])
def test_a_program_gets_them_too(sandbox: Sandbox, way: str) -> None:
    config = {**access_to(sandbox), **DAYS, "property_columns": COLUMNS}
    tap = CollectingTap(config=config)

    rows = list(tap.events()) if way == "events" else tap.arrow().read_all().to_pylist()

    assert of_values(rows) == columns.rows()


def test_the_schema_and_the_catalog_have_the_columns(sandbox: Sandbox) -> None:
    tap = CollectingTap(config={**access_to(sandbox), **DAYS, "property_columns": COLUMNS})
    tap.run()
    schema = tap.messages[0]["schema"]["properties"]
    assert {name: schema[name] for name in NAMES} == {
        "of_string": {"type": ["string", "null"], "description": "The property 'string'"},
        "of_number": {"type": ["number", "null"], "description": "The property 'number'"},
        "of_integer": {
            "type": ["integer", "null"],
            "minimum": -(2**63),
            "maximum": 2**63 - 1,
            "description": "The property 'integer'",
        },
        "of_boolean": {"type": ["boolean", "null"], "description": "The property 'boolean'"},
        "of_date_time": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "The property 'date-time'",
        },
        "of_json": {"oneOf": [{"type": "object"}, {"type": "string"}, {"type": "null"}]},
    }
    [stream] = tap.catalog_dict["streams"]
    assert list(stream["schema"]["properties"])[7:] == NAMES
    assert set(NAMES) < {name for each in stream["metadata"] for name in each["breadcrumb"][1:]}


@pytest.mark.parametrize("maps", [{"same": "event"}, {"one": "1"}, {"copy": "of_json"}, None])
@pytest.mark.parametrize("properties_format", ["object", "string"])
def test_a_column_of_json_may_be_null_once(
    sandbox: Sandbox, maps: dict[str, str] | None, properties_format: str
) -> None:
    config = {"property_columns": COLUMNS, "properties_format": properties_format}
    more = {"stream_maps": {"events": maps}} if maps else {}
    tap = CollectingTap(config={**access_to(sandbox), **DAYS, **config, **more})

    tap.run()

    schema = tap.messages[0]["schema"]["properties"]
    for name in {"of_json", "copy"} & schema.keys():
        assert schema[name]["oneOf"].count({"type": "null"}) == 1


@pytest.mark.parametrize("form", ["record", "jsonl", "parquet"])
def test_a_deselected_column_is_absent_and_the_fast_path_serves(
    sandbox: Sandbox, tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = {**access_to(sandbox), **DAYS, "property_columns": COLUMNS}
    config |= {} if form == "record" else batch_config(form, tmp_path)
    catalog = CollectingTap(config=config).catalog_dict
    for each in catalog["streams"][0]["metadata"]:
        if each["breadcrumb"][-1:] in (["of_number"], ["of_json"]):
            each["metadata"]["selected"] = False
    tap = CollectingTap(config=config, catalog=catalog)

    result = tap.run()

    records = [each["record"] for each in tap.messages if each["type"] == "RECORD"]
    rows = records or [row for path in manifest(tap.messages) for row in rows_in(path)]
    left = [name for name in NAMES if name not in {"of_number", "of_json"}]
    assert list(rows[-1])[7:] == left
    assert [n for n in tap.messages[0]["schema"]["properties"] if n in NAMES] == left
    assert "of_number" not in result.misfits
    assert form != "record" or "the fast record path serves" in caplog.text


@pytest.mark.parametrize("properties_format", ["object", "string"])
def test_flattening_makes_no_column_and_leaves_those_that_are_chosen(
    sandbox: Sandbox, properties_format: str
) -> None:
    flat = {"flattening_enabled": True, "flattening_max_depth": 3}
    config = {"property_columns": COLUMNS, "properties_format": properties_format, **flat}
    tap = CollectingTap(config={**access_to(sandbox), **DAYS, **config})

    tap.run()

    records = [each["record"] for each in tap.messages if each["type"] == "RECORD"]
    assert of_values(records) == columns.rows()
    assert list(records[-1])[7:] == NAMES
    assert all(isinstance(record["properties"], str) for record in records)


def test_a_column_that_is_computed() -> None:
    """By the recipe, which also sees the chosen columns."""
    config = json.loads(recipe("computed")) | json.loads(recipe("columns"))
    config["stream_maps"]["events"] |= {"upper": "title and title.upper()"}
    with Sandbox(Project(events_per_day=50), limits=None, as_of=lambda: AS_OF) as sandbox:
        tap = CollectingTap(config={**access_to(sandbox), **DAYS, **config})
        tap.run()
    records = [each["record"] for each in tap.messages if each["type"] == "RECORD"]
    assert any(record["revenue"] for record in records)
    for record in records:
        properties = record["properties"]
        assert record["os"] == properties["$os"]
        assert record["revenue"] == float(properties.get("price") or 0)
        assert record["title"] == properties.get("Page Title")
        assert record["upper"] == (record["title"] and record["title"].upper())
        assert record["is_employee"] == properties["Is Employee"]


@pytest.mark.parametrize("where", ["--discover", "--about"])
def test_what_is_not_valid_is_one_error_and_no_traceback(where: str, tmp_path: Path) -> None:
    config = {"region": "sandbox", "start_date": "P1D", "property_columns": ["$os", "OS", 7]}
    with pytest.raises(ConfigValidationError, match="would all be the column os"):
        CollectingTap(config=config)
    path = tmp_path / "tap.json"
    path.write_text(json.dumps(config))
    command = [str(BIN / "tap-mixpanel-parallel"), "--config", str(path)]
    done = subprocess.run(
        [*command, where], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert "Traceback" not in done.stderr


class TestChanged:
    """Columns that are chosen later, under a saved state."""

    CHOSEN: dict[str, Any] = {"property_columns": ["$os", "Plan"]}  # noqa: RUF012

    def test_the_run_goes_on_and_says_what_fills_them(
        self, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
    ) -> None:
        pipeline.run(lookback_days=2)
        run = pipeline.run(**self.CHOSEN, lookback_days=2)
        line = (
            "property_columns: empty on days that were loaded without them, until a run with "
            "--replay 2025-01-01..2025-01-17: os, plan on 17 days, 2025-01-01..2025-01-17"
        )
        assert [r.getMessage() for r in caplog.records if "property_columns" in r.getMessage()] == [
            line
        ]
        assert run.read == ["2025-01-18..2025-01-20"]
        assert {"os", "plan"} <= run.records[0].keys()

        caplog.clear()
        filled = pipeline.run(**self.CHOSEN, lookback_days=2, replay="2025-01-01..2025-01-17")
        assert filled.read == ["2025-01-01..2025-01-20"]
        pipeline.run_on(noon("2025-01-21"), **self.CHOSEN, lookback_days=2)
        assert "property_columns" not in caplog.text
        for record in pipeline.records.values():
            assert record["os"] == record["properties"].get("$os")

    def test_the_first_state_tells_of_them(self, pipeline: Pipeline) -> None:
        """A loader may report no other."""
        pipeline.run()
        tap = CollectingTap(
            config={
                **access_to(pipeline.sandbox),
                **self.CHOSEN,
                "start_date": "2025-01-01",
                "requests_per_second": 1000,
                "requests_per_hour": 1_000_000,
            },
            state=pipeline.state,
            clock=pipeline.clock,
        )
        tap.run()
        first = next(each["value"] for each in tap.messages if each["type"] == "STATE")
        assert first["bookmarks"]["events"]["columns"] == [
            {"name": "os", "property": "$os", "type": "string", "chosen": True, "days": []},
            {"name": "plan", "property": "Plan", "type": "string", "chosen": True, "days": []},
        ]

    def test_a_column_that_is_removed_and_chosen_again(
        self, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
    ) -> None:
        pipeline.run(**self.CHOSEN, lookback_days=2)
        pipeline.run(lookback_days=2)
        pipeline.run_on(noon("2025-01-30"), lookback_days=2)
        assert "property_columns" not in caplog.text
        pipeline.run(**self.CHOSEN, lookback_days=2)
        assert "--replay 2025-01-18..2025-01-27: os, plan on 10 days, 2025-01-18" in caplog.text


LOADERS = ["target-duckdb", "RECORD", "jsonl", "parquet"]


@pytest.mark.slow
@pytest.mark.parametrize("way", LOADERS)
def test_each_loader_in_duckdb_has_the_same_table(
    sandbox: Sandbox, tmp_path: Path, way: str
) -> None:
    lab = Lab(tmp_path, sandbox)
    lab.settings |= {**DAYS, "property_columns": COLUMNS}
    if way in {"jsonl", "parquet"}:
        lab.settings |= batch_config(way, tmp_path / "files")
    out = lab.run()
    assert out.code == 0, out.errors
    assert f"of_boolean {columns.misfits()['of_boolean']}, of_date_time" in out.errors
    loader = [str(BIN / (way if way in LOADERS[:1] else "target-duckdb-batch")), *lab.target()[1:]]

    done = subprocess.run(
        loader,
        input=out.text,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stderr.decode()
    with duckdb.connect(str(lab.database)) as connection:
        types = connection.execute(
            "select column_name, data_type from information_schema.columns "
            "where table_name = 'events'"
        ).fetchall()
        found = connection.execute(
            "select insert_id, event, of_string, of_number, of_integer, of_boolean, "
            "epoch_ms(of_date_time), of_json::varchar from mixpanel.events where event = 'value'"
        ).fetchall()
    assert {name: kind for name, kind in types if name in NAMES} == {
        "of_string": "VARCHAR",
        "of_number": "DOUBLE",
        "of_integer": "BIGINT",
        "of_boolean": "BOOLEAN",
        "of_date_time": "TIMESTAMP",
        "of_json": "JSON",
    }
    table = {row[0]: (*row[2:7], row[7] and row[7].encode()) for row in found}
    # target-duckdb makes null of an empty text, and the other loader does as it does.
    wanted = {key: (row[0] or None, *row[1:]) for key, row in columns.rows().items()}
    assert table == wanted


@pytest.mark.slow
@pytest.mark.parametrize("way", ["target-duckdb", "RECORD", "parquet"])
def test_a_loader_adds_a_column_that_is_chosen_later(
    pipeline: Pipeline, tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the replay that the run names fills it."""
    lab = Lab(tmp_path, pipeline.sandbox)
    loader = [str(BIN / (way if way == LOADERS[0] else "target-duckdb-batch")), *lab.target()[1:]]
    state: dict[str, Any] = {}

    def load(last: str, **settings: Any) -> list[tuple[Any, ...]]:
        """Load up to a day; the rows with both columns, and those with neither, by day."""
        nonlocal state
        files = batch_config(way, tmp_path / "files") if way == "parquet" else {}
        days = {"start_date": "2025-01-01", "end_date": last, "lookback_days": 0}
        limits = {"requests_per_second": 1000, "requests_per_hour": 1_000_000}
        config = {**access_to(pipeline.sandbox), **limits, **days, **files, **settings}
        tap = CollectingTap(config=config, state=state, clock=pipeline.clock)
        tap.run()
        done = subprocess.run(
            loader,
            input="".join(json.dumps(message) + "\n" for message in tap.messages),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        state = json.loads(done.stdout.splitlines()[-1])
        if not settings:
            return []
        with duckdb.connect(str(lab.database), read_only=True) as connection:
            return connection.execute(
                """
                select day(time), bool_and(os = (properties->>'$."$os"') and price is not distinct
                  from try_cast(properties->>'$.price' as double)), count(os) + count(price)
                from mixpanel.events group by 1 order by 1
                """
            ).fetchall()

    chosen = {"property_columns": ["$os", {"property": "price", "type": "number"}]}
    load("2025-01-02")

    later = load("2025-01-03", **chosen)
    assert "until a run with --replay 2025-01-01..2025-01-02: os, price on 2 days" in caplog.text
    assert [(day, count > 0) for day, _, count in later] == [(1, False), (2, False), (3, True)]
    assert later[2][1]
    caplog.clear()

    filled = load("2025-01-03", **chosen, replay="2025-01-01..2025-01-02")
    assert "property_columns" not in caplog.text
    assert [(day, same) for day, same, _ in filled] == [(1, True), (2, True), (3, True)]


@pytest.mark.slow
def test_meltano_takes_the_word_and_a_list(meltano_project: Path) -> None:
    manifest = meltano_project / "meltano.yml"
    before = manifest.read_text()
    project = yaml.safe_load(before)
    (tap,) = project["environments"][0]["config"]["plugins"]["extractors"]
    tap["config"]["property_columns"] = ["$os", {"property": "Plan", "name": "tier"}]
    with Sandbox(Project(events_per_day=20), limits=None, as_of=lambda: AS_OF) as sandbox:
        settings = tap_environment(sandbox, **DAYS)
        word = {"TAP_MIXPANEL_PARALLEL_PROPERTY_COLUMNS": "standard"}
        run = MeltanoRun(meltano_project, "columns")
        try:
            manifest.write_text(yaml.safe_dump(project))
            runs = [run(settings | more, "--full-refresh") for more in (word, {})]
        finally:
            manifest.write_text(before)
    assert [done.returncode for done in runs] == [0, 0], [done.stderr for done in runs]
    with duckdb.connect(str(run.database)) as connection:
        found = connection.execute(
            "select count(*) > 0, count(os) > 0, count(tier) > 0, count(utm_source) > 0, "
            """bool_and(os = (properties->>'$."$os"')), bool_and(tier = (properties->>'$.Plan')) """
            "from mixpanel.events"
        ).fetchone()
    assert found == (True,) * 6
