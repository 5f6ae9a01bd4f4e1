"""The HTTP server of the sandbox: sockets, headers, chunks."""

from __future__ import annotations

import logging
import os
import re
import socket
import socketserver
import struct
import sys
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from tap_mixpanel_parallel.sandbox.answers import Answer, RefusedError
from tap_mixpanel_parallel.sandbox.query import parsed_date, whole_number
from tap_mixpanel_parallel.sandbox.shaping import Throttle
from tap_mixpanel_parallel.sandbox.steps import Ending, Pause, Unframed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tap_mixpanel_parallel.sandbox.export import Backend, Export
    from tap_mixpanel_parallel.sandbox.ledger import Visit

_PATHS = ("/api/2.0/export", "/api/2.0/export/")
_LARGEST_FORM = 1 << 20
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_GZIP = re.compile(
    r"(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)", re.IGNORECASE
)

logger = logging.getLogger("tap_mixpanel_parallel.sandbox")


class _BrokenOffError(Exception):
    """The answer ends here, because of a fault or because the sandbox stops."""


class Server(ThreadingHTTPServer):
    """A threading server that stops at once, also with connections in use."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, backend: Backend) -> None:
        """Listen on the loopback interface; port 0 selects a free one."""
        self.backend = backend
        self._stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self) -> None:
        """Bind without the DNS query for the host's name that the base class makes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def stop(self) -> None:
        """Close every connection, and wait until their threads have ended."""
        self._stopping.set()
        self.shutdown()
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, timeout=5)
        self.server_close()

    def sleep(self, seconds: float | None) -> None:
        """Sleep for some seconds; with None, until the server stops."""
        if (seconds is None or seconds > 0) and self._stopping.wait(seconds):
            raise _BrokenOffError

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection."""
        with self._changed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a defect of the sandbox, but not a connection that the client closed."""
        del request
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            logger.error("The sandbox failed to answer %s", client_address, exc_info=error)


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    _made_at: float | None = None
    server_version = "mixpanel-sandbox"
    disable_nagle_algorithm = True
    server: Server
    _late: Export | None = None

    def do_GET(self) -> None:
        """Answer a request with its parameters in the URL."""
        self._respond("")

    def do_POST(self) -> None:
        """Answer a request with its parameters in a form, as old clients send it."""
        length = whole_number(self.headers.get("Content-Length", "0"))
        if "Transfer-Encoding" in self.headers or length is None:
            self._refuse_unread(411, "Content-Length is required")
        elif length > _LARGEST_FORM:
            self._refuse_unread(413, f"The form is larger than {_LARGEST_FORM} bytes")
        else:
            self._respond(self.rfile.read(length).decode(errors="replace"))

    def _respond(self, form: str) -> None:
        """Answer an export, and any other path with 404."""
        path, _, query = self.path.partition("?")
        if path not in _PATHS:
            self._send(Answer.error(404, f"No such endpoint: {path}"))
            return
        parameters = dict(parse_qsl(f"{query}&{form}", keep_blank_values=True))
        visit = self.server.backend.ledger.arrive(
            parsed_date(parameters.get("from_date")), parsed_date(parameters.get("to_date"))
        )
        try:
            self._export(parameters, visit)
        except RefusedError as refused:
            self._answer(refused.answer, visit)
        except (_BrokenOffError, OSError):
            self.close_connection = True
        finally:
            visit.close(complete=False)

    def _other_method(self) -> None:
        self._refuse_unread(405, f"Method not allowed: {self.command}")

    def _refuse_unread(self, status: int, message: str) -> None:
        """Refuse a request whose body is not read: it would be taken for the next request."""
        self.close_connection = True
        self._send(Answer.error(status, message))

    do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _other_method  # noqa: N815

    def _export(self, parameters: Mapping[str, str], visit: Visit) -> None:
        gzip = _GZIP.search(self.headers.get("Accept-Encoding", "")) is not None
        authorization = self.headers.get("Authorization")
        export = self.server.backend.export(parameters, authorization, visit, gzip=gzip)
        self.server.sleep(export.delay)
        if self._late is not None:
            self._stream(self._late, visit)
        self._late = export if export.comes_again else None
        if export.instead is None:
            self._stream(export, visit)
        elif isinstance(export.instead, Answer):
            self._answer(export.instead, visit)
        else:
            self._break_off(export.instead, visit)

    def _stream(self, export: Export, visit: Visit) -> None:
        """Send the headers, then the body in chunks."""
        throttle = Throttle(export.bytes_per_second, self.server.sleep)
        visit.status, visit.gzip = 200, export.body.gzip
        self._made_at = export.made_at
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        if export.body.gzip:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        for step in export.body.steps():
            visit.events = export.body.events
            if isinstance(step, Pause):
                self.server.sleep(step.seconds)
            elif isinstance(step, Ending):
                self._break_off(step, visit)
            elif isinstance(step, Unframed):
                self.wfile.write(step.data)
            else:
                for piece in throttle.slices(step):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    visit.bytes_sent += len(piece)
        visit.events = export.body.events
        visit.close(complete=True)
        self.wfile.write(b"0\r\n\r\n")

    def _break_off(self, ending: Ending, visit: Visit) -> None:
        """Close the connection, or have the kernel reset it."""
        visit.close(complete=False)
        if ending is Ending.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            # The socket object waits for the files made from it before it closes, and then shuts
            # down in good order. So the descriptor itself is closed.
            os.close(self.connection.detach())
        raise _BrokenOffError

    def _answer(self, answer: Answer, visit: Visit) -> None:
        visit.status, visit.bytes_sent = answer.status, len(answer.body)
        visit.close(complete=True)
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        """Send an answer of known length."""
        self.send_response(answer.status)
        if answer.body:
            self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if not answer.seconds_per_byte:
            self.wfile.write(answer.body)
            return
        for number in range(len(answer.body)):
            self.wfile.write(answer.body[number : number + 1])
            self.server.sleep(answer.seconds_per_byte)

    def send_response(self, code: int, message: str | None = None) -> None:
        """Start the headers; an unknown status gets a reason too."""
        known = code in HTTPStatus._value2member_map_
        super().send_response(code, message or (None if known else "Unknown"))

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The time of an answer, for its `Date` header: an export's own."""
        return super().date_time_string(self._made_at if timestamp is None else timestamp)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log at the level DEBUG only."""
        logger.debug(format, *args)
