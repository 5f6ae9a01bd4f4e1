"""Which loaded days have a column that is chosen by settings, and which have it empty. Pure.

A change of the chosen columns does not change what is loaded: days that were loaded before it
stay loaded, and have a new column empty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tap_mixpanel_parallel.plan.windows import Window, count_days, merge, subtract
from tap_mixpanel_parallel.wording import counted, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Choice(NamedTuple):
    """A column that settings choose."""

    name: str
    property: str
    type: str


@dataclass(frozen=True, slots=True)
class FilledColumn:
    """A column, and the days that were read with it.

    Attributes:
        choice: The column.
        is_chosen: Whether the settings of the last run have it.
        days: The days that were read with it; disjoint and sorted.
    """

    choice: Choice
    is_chosen: bool = True
    days: tuple[Window, ...] = ()


def choose(columns: Iterable[FilledColumn], choices: Sequence[Choice]) -> tuple[FilledColumn, ...]:
    """The columns under other settings.

    One that is not chosen any more is remembered, as long as days have it: it may be again. One
    whose type changes is forgotten: loaders move it aside, and make it anew.
    """
    types = {choice.name: choice.type for choice in choices}
    known = {
        column.choice: column
        for column in columns
        if types.get(column.choice.name, column.choice.type) == column.choice.type
    }
    chosen = {
        choice: replace(known.get(choice, FilledColumn(choice)), is_chosen=True)
        for choice in choices
    }
    others = (
        replace(column, is_chosen=False)
        for choice, column in known.items()
        if choice not in chosen and column.days
    )
    return (*chosen.values(), *others)


def fill(columns: Iterable[FilledColumn], days: Iterable[Window]) -> tuple[FilledColumn, ...]:
    """The columns after days were read with those that are chosen."""
    some = tuple(days)
    return tuple(
        replace(
            column,
            days=merge([*column.days, *some]) if column.is_chosen else subtract(column.days, some),
        )
        for column in columns
    )


@dataclass(frozen=True, slots=True)
class EmptyDays:
    """Loaded days that have chosen columns empty.

    Attributes:
        names: The columns' names.
        days: The days; disjoint and sorted.
    """

    names: tuple[str, ...]
    days: tuple[Window, ...]

    def to_json(self) -> dict[str, Any]:
        """The days for scripts."""
        return {"columns": list(self.names), "days": [window.to_json() for window in self.days]}


def find_empty(columns: Iterable[FilledColumn], loaded: Iterable[Window]) -> tuple[EmptyDays, ...]:
    """The loaded days that have chosen columns empty; columns with the same days are together."""
    known = tuple(loaded)
    names: dict[tuple[Window, ...], list[str]] = {}
    for column in columns:
        days = subtract(known, column.days) if column.is_chosen else ()
        if days:
            names.setdefault(days, []).append(column.choice.name)
    return tuple(EmptyDays(tuple(each), days) for days, each in names.items())


def tell(empty: tuple[EmptyDays, ...]) -> str | None:
    """A line that says which columns are empty on which days, and what fills them."""
    if not empty:
        return None
    parts = [
        f"{', '.join(map(printable, each.names))} on {counted(count_days(each.days), 'day')}, "
        f"{', '.join(map(str, each.days))}"
        for each in empty
    ]
    days = merge(window for each in empty for window in each.days)
    # The remedy first: where there is no room for all, the end is cut.
    return (
        "property_columns: empty on days that were loaded without them, until a run with "
        f"--replay {days[0].first}..{days[-1].last}: {'; '.join(parts)}"
    )
