"""A real S3 server on this machine, which can be slow, cut uploads, and keep count."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import requests
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

KEY: Final = "AKIAIOSFODNN7EXAMPLE"
SECRET: Final = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
BUCKET: Final = "events"
REGION: Final = "us-east-1"

_TRUSTING: Final = b"inf"
"""How many requests need no right credentials: moto counts them."""


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        """Log nothing."""


@dataclass
class S3:
    """The server.

    Attributes:
        requests: Method and path of each request.
        cut: Says by method, path and query which request is cut in the midst of its body.
        delay: Seconds that each request takes.
    """

    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    cut: Callable[[str, str], bool] = lambda *_: False
    delay: float = 0.0

    @property
    def environment(self) -> dict[str, str]:
        """What says to every SDK where the server is, and who asks."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def options(self) -> dict[str, Any]:
        """The same for fsspec."""
        return {
            "key": KEY,
            "secret": SECRET,
            "client_kwargs": {"endpoint_url": self.url, "region_name": REGION},
        }

    def names(self, bucket: str = BUCKET) -> list[str]:
        """The names of all files in a bucket."""
        text = requests.get(f"{self.url}/{bucket}", timeout=30).text
        return [part.partition("</Key>")[0] for part in text.split("<Key>")[1:]]

    def uploads(self, bucket: str = BUCKET) -> int:
        """How many uploads of several parts are not ended."""
        text = requests.get(f"{self.url}/{bucket}?uploads", timeout=30).text
        return text.count("<UploadId>")

    def empty(self) -> None:
        """Have one bucket, without a file."""
        self.cut, self.delay = lambda *_: False, 0.0
        requests.post(f"{self.url}/moto-api/reset", timeout=30)
        requests.put(f"{self.url}/{BUCKET}", timeout=30)
        self.requests.clear()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Ask for credentials that fit: there are none."""
        requests.post(f"{self.url}/moto-api/reset-auth", data=b"0", timeout=30)
        try:
            yield
        finally:
            requests.post(f"{self.url}/moto-api/reset-auth", data=_TRUSTING, timeout=30)


@contextmanager
def s3_server() -> Iterator[S3]:
    """Serve while the block runs."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    server = S3()

    def serve(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if not path.startswith("/moto-api"):
            server.requests.append((method, path))
            time.sleep(server.delay)
            if server.cut(method, f"{path}?{environ['QUERY_STRING']}"):
                environ["wsgi.input"].read(1000)
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                raise ConnectionAbortedError
        found: Iterable[bytes] = application(environ, start)
        return found

    http = make_server("127.0.0.1", 0, serve, threaded=True, request_handler=_Quiet)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        server.empty()
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
