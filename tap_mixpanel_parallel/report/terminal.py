"""Log lines on a terminal: the time and the message, as short as they are read."""

from __future__ import annotations

import logging
import sys
from typing import Final

from rich.console import Console

_COLOURS: Final = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}


class TerminalFormatter(logging.Formatter):
    """Tells a level by its colour, or by its name where there are no colours."""

    def __init__(self, *, has_colours: bool) -> None:
        """Make lines with colours, or without."""
        super().__init__("{asctime} {message}", "%H:%M:%S", style="{")
        self._has_colours = has_colours

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """A record's line; one without a colour of its own is a matter of course."""
        colour = _COLOURS.get(record.levelno)
        if colour is None or self._has_colours:
            line = super().formatMessage(record)
            return f"{colour}{line}\x1b[0m" if colour else line
        return f"{record.asctime} {record.levelname.lower()}: {record.message}"


def shorten_lines() -> None:
    """Have the log's lines be short where they go to a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return
    console = Console(stderr=True)
    formatter = TerminalFormatter(
        has_colours=console.color_system is not None and not console.no_color
    )
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setFormatter(formatter)
