"""What a project holds, shown to people and to scripts. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from rich.cells import cell_len, set_cell_size

from tap_mixpanel_parallel.report.suggestion import setting_of, setting_text, suggest, view_text
from tap_mixpanel_parallel.wording import counted, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.report.census import Census, Property

_WIDTH: Final = 80
_MOST_LINES: Final = 100
"""Properties, and events, that are shown to people."""

_LONGEST_VALUE: Final = 30
_QUOTE: Final = 12
"""Bytes that a cut through a character of JSON can leave of it: of a pair of surrogates."""


@dataclass(frozen=True, slots=True)
class Description:
    """What the events of some days hold.

    Attributes:
        window: The days.
        selection: The settings that decide which events there are; None is the default.
        census: What was counted.
    """

    window: Window
    selection: Mapping[str, Any]
    census: Census

    def to_json(self) -> dict[str, Any]:
        """The description for scripts."""
        census = self.census
        columns = suggest(census.properties.ranked(), census.total)
        return self.window.to_json() | {
            "days": len(self.window),
            "selection": {name: self.selection[name] for name in ("events", "where")},
            "count": census.total,
            "events": [
                {"event": name, "count": seen.count} for name, seen in census.events.ranked()
            ],
            "properties": [
                {
                    "property": name,
                    "count": seen.count,
                    "share": round(seen.count / census.total, 6),
                    "types": dict(seen.kinds),
                    "values": values_of(seen),
                    "events": dict(_ranked(seen.carriers)),
                    "other_events": seen.other_carriers,
                }
                for name, seen in census.properties.ranked()
            ],
            "missed": {
                "events": census.events.missed,
                "properties": census.properties.missed,
            },
            "property_columns": list(map(setting_of, columns)),
            "view": view_text(columns),
        }

    def to_text(self) -> str:
        """The description for people, in lines of 80 columns but for the code."""
        census = self.census
        days = f"{self.window} ({counted(len(self.window), 'day')})"
        filters = [f"{name}: {self.selection[name]}" for name in ("events", "where")]
        lines = [f"{counted(census.total, 'event')} on {days}"]
        lines += [f"only of {printable(each)}" for each in filters if not each.endswith(": None")]
        if not census.total:
            return "\n".join([*lines, "there is nothing to describe; choose other days"])
        lines += ["", *self._events(), "", *self._properties()]
        columns = suggest(census.properties.ranked(), census.total)
        if columns:
            lines += [
                "",
                "The setting property_columns; leave out what you do not need:",
                "",
                setting_text(columns),
                "",
                "The same as a view in DuckDB, of what is loaded already:",
                "",
                view_text(columns),
            ]
        return "\n".join(lines)

    def _events(self) -> Iterable[str]:
        census = self.census
        ranked = census.events.ranked()
        yield f"{'event':<52}{'count':>16}{'share':>12}"
        for name, seen in ranked[:_MOST_LINES]:
            share = _percent(seen.count, census.total)
            yield f"  {_fit(_name(name), 50)}{seen.count:>16,}{share:>12}"
        yield from _more(len(ranked), census.events.missed, "event")

    def _properties(self) -> Iterable[str]:
        census = self.census
        ranked = census.properties.ranked()
        yield f"{'property':<28}{'share':>8}  {'types':<18}  events that have it"
        for name, seen in ranked[:_MOST_LINES]:
            share = _percent(seen.count, census.total)
            types = ", ".join(kind for kind, _ in _ranked(seen.kinds))
            yield (
                f"  {_fit(_name(name), 26)}{share:>8}  {_fit(types, 18)}  "
                f"{_cut(self._carriers(seen), 22)}"
            ).rstrip()
            if values := values_of(seen):
                yield _cut("      " + ", ".join(values), _WIDTH)
        yield from _more(len(ranked), census.properties.missed, "property")

    def _carriers(self, seen: Property) -> str:
        """The names of the events that have a property, the most frequent first."""
        if seen.count == self.census.total:
            return "all"
        names = [_name(name) for name, _ in _ranked(seen.carriers)]
        if seen.other_carriers:
            names.append("others")
        room = 22 - len(f" +{len(names)}")
        shown, rest = names[:1], names[1:]
        while rest and cell_len(", ".join([*shown, rest[0]])) <= room:
            shown.append(rest.pop(0))
        return _cut(", ".join(shown), room) + (f" +{len(rest)}" if rest else "")


def values_of(seen: Property) -> list[str]:
    """A few different values of a property, as JSON; of a long one the beginning."""
    return list(dict.fromkeys(map(_value, seen.values)))


def _value(raw: bytes) -> str:
    if not raw.startswith(b'"'):
        return _cut(printable(raw.decode(errors="ignore")), _LONGEST_VALUE)
    text = next(filter(None, (_text(raw, cut) for cut in range(_QUOTE + 1))), "")
    return _cut(printable(json.dumps(text, ensure_ascii=False)), _LONGEST_VALUE)


def _text(raw: bytes, cut: int) -> str | None:
    """A JSON string, that may be cut, without its last bytes; None if it can't be read so."""
    try:
        return msgspec.json.decode(raw[: len(raw) - cut] + b'"' if cut else raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _ranked(counts: Mapping[Any, int]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _name(name: str) -> str:
    return printable(name) if name.strip() else repr(name)


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole
    return f"{share:.1f} %" if share >= 0.1 else "<0.1 %"  # noqa: PLR2004


def _more(names: int, missed: int, noun: str) -> Iterable[str]:
    """What is not shown of so many names, and how exact the counts are."""
    plural = "properties" if noun == "property" else f"{noun}s"
    if names > _MOST_LINES:
        yield f"  and {names - _MOST_LINES:,} more; --format json has them"
    if missed:
        yield (
            f"  There are too many names to keep: the rare ones are left out, and a count\n"
            f"  may lack up to {missed:,}. Names of {plural} seem to hold values."
        )


def _cut(text: str, width: int) -> str:
    """A text that takes so many columns of a terminal at most."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"


def _fit(text: str, width: int) -> str:
    """A text that takes so many columns of a terminal."""
    return set_cell_size(_cut(text, width), width)
