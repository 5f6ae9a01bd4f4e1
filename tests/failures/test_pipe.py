"""The other end of the pipe: gone, or slow."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tap_mixpanel_parallel.sandbox import Fault, Project, Shaping
from tests.support.commands import PATIENCE, environment
from tests.support.harness import Body, Lab, State, wait_until

if TYPE_CHECKING:
    from tests.failures.conftest import LabMaker

MANY: Final[State] = {
    "start_date": "2025-01-01",
    "end_date": "2025-04-30",
    "parallel": True,
    "workers": 4,
}
PROMPT: Final = 10.0
"""Seconds; it takes far fewer, but on a busy machine."""


def test_head(make_lab: LabMaker) -> None:
    lab = make_lab(Project(events_per_day=300))
    lab.settings |= MANY
    with lab.start(subprocess.PIPE) as tap:
        head = subprocess.run(
            ["head", "-1"],  # noqa: S607 - whichever there is
            stdin=tap.stdout,
            env=environment(),
            capture_output=True,
            check=True,
        )
        assert tap.stdout is not None
        tap.stdout.close()
        tap.wait(PROMPT)

    assert head.stdout.count(b"\n") == 1
    assert tap.returncode == 1
    assert "Traceback" not in lab.errors
    assert "ERROR" not in lab.errors
    assert len(lab.sandbox.requests) < 60


def test_gone_while_the_tap_waits_for_mixpanel(make_lab: LabMaker) -> None:
    lab = make_lab(shaping=Shaping(first_byte_seconds=600))
    with lab.start(subprocess.PIPE) as tap:
        wait_until(lambda: lab.sandbox.max_concurrent, "a request")
        assert tap.stdout is not None
        tap.stdout.close()
        tap.wait(PROMPT)

    assert tap.returncode == 1
    assert "Traceback" not in lab.errors
    assert "ERROR" not in lab.errors


def test_gone_before_the_first_line(lab: Lab) -> None:
    with lab.start(subprocess.PIPE) as tap:
        assert tap.stdout is not None
        tap.stdout.close()
        tap.wait(PROMPT)

    assert tap.returncode == 1
    assert "Traceback" not in lab.errors
    assert "Exception ignored" not in lab.errors


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory was used")
def test_a_reader_that_sleeps(make_lab: LabMaker) -> None:
    """What waits on disk and in memory does not grow with what there is to read."""
    workers, days, events, size = 2, 30, 20, 400_000
    event = b'{"event":"A","properties":{"time":TIME,"$insert_id":"%d","v":"%s"}}\n'
    body = b"".join(event % (number, b"abcdefgh" * (size // 8)) for number in range(events))
    lab = make_lab(faults=[Fault(Body(body))])
    lab.settings |= {"end_date": "2025-02-04", "parallel": True, "workers": workers}

    def spooled() -> tuple[int, int]:
        sizes = [path.stat().st_size for path in lab.spool.rglob("*") if path.is_file()]
        return len(sizes), sum(sizes)

    with lab.start(subprocess.PIPE) as tap:
        wait_until(lambda: len(lab.sandbox.requests) >= 2 * workers, "the first windows")
        time.sleep(2)
        asleep, (files, spool) = len(lab.sandbox.requests), spooled()
        assert tap.stdout is not None
        records = memory = 0
        for line in tap.stdout:
            records += line.startswith(b'{"type":"RECORD"')
            memory = memory if records % events else peak_memory(tap.pid)
        tap.wait(PATIENCE)

    total = days * len(body)
    assert tap.returncode == 0, lab.errors
    assert records == days * events
    assert asleep <= 2 * workers + 1, "windows under way or waiting, and the one that leaves"
    assert files <= 2 * workers + 2
    # A window that leaves, the next one, and bodies, which are compressed well.
    assert spool < 2.1 * len(body) < total / 10
    assert memory < 150e6 < total


def peak_memory(pid: int) -> int:
    """The most bytes of memory that the process has used so far."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024
