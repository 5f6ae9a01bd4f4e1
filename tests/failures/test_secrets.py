"""Secrets are in nothing that a run writes, and go to nobody but Mixpanel."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

import pytest

from tap_mixpanel_parallel.sandbox import Fault, Line, Redirect, Sandbox, Status, TerminatedEarly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.sandbox.answers import Answer
    from tests.failures.conftest import LabMaker
    from tests.support.harness import Lab, Output

USERNAME: Final = "robot.9f2c1d.mp-service-account"
SECRET: Final = "gEh€im/&+=Pa55 %wört<x>"
PROJECT_SECRET: Final = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
PROXY_PASSWORD: Final = "pr0xy-pa55w0rd"
DEBUG: Final = {"LOGLEVEL": "DEBUG"}


def forms(secret: str, username: str = USERNAME) -> set[str]:
    """The forms in which a library may print a secret."""
    pairs = [f"{username}:{secret}", f"{secret}:"]
    encodings = [
        base64.b64encode(text.encode(encoding, "replace")).decode()
        for text in [secret, *pairs]
        for encoding in ("utf-8", "latin-1")
    ]
    plain = [secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]]
    return {form for form in [*plain, repr(secret)[1:-1], *encodings] if form}


def assert_hidden(lab: Lab, output: Output, *secrets: str) -> None:
    """Grep for the secrets in everything that the run has written."""
    configurations = {lab.folder / "tap.json"}
    files = [p for p in lab.folder.rglob("*") if p.is_file() and p not in configurations]
    texts = [output.text.decode(), output.errors, *(p.read_text(errors="replace") for p in files)]
    for secret in secrets:
        for form in forms(secret):
            assert all(form not in text for text in texts), form


@dataclass(frozen=True)
class RedirectAs(Redirect):
    """A redirect with this status."""

    status: int

    def answer(self) -> Answer:
        """Give the redirect."""
        return replace(super().answer(), status=self.status)


@pytest.fixture
def lab(make_lab: LabMaker) -> Lab:
    return make_lab(username=USERNAME, secret=SECRET, project_secret=PROJECT_SECRET)


ECHO: Final = json.dumps({"error": f"no: {SECRET} {quote(SECRET)} of {USERNAME}"}).encode()
HEADER: Final = base64.b64encode(f"{USERNAME}:{SECRET}".encode())


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(None, id="success"),
        pytest.param(Status(401), id="refused"),
        pytest.param(Status(401, ECHO), id="refused with an echo"),
        pytest.param(Status(500, ECHO), id="an error with an echo"),
        pytest.param(Status(429, ECHO), id="a limit with an echo"),
        pytest.param(Status(502, b"<p>Basic %s</p>" % HEADER, "text/html"), id="the header"),
        pytest.param(TerminatedEarly(ECHO), id="ended early with an echo"),
        pytest.param(Line(b"no event: %s" % SECRET.encode()), id="a line with an echo"),
        pytest.param(TerminatedEarly(), id="ended early"),
        pytest.param(Redirect("http://127.0.0.1:9/"), id="redirected"),
    ],
)
def test_nothing_is_said(lab: Lab, fault: Any) -> None:
    lab.sandbox.faults = [] if fault is None else [Fault(fault)]

    output = lab.run(env=DEBUG, on_hourly_limit="fail")

    assert "DEBUG" in output.errors
    assert (output.code == 0) == (fault is None)
    assert_hidden(lab, output, SECRET)


@pytest.mark.parametrize("blank", ["\n", "\r\n", " ", "\t\n"])
def test_a_secret_from_a_file_that_ends_its_line(lab: Lab, blank: str) -> None:
    """It authenticates, and an echo of it is hidden."""
    lab.settings["service_account_secret"] = f"{SECRET}{blank}"
    fine = lab.run()
    lab.sandbox.faults = [Fault(Status(500, json.dumps({"error": SECRET}).encode()))]
    echoed = lab.run(env=DEBUG)

    assert fine.code == 0, fine.errors
    assert echoed.code == 1
    assert "HTTP 500: ***" in echoed.errors
    assert_hidden(lab, echoed, SECRET)


@pytest.mark.parametrize("status", [401, 500])
def test_an_echo_that_is_cut(lab: Lab, status: int) -> None:
    """Half a secret is too much as well."""
    body = json.dumps({"error": "x" * 190 + SECRET}).encode()
    lab.sandbox.faults = [Fault(Status(status, body))]

    output = lab.run(env=DEBUG)

    assert SECRET[:8] not in output.text.decode() + output.errors


@pytest.mark.parametrize("fault", [None, Status(401), Status(500, PROJECT_SECRET.encode())])
def test_a_project_secret(lab: Lab, fault: Any) -> None:
    lab.sandbox.faults = [] if fault is None else [Fault(fault)]
    for name in ("service_account_username", "service_account_secret", "project_id"):
        del lab.settings[name]

    output = lab.run(env=DEBUG, project_secret=PROJECT_SECRET)

    assert (output.code == 0) == (fault is None)
    assert_hidden(lab, output, PROJECT_SECRET)


PROXIES: Final = {
    "nobody there": f"http://proxyuser:{PROXY_PASSWORD}@127.0.0.1:{{port}}",
    "an unknown scheme": f"gopher://proxyuser:{PROXY_PASSWORD}@127.0.0.1:{{port}}",
    "no port": f"http://proxyuser:{PROXY_PASSWORD}@127.0.0.1:port",
    "a hash in the password": f"http://proxyuser:{PROXY_PASSWORD}#1@127.0.0.1:{{port}}",
    "a slash in the password": f"http://proxyuser:{PROXY_PASSWORD}/1@127.0.0.1:{{port}}",
    "a question mark in the password": f"http://proxyuser:{PROXY_PASSWORD}?1@127.0.0.1:{{port}}",
    "a number and a hash": "http://proxyuser:4711#1@127.0.0.1:{port}",
    "a blank in the password": f"http://proxyuser:{PROXY_PASSWORD} 1@127.0.0.1:{{port}}",
}


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy(lab: Lab, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    proxy = PROXIES[name].format(port=port)
    variables = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), proxy)

    variables |= dict.fromkeys(("HTTPS_PROXY", "https_proxy"), proxy)
    none = {"NO_PROXY": "", "no_proxy": ""}

    output = lab.run(env=DEBUG | variables | none, api_url="https://mixpanel.invalid/api/2.0")

    assert output.code == 1
    assert "Traceback" not in output.errors
    assert "4711" not in output.errors
    assert_hidden(lab, output, SECRET, PROXY_PASSWORD)
    if name not in {"nobody there", "a blank in the password"}:
        assert "ALL_PROXY: is not a proxy URL" in output.errors
        assert output.text == b"", "before the first request"


def test_the_own_sandbox_needs_no_proxy(lab: Lab) -> None:
    lab.settings = {"region": "sandbox", "start_date": "P2D", "spool_dir": str(lab.spool)}

    output = lab.run(env={"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""})

    assert output.code == 0, output.errors


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_sees_what_goes_to_this_machine_in_clear(lab: Lab, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        variables = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), url)
        output = lab.run(
            env=variables | {"NO_PROXY": "", "no_proxy": ""},
            api_url=lab.sandbox.url.replace("127.0.0.1", host),
            request_timeout=5,
        )
        with pytest.raises(BlockingIOError):
            proxy.accept()

    assert output.code == 0, output.errors


@pytest.mark.parametrize("status", [b"200 OK", b"500 Oops"])
def test_a_header_that_is_none(lab: Lab, status: bytes) -> None:
    """Libraries warn of it on their own, with what stands there."""

    def answer(server: socket.socket) -> None:
        with server.accept()[0] as connection:
            connection.recv(65536)
            head = b"HTTP/1.1 %s\r\nno header \x1b[31m Basic %s\r\nX: 1\r\n\r\n"
            connection.sendall(head % (status, HEADER))

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        output = lab.run(api_url=url, end_date="2025-01-06")

    assert output.code == 1
    assert "Traceback" not in output.errors
    assert "no header" not in output.errors
    assert_hidden(lab, output, SECRET)


def test_credentials_in_the_url_are_refused_unseen(lab: Lab) -> None:
    url = lab.sandbox.url.replace("//", f"//robot:{PROJECT_SECRET}@")

    output = lab.run(env=DEBUG, api_url=url)

    assert output.code == 1
    assert lab.sandbox.requests == []
    assert_hidden(lab, output, SECRET, PROJECT_SECRET)


def test_bad_settings_are_named_without_secrets(lab: Lab) -> None:
    output = lab.run(env=DEBUG, project_secret=PROJECT_SECRET, workers="many", start_date="soon")

    assert output.code == 1
    assert "workers" in output.errors
    assert_hidden(lab, output, SECRET, PROJECT_SECRET)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(lab: Lab, status: int) -> None:
    with Sandbox(limits=None, username=USERNAME, secret=SECRET) as other:
        lab.sandbox.faults = [Fault(RedirectAs(f"{other.url}/export", status))]
        output = lab.run()

        assert other.max_concurrent == 0

    assert output.code == 1
    assert f"HTTP {status}" in output.errors
    assert "credentials follow no redirect" in output.errors
    assert output.records == []


class Listener:
    """A server that speaks TLS with a certificate that nobody has signed."""

    def __init__(self, folder: Path) -> None:
        self.certificate = certificate = folder / "certificate.pem"
        key = folder / "key.pem"
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2"]
        subprocess.run(
            [*command, *names, "-keyout", str(key), "-out", str(certificate)],
            capture_output=True,
            check=True,
        )
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.received = b""
        self.connections = 0

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        with closing(self._server):
            yield self
            self._server.shutdown(socket.SHUT_RDWR)
            thread.join(5)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.connections += 1
                with suppress(OSError), self._context.wrap_socket(connection, True) as secured:
                    self.received += secured.recv(65536)


# No package that is installed for the tests makes certificates, and a key of its own does not
# belong into a repository. Where openssl is missing, test_client still checks what is said.
NEEDS_OPENSSL: Final = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="makes a certificate with openssl"
)


@NEEDS_OPENSSL
@pytest.mark.parametrize(
    "variables",
    [{}, {"PYTHONHTTPSVERIFY": "0", "REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}],
)
def test_tls_is_verified(lab: Lab, tmp_path: Path, variables: dict[str, str]) -> None:
    with Listener(tmp_path).listen() as listener:
        output = lab.run(env=variables, api_url=f"https://127.0.0.1:{listener.port}/api/2.0")

    assert output.code == 1
    assert "certificate verify failed" in output.errors.lower()
    assert listener.connections == 4
    assert listener.received == b""


@NEEDS_OPENSSL
def test_another_authority_can_be_trusted(lab: Lab, tmp_path: Path) -> None:
    with Listener(tmp_path).listen() as listener:
        trusting = {"REQUESTS_CA_BUNDLE": str(listener.certificate)}
        lab.run(env=trusting, api_url=f"https://127.0.0.1:{listener.port}/api/2.0")

    assert b"GET /api/2.0/export?" in listener.received
