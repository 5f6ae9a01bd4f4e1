"""What a person sees: the live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import re
import select
import struct
import subprocess
import sys
import termios
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

import pyte
import pytest
from rich.console import Console

from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report import display
from tap_mixpanel_parallel.report.progress import Progress, Request
from tap_mixpanel_parallel.report.results import BatchResult
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tests.support.commands import BIN, PATIENCE, environment
from tests.support.expected import lines_of
from tests.support.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Project(seed=51, events_per_day=20)
AS_OF = datetime(2025, 3, 1, tzinfo=UTC)
DAYS = [date(2025, 1, day) for day in range(6, 10)]
BROKEN = DAYS[0]


COMMAND = [str(BIN / "tap-mixpanel-parallel"), "--config", "tap.json"]
ON_ITS_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)  # so that the kernel tells the process of a new size
os.execv(sys.argv[1], sys.argv[1:])
"""


def window(day: date) -> str:
    return f"{day}..{day}"


class Terminal:
    """A terminal of some size, and what stands on it."""

    def __init__(self, columns: int, lines: int) -> None:
        self.master, self.slave = os.openpty()
        self.screen = pyte.Screen(columns, lines)
        self.received = b""
        self._stream = pyte.ByteStream(self.screen)
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size; the kernel tells the processes with SIGWINCH."""
        self.screen.resize(lines, columns)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    @property
    def shown(self) -> str:
        """The text on the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def read(self) -> bool:
        """Take what has been written; False at the end."""
        ready, _, _ = select.select([self.master], [], [], PATIENCE)
        assert ready, f"nothing is written any more:\n{self.shown}"
        try:
            written = os.read(self.master, 65536)
        except OSError:  # Linux tells so that the last writer has gone
            return False
        self.received += written
        self._stream.feed(written)
        return bool(written)

    def wait_for(self, *texts: str) -> None:
        """Wait until all these texts are on the screen at once."""
        deadline = monotonic() + PATIENCE
        while not all(text in self.shown for text in texts):
            assert monotonic() < deadline, f"waited in vain for {texts}:\n{self.shown}"
            assert self.read(), f"it has ended without {texts}:\n{self.shown}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.master)


@dataclass
class Watched:
    """A tap whose standard error is a terminal, and whose standard output is a pipe.

    Attributes:
        output: What it has written to standard output, once it has ended.
    """

    terminal: Terminal
    gate: Gate
    process: subprocess.Popen[bytes]
    output: bytes = b""

    def end(self) -> int:
        """Let it run to its end."""
        self.gate.open()
        while self.terminal.read():
            pass
        return self.process.wait(PATIENCE)


@contextmanager
def sandbox_of(folder: Path, as_of: Callable[[], datetime]) -> Iterator[Sandbox]:
    """Settings for a run of four windows, two at once, of which the first fails."""
    fault = Fault.parse(f"status=500,days={BROKEN}")
    with Sandbox(PROJECT, limits=None, as_of=as_of, faults=[fault]) as sandbox:
        config = {
            "region": "sandbox",
            "api_url": sandbox.url,
            "start_date": str(DAYS[0]),
            "end_date": str(DAYS[-1]),
            "parallel": True,
            "workers": 2,
            "window_days": 1,
            "max_attempts": 1,
            "requests_per_second": 100,
        }
        (folder / "tap.json").write_text(json.dumps(config))
        yield sandbox


def terminal_environment(term: str) -> dict[str, str]:
    own = environment({"TERM": term})
    return {name: own[name] for name in own if name not in {"COLUMNS", "LINES", "NO_COLOR"}}


@contextmanager
def watched(
    folder: Path, columns: int, lines: int = 24, term: str = "xterm-256color"
) -> Iterator[Watched]:
    """A run on a terminal; each of its requests waits for the test."""
    with (
        Gate(AS_OF) as gate,
        sandbox_of(folder, gate),
        Terminal(columns, lines) as terminal,
    ):
        process = subprocess.Popen(
            [sys.executable, "-c", ON_ITS_TERMINAL, *COMMAND],
            cwd=folder,
            env=terminal_environment(term),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=terminal.slave,
            start_new_session=True,
        )
        os.close(terminal.slave)
        run, output = Watched(terminal, gate, process), list[bytes]()
        assert process.stdout is not None
        read = process.stdout.read
        reader = Thread(target=lambda: output.append(read()))
        reader.start()
        try:
            gate.wait_for(2)
            yield run
        finally:
            gate.open()
            process.kill()
            process.wait()
            reader.join()
            process.stdout.close()
            run.output = b"".join(output)


