"""The steps in which a body is sent: bytes, and what happens between them."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True)
class Pause:
    """Send nothing for some seconds; with None, never send again."""

    seconds: float | None


@dataclass(frozen=True)
class Unframed:
    """Send these bytes as they are, outside of any chunk."""

    data: bytes


class Ending(enum.Enum):
    """A way to break a connection off."""

    CLOSE = "close"
    RESET = "reset"


Step = bytes | Pause | Unframed | Ending
