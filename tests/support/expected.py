"""The oracle: what a loaded table must hold, and what it holds.

The first is worked out from the lines that the sandbox exports, without the tap's code.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import duckdb

from tests.support.exact import Number, doubles, parsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tap_mixpanel_parallel.sandbox import Project

Normal = Callable[[Any], str]
"""What a loader makes of parsed `properties`, as text in which equal means the same to it."""

AS_OF: Final = datetime(2025, 6, 1, tzinfo=UTC)
"""When the sandbox exports, where a test does not care."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS: Final = 86_400_000
_FIRST_MS: Final = (date.min - date(1970, 1, 1)).days * _DAY_MS
_LAST_MS: Final = ((date.max - date(1970, 1, 1)).days + 1) * _DAY_MS - 1

_COLUMNS: Final = "event_id, event, epoch_ms(time), distinct_id, insert_id, properties::varchar"


@dataclass(frozen=True)
class Row:
    """A row of the table, in a form in which equal means the same.

    Attributes:
        time_ms: Milliseconds since 1970 in UTC.
        properties: JSON text, normalized only as far as a loader itself changes it.
    """

    event: str | None
    time_ms: int
    distinct_id: str | None
    insert_id: str | None
    properties: str

    def without_user(self) -> Row:
        """The row without all that changes as users are merged, and duplicates come."""
        return replace(self, distinct_id=None, properties="")


@dataclass(frozen=True)
class Table:
    """A table's rows.

    Attributes:
        keyed: Rows of events with an `$insert_id`, by key.
        others: The other rows, counted: their keys are the tap's own affair.
    """

    keyed: dict[str, Row]
    others: Counter[Row]

    def __sub__(self, other: Table) -> Table:
        """The rows that are not in the other table, or not as often."""
        keyed = {key: row for key, row in self.keyed.items() if other.keyed.get(key) != row}
        return Table(keyed, self.others - other.others)

    def __or__(self, other: Table) -> Table:
        """The rows of both tables."""
        return Table(self.keyed | other.keyed, self.others + other.others)

    def map(self, change: Callable[[Row], Row]) -> Table:
        """The rows, each changed in this way."""
        others = Counter(map(change, self.others.elements()))
        return Table({key: change(row) for key, row in self.keyed.items()}, others)

    def where(self, condition: Callable[[Row], bool]) -> Table:
        """The rows for which a condition holds."""
        others = {row: count for row, count in self.others.items() if condition(row)}
        return Table(
            {key: row for key, row in self.keyed.items() if condition(row)}, Counter(others)
        )

    def without_users(self) -> Table:
        """The rows without all that changes as users are merged, and duplicates come."""
        return self.map(Row.without_user)

    def __bool__(self) -> bool:
        """Whether there is any row."""
        return bool(self.keyed) or bool(self.others)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.keyed) + self.others.total()


def lines_of(project: Project, first: date, last: date, as_of: datetime = AS_OF) -> list[bytes]:
    """The lines that a project exports for some days."""
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [line for day in days for line in project.lines(day, as_of=as_of)]


def expected(lines: Iterable[bytes], *, zone: str = "UTC", normal: Normal = doubles) -> Table:
    """What an upserting loader makes of an export: of events with one key, the last.

    Args:
        lines: The export's lines; each an event.
        zone: The time zone of the project, whose wall time is in each event's `time`.
        normal: What the loader makes of `properties`.
    """
    keyed: dict[str, Row] = {}
    others: Counter[Row] = Counter()
    for line in lines:
        event = dict(parsed(line.decode("utf-8", "surrogatepass")))
        name, values = event["event"], dict(event["properties"])
        time_ms = _milliseconds(values["time"])
        distinct_id = _as_text(values.get("distinct_id"))
        insert_id = _as_text(values.get("$insert_id"))
        sent_id = _as_text(values.get("$distinct_id_before_identity"))
        row = Row(
            event=name or None,
            time_ms=_in_utc(min(max(time_ms, _FIRST_MS), _LAST_MS), zone),
            distinct_id=distinct_id or None,
            insert_id=insert_id or None,
            properties=normal(event["properties"]),
        )
        if insert_id:
            sent_id = distinct_id if sent_id is None else sent_id
            parts = (name, sent_id or "", str(time_ms), insert_id)
            digest = hashlib.md5("\x1f".join(parts).encode(), usedforsecurity=False)
            keyed[digest.hexdigest()] = row
        else:
            others[row] += 1
    return Table(keyed, others)


def upserted(records: Iterable[Mapping[str, Any]], *, normal: Normal = doubles) -> Table:
    """What an upserting loader makes of records: of those with one key, the last."""
    return _table(
        (
            record["event_id"],
            Row(
                event=record["event"] or None,
                time_ms=_since_epoch(datetime.fromisoformat(record["time"])),
                distinct_id=record["distinct_id"] or None,
                insert_id=record["insert_id"] or None,
                properties=normal(parsed(_json(record["properties"]))),
            ),
        )
        for record in records
    )


def loaded(database: Path, *, table: str = "events", normal: Normal = doubles) -> Table:
    """What is loaded into a DuckDB file; nothing, if it has no such table yet."""
    with duckdb.connect(str(database)) as connection:
        tables = connection.execute(
            "select count(*) from information_schema.tables"
            " where table_schema = 'mixpanel' and table_name = ?",
            [table],
        ).fetchone()
        if tables == (0,):
            return Table({}, Counter())
        relation = connection.table(f"mixpanel.{table}")
        found = relation.project(_COLUMNS).fetchall()
    return _table(
        (key, Row(name, time_ms, distinct_id, insert_id, normal(parsed(properties))))
        for key, name, time_ms, distinct_id, insert_id, properties in found
    )


def assert_same(actual: Table, wanted: Table) -> None:
    """No event is missing, none is extra, none is changed."""
    missing, extra = wanted - actual, actual - wanted
    assert not missing, f"{len(missing)} events are missing or changed: {_some(missing)}"
    assert not extra, f"{len(extra)} events are extra or changed: {_some(extra)}"


def _table(rows: Iterable[tuple[str, Row]]) -> Table:
    """The rows by key, of one key the last."""
    by_key = dict(rows)
    return Table(
        {key: row for key, row in by_key.items() if row.insert_id},
        Counter(row for row in by_key.values() if not row.insert_id),
    )


def _some(table: Table, limit: int = 3) -> str:
    rows = [*table.keyed.items(), *((None, row) for row in table.others)]
    return "; ".join(f"{key}: {str(row)[:500]}" for key, row in rows[:limit])


def _json(properties: Any) -> str:
    return properties if isinstance(properties, str) else json.dumps(properties)


def _milliseconds(value: Any) -> int:
    if isinstance(value, Number):
        return math.floor(float(value)) if "." in value or "e" in value.lower() else int(value)
    if value.isdigit():
        return int(value)
    moment = datetime.fromisoformat(value)
    return _since_epoch(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _in_utc(wall_ms: int, zone: str) -> int:
    """The moment of a wall time; of two moments, the first."""
    if zone == "UTC":  # also at the ends of the calendar
        return wall_ms
    wall = _EPOCH.replace(tzinfo=None) + timedelta(milliseconds=wall_ms)
    return _since_epoch(wall.replace(tzinfo=ZoneInfo(zone)))


def _since_epoch(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _as_text(value: object) -> str | None:
    return None if value is None else str(value) if isinstance(value, str) else json.dumps(value)
