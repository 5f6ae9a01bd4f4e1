"""What is promised, what was measured, and the table of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEAD = ("figure", "target", "measured", "", "in detail")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its target.

    Attributes:
        name: What is measured.
        limit: The target.
        unit: Its unit; a ratio has none.
        at_most: Whether the target is the most; by default it is the least.
        measured: None if it could not be measured.
        detail: What it was computed from, or why it could not be measured.
    """

    name: str
    limit: float
    measured: float | None
    detail: str
    unit: str = ""
    at_most: bool = False

    @property
    def passed(self) -> bool | None:
        """Whether the target is met; None if that is unknown."""
        if self.measured is None:
            return None
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit

    def row(self) -> tuple[str, ...]:
        """The figure's line of the table."""
        unit = f" {self.unit}" if self.unit else ""
        return (
            self.name,
            f"at {'most' if self.at_most else 'least'} {_number(self.limit)}{unit}",
            "not measured" if self.measured is None else f"{_number(self.measured)}{unit}",
            {True: "✓", False: "✗", None: "?"}[self.passed],
            self.detail,
        )


def table(figures: Iterable[Figure]) -> str:
    """The figures as a Markdown table that can be read as it is."""
    rows = [_HEAD, *(figure.row() for figure in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    return "".join(f"| {' | '.join(map(str.ljust, row, widths))} |\n" for row in rows)


def _number(value: float) -> str:
    """Three digits, or all those before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"  # noqa: PLR2004
