"""JSON with all that its text tells apart, and how loaders store it."""

from __future__ import annotations

import json
import re
from typing import Any, Final

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Number(str):
    """A number, digit for digit."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Tell it from a text of the same digits."""
        return str(self)


class Pairs(tuple[tuple[str, Any], ...]):
    """An object, with every pair in order."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Tell it from a list of lists."""
        return f"Pairs{super().__repr__()}"


def parsed(text: str) -> Any:
    """JSON, with U+FFFD for lone surrogates, which no loader can store."""
    value = json.loads(text, parse_int=Number, parse_float=Number, object_pairs_hook=Pairs)
    return _mended(value)


def digits(value: Any) -> str:
    """A parsed value as text: equal in every digit, every name and its place."""
    return repr(value)


def doubles(value: Any) -> str:
    """A parsed value after Python's `json`, through which a loader passes an object.

    It makes numbers double precision, and keeps the last of properties with one name.
    """
    return json.dumps(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Pairs):
        return {name: _plain(item) for name, item in value}
    if isinstance(value, list):
        return list(map(_plain, value))
    return json.loads(value) if isinstance(value, Number) else value


def _mended(value: Any) -> Any:
    if isinstance(value, Pairs):
        return Pairs((_mended(name), _mended(item)) for name, item in value)
    if isinstance(value, list):
        return list(map(_mended, value))
    if isinstance(value, str) and not isinstance(value, Number):
        return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
    return value
