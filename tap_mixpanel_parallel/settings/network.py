"""URLs, and the environment's variables for connections, checked before the first request."""

from __future__ import annotations

import os
import re
import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from requests import Request
from requests.utils import get_environ_proxies, select_proxy

from tap_mixpanel_parallel.wording import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

API_SCHEMES: Final = frozenset({"http", "https"})
_PROXY_SCHEMES: Final = API_SCHEMES | {"socks4", "socks4a", "socks5", "socks5h"}
_AUTHORITIES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_KEY_LOG: Final = "SSLKEYLOGFILE"


def is_url(value: str, schemes: frozenset[str] = API_SCHEMES) -> bool:
    """Whether a text is a URL of one of these schemes, without a query."""
    try:
        parts = urlsplit(value)
        # Reading the port checks it; preparing a request, the host, but for blanks in it.
        fits = parts.scheme in schemes and parts.port != 0 and len(value.split()) == 1
        Request("GET", value).prepare()
    except ValueError:
        return False
    return fits and bool(parts.hostname) and not (parts.query or parts.fragment)


def sends_in_clear(url: str) -> bool:
    """Whether a URL leads to another machine without encryption."""
    return urlsplit(url).scheme == "http" and not stays_here(url)


def stays_here(url: str) -> bool:
    """Whether a URL leads to this machine without encryption, so that no proxy may see it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost" or host.endswith(".localhost")  # RFC 6761, 6.3
    return parts.scheme == "http" and is_here


def connection_problems(url: str) -> Iterator[str]:
    """The reasons why no request to a URL could be made, each with its remedy."""
    if _has_bad_proxy(url):
        yield (
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY: is not a proxy URL; give e.g. "
            "http://user:password@host:8080, with %23 for # and so on in the password"
        )
    if url.lower().startswith("https:"):
        yield from _tls_problems()


def _has_bad_proxy(url: str) -> bool:
    try:
        proxy = None if stays_here(url) else select_proxy(url, get_environ_proxies(url))
    except ValueError:
        return False  # the URL is not valid, and that is a problem already
    if proxy is None:
        return False
    proxy = proxy if "//" in proxy else f"http://{proxy}"
    rest = re.sub(r"^\w+://[^/?#]*", "", proxy)
    return "@" in rest or not proxy.isascii() or not is_url(proxy, _PROXY_SCHEMES)


def _tls_problems() -> Iterator[str]:
    """Check the files that TLS reads and writes because a variable names them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The first that is set is the one that requests reads.
    name = next((name for name in _AUTHORITIES if os.environ.get(name)), None)
    if name is not None:
        path = os.environ[name]
        try:
            kind = "capath" if Path(path).is_dir() else "cafile"
            context.load_verify_locations(**{kind: path})
        except (OSError, ValueError) as error:
            yield (
                f"{name}: {shown(path)} can't be used ({_reason(error)}); give the file of the "
                "authorities' certificates (PEM), or unset it"
            )
    if path := os.path.expandvars(os.environ.get(_KEY_LOG, "")):
        try:
            context.keylog_filename = path
        except (OSError, ValueError) as error:
            yield (
                f"{_KEY_LOG}: {shown(path)} can't be written ({_reason(error)}); unset it, or "
                "give a writable file"
            )


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
