"""Counts what events hold, in bounded memory: names, properties, types, a few values."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Raw

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tap_mixpanel_parallel.convert.records import EventRecord

Kind = Literal[
    "string", "date-time", "integer", "long integer", "number", "boolean", "null", "object", "array"
]

LONGEST_NAME: Final = 255
"""Characters of a name (Mixpanel docs, Limits); longer ones are cut, and a `…` is one more."""

MOST_EVENTS: Final = 500
MOST_PROPERTIES: Final = 2_000
"""So many names are kept at least, of twice as many."""

_MOST_CARRIERS: Final = 50
"""Events that are remembered for a property."""

_MOST_VALUES: Final = 5
_LONGEST_VALUE: Final = 200
"""Bytes of a value that are remembered."""

_KINDS: Final[dict[int, Kind]] = {
    ord('"'): "string",
    ord("{"): "object",
    ord("["): "array",
    ord("t"): "boolean",
    ord("f"): "boolean",
    ord("n"): "null",
}
_TIME: Final = re.compile(
    rb'"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?"'
)
_SHORT: Final = 18
"""Digits that fit into 64 bits."""

_decode_pairs = msgspec.json.Decoder(dict[str, Raw]).decode


@dataclass(slots=True)
class Seen:
    """What is known of a name.

    Attributes:
        count: The events of this name, or that have this property.
    """

    count: int = 0


@dataclass(slots=True)
class Property(Seen):
    """What is known of a property.

    Attributes:
        kinds: How many of its values are of each kind.
        values: The first few different values, as JSON, cut where they are long.
        carriers: The names of events that have it, with their counts.
        other_carriers: Events of still other names that have it.
    """

    kinds: dict[Kind, int] = field(default_factory=dict)
    values: dict[bytes, None] = field(default_factory=dict)
    carriers: dict[str, int] = field(default_factory=dict)
    other_carriers: int = 0

    def add(self, event: str, value: bytes) -> None:
        """Count a value, in an event of this name."""
        self.count += 1
        kind = _KINDS.get(value[0])
        if kind is None:
            kind = _kind_of_number(value)
        elif kind == "string" and value[1:2].isdigit() and _TIME.fullmatch(value):
            kind = "date-time"
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if len(self.values) < _MOST_VALUES and kind != "null":
            self.values[value[:_LONGEST_VALUE]] = None
        if event in self.carriers:
            self.carriers[event] += 1
        elif len(self.carriers) < _MOST_CARRIERS:
            self.carriers[event] = 1
        else:
            self.other_carriers += 1


def _kind_of_number(value: bytes) -> Kind:
    digits = value.removeprefix(b"-")
    if not digits.isdigit():
        return "number"
    if len(digits) <= _SHORT or -(1 << 63) <= int(value[: _SHORT + 3]) < 1 << 63:
        return "integer"
    return "long integer"


T = TypeVar("T", bound=Seen)


class Tally(Generic[T]):
    """Keeps what is known of the most frequent names, and forgets rare ones if there are many.

    Attributes:
        missed: How many a count lacks at most, as its name was forgotten before.
    """

    def __init__(self, make: Callable[[], T], most: int) -> None:
        """Keep at least so many names."""
        self.missed = 0
        self._make = make
        self._most = most
        self._kept: dict[str, T] = {}

    def of(self, name: str) -> T:
        """What is known of a name, to add to it."""
        found = self._kept.get(name)
        return self._add(name) if found is None else found

    def ranked(self) -> list[tuple[str, T]]:
        """The names that are kept, the most frequent first."""
        return sorted(self._kept.items(), key=lambda item: (-item[1].count, item[0]))

    def _add(self, name: str) -> T:
        if len(name) > LONGEST_NAME + 1:
            return self.of(f"{name[:LONGEST_NAME]}…")
        if len(self._kept) >= 2 * self._most:
            ranked = self.ranked()
            self.missed += ranked[self._most][1].count
            self._kept = dict(ranked[: self._most])
        found = self._kept[name] = self._make()
        return found


class Census:
    """Counts the events of a body, and what they hold.

    Attributes:
        files: None: nothing is written.
        total: How many events there are.
        events: Their names.
        properties: Their properties.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.files: list[Path] = []
        self.total = 0
        self.events: Tally[Seen] = Tally(Seen, MOST_EVENTS)
        self.properties: Tally[Property] = Tally(Property, MOST_PROPERTIES)

    def write(self, records: list[EventRecord]) -> None:
        """Count some records."""
        property_of = self.properties.of
        for record in records:
            event = record.event
            if len(event) > LONGEST_NAME:
                event = f"{event[:LONGEST_NAME]}…"
            self.events.of(event).count += 1
            for name, value in _decode_pairs(record.properties).items():
                property_of(name).add(event, bytes(value))
        self.total += len(records)


class Counting:
    """A form in which nothing is written: the records are counted.

    Attributes:
        census: That of the body that was read last; None before the first.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.census: Census | None = None

    def open(self, path: Path) -> AbstractContextManager[Census]:  # noqa: ARG002
        """Begin a window anew."""
        self.census = Census()
        return nullcontext(self.census)
