"""Properties that become columns: their values, out of the properties of an event.

The values come out of the same decoding that gives a record its own fields, so a column costs
next to nothing, as long as its values are of its type. Where one is not, or a name can't be a
field's, the value's JSON text is looked at.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Context, Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeVar, cast

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import fields

from tap_mixpanel_parallel.convert.times import bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tap_mixpanel_parallel.settings.property_columns import ColumnType, PropertyColumn

Value = str | float | bool | bytes | None
"""A column's value: a `date-time` in milliseconds since 1970, and `json` as its text."""

LEAST: Final = -(2**63)
GREATEST: Final = 2**63 - 1
"""The integers that a column holds: those of 64 bits."""

_Integer = Annotated[int, Meta(ge=LEAST, le=GREATEST)]
_DECODED: Final[dict[ColumnType, Any]] = {
    "string": str | None,
    "number": float | None,
    "integer": _Integer | None,
    "boolean": bool | None,
}
"""The types whose values the decoder gives as they are."""

_NULL: Final = Raw(b"null")
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_INTEGER: Final = 19
"""Digits of the largest one."""

_FIRST_MS_COUNT: Final = 10**11
"""A smaller number is a time in seconds: in milliseconds, it would be before March 1973."""

_FLOOR: Final = Context(prec=40, rounding=ROUND_FLOOR)

_decode_pairs = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_integer = msgspec.json.Decoder(_Integer).decode

Base = TypeVar("Base", bound=Struct)


class Lifter(Generic[Base]):
    """Gives an event's values of the chosen columns, as they are in `columns`.

    Attributes:
        misfits: How many values did not fit their column, by its name.
        decode: Decodes properties into a struct that `lift` takes.
        lift: The values of what `decode` has decoded; None if that has not all of them, and
            `lift_any` is needed.
    """

    decode: Callable[[Raw], Base]
    lift: Callable[[Base], tuple[Value, ...]] | None

    def __init__(self, columns: Sequence[PropertyColumn], base: type[Base]) -> None:
        """Lift these columns.

        Args:
            columns: The chosen columns.
            base: The properties that are decoded in any case.
        """
        self.misfits: Counter[str] = Counter()
        self._columns = columns
        self._base = base
        self._loose = {each.property for each in columns if each.type not in _DECODED}
        self._prepare()

    def lift_any(self, properties: Raw) -> tuple[Value, ...]:
        """The values, whatever their types and their properties' names are."""
        if not self._columns:
            return ()
        pairs = _decode_pairs(properties)
        found = [(column, pairs.get(column.property, _NULL)) for column in self._columns]
        odd = {
            column.property
            for column, value in found
            if column.property not in self._loose and not _is_of(column.type, value)
        }
        if odd:  # there will be more, and to fail takes longer than to look
            self._loose |= odd
            self._prepare()
        return tuple(self._value(column, value) for column, value in found)

    def _prepare(self) -> None:
        """Make `decode` and `lift`."""
        taken = {field.encode_name: (field.name, field.type) for field in fields(self._base)}
        added: list[tuple[str, Any, Any]] = []
        places = [
            (place, column)
            for place, column in enumerate(self._columns)
            if column.property in self._loose
        ]
        names = {}
        is_plain = True
        for column in self._columns:
            is_loose = column.property in self._loose
            kind = Raw if is_loose else _DECODED[column.type]
            if column.property not in taken:
                name = f"column_{len(added)}"
                taken[column.property] = (name, kind)
                added.append((name, kind, _NULL if is_loose else None))
                names[name] = column.property
            is_plain = is_plain and taken[column.property][1] == kind and _can_be_field(column)
        if not is_plain:
            self._loose = {column.property for column in self._columns}
            self.decode = msgspec.json.Decoder(self._base).decode
            self.lift = None
            return
        struct = msgspec.defstruct("_Lifted", added, bases=(self._base,), rename=names, gc=False)
        self.decode = msgspec.json.Decoder(cast("type[Base]", struct)).decode
        get = _getter([taken[column.property][0] for column in self._columns])

        def lift(decoded: Base) -> tuple[Value, ...]:
            values = list(get(decoded))
            for place, column in places:
                values[place] = self._value(column, values[place])
            return tuple(values)

        self.lift = lift if places else get

    def _value(self, column: PropertyColumn, value: Raw) -> Value:
        """A value as its column holds it: None if it is null, or does not fit."""
        text = bytes(value)
        if text == b"null":
            return None
        try:
            return _CONVERT[column.type](text)
        except (msgspec.ValidationError, ArithmeticError, ValueError):
            self.misfits[column.name] += 1
            return None


def _getter(names: Sequence[str]) -> Callable[[Struct], tuple[Any, ...]]:
    """Gives the values of these fields."""
    if not names:
        return lambda _: ()
    get: Callable[[Struct], Any] = attrgetter(*names)
    return get if len(names) > 1 else lambda struct: (get(struct),)


def _can_be_field(column: PropertyColumn) -> bool:
    """Whether msgspec takes the property's name for that of a field."""
    return not any(char < " " or char in '"\\' for char in column.property)


def _is_of(kind: ColumnType, value: Raw) -> bool:
    """Whether a value is of a type, or null, so that the decoder gives it as it is."""
    try:
        msgspec.json.decode(value, type=_DECODED[kind])
    except msgspec.ValidationError:
        return False
    return True


def _text(text: bytes) -> str:
    return _decode_text(text) if text.startswith(b'"') else text.decode()


def _integer(text: bytes) -> int:
    """A whole number, also one that is written with a fraction or an exponent."""
    try:
        return _decode_integer(text)
    except msgspec.ValidationError:
        number = Decimal(text.decode())
        if number and number.adjusted() >= _LONGEST_INTEGER:
            raise
        integer = int(number)
        if integer != number or not LEAST <= integer <= GREATEST:
            raise
        return integer


def _time_ms(text: bytes) -> int:
    """A time in milliseconds, rounded down: ISO text, UTC if it names no zone, or a number."""
    if text.startswith(b'"'):
        iso = _decode_text(text)
        if iso[4:5] != "-" or iso[7:8] != "-" or iso[10:11] not in {"", "T", "t", " "}:
            raise ValueError(f"{iso!r} is not a time")
        moment = datetime.fromisoformat(iso)
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
        return _known(since // _MILLISECOND)
    number = Decimal(text.decode())
    unit = 1000 if abs(number) < _FIRST_MS_COUNT else 1
    if number and number.adjusted() >= _LONGEST_INTEGER:
        raise ValueError(f"{number} is not a time")
    return _known(int(_FLOOR.multiply(number, unit).to_integral_value(ROUND_FLOOR)))


def _known(time_ms: int) -> int:
    """The same time, if RFC 3339 knows it."""
    if bounded(time_ms) != time_ms:
        raise ValueError(f"{time_ms} is not within the years 1 to 9999")
    return time_ms


_CONVERT: Final[dict[ColumnType, Callable[[bytes], Value]]] = {
    "string": _text,
    "number": msgspec.json.Decoder(float).decode,
    "integer": _integer,
    "boolean": msgspec.json.Decoder(bool).decode,
    "date-time": _time_ms,
    "json": bytes,
}
"""What a column makes of the JSON text of a value that is not null."""
