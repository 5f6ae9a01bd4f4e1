"""Records as JSON text: what a field holds, digit for digit, and how odd text is mended. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from singer_sdk.singerlib.json import deserialize_json, serialize_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_duckdb_batch.columns import Column

_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)

_DOCUMENT: Final = msgspec.json.Decoder(msgspec.Raw)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING: Final = msgspec.json.Decoder(str)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


def repaired(line: bytes) -> bytes:
    """Make strict JSON in UTF-8 of what many JSON writers let pass.

    Lone surrogates and bytes that are not UTF-8 become U+FFFD; NaN and infinities null.

    Raises:
        ValueError: If it is not JSON at all.
        RecursionError: If it is nested too deeply.
    """
    line = _ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], line)
    line = line.decode("utf-8", "replace").encode()
    try:
        _DOCUMENT.decode(line)
    except msgspec.DecodeError:
        return serialize_json(deserialize_json(line)).encode()
    return line


def texts(record: bytes | msgspec.Raw, columns: Sequence[Column]) -> list[str | None]:
    """The text of each column's value; None where there is none, or an empty text.

    Raises:
        ValueError: If the record is not a JSON object.
        RecursionError: If it is nested too deeply.
    """
    try:
        return _texts(record, columns)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _texts(repaired(bytes(record)), columns)


def parsed(record: bytes | msgspec.Raw) -> dict[str, Any]:
    """A record as Python values; fractions keep their digits as Decimal.

    Raises:
        ValueError: If it is not a JSON object.
    """
    return deserialize_json(bytes(record))


def encoded(record: Mapping[str, Any]) -> bytes:
    """A record as JSON text.

    Raises:
        UnicodeEncodeError: Never for one that was read from JSON text.
    """
    try:
        return _ENCODER.encode(record)
    except UnicodeEncodeError:
        return repaired(serialize_json(record).encode())


def _texts(record: bytes | msgspec.Raw, columns: Sequence[Column]) -> list[str | None]:
    fields = _FIELDS.decode(record)
    return [_text(_at(fields, column.path), column) for column in columns]


def _at(fields: dict[str, msgspec.Raw], path: tuple[str, ...]) -> bytes:
    value = fields.get(path[0])
    for name in path[1:]:
        inner = b"" if value is None else bytes(value)
        value = _FIELDS.decode(inner).get(name) if inner.startswith(b"{") else None
    return b"" if value is None else bytes(value)


def _text(value: bytes, column: Column) -> str | None:
    if column.keeps_quotes:
        return str(value, "utf-8") or None
    if value.startswith(b'"'):
        return _STRING.decode(value) or None
    if not value or value == b"null":
        return None
    return str(value, "utf-8")
