"""The page `docs/sandbox.md` as a test reads it."""

from __future__ import annotations

from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()


def table(header: str) -> list[list[str]]:
    """Give the cells of the table whose first column has this header."""
    rows = PAGE.split(f"\n| {header} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
