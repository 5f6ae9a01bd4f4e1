"""What a loaded table must hold, worked out from the export's lines without the tap's code."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS: Final = 86_400_000
_FIRST_MS: Final = (date.min - date(1970, 1, 1)).days * _DAY_MS
_LAST_MS: Final = ((date.max - date(1970, 1, 1)).days + 1) * _DAY_MS - 1


class _Number(str):
    """A number, digit for digit."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Tell it from a text of the same digits."""
        return str(self)


@dataclass(frozen=True)
class Row:
    """A row of the table, in a form in which equal means the same.

    Attributes:
        properties: JSON text, normalized as far as the loader's own way with it demands.
    """

    event: str | None
    time_ms: int
    distinct_id: str | None
    insert_id: str | None
    properties: str

    def without_user(self) -> Row:
        """The row less all that changes as users are merged, and duplicates come."""
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

    def without_users(self) -> Table:
        """The rows less all that changes as users are merged, and duplicates come."""
        return Table(
            {key: row.without_user() for key, row in self.keyed.items()},
            Counter(row.without_user() for row in self.others.elements()),
        )

    def __bool__(self) -> bool:
        """Whether there is any row."""
        return bool(self.keyed) or bool(self.others)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.keyed) + self.others.total()


def expected(lines: Iterable[bytes], *, as_text: bool = False) -> Table:
    """What an upserting loader makes of an export: of events with one key, the last.

    Args:
        lines: The export's lines; each an event.
        as_text: Whether the loader is handed `properties` as text, which it keeps digit for
            digit. An object goes through Python's `json`, which makes numbers double
            precision and keeps the last of properties with one name.
    """
    keyed: dict[str, Row] = {}
    others: Counter[Row] = Counter()
    for line in lines:
        text = line.decode("utf-8", "surrogatepass")
        parsed = json.loads(text, parse_int=_Number, parse_float=_Number)
        name, values = _mended(parsed["event"]), parsed["properties"]
        time_ms = _milliseconds(values["time"])
        distinct_id = _as_text(values.get("distinct_id"))
        insert_id = _as_text(values.get("$insert_id"))
        sent_id = _as_text(values.get("$distinct_id_before_identity"))
        row = Row(
            event=name or None,
            time_ms=min(max(time_ms, _FIRST_MS), _LAST_MS),
            distinct_id=distinct_id or None,
            insert_id=insert_id or None,
            properties=_properties(text, as_text=as_text),
        )
        if insert_id:
            sent_id = distinct_id if sent_id is None else sent_id
            parts = (name, sent_id or "", str(time_ms), insert_id)
            digest = hashlib.md5("\x1f".join(parts).encode(), usedforsecurity=False)
            keyed[digest.hexdigest()] = row
        else:
            others[row] += 1
    return Table(keyed, others)


def loaded(database: Path, *, as_text: bool = False) -> Table:
    """What target-duckdb has loaded; nothing, if it has no table yet."""
    with duckdb.connect(str(database)) as connection:
        tables = connection.execute(
            "select count(*) from information_schema.tables"
            " where table_schema = 'mixpanel' and table_name = 'events'"
        ).fetchone()
        if tables == (0,):
            return Table({}, Counter())
        found = connection.execute(
            "select event_id, event, epoch_ms(time), distinct_id, insert_id, properties::varchar"
            " from mixpanel.events"
        ).fetchall()
    rows = [
        (key, Row(name, time_ms, distinct_id, insert_id, _normal(properties, as_text=as_text)))
        for key, name, time_ms, distinct_id, insert_id, properties in found
    ]
    return Table(
        {key: row for key, row in rows if row.insert_id},
        Counter(row for _, row in rows if not row.insert_id),
    )


def assert_same(actual: Table, wanted: Table) -> None:
    """No event is missing, none is extra, none is changed."""
    missing, extra = wanted - actual, actual - wanted
    assert not missing, f"{len(missing)} events are missing or changed: {_some(missing)}"
    assert not extra, f"{len(extra)} events are extra or changed: {_some(extra)}"


def _some(table: Table, limit: int = 3) -> str:
    rows = [*table.keyed.items(), *((None, row) for row in table.others)]
    return "; ".join(f"{key}: {str(row)[:500]}" for key, row in rows[:limit])


def _properties(line: str, *, as_text: bool) -> str:
    """The `properties` of a line, normalized."""
    if as_text:
        _, pairs = _exactly(line)
        return repr(_mended(dict(pairs)["properties"]))
    return _normal(json.dumps(_mended(json.loads(line)["properties"])), as_text=False)


def _normal(text: str, *, as_text: bool) -> str:
    """JSON text, so that equal values are equal texts: in every digit, or as the loader does."""
    return repr(_exactly(text)) if as_text else json.dumps(json.loads(text))


def _exactly(text: str) -> Any:
    """JSON with each number's digits, and with every pair of an object, in order."""
    return json.loads(
        text,
        parse_int=_Number,
        parse_float=_Number,
        object_pairs_hook=lambda pairs: ("object", pairs),
    )


def _milliseconds(value: Any) -> int:
    if isinstance(value, _Number):
        return math.floor(float(value)) if "." in value or "e" in value.lower() else int(value)
    if value.isdigit():
        return int(value)
    moment = datetime.fromisoformat(value)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)


def _as_text(value: object) -> str | None:
    if value is None:
        return None
    return str(_mended(value)) if isinstance(value, str) else json.dumps(value)


def _mended(value: Any) -> Any:
    """The value with U+FFFD for lone surrogates, which no loader can store."""
    if isinstance(value, _Number):
        return value
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_mended, value))
    if isinstance(value, dict):
        return {_mended(name): _mended(item) for name, item in value.items()}
    return value
