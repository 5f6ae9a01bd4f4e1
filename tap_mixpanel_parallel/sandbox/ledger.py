"""What was asked of the sandbox, for tests and benchmarks to look at."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from tap_mixpanel_parallel.sandbox.faults import Fault


@dataclass(frozen=True)
class ExportRequest:
    """One request for an export, as it ended.

    Attributes:
        from_date: First day asked for; None if it was no date.
        to_date: Last day asked for; None if it was no date.
        status: The HTTP status answered; None if the connection was reset before it.
        started: When the request was read, by `time.monotonic()`.
        ended: When its answer was about to be complete, or was broken off.
        bytes_sent: Bytes of body sent, as on the wire but without the chunks' frames.
        events: Event lines that went into the body.
        gzip: Whether the body was compressed.
        complete: Whether the answer was sent to its regular end.
        fault: The fault that was played.
    """

    from_date: date | None
    to_date: date | None
    status: int | None
    started: float
    ended: float
    bytes_sent: int = 0
    events: int = 0
    gzip: bool = False
    complete: bool = True
    fault: Fault | None = None


class Visit:
    """A request in progress. One thread fills it in, `close` puts it into the ledger."""

    def __init__(self, ledger: Ledger, from_date: date | None, to_date: date | None) -> None:
        """Begin now."""
        self._ledger = ledger
        self._from_date = from_date
        self._to_date = to_date
        self._started = time.monotonic()
        self._closed = False
        self.status: int | None = None
        self.bytes_sent = 0
        self.events = 0
        self.gzip = False
        self.fault: Fault | None = None
        self.leaving = ExitStack()

    def close(self, *, complete: bool) -> None:
        """End the visit; only the first call counts.

        It is called before the last bytes of an answer leave. Otherwise a client could have the
        whole answer, and send its next request, while this one still counted as running.
        """
        if self._closed:
            return
        self._closed = True
        self.leaving.close()
        self._ledger.leave(
            ExportRequest(
                from_date=self._from_date,
                to_date=self._to_date,
                status=self.status,
                started=self._started,
                ended=time.monotonic(),
                bytes_sent=self.bytes_sent,
                events=self.events,
                gzip=self.gzip,
                complete=complete,
                fault=self.fault,
            )
        )


class Ledger:
    """All requests so far. Threads share it."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = Lock()
        self._requests: list[ExportRequest] = []
        self._running = 0
        self._most = 0

    @property
    def requests(self) -> list[ExportRequest]:
        """The requests that have ended, in the order of their ends."""
        with self._lock:
            return list(self._requests)

    @property
    def max_concurrent(self) -> int:
        """The most requests that were ever in progress at once."""
        return self._most

    def arrive(self, from_date: date | None, to_date: date | None) -> Visit:
        """Count a request in."""
        with self._lock:
            self._running += 1
            self._most = max(self._most, self._running)
        return Visit(self, from_date, to_date)

    def leave(self, request: ExportRequest) -> None:
        """Count a request out."""
        with self._lock:
            self._running -= 1
            self._requests.append(request)
