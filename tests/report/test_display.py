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
from typing import TYPE_CHECKING, Self

import pyte
import pytest
from rich.console import Console, ConsoleDimensions

from tap_mixpanel_parallel import cli
from tap_mixpanel_parallel.exceptions import RateLimitError, TransportError
from tap_mixpanel_parallel.fetch.events import Ended, Progressed, Retrying, Waiting
from tap_mixpanel_parallel.report import display
from tap_mixpanel_parallel.report.display import Screen
from tap_mixpanel_parallel.report.terminal import TerminalFormatter, shorten_lines
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tests.report.events import Counting, failed
from tests.report.events import window as window_of
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
        self.name = os.ttyname(self.slave)
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
        end = "failed after 1 attempt: HTTP 500" if day == BROKEN else "handed to the loader: "
        line = rf"(?m)(?:\| |^[\d:]{{8}} (?:error: )?){window(day)} {end}.*\([0-3] of 4 windows"
        assert len(re.findall(line, log)) == 1


@pytest.mark.parametrize("columns", [100, 20])
def test_a_terminal_shows_the_run(tmp_path: Path, columns: int) -> None:
    with watched(tmp_path, columns) as run:
        terminal = run.terminal
        first, second, third, fourth = (f"\n{window(day)[: columns - 1]}" for day in DAYS)
        terminal.wait_for("0 of 4 windows", first, second)
        run.gate.let_pass(2)
        run.gate.wait_for(4)
        count = "1 of 4 windows, 1 failed"[: columns - 1]
        terminal.wait_for(count, third, fourth, f"\nfailed: {window(BROKEN)}"[: columns - 1])
        (bar,) = (line for line in terminal.shown.splitlines() if count in line)
        assert re.fullmatch(
            "[━╸╺]+  1 of 4 windows, 1 failed" if columns > 40 else f"{count}.", bar
        )
        assert len(bar) == columns
        code = run.end()
        left = terminal.shown

    assert code == 1
    assert_only_messages(run.output)
    assert not re.search("^(━|failed:|2025-01-0)", left, re.MULTILINE), "the display is gone"
    assert run.terminal.screen.margins is None
    assert b"METRIC" not in run.terminal.received
    assert not re.search(rb"2025-01-0\d handed", run.terminal.received)


def test_a_terminal_that_changes_its_size(tmp_path: Path) -> None:
    with watched(tmp_path, columns=100) as run:
        terminal = run.terminal
        terminal.wait_for("  0 of 4 windows")
        terminal.resize(20, 8)
        run.gate.let_pass(2)
        run.gate.wait_for(4)
        terminal.wait_for("1 of 4 windows")
        terminal.resize(60, 30)
        terminal.wait_for("  1 of 4 windows, 1 failed", window(DAYS[2]), window(DAYS[3]))
        assert run.end() == 1
    assert_only_messages(run.output)


def test_a_loader_that_prints_into_the_same_terminal(tmp_path: Path) -> None:
    with watched(tmp_path, columns=100) as run:
        terminal = run.terminal
        terminal.wait_for("  0 of 4 windows", window(DAYS[0]))
        with Path(terminal.name).open("w") as loader:
            for number in range(30):
                print("loader", number, file=loader, flush=True)
                if number == 15:
                    run.gate.let_pass(2)
                    run.gate.wait_for(4)
        terminal.wait_for("loader 29", "  1 of 4 windows", window(DAYS[2]), window(DAYS[3]))
        lines = terminal.shown.splitlines()
        printed = [line for line in lines if line.startswith("loader")]
        assert printed == [f"loader {30 - n}" for n in range(len(printed), 0, -1)]
        assert sum("━" in line for line in lines) == 1
        assert run.end() == 1
    assert_only_messages(run.output)


def test_a_dumb_terminal_shows_plain_lines(tmp_path: Path) -> None:
    with watched(tmp_path, columns=200, term="dumb") as run:
        assert run.end() == 1
    assert_only_messages(run.output)
    log = run.terminal.received.decode()
    assert_plain(log)
    assert " | " not in log, "they are short"


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


class Shown(Counting):
    """A run that is shown, without colours."""

    def lines(self, width: int = 80, height: int = 24) -> list[str]:
        console = Console(width=width, height=height, color_system=None)
        with console.capture() as capture:
            console.print(display.render(self.progress, height))
        return [line.rstrip() for line in capture.get().splitlines()]


