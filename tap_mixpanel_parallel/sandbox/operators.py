"""What the operators and functions of Mixpanel's segmentation expressions give.

The rules are those of Mixpanel's page on segmentation expressions. Where the page is silent, the
comment says that the rule is a guess. All numbers are floats, as Mixpanel has one number type.
"""

from __future__ import annotations

import json
import math
import operator
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

Value = Any  # str, float, bool, None, Undefined, or a list or dict from an event


class Undefined(Enum):
    """The value of what does not exist or cannot be computed."""

    UNDEFINED = "undefined"


UNDEFINED: Final = Undefined.UNDEFINED


class OperandError(ValueError):
    """An operand has a type that makes the whole expression fail."""


def equals(left: Value, right: Value) -> bool:
    """Compare two values; values of different types are never equal."""
    return type(left) is type(right) and bool(left == right)


def contains(left: Value, right: Value) -> bool | Undefined:
    """Give `left in right`: a text in a text, or a value in a list."""
    if isinstance(right, list):
        return any(equals(left, item) for item in right)
    if isinstance(left, str) and isinstance(right, str):
        return left in right
    return UNDEFINED


def add(left: Value, right: Value) -> Value:
    """Add two numbers, or join two texts."""
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    return _arithmetic(operator.add)(left, right)


def both(left: Value, right: Value) -> bool:
    """Give `left and right`."""
    return truth(left) & truth(right)


def either(left: Value, right: Value) -> bool:
    """Give `left or right`."""
    return truth(left) | truth(right)


def truth(value: Value) -> bool:
    """Give an operand of `and` or `or` as a boolean; undefined counts as false.

    Raises:
        OperandError: The operand has another type.
    """
    if value is UNDEFINED:
        return False
    if isinstance(value, bool):
        return value
    raise OperandError("and, or: an operand is not a boolean")


def negation(value: Value) -> bool | Undefined:
    """Give `not value`; undefined counts as false."""
    if isinstance(value, bool):
        return not value
    return True if value is UNDEFINED else UNDEFINED


def minus(value: Value) -> Value:
    """Give `-value`."""
    return -value if isinstance(value, float) else UNDEFINED


def is_defined(value: Value) -> bool:
    """Tell whether there is a value. That null is none is a guess."""
    return value is not UNDEFINED and value is not None


def to_string(value: Value) -> Value:
    """Cast to a string. The form of lists, objects and whole numbers is a guess."""
    if isinstance(value, str) or value is None or value is UNDEFINED:
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def to_number(value: Value) -> Value:
    """Cast to a number."""
    if isinstance(value, float):
        return value
    if isinstance(value, (str, bool)):
        try:
            return _finite(float(value))
        except ValueError:
            return UNDEFINED
    return UNDEFINED


def to_boolean(value: Value) -> bool:
    """Cast to a boolean, as Mixpanel's page on data types says."""
    return value not in ("false", "", 0.0, None, UNDEFINED)


def to_datetime(value: Value) -> Value:
    """Take a number of seconds since 1970 for a moment. That it stays a number is a guess."""
    return value if isinstance(value, float) else UNDEFINED


def _finite(value: float) -> float | Undefined:
    return value if math.isfinite(value) else UNDEFINED


def _ordering(compare: Callable[[float, float], bool]) -> Callable[[Value, Value], Value]:
    """Compare two numbers. That texts have no order is a guess."""

    def compared(left: Value, right: Value) -> Value:
        if isinstance(left, float) and isinstance(right, float):
            return compare(left, right)
        return UNDEFINED

    return compared


def _arithmetic(compute: Callable[[float, float], float]) -> Callable[[Value, Value], Value]:
    def computed(left: Value, right: Value) -> Value:
        if not (isinstance(left, float) and isinstance(right, float)):
            return UNDEFINED
        try:
            return _finite(compute(left, right))
        except (ArithmeticError, ValueError):
            return UNDEFINED

    return computed


def _rounding(compute: Callable[[float], int]) -> Callable[[Value], Value]:
    def computed(value: Value) -> Value:
        return float(compute(value)) if isinstance(value, float) else UNDEFINED

    return computed


BINARY: Final[dict[str, Callable[[Value, Value], Value]]] = {
    "or": either,
    "and": both,
    "==": equals,
    "!=": lambda left, right: not equals(left, right),
    ">": _ordering(operator.gt),
    ">=": _ordering(operator.ge),
    "<": _ordering(operator.lt),
    "<=": _ordering(operator.le),
    "in": contains,
    "+": add,
    "-": _arithmetic(operator.sub),
    "*": _arithmetic(operator.mul),
    "/": _arithmetic(operator.truediv),
    "%": _arithmetic(math.fmod),
}
FUNCTIONS: Final[dict[str, Callable[[Value], Value]]] = {
    "defined": is_defined,
    "string": to_string,
    "number": to_number,
    "boolean": to_boolean,
    "datetime": to_datetime,
    "floor": _rounding(math.floor),
    "ceil": _rounding(math.ceil),
    "round": _rounding(lambda value: math.floor(value + 0.5)),
}
