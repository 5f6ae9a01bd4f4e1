"""The unit of work: one attempt at one window, as a value that any executor can take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tap_mixpanel_parallel.exceptions import AttemptError
    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.settings.credentials import Credentials


@dataclass(frozen=True, slots=True)
class Query:
    """What a run asks of each window, and how.

    Attributes:
        url: Base URL of the API, e.g. `https://data.mixpanel.com/api/2.0`.
        credentials: How to authenticate.
        events: Only events of these names; none means all.
        where: Mixpanel's filter expression.
        event_limit: At most so many events of each window.
        timeout: Seconds without a byte after which an attempt has failed.
        attempt_timeout: Seconds after which it has failed, however its bytes come.
        most_bytes: The largest body.
        trust_env: Whether the environment may name a proxy (see requests).
    """

    url: str
    credentials: Credentials
    events: tuple[str, ...] = ()
    where: str | None = None
    event_limit: int | None = None
    timeout: float = 600.0
    attempt_timeout: float = 21_600.0
    most_bytes: int = 20_000_000_000
    trust_env: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at one window. It can be pickled.

    Attributes:
        window: The days.
        query: What is asked.
        path: Where the body goes.
    """

    window: Window
    query: Query
    path: Path


@dataclass(frozen=True, slots=True)
class Download:
    """A window's body on disk, as received.

    Attributes:
        path: The file.
        compressed: Whether it is gzip.
        size: Its length in bytes.
        received_at: When its last byte came.
        answered_at: When Mixpanel answered, by its own clock; None if it did not say.
        first_byte_seconds: Until its first byte came, from the request's start.
        seconds: Until its last byte came, from the same start.
    """

    path: Path
    compressed: bool
    size: int
    received_at: datetime
    answered_at: datetime | None = None
    first_byte_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A window that has come with its body, or that has failed with its last attempt.

    Attributes:
        window: The days.
        attempts: How often they were requested; what the hourly limit refused does not count.
        started: When the first request started, in the scheduler's seconds.
        download: The body; None if the window has failed.
        error: Why the window has failed.
    """

    window: Window
    attempts: int
    started: float
    download: Download | None = None
    error: AttemptError | None = None
