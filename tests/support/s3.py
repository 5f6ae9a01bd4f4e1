"""A real S3 server on this machine, which can be slow, cut uploads, and keep count."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

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

_PAGE: Final = 2
"""How many uploads are told of at once."""


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

    def uploads(self, bucket: str = BUCKET) -> list[tuple[str, str]]:
        """The uploads of several parts that are not ended: name and number."""
        text = requests.get(f"{self.url}/{bucket}?uploads&all", timeout=30).text
        return sorted((_part(each, "Key"), _part(each, "UploadId")) for each in _uploads(text))

    def page_of_uploads(self, bucket: str, query: dict[str, str]) -> str:
        """A page of them, as S3 has it: moto has one for all."""
        after = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
        start = query.get("prefix", "")
        left = [each for each in self.uploads(bucket) if each > after and each[0].startswith(start)]
        uploads = "".join(
            f"<Upload><Key>{key}</Key><UploadId>{number}</UploadId></Upload>"
            for key, number in left[:_PAGE]
        )
        key, number = left[:_PAGE][-1] if left else ("", "")
        return (
            f"<ListMultipartUploadsResult><IsTruncated>{str(len(left) > _PAGE).lower()}"
            f"</IsTruncated><NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{number}"
            f"</NextUploadIdMarker>{uploads}</ListMultipartUploadsResult>"
        )

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


def _uploads(text: str) -> list[str]:
    return text.split("<Upload>")[1:]


def _part(text: str, name: str) -> str:
    return text.partition(f"<{name}>")[2].partition("<")[0]


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
                environ["wsgi.input"].read(min(1000, int(environ.get("CONTENT_LENGTH") or 0)))
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                raise ConnectionAbortedError
        query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
        if method == "GET" and "uploads" in query and "all" not in query:
            start("200 OK", [("Content-Type", "application/xml")])
            return [server.page_of_uploads(path.strip("/"), query).encode()]
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
