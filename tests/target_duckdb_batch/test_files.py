"""Files of BATCH messages: where they may be, what they may hold, what becomes of them."""

from __future__ import annotations

import gzip
import logging
import random
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from target_duckdb_batch.errors import (
    InputError,
    LoaderError,
    ManifestError,
    ValueDoesNotFitError,
)
from target_duckdb_batch.manifest import Manifest
from target_duckdb_batch.settings import Settings
from tests.target_duckdb_batch.harness import (
    EVENT_FIELDS,
    EVENTS,
    TEXT,
    TIME,
    WHOLE,
    batch,
    event,
    record,
    schema,
    state,
    write_lines,
    write_parquet,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.target_duckdb_batch.harness import Lab


@pytest.mark.parametrize("keep", [False, True])
def test_files_are_removed_once_committed(lab: Lab, keep: bool) -> None:
    paths = [write_parquet(lab.folder / f"{n}.parquet", [event(n)]) for n in range(2)]
    lab.load(EVENTS, batch(paths), delete_batch_files=not keep)
    assert [path.exists() for path in paths] == [keep, keep]
    assert len(lab.rows()) == 2


@pytest.mark.parametrize("form", ["uri", "path", "plain"])
def test_ways_to_name_a_local_file(lab: Lab, form: str) -> None:
    path = write_parquet(lab.folder / "a b%20'ü.parquet", [event(1)])
    names = {"uri": path.as_uri(), "path": f"file://{path}", "plain": str(path)}
    lab.load(EVENTS, batch([names[form]]))
    assert len(lab.rows()) == 1
    assert not path.exists()


ODD_FOLDERS: Final = ["a[b]c", "a*", "a?", "[!a]", "**", "a{b,c}", "event=all", "event_id=1", "x=1"]


@pytest.mark.parametrize("root", ["local", "memory"])
@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
def test_a_name_is_neither_a_pattern_nor_a_partition(lab: Lab, file_format: str, root: str) -> None:
    """Only the file of that name is loaded and removed, and only what is in it."""
    write = write_parquet if file_format == "parquet" else write_lines
    folder = f"memory:/{lab.folder}" if root == "memory" else str(lab.folder)
    storage, path = fsspec.core.url_to_fs(folder)
    names = [f"{path}/{name}/[x]*.gz" for name in ["abc", "ab", *ODD_FOLDERS]]
    names += [f"{path}/abc/xyz.gz", f"{path}/ab/xyz.gz"]
    for number, name in enumerate(names):
        storage.makedirs(name.rpartition("/")[0], exist_ok=True)
        storage.put_file(str(write(lab.folder / "made", [event(number)])), name)
    for number, name in enumerate(names):
        lab.load(EVENTS, batch([storage.unstrip_protocol(name)], file_format))
        wanted = [(event(n)["event_id"], "Sign Up") for n in range(number + 1)]
        assert [(row["event_id"], row["event"]) for row in lab.rows(order="event_id")] == wanted
        assert [each for each in names if storage.exists(each)] == names[number + 1 :]


@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
@pytest.mark.parametrize("keys", [[], ["event_id"]], ids=["appended", "merged"])
def test_a_file_that_is_named_twice_is_loaded_once(
    lab: Lab, file_format: str, keys: list[str]
) -> None:
    write = write_parquet if file_format == "parquet" else write_lines
    path = write(lab.folder / "a", [event(1), event(2)])
    other = write(lab.folder / "b", [event(2, event="second"), event(3)])
    names = [str(path), path.as_uri(), str(other), f"file://{path.parent}/./a"]
    lab.load(schema(EVENT_FIELDS, keys), batch(names, file_format))
    found = [(row["event_id"][-1], row["event"]) for row in lab.rows(order="event_id, event")]
    assert found == [
        ("1", "Sign Up"),
        ("2", "Sign Up"),
        *([] if keys else [("2", "second")]),
        ("3", "Sign Up"),
    ]
    assert not path.exists()


@pytest.mark.parametrize("name", ["_file", "_sdc_row", "filename", "k0", "o0", "ranged", "rowid"])
@pytest.mark.parametrize("form", ["record", "jsonl", "parquet"])
def test_columns_may_be_named_like_the_loaders_own(lab: Lab, form: str, name: str) -> None:
    rows = [{"id": "1", name: "a"}, {"id": "2", name: "b"}, {"id": "2", name: "c"}]
    messages = [record(row, "s") for row in rows]
    if form == "jsonl":
        messages = [batch([write_lines(lab.folder / "a", rows)], "jsonl", "s")]
    elif form == "parquet":
        types = pa.schema([("id", pa.string()), (name, pa.string())])
        messages = [batch([write_parquet(lab.folder / "a", rows, types)], stream="s")]
    lab.load(schema({"id": TEXT, name: TEXT}, ["id"], "s"), *messages)
    assert lab.rows("s", "id") == [{"id": "1", name: "a"}, {"id": "2", name: "c"}]


def test_the_one_name_that_duckdb_keeps(lab: Lab) -> None:
    types = pa.schema([("id", pa.string()), ("File_Row_Number", pa.string())])
    path = write_parquet(lab.folder / "a", [{"id": "1"}], types)
    fields = schema({"id": TEXT, "File_Row_Number": TEXT}, ["id"], "s")
    with pytest.raises(InputError, match="no Parquet file with a column file_row_number; give"):
        lab.load(fields, batch([path], stream="s"))
    assert path.exists()


@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
def test_files_of_another_storage(lab: Lab, file_format: str) -> None:
    write = write_parquet if file_format == "parquet" else write_lines
    storage = fsspec.filesystem("memory")
    path = write(lab.folder / "a", [event(1)])
    storage.pipe(f"/bucket/{lab.folder.name}/a", path.read_bytes())
    lab.load(EVENTS, batch([f"memory://bucket/{lab.folder.name}/a"], file_format))
    assert len(lab.rows()) == 1
    assert not storage.exists(f"/bucket/{lab.folder.name}/a")


@pytest.mark.parametrize("root", ["memory://bucket", ""], ids=["remote", "local"])
def test_copies_that_a_killed_run_has_left(lab: Lab, root: str) -> None:
    """They are overwritten and removed: the loaders of a database use one folder, in turn."""
    folder = Settings.from_config(lab.config()).copies
    folder.mkdir()
    for name in ("0", "1"):
        (folder / name).write_bytes(b"half of a fi")
    path = write_parquet(lab.folder / "a", [event(1)])
    fsspec.filesystem("memory").pipe(f"/bucket{path}", path.read_bytes())

    lab.load(EVENTS, batch([f"{root}{path}"]))

    assert len(lab.rows()) == 1
    assert folder.parent == lab.path.parent
    assert not folder.exists()


def test_a_storage_that_is_not_known(lab: Lab) -> None:
    with pytest.raises(ManifestError, match="nowhere://x/a can't be read"):
        lab.load(EVENTS, batch(["nowhere://x/a"]))


def test_no_error_of_a_storage_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Neither one of the options, however deep, nor of the environment, nor of a URL."""
    options = {"key": "KEY-1", "client_kwargs": {"headers": [{"api_token": "TOKEN-2"}]}}
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "CONNECTION-3")
    url = "memory://me:PASSWORD-4@bucket/a"
    secrets = ["KEY-1", "TOKEN-2", "CONNECTION-3", "PASSWORD-4"]
    manifest = Manifest("events", [url], options)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"denied\nfor {secrets[:3]} at {url}")

    for name in ("exists", "open", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, name, fail)
    said = []
    for reads in (
        manifest.check,
        lambda: list(manifest.lines(url, None)),
        lambda: manifest.local_paths(tmp_path / "copies").__enter__(),
    ):
        with pytest.raises(ManifestError) as raised:
            reads()
        said.append(str(raised.value))
    manifest.remove(logging.getLogger("of-storages"))
    said.append(caplog.messages[-1])
    monkeypatch.setattr(MemoryFileSystem, "exists", lambda *_, **__: False)
    with pytest.raises(ManifestError) as raised:
        manifest.check()
    said.append(str(raised.value))
    for text in said:
        assert "memory://***@bucket/a" in text
        assert not [secret for secret in secrets if secret in text]
    assert all("denied for ['***', '***'" in text for text in said[:3])


def test_a_line_that_can_not_be_read_shows_no_password_of_its_file(lab: Lab) -> None:
    url = "memory://me:PASSWORD@bucket/a"
    fsspec.filesystem("memory").pipe(url, write_lines(lab.folder / "a", [b"{"]).read_bytes())
    with pytest.raises(InputError, match=r"memory://\*\*\*@bucket/a, line 1 can't be read"):
        lab.load(EVENTS, batch([url], "jsonl"))


def test_an_empty_manifest_and_an_empty_file(lab: Lab) -> None:
    empty = write_parquet(lab.folder / "a.parquet", [])
    none = write_lines(lab.folder / "a.jsonl.gz", [])
    assert lab.load(EVENTS, batch([]), batch([empty]), batch([none], "jsonl"), state(1)) == [1]
    assert lab.rows() == []


@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
def test_one_file_is_missing(lab: Lab, file_format: str) -> None:
    write = write_parquet if file_format == "parquet" else write_lines
    there, gone = write(lab.folder / "a", [event(1)]), lab.folder / "b"
    with pytest.raises(ManifestError, match=r"/b is in a BATCH message, but it is not there"):
        lab.load(EVENTS, batch([there, gone], file_format))
    assert lab.rows() == []
    assert there.exists()


def _big(lab: Lab, file_format: str) -> Path:
    generator = random.Random(1)  # noqa: S311
    rows = [event(n, properties={"text": f"{generator.getrandbits(1000)}"}) for n in range(20_000)]
    if file_format == "jsonl":
        return write_lines(lab.folder / "b", rows)
    return write_parquet(lab.folder / "b", rows)


@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_file(lab: Lab, file_format: str, damage: str) -> None:
    write = write_parquet if file_format == "parquet" else write_lines
    good, bad = write(lab.folder / "a", [event(1)]), _big(lab, file_format)
    data = bytearray(bad.read_bytes())
    middle = len(data) // 2
    if damage == "flipped":
        data[middle : middle + 64] = bytes(byte ^ 0xFF for byte in data[middle : middle + 64])
    bad.write_bytes(
        {"cut": data[:middle], "flipped": data, "empty": b"", "other": b"hello"}[damage]
    )
    if (file_format, damage) == ("jsonl", "empty"):
        pytest.skip("gzip takes an empty file for one of no lines")
    with pytest.raises(LoaderError) as raised:
        lab.load(EVENTS, record(event(5)), batch([good, bad], file_format))
    assert bad.as_uri() in str(raised.value) or isinstance(raised.value, InputError)
    assert [row["event_id"] for row in lab.rows()] == [event(5)["event_id"]]
    assert good.exists()
    assert bad.exists()


def test_a_line_that_is_not_json(lab: Lab) -> None:
    path = write_lines(lab.folder / "a.jsonl.gz", [event(1), b'{"event_id": "x"'])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz, line 2 can't be read: "):
        lab.load(EVENTS, batch([path], "jsonl"))
    assert lab.rows() == []


def test_lines_without_compression(lab: Lab) -> None:
    path = write_lines(lab.folder / "a.jsonl", [event(1), event(2)])
    path.write_bytes(gzip.decompress(path.read_bytes()))
    message = batch([path], "jsonl")
    del message["encoding"]["compression"]
    lab.load(EVENTS, message)
    assert len(lab.rows()) == 2


@pytest.mark.parametrize(
    "encoding",
    [
        {"format": "avro"},
        {"format": "jsonl", "compression": "brotli"},
        {"format": "jsonl", "block": 7},
        {},
        "parquet",
    ],
)
def test_an_encoding_that_is_not_known(lab: Lab, encoding: Any) -> None:
    message = batch([]) | {"encoding": encoding}
    with pytest.raises(InputError, match=r"stream events: .*batch_config"):
        lab.load(EVENTS, message)


def test_a_batch_with_stream_maps_is_refused(lab: Lab) -> None:
    path = write_parquet(lab.folder / "a.parquet", [event(1)])
    with pytest.raises(InputError, match="stream_maps"):
        lab.load(EVENTS, batch([path]), stream_maps={"events": {"x": "event_id"}})
    assert path.exists()


def test_a_batch_with_flattening_is_refused(lab: Lab) -> None:
    inner = {"type": "object", "properties": {"x": WHOLE}}
    path = write_parquet(lab.folder / "a.parquet", [event(1)])
    with pytest.raises(InputError, match="data_flattening_max_level"):
        lab.load(
            schema({"event_id": TEXT, "o": inner}, ["event_id"]),
            batch([path]),
            data_flattening_max_level=1,
        )


def test_parquet_of_other_writers(lab: Lab) -> None:
    """Native types: lists, structs, dates, decimals, naive times."""
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int64()),
            "list": pa.array([[1, 2], None]),
            "struct": pa.array([{"a": 1.5}, None]),
            "day": pa.array([date(2025, 1, 1), None]),
            "money": pa.array([Decimal("1.10"), None]),
            "at": pa.array([datetime(2025, 1, 1, 12), None]),  # noqa: DTZ001
            "text": pa.array(["", "x"]),
            "flag": pa.array([True, None]),
            "more": pa.array(["undeclared", None]),
        }
    )
    path = lab.folder / "a.parquet"
    pq.write_table(table, path)
    fields = {
        "id": WHOLE,
        "list": {"type": "array"},
        "struct": {"type": "object"},
        "day": {"type": "string", "format": "date"},
        "money": {"type": "number"},
        "at": TIME,
        "text": TEXT,
        "flag": {"type": "boolean"},
        "absent": TEXT,
    }
    lab.load(schema(fields, ["id"], "s"), batch([path], stream="s"))
    first, second = lab.rows("s", "id")
    assert first == {
        "absent": None,
        "at": datetime(2025, 1, 1, 12),  # noqa: DTZ001
        "day": "2025-01-01",
        "flag": True,
        "id": 1,
        "list": "[1,2]",
        "money": 1.1,
        "struct": '{"a":1.5}',
        "text": None,
    }
    assert second["text"] == "x"


def test_files_of_different_columns(lab: Lab) -> None:
    paths = [lab.folder / "a.parquet", lab.folder / "b.parquet"]
    pq.write_table(pa.table({"id": [1], "x": ["a"]}), paths[0])
    pq.write_table(pa.table({"y": ["b"], "id": [2]}), paths[1])
    lab.load(schema({"id": WHOLE, "x": TEXT, "y": TEXT}, ["id"], "s"), batch(paths, stream="s"))
    assert lab.query("SELECT id, x, y FROM lab.mixpanel.s ORDER BY id") == [
        (1, "a", None),
        (2, None, "b"),
    ]


@pytest.mark.parametrize("form", ["record", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("field", "bad", "kind"),
    [
        ({"type": "integer"}, "abc", "HUGEINT"),
        ({"type": "integer", "maximum": 100}, "40000", "SMALLINT"),
        ({"type": "number"}, "1,5", "DOUBLE"),
        ({"type": "boolean"}, "maybe", "BOOLEAN"),
        (TIME, "yesterday", "TIMESTAMP"),
        ({"type": "string", "format": "time"}, "25:61", "TIME"),
        ({"type": "object"}, "{'a': 1}", "JSON"),
    ],
)
def test_a_value_that_does_not_fit(lab: Lab, form: str, field: Any, bad: str, kind: str) -> None:
    fields = schema({"id": WHOLE, "v": field}, ["id"], "s")
    rows = [{"id": "1", "v": None}, {"id": "2", "v": bad}]
    messages = [record(row, "s") for row in rows]
    if form == "jsonl":
        messages = [batch([write_lines(lab.folder / "a", rows)], "jsonl", "s")]
    elif form == "parquet":
        types = pa.schema([("id", pa.string()), ("v", pa.string())])
        messages = [batch([write_parquet(lab.folder / "a", rows, types)], stream="s")]
    expected = f"stream s: '{bad}' in row 2 of a batch does not fit the column v, which is {kind}"
    with pytest.raises(ValueDoesNotFitError) as raised:
        lab.load(fields, *messages)
    assert str(raised.value).replace('"', "'").startswith(expected)
    assert lab.rows("s") == []


def test_broken_json_in_parquet_of_json(lab: Lab) -> None:
    path = write_parquet(lab.folder / "a.parquet", [event(1), event(2, properties="{broken")])
    # DuckDB 2 refuses it as it reads the file.
    expected = r"'\{broken' in row 2 .* column properties|Invalid JSON found in Parquet file"
    with pytest.raises(LoaderError, match=expected):
        lab.load(EVENTS, batch([path]))


def test_text_that_few_can_hold(lab: Lab) -> None:
    odd = {"nul": "a\0b", "emoji": "🎉", "quote": "'\"\\", "long": "x" * 3_000_000}
    line = b'{"event_id": "2", "event": "\\ud83d", "properties": {"a": "\\udc00"}}'
    lab.load(
        EVENTS,
        record(event(1, event="a\0b", properties=odd)),
        b'{"type": "RECORD", "stream": "events", "record": ' + line + b"}",
        batch([write_lines(lab.folder / "a", [line.replace(b'"2"', b'"3"')])], "jsonl"),
    )
    rows = {row["event_id"].lstrip("0"): row for row in lab.rows()}
    assert rows["1"]["event"] == "a\0b"
    assert rows["2"]["event"] == rows["3"]["event"] == "\ufffd"
    assert rows["2"]["properties"] == '{"a": "\\ufffd"}'
    assert lab.query(
        "SELECT properties->>'nul', length(properties->>'long') FROM lab.mixpanel.events "
        "WHERE event_id LIKE '%01'"
    ) == [("a\0b", 3_000_000)]
