"""What a user can cause ends in one line that names the thing and the remedy, and exit code 1."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from singer_sdk.plugin_base import _ConfigInput

from target_duckdb_batch.database import Database
from target_duckdb_batch.errors import DatabaseError
from target_duckdb_batch.target import TargetDuckDBBatch
from tests.target_duckdb_batch.harness import (
    EVENTS,
    LOADER,
    NEWEST,
    TEXT,
    WHOLE,
    batch,
    environment,
    event,
    lines_of,
    record,
    schema,
    state,
    write_parquet,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.target_duckdb_batch.harness import Lab

HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_a_database_that_another_process_has_open(lab: Lab, python_path: str) -> None:
    path = write_parquet(lab.folder / "a.parquet", [event(1)])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lab.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(PYTHONPATH=python_path),
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        ended = lab.run(EVENTS, batch([path]), state(1), python_path=python_path)
        assert ended.code == 1
        assert f"filepath: {lab.path} is open in process {holder.pid} (" in ended.error
        assert "close it there, and run again" in ended.error
        assert holder.stdin is not None
        holder.stdin.close()
    assert path.exists()
    assert lab.run(EVENTS, batch([path]), state(1), python_path=python_path).states == [1]


def _directory(folder: Path) -> Path:
    return folder


def _text(folder: Path) -> Path:
    path = folder / "notes.txt"
    path.write_text("hello, this is no database\n" * 500)
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_directory, "is a directory; give the path of a file"),
        (lambda folder: folder / "no" / "a.duckdb", "there is no directory "),
        (_text, "is not a DuckDB file; give another path, or move it away"),
        (lambda _: "/proc/a.duckdb", "can't be opened for writing: "),
        (lambda _: ":memory:", "is not a local file"),
        (lambda _: "md:events", "is not a local file"),
    ],
)
def test_a_path_that_is_no_database(lab: Lab, make: Any, says: str, python_path: str) -> None:
    ended = lab.run(EVENTS, state(1), python_path=python_path, filepath=str(make(lab.folder)))
    assert (ended.code, ended.states) == (1, [])
    assert ended.error.startswith("filepath: ")
    assert says in ended.error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_path_that_is_not_writable(lab: Lab) -> None:
    lab.folder.chmod(0o500)
    ended = lab.run(EVENTS, state(1))
    lab.folder.chmod(0o700)
    assert "can't be opened for writing" in ended.error


@pytest.mark.skipif(not NEWEST.is_dir(), reason="the newest DuckDB is made by `make`")
@pytest.mark.skipif(duckdb.__version__ >= "1.3", reason="this is no old DuckDB")
def test_a_file_of_a_later_duckdb(lab: Lab) -> None:
    script = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('CREATE TABLE a (b INT)')"
    subprocess.run(
        [sys.executable, "-c", script, str(lab.path)],
        env=environment(PYTHONPATH=str(NEWEST)),
        check=True,
    )
    ended = lab.run(EVENTS)
    assert "which can't read it; install a later DuckDB: " in ended.error


def test_all_problems_of_the_settings_at_once(lab: Lab) -> None:
    ended = lab.run(
        filepath="", memory_limit="lots", schema_mapping={"x": {}}, temp_dir="/nowhere", token="t"
    )
    problems = [line for line in ended.errors.splitlines() if "| ERROR " in line]
    assert ended.code == 1
    assert "Traceback" not in ended.errors
    for name in ("filepath", "memory_limit", "schema_mapping", "temp_dir", "token"):
        assert sum(f"| {name}: " in problem for problem in problems) == 1


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"batch_size_rows": 0}, "batch_size_rows: 0 is less than the minimum of 1"),
        ({"delete_batch_files": "no"}, "delete_batch_files: 'no' is not of type 'boolean'"),
        ({"settings": {"threads": "many"}}, "settings: threads = 'many': "),
        ({"settings": {"thread": 1}}, "settings: thread = 1: "),
        ({"memory_limit": "1MB"}, "memory_limit: 1MB is not enough"),
    ],
)
def test_a_setting_that_is_not_valid(lab: Lab, setting: Any, says: str, python_path: str) -> None:
    ended = lab.run(EVENTS, record(event(1)), python_path=python_path, **setting)
    assert ended.code == 1
    assert says in ended.error


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("storage_options", '{"secret": "the-secret"', "STORAGE_OPTIONS holds is not valid: "),
        ("schema_mapping", "the-secret", "SCHEMA_MAPPING holds is not valid: "),
        ("batch_size_rows", "many", "BATCH_SIZE_ROWS holds is not valid: "),
        ("delete_batch_files", "the-secret", "DELETE_BATCH_FILES holds is neither true nor false"),
    ],
)
def test_an_environment_variable_that_is_not_valid(
    lab: Lab, name: str, text: str, says: str
) -> None:
    variables = {"TARGET_DUCKDB_BATCH_" + name.upper(): text}
    done = subprocess.run(
        [LOADER, "--config", "ENV"],
        input=b"",
        capture_output=True,
        timeout=60,
        check=False,
        env=environment(TARGET_DUCKDB_BATCH_FILEPATH=str(lab.path), **variables),
    )
    log = done.stderr.decode()
    (problem,) = [line for line in log.splitlines() if "| ERROR " in line]
    assert done.returncode == 1
    assert f"| {name}: what TARGET_DUCKDB_BATCH_{says}" in problem
    assert "Traceback" not in log
    assert "the-secret" not in log


def test_storage_options_that_are_nearly_json_are_not_quoted(lab: Lab) -> None:
    ended = lab.run(EVENTS, storage_options='{"secret": "the-secret"')
    assert ended.error.startswith("storage_options: is not an object")
    assert "the-secret" not in ended.errors


def test_settings_that_do_nothing_are_named(lab: Lab) -> None:
    ended = lab.run(EVENTS, flush_all_streams=True, file_path="x")
    assert ended.code == 0
    assert "flush_all_streams has no effect: it is a setting of target-duckdb only" in ended.errors
    assert "file_path is not a setting, and has no effect" in ended.errors


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_a_configuration_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "target.json"
    if content is not None:
        path.write_text(content)
    done = subprocess.run(
        [LOADER, "--config", str(path)],
        input=b"",
        capture_output=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert done.returncode == 1
    assert f"config: {path} can't be read: ".encode() in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"hello", "line 2 of the input is not a Singer message"),
        (b" \n", "line 2 of the input is not a Singer message: it is empty"),
        (b'{"type": "RECORD", "stream": "events", "rec', "was the tap killed?"),
        (b"[]", "line 2 of the input is not a Singer message"),
        (b"{}", "line 2 of the input is not a Singer message"),
        (
            b'{"type": "NEWS"}',
            "line 2 of the input is not a Singer message: there is no type 'NEWS'",
        ),
        (b'{"type": "RECORD", "stream": "events", "record": 1}', "stream events: a record can't"),
        (b'{"type": "RECORD", "stream": "events"}', "record"),
        (b'{"type": "RECORD", "record": {}}', "stream"),
        (b'{"type": "STATE"}', "value"),
        (b'{"type": "BATCH", "stream": "events"}', "manifest"),
        (json.dumps(record({}, "other")).encode(), "'other'"),
        (json.dumps(batch([], stream="other")).encode(), "'other'"),
        (b'{"type": "ACTIVATE_VERSION", "stream": "other", "version": 1}', "'other'"),
        (b'{"type": "SCHEMA", "stream": "x", "schema": {}}', "properties"),
        (b'{"type": "SCHEMA", "stream": "x", "schema": {"properties": {}}}', "declares no field"),
        (b'{"type": "SCHEMA", "stream": "x", "schema": []}', "properties"),
        (b'{"type": "RECORD", "stream": "events", "record": {"event_id": null}}', "event_id"),
    ],
)
def test_a_message_that_is_none(
    lab: Lab, message: bytes, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    stdin = io.BytesIO(lines_of([EVENTS]) + message)
    with pytest.raises(SystemExit) as ended:
        TargetDuckDBBatch.invoke(config=_ConfigInput(config=lab.config()), file_input=stdin)
    assert ended.value.code == 1
    (error,) = [entry.message for entry in caplog.records if entry.levelname == "ERROR"]
    assert says in error


def test_a_value_that_does_not_fit_in_a_process(lab: Lab, python_path: str) -> None:
    ended = lab.run(
        schema({"n": WHOLE}, ["n"], "s"), record({"n": "x"}, "s"), state(1), python_path=python_path
    )
    assert (ended.code, ended.states) == (1, [])
    assert "stream s: 'x' in row 1 of a batch does not fit the column n" in ended.error


def test_a_schema_that_does_not_fit_in_a_process(lab: Lab, python_path: str) -> None:
    lab.load(schema({"n": WHOLE}, ["n"], "s"))
    ended = lab.run(schema({"n": TEXT}, ["n"], "s"), python_path=python_path)
    assert ended.code == 1
    assert "stream s: n of its key is HUGEINT in mixpanel.s, and now VARCHAR" in ended.error


def test_validation_names_the_record(lab: Lab) -> None:
    ended = lab.run(
        schema({"n": WHOLE}, ["n"], "s"), record({"n": "x"}, "s"), validate_records=True
    )
    assert ended.code == 1
    assert "stream s: validate_records: 'x' is not of type" in ended.error


def test_a_stream_map_that_makes_no_sense(lab: Lab) -> None:
    ended = lab.run(EVENTS, record(event(1)), stream_maps={"events": {"x": "1 +"}})
    assert ended.code == 1
    assert "stream_maps: " in ended.error


@pytest.mark.parametrize("module", ["duckdb", "pyarrow"])
def test_without_its_extra(module: str) -> None:
    script = (
        f"import sys; sys.modules[{module!r}] = None; import runpy; "
        "runpy.run_module('target_duckdb_batch', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"needs {module}, which is not installed: pip install".encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_nobody_reads_the_states(lab: Lab) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        lab.command(),
        input=lines_of([EVENTS, record(event(1)), state(1)]),
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        env=environment(),
    )
    os.close(write)
    assert done.returncode == 1
    assert b"nobody reads the states" in done.stderr
    assert b"Traceback" not in done.stderr
    assert len(lab.rows()) == 1


def test_a_primary_key_that_needs_more_memory(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 30 million rows it does; here the error is DuckDB's, but not its cause."""

    def run_out(*_: object) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate block")

    with duckdb.connect(str(lab.path)) as connection:
        connection.execute("CREATE SCHEMA mixpanel")
        connection.execute("CREATE TABLE mixpanel.s (n HUGEINT PRIMARY KEY)")
    monkeypatch.setattr(Database, "_merge", run_out)
    with pytest.raises(
        DatabaseError, match=r"memory_limit: 512MB .* the primary key of mixpanel\.s"
    ):
        lab.load(schema({"n": WHOLE}, ["n"], "s"), record({"n": 1}, "s"))
    with pytest.raises(DatabaseError, match=r"512MB is not enough; set a greater one: Out of"):
        lab.load(schema({"n": WHOLE}, ["n"], "t"), record({"n": 1}, "t"))


