"""Keeps what opens a storage out of messages: errors of storages may quote it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SECRET: Final = re.compile(
    r"secret|token|password|passphrase|credential|connection_string|key\b", re.IGNORECASE
)
_VARIABLE: Final = re.compile(
    r"(AWS|AZURE|GOOGLE|GCS|FSSPEC)_.*(SECRET|TOKEN|PASSWORD|KEY|CONNECTION_STRING).*"
)
_SHORTEST: Final = 4
_USER: Final = re.compile(r"//[^\s/:@]*:\S*@")
"""What a URL says of the user, with a password."""


def redacted(text: str, options: Mapping[str, Any]) -> str:
    """A text without secrets.

    Args:
        text: The text.
        options: What opens the storage that it is about.
    """
    around = (value for name, value in os.environ.items() if _VARIABLE.fullmatch(name))
    for secret in sorted({*_secrets(options), *around}, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "***")
    return _USER.sub("//***@", text)


def _secrets(options: Any, name: str = "") -> Iterator[str]:
    """The secrets among options, however deep."""
    if isinstance(options, dict):
        for key, value in options.items():
            yield from _secrets(value, str(key))
    elif isinstance(options, (list, tuple)):
        for value in options:
            yield from _secrets(value, name)
    elif isinstance(options, str) and _SECRET.search(name):
        yield options
