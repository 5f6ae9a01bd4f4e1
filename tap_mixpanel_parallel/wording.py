"""Numbers, and texts from outside, as people read them. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_LONGEST_VALUE: Final = 200


def printable(text: str) -> str:
    r"""A text from outside, in one line that no terminal and no log takes for a command.

    Controls, line ends, bidirectional marks, other format characters, lone surrogates and
    blanks other than the space are escaped as in Python: `\x1b`, `\n`, `\u202e`. To escape
    twice changes nothing.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shown(value: object) -> str:
    """A value that a person gave, as an error quotes it: in one line, and not all of a long one."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of over 4,300 digits; a list in a list in …
        text = f"the {type(value).__name__}"
    text = printable(re.sub(r"Decimal\('([^']*)'\)", r"\1", text))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def counted(number: int, noun: str) -> str:
    """A number of things: `1 day`, `2,000 days`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_bytes(size: float) -> str:
    """A number of bytes for people: `1.5 MB`."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:  # noqa: PLR2004
        size /= 1000
        unit += 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def format_seconds(seconds: float) -> str:
    """A duration for people: `0.8 s`, `2 min 5 s`, `3 h 20 min`."""
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_moment(moment: datetime) -> str:
    """A moment of the next hours, in UTC, for people: `14:20:35 UTC`."""
    return f"{moment:%H:%M:%S} UTC"
