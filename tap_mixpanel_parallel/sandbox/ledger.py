"""The requests that the sandbox has had, for tests and benchmarks."""

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
    """A request for an export that has ended.

    Attributes:
        from_date: The first day of the range; None if the parameter is not a date.
        to_date: The last day of the range; None if the parameter is not a date.
        status: The HTTP status of the answer; None if the connection was reset before it.
        started: When the request was read, by `time.monotonic()`.
        ended: Just before the last bytes of the answer left, or when it was broken off.
        bytes_sent: The bytes of body sent, compressed if it was, without the framing of chunks.
        events: The event lines that were put into the body.
        gzip: Whether the body was compressed.
        complete: Whether the answer was sent to its regular end.
        fault: The fault that was played, if any.
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
    """A request in progress. One thread fills it in; `close` adds it to the ledger."""

    def __init__(self, ledger: Ledger, from_date: date | None, to_date: date | None) -> None:
        """Start now."""
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
        """End the visit; only the first call has an effect.

        Call it before the last bytes of an answer are sent. Otherwise a client can have the whole
        answer, and send its next request, while this one still counts as running.
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
        """Start empty."""
        self._lock = Lock()
        self._requests: list[ExportRequest] = []
        self._running = 0
        self._most = 0

    @property
    def requests(self) -> list[ExportRequest]:
        """The requests that have ended, in the order in which they ended."""
        with self._lock:
            return list(self._requests)

    @property
    def max_concurrent(self) -> int:
        """The highest number of requests that were in progress at the same time."""
        return self._most

    def arrive(self, from_date: date | None, to_date: date | None) -> Visit:
        """Add a request that has started."""
        with self._lock:
            self._running += 1
            self._most = max(self._most, self._running)
        return Visit(self, from_date, to_date)

    def leave(self, request: ExportRequest) -> None:
        """Add a request that has ended."""
        with self._lock:
            self._running -= 1
            self._requests.append(request)
