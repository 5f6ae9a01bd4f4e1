"""The `where` parameter: a small, honest part of Mixpanel's segmentation expressions.

Understood are comparisons of a property with a literal, joined by `and` and `or` (`and` binds
tighter): `properties["plan"] == "pro" and properties["seats"] != 3`. Anything else is refused,
rather than half understood.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Predicate = Callable[[Mapping[str, Any]], bool]

_STRING = r'"(?:[^"\\]|\\.)*"'
_COMPARISON = re.compile(
    rf"\s*properties\s*\[\s*(?P<name>{_STRING})\s*\]\s*(?P<operator>==|!=)\s*"
    rf"(?P<literal>{_STRING}|-?\d+(?:\.\d+)?|true|false)\s*"
)
_JOINT = re.compile(r"(and|or)\b")


def compile_where(expression: str) -> Predicate:
    """Give the test that an expression describes, over an event's properties.

    Raises:
        ValueError: The expression is outside the part that is understood.
    """
    alternatives: list[list[Predicate]] = [[]]
    position = 0
    while True:
        comparison = _COMPARISON.match(expression, position)
        if comparison is None:
            raise ValueError(f"not understood at {expression[position:]!r}")
        alternatives[-1].append(_compare(**comparison.groupdict()))
        position = comparison.end()
        if position == len(expression):
            break
        joint = _JOINT.match(expression, position)
        if joint is None:
            raise ValueError(f"not understood at {expression[position:]!r}")
        if joint[1] == "or":
            alternatives.append([])
        position = joint.end()
    return lambda properties: any(all(test(properties) for test in tests) for tests in alternatives)


def _compare(name: str, operator: str, literal: str) -> Predicate:
    key, value = json.loads(name), json.loads(literal)
    equal = operator == "=="

    def test(properties: Mapping[str, Any]) -> bool:
        # A missing property equals nothing. Python's True is 1, an event's `true` is not.
        found = properties.get(key)
        same = found == value and isinstance(found, bool) == isinstance(value, bool)
        return same is equal

    return test
