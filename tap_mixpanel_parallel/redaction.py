"""Keeps secrets out of every text that a person, a log or a state gets to see."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from tap_mixpanel_parallel.auth import Credentials

_SHORTEST_PIECE: Final = 5
"""Characters; what is shorter may well be something else."""


class Redactor:
    """Replaces secrets in a text, in any form in which a server or a library may print them."""

    def __init__(self, credentials: Credentials | None) -> None:
        """Hide the secret of these credentials; None have none."""
        self._forms: tuple[str, ...] = ()
        if credentials is not None:
            secret = credentials.secret
            account = f"{credentials.username}:{credentials.password}"
            forms = {
                secret,
                quote(secret, safe=""),
                quote(secret),
                quote_plus(secret),
                json.dumps(secret)[1:-1],
                b64encode(account.encode()).decode(),
            }
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