class TestRender:
    def test_all(self, tmp_path: Path) -> None:
        run = Shown(tmp_path, windows=9, workers=2)
        run.write(1, 0, 4, events=12_000)
        run.at(0, run.requested(2))
        run.at(5, Ended(window_of(2)))
        run.at(5, failed(2))
        run.write(3, 0, 6, events=345)
        run.at(6, run.requested(7))
        run.at(6, Ended(window_of(7)))
        run.at(8, run.requested(5, attempt=2))
        run.at(8, run.requested(4, received=3_000_000))
        run.at(7, run.requested(6))
        run.at(8, Ended(window_of(6)))
        run.at(8, Retrying(window_of(6), 2, TransportError("x"), 5.5))
        run.clock.seconds = 110.0
        bar, *rest = run.lines(width=76)
        assert re.fullmatch("━+[╸╺]?[━ ]*  2 of 9 windows, 1 failed", bar)
        assert rest == [
            "12,345 events, 1,234 a second, 10.0 s, about 13.0 s left",
            "2025-01-04..2025-01-04    3.0 MB    1.5 MB/s         2.0 s",
            "2025-01-05..2025-01-05  waiting for the first byte   2.0 s  try 2 of 4",
            "2025-01-06..2025-01-06  retry 3 of 4 in 3.5 s",
            "1 window on the way to the loader",
            "failed: 2025-01-02..2025-01-02",
        ]

    def test_who_fetches_if_it_is_another_machine(self, tmp_path: Path) -> None:
        run = Shown(tmp_path)
        run.at(0, run.requested(1))
        run.at(1, Progressed(window_of(1), "worker-3", 2_000_000))
        run.clock.seconds = 102.0
        assert run.lines()[-1] == (
            "2025-01-01..2025-01-01    2.0 MB    1.0 MB/s         2.0 s  worker-3"
        )

    def test_before_anything_has_come(self, tmp_path: Path) -> None:
        run = Shown(tmp_path)
        run.clock.seconds += 10
        assert run.lines()[1:] == ["0 events, 0 a second, 10.0 s"]

    def test_a_wait_for_the_hourly_limit(self, tmp_path: Path) -> None:
        run = Shown(tmp_path)
        until = datetime(2025, 1, 1, 14, 20, 7, tzinfo=UTC)
        run.at(0, Waiting(until, 3300.0))
        assert run.lines()[-1] == "waiting for the hourly limit until 14:20:07 UTC"
        run.at(0, Waiting(until, 3300.0, RateLimitError("HTTP 429")))
        told = "waiting: Mixpanel is asked again at 14:20:07 UTC (hourly limit)"
        assert run.lines()[-1] == told
        assert "14:20:07 UTC" in run.lines(width=60)[-1]
        run.clock.seconds += 3300
        assert "hourly" not in str(run.lines())

    def test_nothing_to_do(self, tmp_path: Path) -> None:
        lines = Shown(tmp_path, windows=0).lines()
        assert lines[0].endswith("  0 of 0 windows")
        assert lines[1].endswith("done")

    @pytest.mark.parametrize("height", [1, 5, 8, 24])
    def test_more_windows_than_lines(self, tmp_path: Path, height: int) -> None:
        run = Shown(tmp_path, windows=30)
        for day in range(1, 31):
            run.at(0, run.requested(day))
        lines = run.lines(height=height)
        shown = [line for line in lines if line.startswith("2025-")]
        assert len(shown) == max(height - 6, 1)
        assert lines[-1] == f"and {30 - len(shown)} more"
        assert len(lines) <= max(height, 4)

    @pytest.mark.parametrize("width", [1, 8, 20, 40])
    def test_a_narrow_terminal(self, tmp_path: Path, width: int) -> None:
        run = Shown(tmp_path, windows=30)
        run.at(0, run.requested(1, attempt=3))
        run.at(0, Retrying(window_of(2), 1, TransportError("x"), 60.0))
        for day in range(10, 30):
            run.at(1, failed(day))
        lines = run.lines(width)
        assert len(lines) == 5
        assert max(map(len, lines)) <= width


class Seen:
    """A screen that is drawn on, and others that write above."""

    def __init__(self, columns: int = 30, lines: int = 10) -> None:
        reader, self.writer = os.pipe()
        self._reader = os.fdopen(reader, "rb", buffering=0)
        self.emulated = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.emulated)
        self.screen = Screen(self.writer)

    def draw(self, *lines: str) -> list[str]:
        size = ConsoleDimensions(self.emulated.columns, self.emulated.lines)
        self.screen.draw(list(lines), size)
        return self.shown

    def write(self, text: str) -> list[str]:
        """What somebody else writes to the terminal."""
        _ = self.shown
        self._stream.feed(text.encode())
        return self.shown

    @property
    def shown(self) -> list[str]:
        os.write(self.writer, b"\0")  # so that there is something to read
        self._stream.feed(self._reader.read(1 << 16))
        return [line.rstrip() for line in self.emulated.display]

    def close(self) -> None:
        self._reader.close()
        os.close(self.writer)


