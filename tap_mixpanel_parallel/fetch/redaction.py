"""Keeps secrets out of every text that a person, a log or a state gets to see."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

from tap_mixpanel_parallel.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mixpanel_parallel.settings.credentials import Credentials

_SHORTEST_PIECE: Final = 5
"""Characters; what is shorter may well be something else."""


class Redactor:
    """Replaces secrets in a text, in any form in which a server or a library may print them.

    The text may be folded (each run of white space is one blank) and may be escaped by
    `printable`: the secret is looked for folded and escaped as well.
    """

    def __init__(self, credentials: Credentials | None) -> None:
        """Hide the secret of these credentials; None have none."""
        self._forms: tuple[str, ...] = ()
        if credentials is not None:
            account = f"{credentials.username}:{credentials.password}"
            forms = set(_forms(credentials.secret, account)) - {""}
            # The longest first: one form may be a part of another.
            self._forms = tuple(sorted(forms, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """The text without the secret, nor a piece of it at which the text is cut."""
        for form in self._forms:
            text = text.replace(form, "***")
        quoted = text.rstrip("'\"")
        for form in self._forms:
            for size in range(len(form) - 1, _SHORTEST_PIECE - 1, -1):
                if quoted.endswith(form[:size]):
                    return f"{quoted[:-size]}***"
        return text

    def reason(self, error: BaseException) -> str:
        """What an error says, in one line: it may quote what comes from a server."""
        return self(printable(" ".join(str(error).split())))


def _forms(secret: str, account: str) -> Iterator[str]:
    """Each form in which a secret may be printed, escaped, folded, or both."""
    for form in _printed(secret, account):
        for whole in (form, form.strip()):
            yield whole
            yield printable(whole)
        yield printable(" ".join(form.split()))


def _printed(secret: str, account: str) -> Iterator[str]:
    """Each form in which a server or a library may print a secret."""
    yield secret
    yield html.escape(secret)
    yield html.escape(secret, quote=False)
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield quoted
        yield re.sub("%..", lambda code: code[0].lower(), quoted)
    for text in (account, secret, f"{secret}:"):
        for encoding in ("utf-8", "latin-1"):
            yield b64encode(text.encode(encoding, "replace")).decode()
