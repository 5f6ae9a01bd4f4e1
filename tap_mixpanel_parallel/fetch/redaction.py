"""Keeps secrets out of every text that a person, a log or a state gets to see."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

from tap_mixpanel_parallel.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mixpanel_parallel.settings.credentials import Credentials

_SHORTEST_PIECE: Final = 5
"""Characters; what is shorter may well be something else."""

_ANY_CASE: Final = 8
"""Characters from which on a form is hidden in capitals and small letters alike."""

_SEPARATOR: Final = re.compile(
    r"[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"
    r"|<w?br\s*/?>|&(?:shy|zerowidthspace|#8203|#x200b);"
    r"|\\(?:[nrt]|xad|u200[b-f]|u202[a-e]|u206[0-4]|ufeff)",
    re.IGNORECASE,
)
"""What a reader does not see between two characters, as it is, in HTML, or escaped."""


class Redactor:
    """Replaces secrets in a text, in any form in which a server or a library may print them.

    Between its characters there may be what a reader does not see, as line ends in base64.
    The text may be escaped by `printable`.
    """

    def __init__(self, credentials: Credentials | None) -> None:
        """Hide the secret of these credentials; with None there is nothing to hide."""
        forms: set[str] = set()
        if credentials is not None:
            account = f"{credentials.username}:{credentials.password}"
            forms = {*_forms(credentials.secret, account)} - {""}
        # The longest first: one form may be a part of another.
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without the secret, nor a piece of it at which the text is cut."""
        plain = f"{text}\n{_SEPARATOR.sub('', text)}".lower()
        for form in self._forms:
            if form.lower() in plain:  # patterns are costly to make
                text = _pattern(form).sub("***", text)
        seen = _SEPARATOR.sub("", text).rstrip("'\"")
        for form in self._forms:
            for size in range(len(form) - 1, _SHORTEST_PIECE - 1, -1):
                if _ends_with(seen, form[:size]):
                    return _pattern(form[:size], r"(?=['\"]*\Z)").sub("***", text)
        return text

    def reason(self, error: BaseException) -> str:
        """What an error says, in one line: it may quote what comes from a server."""
        return self(printable(" ".join(str(error).split())))


def _pattern(form: str, then: str = "") -> re.Pattern[str]:
    """What finds a form, whatever separates its characters."""
    is_visible = _SEPARATOR.sub("", form) != ""
    between = f"(?:{_SEPARATOR.pattern})*" if is_visible else ""
    flags = re.IGNORECASE if len(form) >= _ANY_CASE else re.NOFLAG
    return re.compile(between.join(map(re.escape, form)) + then, flags)


def _ends_with(text: str, piece: str) -> bool:
    if len(piece) < _ANY_CASE:
        return text.endswith(piece)
    return text[-len(piece) :].lower() == piece.lower()


def _forms(secret: str, account: str) -> Iterator[str]:
    """Each form in which a secret may be printed, escaped or not, without separators."""
    for form in _printed(secret, account):
        for whole in (form, printable(form), printable(_SEPARATOR.sub("", form))):
            # A secret of nothing but separators is what it is.
            yield _SEPARATOR.sub("", whole) or whole


def _printed(secret: str, account: str) -> Iterator[str]:
    """Each form in which a server or a library may print a secret."""
    yield secret
    yield html.escape(secret)
    yield html.escape(secret, quote=False)
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret).replace("/", r"\/")[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield re.sub("(....)", r"\\u\1", secret.encode("utf-16-be").hex())
    yield secret.encode().hex()
    yield secret.encode().hex().upper()
    yield from _quoted(secret)
    for text in (account, secret, f"{secret}:"):
        for encoding in ("utf-8", "latin-1"):
            for encode in (b64encode, urlsafe_b64encode):
                encoded = encode(text.encode(encoding, "replace")).decode()
                for padded in (encoded, encoded.rstrip("=")):
                    yield padded
                    yield from _quoted(padded)


def _quoted(text: str) -> Iterator[str]:
    """Each form of a text in a URL."""
    for quoted in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield quoted
        yield re.sub("%..", lambda code: code[0].lower(), quoted)
        yield quote(quoted, safe="")