class TestScreen:
    """What others write stays, and nothing of an earlier frame does."""

    @pytest.fixture
    def seen(self) -> Iterator[Seen]:
        seen = Seen()
        yield seen
        seen.close()

    def test_others_write_above_it(self, seen: Seen) -> None:
        seen.write("$ tap | loader\r\n")
        assert seen.draw("bar", "row") == ["$ tap | loader", *[""] * 7, "bar", "row"]
        for number in range(20):
            seen.write(f"loader {number}\r\n")
            seen.draw(f"bar {number}", "row")
        kept = [f"loader {number}" for number in range(13, 20)]
        assert seen.shown == [*kept, "", "bar 19", "row"]

    def test_others_may_be_in_the_midst_of_a_line(self, seen: Seen) -> None:
        seen.write("\r\n" * 9 + "half")
        seen.draw("bar", "row")
        seen.draw("bar", "row 1", "row 2")
        seen.write(" a line\r\n")
        assert seen.draw("bar")[-5:] == ["half a line", "", "", "", "bar"]

    def test_it_goes(self, seen: Seen) -> None:
        seen.write("$ tap\r\n" * 12)
        seen.draw("bar", "row")
        seen.screen.clear()
        shown = seen.write("$ ls\r\n" * 3)
        assert shown == [*["$ tap"] * 6, *["$ ls"] * 3, ""]
        assert seen.emulated.margins is None

    def test_a_new_size_leaves_no_old_line(self, seen: Seen) -> None:
        seen.write("$ tap\r\n")
        seen.draw("bar", "row")
        seen.emulated.resize(14, 30)
        assert seen.draw("bar", "row") == ["$ tap", *[""] * 11, "bar", "row"]
        seen.emulated.resize(14, 20)
        assert seen.draw("bar", "row") == ["$ tap", *[""] * 11, "bar", "row"]

    @pytest.mark.parametrize("lines", [1, 2, 3, 4])
    def test_a_low_terminal(self, lines: int) -> None:
        seen = Seen(lines=lines)
        shown = seen.draw("bar", "row", "row")
        assert [line for line in shown if line] == ["bar", "row", "row"][: max(lines - 2, 0)]
        seen.close()

    def test_a_terminal_that_is_gone(self) -> None:
        seen = Seen()
        seen.close()
        seen.screen.draw(["bar"], ConsoleDimensions(30, 10))
        seen.screen.clear()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), ValueError()])
def test_the_display_goes_however_a_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    with Terminal(60, 10) as terminal, os.fdopen(terminal.slave, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        shown = display.live_display(Counting(tmp_path).progress)
        with suppress(KeyboardInterrupt, ValueError), shown:
            terminal.wait_for("  0 of 3 windows")
            if error is not None:
                raise error
        stream.write("end\n")
        stream.flush()
        terminal.wait_for("end")
        assert "windows" not in terminal.shown
        assert terminal.screen.margins is None


def test_a_second_signal_releases_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal(60, 10) as terminal, os.fdopen(terminal.slave, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        Screen(terminal.slave).draw(["bar"], ConsoleDimensions(60, 10))
        terminal.wait_for("bar")
        assert terminal.screen.margins is not None
        display.release_terminal()
        while terminal.screen.margins is not None:
            assert terminal.read()


class TestLogLines:
    """Short on a terminal."""

    @pytest.mark.parametrize("colours", [False, True])
    def test_their_form(self, colours: bool) -> None:
        formatter = TerminalFormatter(has_colours=colours)
        lines = []
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            record = logging.LogRecord("tap", level, "x.py", 1, "%d is\n%s", (1, "up"), None)
            record.created = 1_740_000_000.0
            lines.append(formatter.format(record))
        time = datetime.fromtimestamp(1_740_000_000).astimezone().strftime("%H:%M:%S")
        assert lines == (
            [
                f"\x1b[2m{time} 1 is\nup\x1b[0m",
                f"{time} 1 is\nup",
                f"\x1b[33m{time} 1 is\nup\x1b[0m",
                f"\x1b[31m{time} 1 is\nup\x1b[0m",
            ]
            if colours
            else [
                f"{time} debug: 1 is\nup",
                f"{time} 1 is\nup",
                f"{time} warning: 1 is\nup",
                f"{time} error: 1 is\nup",
            ]
        )

    @pytest.mark.parametrize(
        ("variables", "start"),
        [({}, "\x1b[31m"), ({"NO_COLOR": "1"}, None), ({"TERM": "dumb"}, None)],
    )
    def test_on_a_terminal(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], start: str | None
    ) -> None:
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in ({"TERM": "xterm-256color"} | variables).items():
            monkeypatch.setenv(name, value)
        with Terminal(60, 10) as terminal, os.fdopen(terminal.slave, "w") as stream:
            monkeypatch.setattr(sys, "stderr", stream)
            handler, other = logging.StreamHandler(stream), logging.StreamHandler(io.StringIO())
            monkeypatch.setattr(logging.getLogger(), "handlers", [handler, other])
            shorten_lines()
            line = handler.format(logging.LogRecord("x", logging.ERROR, "", 1, "up", None, None))
        assert re.fullmatch(r"[\d:]{8} error: up" if start is None else r".*[\d:]{8} up.*", line)
        assert line.startswith(start or "")
        assert other.formatter is None, "it does not write to the terminal"

    def test_a_configuration_of_the_log_wins(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shortened = list[bool]()
        monkeypatch.setattr(cli, "shorten_lines", lambda: shortened.append(True))
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        (tmp_path / "log.yml").touch()
        with cli.log_set_up((), {"SINGER_SDK_LOG_CONFIG": str(tmp_path / "log.yml")}):
            pass
        assert shortened == []
        with cli.log_set_up((), {}):
            pass
        assert shortened == [True]
