"""The live display: what is happening now, on the last lines of a terminal.

Others write to the same terminal: the log, and a loader in a pipe. So the display takes lines out
of what scrolls (DECSTBM), and each frame is one write that puts the cursor back. Whoever else
writes goes on where they were, above it.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from rich.console import Console, ConsoleDimensions, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tap_mixpanel_parallel.exceptions import ThreadError
from tap_mixpanel_parallel.report.position import tell_count, tell_time_left, tell_waiting
from tap_mixpanel_parallel.wording import counted, format_bytes, format_seconds, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from tap_mixpanel_parallel.report.progress import Pausing, Progress, Request

_OTHER_LINES: Final = 6
"""Lines of the terminal that are left for what is not a window."""

_FRAME_SECONDS: Final = 0.2

_LEAST_SCROLLED: Final = 2
"""Lines that a terminal scrolls at least."""

# What a terminal is told (ECMA-48, and DEC's VT100).
_SAVE, _RESTORE = "\x1b7", "\x1b8"  # the cursor
_DOWN, _UP = "\x1bD", "\x1b[{}A"  # the cursor; at the end of what scrolls, that moves up
_SCROLL, _SCROLL_ALL = "\x1b[1;{}r", "\x1b[r"  # it moves the cursor
_LINE = "\x1b[{};1H\x1b[K"  # go to a line, and erase it
_ERASE_BELOW = "\x1b[J"  # from the cursor on


def is_wanted() -> bool:
    """Whether standard error is a terminal that can show a display."""
    return (
        sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    )


@contextmanager
def live_display(progress: Progress) -> Iterator[None]:
    """Show a run on standard error while it goes on.

    Args:
        progress: Where the run stands.

    Raises:
        ThreadError: If the machine lets no further thread start.
    """
    console = Console(stderr=True)
    screen = Screen(sys.stderr.fileno())
    over = threading.Event()

    def draw() -> None:
        while True:
            console.size = size = _size(console)
            with console.capture() as capture:
                console.print(render(progress, size.height))
            screen.draw(capture.get().splitlines(), size)
            if over.wait(_FRAME_SECONDS):
                return

    thread = threading.Thread(target=draw, name="display", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise ThreadError(error) from None
    try:
        yield
    finally:
        over.set()
        thread.join()
        screen.clear()


def _size(console: Console) -> ConsoleDimensions:
    """The size of the terminal that is drawn on; rich asks that of standard input."""
    with suppress(OSError, ValueError):
        columns, lines = os.get_terminal_size(sys.stderr.fileno())
        if columns and lines:
            return ConsoleDimensions(columns, lines)
    return console.size


class Screen:
    """The last lines of a terminal."""

    def __init__(self, descriptor: int) -> None:
        """Take no line yet.

        Args:
            descriptor: The terminal.
        """
        self._descriptor = descriptor
        self._size = ConsoleDimensions(0, 0)
        self._taken = 0

    def draw(self, lines: list[str], size: ConsoleDimensions) -> None:
        """Show these lines, and leave the cursor where it is.

        Args:
            lines: The lines; those that the terminal has no room for are left out.
            size: The terminal's size.
        """
        frame = ""
        if size != self._size:  # below the cursor is what was shown before, wherever it is now
            frame = _SAVE + _SCROLL_ALL + _RESTORE + (_ERASE_BELOW if self._taken else "")
            self._size, self._taken = size, 0
        lines = lines[: max(size.height - _LEAST_SCROLLED, 0)]
        if (more := len(lines) - self._taken) > 0:
            self._taken = len(lines)
            frame += _DOWN * more + _UP.format(more)  # so that what stands there moves up
            frame += _SAVE + _SCROLL.format(size.height - self._taken) + _RESTORE
        self._write(frame + self._rows([""] * (self._taken - len(lines)) + lines))

    def clear(self) -> None:
        """Take the lines away, and have the terminal scroll all of it."""
        self._write(self._rows([""] * self._taken) + _SAVE + _SCROLL_ALL + _RESTORE)

    def _rows(self, lines: list[str]) -> str:
        first = self._size.height - self._taken + 1
        rows = (_LINE.format(number) + line for number, line in enumerate(lines, first))
        return _SAVE + "".join(rows) + _RESTORE

    def _write(self, frame: str) -> None:
        """Write a frame at once, so that nobody else writes in its midst."""
        rest = frame.encode(errors="replace")
        with suppress(OSError):  # the terminal may be gone
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


def release_terminal() -> None:
    """Have the terminal scroll all of it, if a display may stand there."""
    if is_wanted():
        os.write(sys.stderr.fileno(), (_SAVE + _SCROLL_ALL + _RESTORE).encode())


def render(progress: Progress, height: int) -> RenderableType:
    """The whole, the windows under way, and what has failed."""
    failed = progress.failed
    whole = Table.grid(padding=(0, 2), expand=True)
    whole.add_column(ratio=1)
    whole.add_column(no_wrap=True, justify="right")
    whole.add_row(
        ProgressBar(total=max(progress.total, 1), completed=len(progress.batches)),
        tell_count(progress),
    )
    elapsed = progress.elapsed
    rate = progress.events / elapsed if elapsed else 0.0
    told = [f"{progress.events:,} events, {rate:,.0f} a second", format_seconds(elapsed)]
    if left := tell_time_left(progress):
        told.append(left)
    rows = [_of_request(request, progress) for request in progress.active]
    rows += [_of_pausing(pausing, progress) for pausing in progress.pausing]
    rows.sort(key=lambda row: row.plain)  # by the days, with which each begins
    room = max(height - _OTHER_LINES, 1)
    parts: list[RenderableType] = [whole, _line(", ".join(told)), *rows[:room]]
    if len(rows) > room:
        parts.append(_line(f"and {len(rows) - room} more", style="dim"))
    if waiting := tell_waiting(progress):
        parts.append(_line(waiting, style="yellow"))
    if progress.arrived:
        parts.append(_line(f"{counted(progress.arrived, 'window')} on the way to the loader"))
    if failed:
        parts.append(_line(f"failed: {', '.join(map(str, failed))}", style="red"))
    return Group(*parts)


def _of_request(request: Request, progress: Progress) -> Text:
    """A window under way; its days come first, since a narrow terminal cuts the end."""
    seconds, received = max(progress.now() - request.started, 0.001), request.received
    size, speed = format_bytes(received), format_bytes(received / seconds)
    told = f"{size:>8}  {speed:>8}/s" if received else "waiting for the first byte"
    line = _line(f"{request.window}  {told:<26}  {format_seconds(seconds):>6}")
    if request.remote is not None:
        line.append(f"  {request.remote.worker}", style="dim")
    if request.attempt > 1:
        line.append(f"  try {request.attempt} of {progress.max_attempts}", style="yellow")
    return line


def _of_pausing(pausing: Pausing, progress: Progress) -> Text:
    """A window that waits for its next attempt."""
    pause = pausing.due - progress.now()
    when = f"in {format_seconds(pause)}" if pause > 0 else "when a worker is free"
    told = f"retry {pausing.attempt} of {progress.max_attempts} {when}"
    return _line(f"{pausing.window}  {told}", style="yellow")


def _line(text: str, style: str = "") -> Text:
    """A text that never takes a second line, however narrow the terminal."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")
