"""Messages of a tap, the loader in this process or in one of its own, and what it has loaded."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from target_duckdb_batch.target import TargetDuckDBBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BIN: Final = Path(sys.executable).parent
LOADER: Final = str(BIN / "target-duckdb-batch")
NEWEST: Final = BIN.parent / "newest-duckdb"
"""Where `make` puts the newest DuckDB: target-duckdb keeps the one in the environment old."""

TARGET_DUCKDB: Final = str(BIN / "target-duckdb")

Message = dict[str, Any]
Row = dict[str, Any]

TEXT: Final = {"type": ["string", "null"]}
WHOLE: Final = {"type": ["integer", "null"]}
TIME: Final = {"type": ["string", "null"], "format": "date-time"}
JSON: Final = {"type": ["object", "null"]}

EVENT_FIELDS: Final = {
    "event_id": {"type": "string"},
    "event": TEXT,
    "time": TIME,
    "distinct_id": TEXT,
    "processed_at": TIME,
    "properties": JSON,
}
EVENT_TYPES: Final = pa.schema(
    [
        ("event_id", pa.string()),
        ("event", pa.string()),
        ("time", pa.timestamp("ms", tz="UTC")),
        ("distinct_id", pa.string()),
        ("processed_at", pa.timestamp("ms", tz="UTC")),
        ("properties", pa.json_()),
    ]
)
HINTS: Final = {"x-key-determines": "time", "x-newest-by": "processed_at"}


def schema(
    properties: Mapping[str, Any],
    keys: Sequence[str] = (),
    stream: str = "events",
    hints: Mapping[str, str] | None = None,
) -> Message:
    """A SCHEMA message."""
    return {
        "type": "SCHEMA",
        "stream": stream,
        "schema": {"type": "object", "properties": dict(properties), **(hints or {})},
        "key_properties": list(keys),
    }


EVENTS: Final = schema(EVENT_FIELDS, ["event_id"], hints=HINTS)


def record(values: Mapping[str, Any], stream: str = "events", **more: Any) -> Message:
    """A RECORD message."""
    return {"type": "RECORD", "stream": stream, "record": dict(values), **more}


def state(value: Any) -> Message:
    """A STATE message."""
    return {"type": "STATE", "value": {"at": value}}


def batch(
    paths: Iterable[Path | str], file_format: str = "parquet", stream: str = "events", **more: Any
) -> Message:
    """A BATCH message."""
    compression = "gzip" if file_format == "jsonl" else "zstd"
    return {
        "type": "BATCH",
        "stream": stream,
        "encoding": {"format": file_format, "compression": compression},
        "manifest": [path.as_uri() if isinstance(path, Path) else path for path in paths],
        **more,
    }


def event(number: int, day: int = 1, **values: Any) -> Row:
    """An event, as the tap makes it."""
    return {
        "event_id": f"{number:032x}",
        "event": "Sign Up",
        "time": datetime(2025, 1, day, 12, 0, number % 60, 5000, tzinfo=UTC).isoformat(),
        "distinct_id": f"user-{number}",
        "processed_at": datetime(2025, 1, day, 13, tzinfo=UTC).isoformat(),
        "properties": {"n": number},
    } | values


def write_parquet(path: Path, rows: Iterable[Row], types: pa.Schema = EVENT_TYPES) -> Path:
    """Write events as the tap does; `properties` may be JSON text."""
    rows = list(rows)
    arrays = []
    for field in types:
        values = [row.get(field.name) for row in rows]
        if isinstance(field.type, pa.JsonType):
            texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
            arrays.append(pa.ExtensionArray.from_storage(field.type, pa.array(texts, pa.string())))
        elif pa.types.is_timestamp(field.type):
            times = [v if v is None else datetime.fromisoformat(v) for v in values]
            arrays.append(pa.array(times, field.type))
        else:
            arrays.append(pa.array(values, field.type))
    pq.write_table(pa.Table.from_arrays(arrays, schema=types), path, compression="zstd")
    return path


def write_lines(path: Path, rows: Iterable[Row | bytes]) -> Path:
    """Write rows as JSON lines, gzipped."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines)))
    return path


def lines_of(messages: Iterable[Message | bytes]) -> bytes:
    """Messages as they go through a pipe."""
    lines = [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
    return b"".join(line + b"\n" for line in lines)


def environment(**more: str) -> dict[str, str]:
    """This environment less what would configure the commands."""
    prefixes = ("MELTANO_", "TAP_", "TARGET_", "LOGLEVEL")
    return {n: v for n, v in os.environ.items() if not n.startswith(prefixes)} | more


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    states: list[Any]
    errors: str

    @property
    def error(self) -> str:
        """The only error that it has logged."""
        assert "Traceback" not in self.errors
        (line,) = [line for line in self.errors.splitlines() if "| ERROR " in line]
        return line.split("| ", 3)[-1].split("|", 1)[-1].strip()


@dataclass(frozen=True)
class Lab:
    """A database, and ways to load into it."""

    folder: Path

    @property
    def path(self) -> Path:
        """The DuckDB file."""
        return self.folder / "lab.duckdb"

    def config(self, **settings: Any) -> dict[str, Any]:
        """A configuration."""
        return {"filepath": str(self.path), "default_target_schema": "mixpanel"} | settings

    def load(self, *messages: Message | bytes, **settings: Any) -> list[Any]:
        """Load in this process; the states that were passed on."""
        target = TargetDuckDBBatch(config=self.config(**settings))
        out = io.StringIO()
        try:
            with redirect_stdout(out):
                target.listen(io.BytesIO(lines_of(messages)))
        finally:
            if "database" in target.__dict__:
                target.database.close()
        return [json.loads(line).get("at") for line in out.getvalue().splitlines()]

    def command(self, name: str = LOADER, **settings: Any) -> list[str]:
        """The command line."""
        config = self.folder / "config.json"
        config.write_text(json.dumps(self.config(**settings)))
        return [name, "--config", str(config)]

    def run(
        self, *messages: Message | bytes, name: str = LOADER, python_path: str | None = None,
        **settings: Any,
    ) -> Ended:  # fmt: skip
        """Load in a process of its own."""
        more = {} if python_path is None else {"PYTHONPATH": python_path}
        done = subprocess.run(
            self.command(name, **settings),
            input=lines_of(messages),
            capture_output=True,
            timeout=60,
            check=False,
            env=environment(**more),
        )
        states = [json.loads(line).get("at") for line in done.stdout.splitlines()]
        return Ended(done.returncode, states, done.stderr.decode())

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database."""
        with duckdb.connect(str(self.path)) as connection:
            return connection.execute(sql).fetchall()

    def rows(self, table: str = "events", order: str = "ALL") -> list[Row]:
        """The rows of a table."""
        with duckdb.connect(str(self.path)) as connection:
            found = connection.execute(f'SELECT * FROM lab.mixpanel."{table}" ORDER BY {order}')  # noqa: S608
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def types(self, table: str = "events") -> list[tuple[str, str]]:
        """The columns of a table, in order."""
        return [
            (name, kind)
            for name, kind in self.query(
                "SELECT column_name, data_type FROM duckdb_columns() "  # noqa: S608
                f"WHERE schema_name = 'mixpanel' AND table_name = '{table}' ORDER BY column_index"
            )
        ]