def assert_only_messages(output: bytes) -> None:
    """All records of the windows that are loaded, and nothing that is no message."""
    types = [json.loads(line)["type"] for line in output.split(b"\n")[:-1]]
    assert set(types) == {"SCHEMA", "RECORD", "STATE"}
    assert types.count("RECORD") == len(lines_of(PROJECT, DAYS[1], DAYS[-1], AS_OF))


def assert_plain(log: str) -> None:
    """A line for each window's end, and nothing that moves a cursor."""
    assert "\x1b" not in log
    for day in DAYS:
        end = "failed after 1 attempt: HTTP 500" if day == BROKEN else "loaded: "
        assert len(re.findall(rf"\| {window(day)} {end}.*\([1-4] of 4", log)) == 1


@pytest.mark.parametrize("columns", [100, 20])
def test_a_terminal_shows_the_run(tmp_path: Path, columns: int) -> None:
    with watched(tmp_path, columns) as run:
        terminal = run.terminal
        first, second, third, fourth = (f"\n{window(day)[: columns - 1]}" for day in DAYS)
        terminal.wait_for("  0 of 4", first, second)
        run.gate.let_pass(2)
        run.gate.wait_for(4)
        terminal.wait_for("  2 of 4", third, fourth, f"\nfailed: {window(BROKEN)}"[:columns])
        (bar,) = (line for line in terminal.shown.splitlines() if "  2 of 4" in line)
        assert re.fullmatch("[━╸╺]+  2 of 4", bar)
        assert len(bar) == columns
        code = run.end()
        left = terminal.shown

    assert code == 1
    assert_only_messages(run.output)
    assert not re.search("^(━|failed:|2025-01-0)", left, re.MULTILINE), "the display is gone"
    hidden, shown = (run.terminal.received.rfind(b"\x1b[?25" + end) for end in (b"l", b"h"))
    assert 0 < hidden < shown, "the cursor is back"
    assert b"METRIC" not in run.terminal.received
    assert not re.search(rb"2025-01-0\d loaded", run.terminal.received)


def test_a_terminal_that_changes_its_size(tmp_path: Path) -> None:
    with watched(tmp_path, columns=100) as run:
        terminal = run.terminal
        terminal.wait_for("  0 of 4")
        terminal.resize(20, 8)
        run.gate.let_pass(2)
        run.gate.wait_for(4)
        terminal.wait_for("  2 of 4")
        terminal.resize(60, 30)
        terminal.wait_for("  2 of 4", window(DAYS[2]), window(DAYS[3]))
        assert run.end() == 1
    assert_only_messages(run.output)


def test_a_dumb_terminal_shows_plain_lines(tmp_path: Path) -> None:
    with watched(tmp_path, columns=200, term="dumb") as run:
        assert run.end() == 1
    assert_only_messages(run.output)
    assert_plain(run.terminal.received.decode())


