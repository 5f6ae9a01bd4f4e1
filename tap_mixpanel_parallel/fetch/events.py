"""What the fetching of a run tells its observers, from several threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tap_mixpanel_parallel.exceptions import AttemptError
    from tap_mixpanel_parallel.plan.windows import Window


@dataclass(frozen=True, slots=True)
class Requested:
    """A request has started; its body grows in the file at `path`.

    An attempt that the hourly limit has refused does not count: the next has its number.
    """

    window: Window
    attempt: int
    path: Path


@dataclass(frozen=True, slots=True)
class Ended:
    """A request has ended, well or not."""

    window: Window


@dataclass(frozen=True, slots=True)
class Retrying:
    """An attempt has failed, and another follows in `pause` seconds."""

    window: Window
    attempt: int
    error: AttemptError
    pause: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The hourly limit has refused a request: its window goes first once Mixpanel takes some."""

    window: Window
    error: AttemptError


@dataclass(frozen=True, slots=True)
class Waiting:
    """No request may start before a moment: the hourly limit is reached.

    Attributes:
        until: The moment.
        seconds: How long that is from now.
        error: What Mixpanel says of it; None if the tap has counted so many requests itself.
    """

    until: datetime
    seconds: float
    error: AttemptError | None = None


@dataclass(frozen=True, slots=True)
class Progressed:
    """A request that another machine makes is so far.

    Attributes:
        window: The days.
        worker: The name of who makes it.
        received: Bytes so far.
    """

    window: Window
    worker: str
    received: int


FetchEvent = Requested | Progressed | Ended | Retrying | Refused | Waiting
