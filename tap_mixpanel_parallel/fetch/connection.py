"""A request's own connection, which ends with it and can be broken off from outside.

No request uses the connection of another: what a server or a proxy sends too late, or twice,
would be taken for the next answer.
"""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool

from tap_mixpanel_parallel.exceptions import ThreadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from urllib3.connectionpool import ConnectionPool

# At a header that it can't read it warns, with a traceback and with what the header holds.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class OwnConnection:
    """A session for one request. Context manager.

    Attributes:
        session: Makes the request.
    """

    def __init__(self) -> None:
        self.session = Session()
        self._sockets: list[socket.socket] = []
        self._is_broken_off = False
        self._lock = threading.Lock()
        for scheme in ("https://", "http://"):
            self.session.mount(scheme, _Adapter(self._keep))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        for each in self._sockets:
            each.close()

    def break_off(self) -> None:
        """End the connection, whatever another thread is waiting for; none opens any more."""
        with self._lock:
            self._is_broken_off = True
            for each in self._sockets:
                _shut_down(each)

    def _keep(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets.append(opened.dup())
            if self._is_broken_off:
                _shut_down(opened)


def _shut_down(opened: socket.socket) -> None:
    with suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)


class Connections:
    """The connections that are in use. Context manager: its end breaks them off.

    So no request goes on for a run that is over, in a program that is not.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._used: set[OwnConnection] = set()
        self._is_over = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Break them off."""
        self.break_off()

    def break_off(self) -> None:
        """Break off each connection, and each that opens from now on."""
        with self._lock:
            self._is_over = True
            for each in self._used:
                each.break_off()

    @contextmanager
    def use(self, connection: OwnConnection) -> Iterator[None]:
        """Have a connection end with the others while the block uses it."""
        with self._lock:
            self._used.add(connection)
            if self._is_over:
                connection.break_off()
        try:
            yield
        finally:
            with self._lock:
                self._used.discard(connection)


class Deadline:
    """Breaks a connection off when a time is up. Context manager.

    A time-out of the socket's starts afresh with each byte; this one does not.

    Attributes:
        is_over: Whether the connection was broken off.
    """

    def __init__(self, connection: OwnConnection, seconds: float) -> None:
        """Give the connection so many seconds, from when the context is entered."""
        self.is_over = False
        self._connection = connection
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        """Begin to count.

        Raises:
            ThreadError: If there is no thread to watch the time.
        """
        try:
            self._timer.start()
        except RuntimeError as error:
            raise ThreadError(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.is_over = True
        self._connection.break_off()


class _Adapter(HTTPAdapter):
    """Keeps a second descriptor of each connection, also while TLS still shakes hands."""

    def __init__(self, keep: Callable[[socket.socket], None]) -> None:
        self._keep = keep
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> ConnectionPool:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        if not isinstance(pool, HTTPConnectionPool):
            return pool
        keep, connection = self._keep, pool.ConnectionCls

        class Kept(connection):  # type: ignore[valid-type,misc]
            def _new_conn(self) -> socket.socket:
                opened: socket.socket = super()._new_conn()
                keep(opened)
                return opened

        pool.ConnectionCls = Kept
        return pool