def test_no_terminal_shows_plain_lines(tmp_path: Path) -> None:
    with sandbox_of(tmp_path, lambda: AS_OF):
        done = subprocess.run(
            COMMAND,
            cwd=tmp_path,
            env=terminal_environment("xterm-256color"),
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
    assert done.returncode == 1
    assert_only_messages(done.stdout)
    assert_plain(done.stderr.decode())


@dataclass(frozen=True)
class Asked(Request):
    """A request of which so much has come."""

    come: int = 0

    @property
    def received(self) -> int:
        return self.come


class Counted(Progress):
    """A run that stands so, ten seconds after its begin."""

    def __init__(
        self, requests: list[Request], ended: tuple[BatchResult, ...], total: int, limit: Limit
    ) -> None:
        super().__init__(total, limit, Seconds(100.0, 110.0))
        self.batches += ended
        self._active = {request.window: request for request in requests}


class Seconds(Clock):
    """A clock that shows these seconds one after another, and then the last for ever."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)

    def monotonic(self) -> float:
        return self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0]


@dataclass(frozen=True)
class Limit:
    """An hourly limit that makes the run wait so long.

    Attributes:
        held: For the first requests of all windows.
        next_start: For the next request.
    """

    held: float = 0.0
    next_start: float = 0.0

    def seconds_until(self, starts: int) -> float:
        return self.next_start if starts == 1 else self.held


def rendered(
    requests: list[Request],
    *ended: BatchResult,
    total: int = 9,
    width: int = 80,
    height: int = 24,
    limit: Limit | None = None,
) -> list[str]:
    """The display's lines, ten seconds after the run's begin."""
    console = Console(width=width, height=height, color_system=None)
    with console.capture() as capture:
        progress = Counted(requests, ended, total, limit or Limit())
        console.print(display.render(progress, height))
    return [line.rstrip() for line in capture.get().splitlines()]


def request(day: int, attempt: int = 1, come: int = 3_000_000) -> Request:
    days = Window(date(2025, 1, day), date(2025, 1, day))
    return Asked(days, attempt, 108.0, Path("absent"), come)


def batch(day: int, events: int, error: str | None = None) -> BatchResult:
    days = Window(date(2025, 1, day), date(2025, 1, day))
    return BatchResult(days, events, 1000, 1.0, 1, error)


class TestRender:
    def test_all(self) -> None:
        bar, *rest = rendered(
            [request(5, attempt=2, come=0), request(4)],
            batch(1, 12_000),
            batch(2, 0, "HTTP 500"),
            batch(3, 345),
            width=60,
        )
        assert re.fullmatch("━+[╸╺]?[━ ]*  3 of 9", bar)
        assert rest == [
            "12,345 events, 1,234 a second, 10.0 s, about 20.0 s left",
            "2025-01-04..2025-01-04    3.0 MB    1.5 MB/s   2.0 s",
            "2025-01-05..2025-01-05       0 B       0 B/s   2.0 s  try 2",
            "failed: 2025-01-02..2025-01-02",
        ]

    def test_before_anything_has_come(self) -> None:
        assert rendered([])[1:] == ["0 events, 0 a second, 10.0 s, time left: ?"]

    def test_a_wait_for_the_hourly_limit(self) -> None:
        ended = batch(1, 10)
        told = "the hourly limit is reached: the next in 55 min 0 s"
        assert rendered([], ended, limit=Limit(3300.0, 3300.0))[-1] == told
        for requests, limit in (
            ([], Limit(0.0, 3300.0)),  # nothing is left to request
            ([request(4)], Limit(3300.0, 3300.0)),
            ([], Limit(3300.0, 0.0)),
        ):
            assert "hourly" not in str(rendered(requests, ended, limit=limit))

    def test_nothing_to_do(self) -> None:
        lines = rendered([], total=0)
        assert lines[0].endswith("  0 of 0")
        assert lines[1].endswith("done")

    @pytest.mark.parametrize("height", [1, 5, 8, 24])
    def test_more_windows_than_lines(self, height: int) -> None:
        lines = rendered([request(day) for day in range(1, 31)], height=height)
        shown = [line for line in lines if line.startswith("2025-")]
        assert len(shown) == max(height - 6, 1)
        assert lines[-1] == f"and {30 - len(shown)} more"
        assert len(lines) <= max(height, 4)

    @pytest.mark.parametrize("width", [1, 8, 20, 40])
    def test_a_narrow_terminal(self, width: int) -> None:
        failed = [batch(day, 0, "HTTP 500") for day in range(10, 30)]
        lines = rendered([request(1, attempt=3), request(2)], *failed, total=40, width=width)
        assert len(lines) == 5
        assert max(map(len, lines)) <= width


class TestLogBelow:
    """The log's lines scroll above the display, and go on after it."""

    @pytest.fixture
    def handler(self) -> Iterator[logging.StreamHandler[Any]]:
        handler = logging.StreamHandler(sys.stderr)
        logging.getLogger().addHandler(handler)
        yield handler
        logging.getLogger().removeHandler(handler)

    @pytest.mark.parametrize("error", [None, KeyboardInterrupt(), ValueError()])
    def test_a_handler(
        self, handler: logging.StreamHandler[Any], error: BaseException | None
    ) -> None:
        before = sys.stderr
        with suppress(KeyboardInterrupt, ValueError):
            console = Console(file=io.StringIO(), force_terminal=True, width=60)
            with display.live_display(Counted([], (), 1, Limit()), console):
                assert handler.stream is sys.stderr
                assert handler.stream is not before, "the display stands on the terminal"
                if error is not None:
                    raise error
        assert sys.stderr is before
        assert handler.stream is before
