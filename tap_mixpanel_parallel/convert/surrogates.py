"""Lone surrogates: JSON may hold them (RFC 8259, 8.2), UTF-8 can't, so no loader stores them.

Pure.
"""

from __future__ import annotations

import re
from typing import Final

_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_ENCODED: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}".encode()


def mend(line: bytes) -> bytes:
    r"""Replace lone surrogates by U+FFFD, whether escaped (`\ud83d`) or encoded.

    All else stays as it is, byte for byte; pairs of escapes are one character, and stay.
    """
    line = _ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], line)
    return _ENCODED.sub(_REPLACEMENT, line)
