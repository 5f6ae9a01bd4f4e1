"""What the demo has loaded, beside what the sandbox serves. Exits 1 if they differ.

`python demo/report.py LOADER FILE`
"""

from __future__ import annotations

import json
import sys

import duckdb
import requests
from rich.cells import set_cell_size

from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.sandbox import Sandbox
from tap_mixpanel_parallel.settings.settings import Settings

BAR = 40

Identity = tuple[object, ...]


def main() -> int:
    """Print the report."""
    loader, database_file = sys.argv[1:]
    demo = Settings.from_config({"region": "sandbox", "start_date": "P90D"}, today=Clock().today)
    first, last = str(demo.wanted.first), str(demo.wanted.last)
    with duckdb.connect(database_file, read_only=True) as database:
        events, days = database.execute(
            "select count(*), count(distinct time::date) from mixpanel.events"
            " where time::date between ? and ?",
            [first, last],
        ).fetchall()[0]
        names = database.execute(
            "select event, count(*) from mixpanel.events group by event order by 2 desc, 1"
        ).fetchall()
    lines, served = what_the_sandbox_serves(first, last)

    print(
        f"\n{loader} has loaded into {database_file}:"
        f" {events:,} events on {days} days, {first} to {last}\n"
    )
    for name, count in names:
        bar = "█" * max(1, round(BAR * count / names[0][1]))
        label = set_cell_size(name or "(no name)", 24)
        print(f"  {label} {count:>8,}  {bar}")
    verdict = "equal" if served == events else "NOT EQUAL"
    print(
        f"\nsandbox served {lines:,} lines, {served:,} different events;"
        f" DuckDB holds {events:,}: {verdict}"
    )
    return 0 if served == events else 1


def what_the_sandbox_serves(first: str, last: str) -> tuple[int, int]:
    """Export the same days without the tap.

    Returns:
        How many lines there are, and how many different events by Mixpanel's own rule:
        same name, distinct_id, time and `$insert_id` are one event.
    """
    identities: set[Identity] = set()
    lines = 0
    with Sandbox(limits=None) as sandbox:
        answer = requests.get(
            f"{sandbox.url}/export",
            params={"project_id": "1", "from_date": first, "to_date": last, "time_in_ms": "true"},
            auth=sandbox.auth,
            timeout=60,
        )
        answer.raise_for_status()
    for line in answer.content.rstrip(b"\n").split(b"\n"):
        event = json.loads(line)
        properties = event["properties"]
        sent_id = properties.get("$distinct_id_before_identity", properties.get("distinct_id"))
        # Without an `$insert_id`, nothing tells two events apart: each line is one.
        insert_id = properties.get("$insert_id") or lines
        identities.add((event["event"], sent_id, properties["time"], insert_id))
        lines += 1
    return lines, len(identities)


if __name__ == "__main__":
    sys.exit(main())
