"""One value, in the forms in which JSON, YAML, Meltano and the environment give it. Pure."""

from __future__ import annotations

import json
import math
import re
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

_NUMBER: Final = re.compile(r"[+-]?\d{1,18}(\.\d{1,18})?([eE][+-]?\d{1,2})?", re.ASCII)
_TRUTH: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_LARGEST: Final = 10**18
_LARGEST_EXPONENT: Final = 400


def parse_json(text: str) -> Any:
    """Read JSON; a fraction becomes a Decimal, as stream maps expect.

    Raises:
        ValueError: If it is not JSON, or contains a number too large for any setting or state.
        RecursionError: If it is nested too deeply.
    """
    return json.loads(text, parse_float=_fraction)


def value_of(value: Any, schema: Mapping[str, Any]) -> Any:
    """A setting's value in the type of its JSON schema, if it is another form of it.

    White space around a text is not part of it. A value that is not a form of the type stays
    as it is, and the check that follows rejects it.
    """
    if isinstance(value, (float, Decimal)):
        return _number(value)
    if isinstance(value, date):
        return value.isoformat()
    return _meant(value.strip(), schema.get("type", ())) if isinstance(value, str) else value


def _meant(text: str, types: Container[str]) -> Any:
    """A text's value in one of some types of JSON schema."""
    if "boolean" in types:
        return _TRUTH.get(text.lower(), text)
    if "integer" in types or "number" in types:
        return _number(Decimal(text)) if _NUMBER.fullmatch(text) else text
    if "array" in types or "object" in types:
        return _container(text)
    return text


def _number(value: float | Decimal) -> float:
    """A whole number as an int, any other as a float."""
    try:
        number = float(value)
    except ValueError:  # only a Decimal that is a signalling NaN
        return math.nan
    if math.isfinite(number) and abs(number) < _LARGEST and value == int(value):
        return int(value)
    return number


def _container(text: str) -> Any:
    """The list or the object that a JSON text contains; any other text as it is."""
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (list, dict)) else text


def _fraction(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except ArithmeticError:
        raise ValueError(f"the number {text[:40]} is too large") from None
    if abs(value.adjusted()) > _LARGEST_EXPONENT:
        raise ValueError(f"the number {text[:40]} is too large, or too small")
    return value
