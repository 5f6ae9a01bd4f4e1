"""The live display: what is happening now, on a terminal's standard error."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tap_mixpanel_parallel.wording import format_bytes, format_seconds, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from tap_mixpanel_parallel.report.progress import Progress, Request

_OTHER_LINES: Final = 6
"""Lines of the terminal that are left for what is not a window."""


def is_wanted() -> bool:
    """Whether standard error is a terminal that can show a display."""
    return (
        sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    )


@contextmanager
def live_display(progress: Progress, console: Console | None = None) -> Iterator[None]:
    """Show a run while it goes on; log lines scroll above it.

    Args:
        progress: Where the run stands.
        console: Where to show it; standard error by default.
    """
    console = console or Console(stderr=True)
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
    ]

    def render() -> RenderableType:
        return _render(progress, console.height)

    try:
        with Live(console=console, get_renderable=render, refresh_per_second=5, transient=True):
            for handler in handlers:
                handler.setStream(sys.stderr)  # which Live has replaced
            yield
    finally:
        for handler in handlers:
            handler.setStream(sys.stderr)


def _render(progress: Progress, height: int) -> RenderableType:
    """The whole, the windows under way, and what has failed."""
    completed = len(progress.batches)
    whole = Table.grid(padding=(0, 2), expand=True)
    whole.add_column(ratio=1)
    whole.add_column(no_wrap=True, justify="right")
    whole.add_row(
        ProgressBar(total=max(progress.total, 1), completed=completed),
        f"{completed} of {progress.total}",
    )
    elapsed = progress.elapsed
    rate = progress.events / elapsed if elapsed else 0.0
    summary = (
        f"{progress.events:,} events, {rate:,.0f} a second, {format_seconds(elapsed)}, "
        f"{_time_left(progress)}"
    )
    active = progress.active
    room = max(height - _OTHER_LINES, 1)
    parts: list[RenderableType] = [whole, _line(summary)]
    parts.extend(_window(request, progress.now()) for request in active[:room])
    if len(active) > room:
        parts.append(_line(f"and {len(active) - room} more", style="dim"))
    if not active and progress.seconds_held and (wait := progress.seconds_to_next_start):
        parts.append(_line(f"the hourly limit is reached: the next in {format_seconds(wait)}"))
    failed = [str(batch.window) for batch in progress.batches if not batch.success]
    if failed:
        parts.append(_line(f"failed: {', '.join(failed)}", style="red"))
    return Group(*parts)


def _time_left(progress: Progress) -> str:
    if len(progress.batches) == progress.total:
        return "done"
    if not progress.batches:
        return "time left: ?"
    return f"about {format_seconds(progress.seconds_left)} left"


def _window(request: Request, now: float) -> Text:
    """A window under way; its days come first, since a narrow terminal cuts the end."""
    seconds, received = max(now - request.started, 0.001), request.received
    size, speed = format_bytes(received), format_bytes(received / seconds)
    line = _line(f"{request.window}  {size:>8}  {speed:>8}/s  {format_seconds(seconds):>6}")
    if request.remote is not None:
        line.append(f"  {request.remote.worker}", style="dim")
    if request.attempt > 1:
        line.append(f"  try {request.attempt}", style="yellow")
    return line


def _line(text: str, style: str = "") -> Text:
    """A text that never takes a second line, however narrow the terminal."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")
