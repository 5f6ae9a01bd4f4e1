"""Signals: a run that is ended, in any way, and then repeated ends in the right table."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import pytest

from tests.target_duckdb_batch.harness import (
    EVENTS,
    batch,
    environment,
    event,
    lines_of,
    record,
    state,
    write_lines,
    write_parquet,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.target_duckdb_batch.harness import Lab, Message, Row

WINDOWS = 12
PER_WINDOW = 400


def window(number: int) -> list[Row]:
    """The events of a window: some of the window before, with other values, come again."""
    first = number * PER_WINDOW
    again = range(max(0, first - 50), first)
    return [
        event(n, day=1 + n // PER_WINDOW, event=f"window {number}")
        for n in [*again, *range(first, first + PER_WINDOW)]
    ]


def messages_of(lab: Lab, number: int) -> Iterator[Message]:
    """A window as a tap sends it: as Parquet, as lines, or as records."""
    rows = window(number)
    if number % 3 == 0:
        yield batch([write_parquet(lab.folder / f"{number}.parquet", rows)])
    elif number % 3 == 1:
        half = len(rows) // 2
        paths = [
            write_lines(lab.folder / f"{number}-{n}.jsonl.gz", part)
            for n, part in enumerate([rows[:half], rows[half:]])
        ]
        yield batch(paths, "jsonl")
    else:
        yield from (record(row) for row in rows)
    yield state(number)


def start(lab: Lab, python_path: str = "", **settings: Any) -> subprocess.Popen[bytes]:
    """Start the loader."""
    return subprocess.Popen(
        lab.command(**settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONPATH=python_path),
    )


def feed(stdin: IO[bytes], lines: bytes) -> None:
    """Write what a process takes before it ends."""
    with suppress(BrokenPipeError):
        stdin.write(lines)
    with suppress(BrokenPipeError):
        stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere(lab: Lab, python_path: str, seed: int) -> None:
    generator = random.Random(seed)  # noqa: S311
    last = -1
    for attempt in range(40):
        messages = [EVENTS] + [
            m for number in range(last + 1, WINDOWS) for m in messages_of(lab, number)
        ]
        process = start(lab, python_path)
        assert process.stdin is not None
        assert process.stdout is not None
        writer = threading.Thread(target=feed, args=(process.stdin, lines_of(messages)))
        writer.start()
        if attempt < 8:  # killed some time after a state, or before the first one
            for _ in range(generator.randrange(3)):
                line = process.stdout.readline()
                last = json.loads(line)["at"] if line else last
            time.sleep(generator.random() * (0.8 if generator.random() < 0.3 else 0.05))
            process.kill()
        for line in process.stdout:
            last = json.loads(line)["at"]
        code = process.wait(60)
        writer.join()
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        process.stderr.close()
        assert code in {0, -signal.SIGKILL}, errors
        if code == 0:
            break
    assert last == WINDOWS - 1
    expected = {row["event_id"]: row["event"] for n in range(WINDOWS) for row in window(n)}
    assert {row["event_id"]: row["event"] for row in lab.rows()} == expected
    assert len(lab.rows()) == len(expected)


LEAVE_A_LOG = """
import os, sys, duckdb
connection = duckdb.connect(sys.argv[1], config={'storage_compatibility_version': 'v1.2.0'})
connection.execute("CREATE TABLE other (n INT, t VARCHAR)")
for number in range(2):
    connection.execute("INSERT INTO other SELECT r, repeat('x', 500) FROM range(300) t(r)")
os._exit(0)
"""


@pytest.mark.parametrize("cut", [1, 1000, 100_000])
def test_killed_twice_in_the_middle_of_a_commit(lab: Lab, python_path: str, cut: int) -> None:
    """The log ends within a transaction, another one is added, and the next run reads both."""
    env = environment(PYTHONPATH=python_path)
    subprocess.run([sys.executable, "-c", LEAVE_A_LOG, str(lab.path)], check=True, env=env)
    log = lab.path.with_name("lab.duckdb.wal")
    os.truncate(log, log.stat().st_size - cut)
    path = write_parquet(lab.folder / "a.parquet", [event(1)])
    process = start(lab, python_path)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(lines_of([EVENTS, batch([path]), state(1)]))
        process.stdin.flush()
        assert process.stdout.readline() == b'{"at": 1}\n'
        process.kill()
    assert log.exists()
    assert lab.run(EVENTS, record(event(2)), state(2), python_path=python_path).states == [2]
    assert len(lab.rows()) == 2


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_input_is_waited_for(
    lab: Lab, python_path: str, signum: signal.Signals
) -> None:
    path = write_parquet(lab.folder / "a.parquet", [event(1)])
    process = start(lab, python_path)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(
            lines_of(
                [EVENTS, batch([path]), state(1), record(event(2)), state(2), record(event(3))]
            )
        )
        process.stdin.flush()
        assert process.stdout.readline() == b'{"at": 1}\n'
        time.sleep(0.2)  # the records are taken; if not, they are read again all the same
        process.send_signal(signum)
        assert process.stdout.read() in {b'{"at": 2}\n', b""}
        errors = process.stderr.read().decode()
        assert process.wait(60) == 128 + signum
    assert "Traceback" not in errors
    assert f"stopped by {signum.name}; what was read is committed" in errors
    assert not lab.path.with_name("lab.duckdb.wal").exists()
    assert len(lab.rows()) in {1, 2, 3}


def test_a_signal_while_it_works(lab: Lab) -> None:
    """It ends what it has begun, and then goes, though there is more to read."""
    rows = [event(n) for n in range(60_000)]
    path = write_parquet(lab.folder / "a.parquet", rows)
    process = start(lab, settings={"threads": 1})
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        more = [record(event(n)) for n in range(200)]
        lines = lines_of([EVENTS, state(0), batch([path]), state(1), *more])
        writer = threading.Thread(target=feed, args=(process.stdin, lines))
        writer.start()
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        states = process.stdout.read()
        assert process.wait(60) == 128 + signal.SIGTERM
        writer.join()
    assert states in {b"", b'{"at": 1}\n'}
    assert len(lab.rows()) in {0, 60_000}


def test_the_second_signal_ends_at_once(lab: Lab) -> None:
    process = start(lab)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(lines_of([state(1)]))
        process.stdin.flush()
        process.stdout.readline()
        for _ in range(20):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        assert process.wait(60) in {128 + signal.SIGTERM, -signal.SIGTERM}
        assert os.path.exists(lab.path)  # noqa: PTH110