def test_records_that_neither_memory_nor_disk_holds(lab: Lab) -> None:
    generator = random.Random(1)  # noqa: S311
    rows = (
        record(event(n, properties={"r": generator.randbytes(4000).hex()})) for n in range(5000)
    )
    with pytest.raises(DatabaseError, match="stream events: memory_limit: 20MB is not enough; set"):
        lab.load(EVENTS, *rows, memory_limit="20MB", settings={"max_temp_directory_size": "0KB"})
    assert lab.rows() == []


def test_a_disk_that_is_full(lab: Lab, python_path: str) -> None:
    """A limit on the size of files stands for it: nothing of the batch is loaded."""
    lab.run(EVENTS, record(event(1)), state(1), python_path=python_path)
    generator = random.Random(1)  # noqa: S311
    rows = [event(n, properties={"r": f"{generator.getrandbits(4000)}"}) for n in range(9000)]
    path = write_parquet(lab.folder / "a.parquet", rows)
    done = subprocess.run(
        ["/bin/bash", "-c", 'ulimit -f 4096; exec "$@"', "bash", *lab.command()],
        input=lines_of([EVENTS, batch([path]), state(2)]),
        capture_output=True,
        timeout=60,
        check=False,
        env=environment(PYTHONPATH=python_path),
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
    assert b"can't be written; make room on its disk" in done.stderr
    assert path.exists()
    assert len(lab.rows()) == 1
