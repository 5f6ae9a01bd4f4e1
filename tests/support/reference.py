"""What an export should become, worked out without the tap's own code."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tap_mixpanel_parallel.sandbox import Project

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Row:
    """A row of the loaded table."""

    event: str | None
    distinct_id: str | None
    insert_id: str | None
    properties: Any


def lines_of(project: Project, first: date, last: date, as_of: datetime) -> list[bytes]:
    """The lines that a project exports for some days."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [line for day in days for line in project.lines(day, as_of=as_of)]


def rows_of(lines: Iterable[bytes]) -> dict[str, Row]:
    """The rows that an upserting loader ends up with, by key."""
    identical: Counter[str] = Counter()
    rows: dict[str, Row] = {}
    for line in lines:
        event = json.loads(line)
        raw = _raw_properties(line)
        properties = event["properties"]
        name = _whole(event["event"])
        distinct_id = _text(properties.get("distinct_id"), raw, "distinct_id")
        sent = "$distinct_id_before_identity"
        sent_id = _text(properties[sent], raw, sent) if sent in properties else distinct_id
        insert_id = _text(properties.get("$insert_id"), raw, "$insert_id")
        parts = [name, sent_id or "", str(properties["time"]), insert_id or ""]
        if not insert_id:
            content = line.decode("utf-8", "surrogatepass")
            parts[3] = f"content {identical[content]} {content}"
            identical[content] += 1
        key = hashlib.md5("\x1f".join(parts).encode(), usedforsecurity=False).hexdigest()
        rows[key] = Row(name or None, distinct_id or None, insert_id or None, _mended(properties))
    return rows


def table(path: Path, name: str = "mixpanel.events") -> dict[str, Row]:
    """The rows of a loaded table, by `event_id`."""
    with duckdb.connect(str(path), read_only=True) as database:
        loaded = database.execute(
            f"select event_id, event, distinct_id, insert_id, properties from {name}"  # noqa: S608
        ).fetchall()
    return {row[0]: Row(row[1], row[2], row[3], json.loads(row[4])) for row in loaded}


def assert_same(loaded: Mapping[str, Row], expected: Mapping[str, Row]) -> None:
    """Every event is there, once, unchanged, and nothing else.

    Keys of events without an `$insert_id` hold a hash that is the tap's own affair, so
    those events are compared by what they hold.
    """
    with_id = {key: row for key, row in expected.items() if row.insert_id}
    assert {key for key, row in loaded.items() if row.insert_id} == with_id.keys()
    assert {key: loaded[key] for key in with_id} == with_id
    assert _contents(loaded) == _contents(expected)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment for commands: this one, less what would configure them."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MELTANO_", "TAP_"))}
    return kept | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **settings}


def run(
    *command: str, cwd: Path, settings: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment to its end, with these variables."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(settings or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def _contents(rows: Mapping[str, Row]) -> Counter[str]:
    return Counter(
        json.dumps([row.event, row.distinct_id, row.properties], sort_keys=True)
        for row in rows.values()
        if not row.insert_id
    )


def _raw_properties(line: bytes) -> dict[str, Any]:
    """The properties with each number as it is written."""
    parsed = json.loads(line, parse_int=str, parse_float=str)["properties"]
    assert isinstance(parsed, dict)
    return parsed


def _text(value: object, raw: Mapping[str, Any], name: str) -> str | None:
    if value is None:
        return None
    return _whole(value) if isinstance(value, str) else str(raw[name])


def _whole(text: str) -> str:
    return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_whole(name): _mended(item) for name, item in value.items()}
    return value
