"""A table in a DuckDB file: how many rows it has, and how it gets a long history.

`python -m benchmarks.tables FILE count` prints its rows; `... FILE multiply N` adds all of its
rows N times over, each time with other keys, a day earlier. In a process of its own, so that the
benchmark's stays small: see `benchmarks.server`.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_COPY: Final = """
insert into events select seed.* replace (
    md5(event_id || day) as event_id,
    time - to_days(day::integer) as time,
    json_object('day', day) as properties  -- a short one: it is the rows that count
) from seed, (select unnest(range(?, ?)) as day)
"""
_AT_ONCE: Final = 20
"""Copies in a transaction."""


def count(database: Path) -> int:
    """How many rows a loader has made."""
    return int(_ask(database, "count"))


def multiply(database: Path, times: int) -> int:
    """Give a table a history.

    Args:
        database: The file, with a table that a loader has made.
        times: How many days are added, each with as many rows as the table has.

    Returns:
        How many rows there are then.
    """
    return int(_ask(database, "multiply", str(times)))


def _ask(database: Path, *order: str) -> bytes:
    command = [sys.executable, "-m", "benchmarks.tables", str(database), *order]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout  # noqa: S603


def main() -> None:
    """Do what the parent asks for."""
    import duckdb  # noqa: PLC0415 - not in the parent

    path, order, *rest = sys.argv[1:]
    with duckdb.connect(path) as database:
        database.execute("use mixpanel")
        if order == "multiply":
            database.execute("create temp table seed as from events")
            end = int(rest[0]) + 1
            for first in range(1, end, _AT_ONCE):
                database.execute(_COPY, [first, min(first + _AT_ONCE, end)])
            database.execute("checkpoint")
        [(rows,)] = database.execute("select count(*) from events").fetchall()
    print(rows)


if __name__ == "__main__":
    main()
