"""The `where` parameter: Mixpanel's segmentation expressions, parsed.

The grammar is that of Mixpanel's page on segmentation expressions, with `defined()`, the roots
`user` and `event`, lists after `in`, and `datetime()`, which clients in use send. What is outside
of it is refused. The page does not say how tightly operators bind: as in Python is a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tap_mixpanel_parallel.sandbox.operators import (
    BINARY,
    FUNCTIONS,
    UNDEFINED,
    Value,
    minus,
    negation,
    to_number,
)

Roots = Mapping[str, Mapping[str, Any]]
Node = Callable[[Roots], Value]
Test = Callable[[Mapping[str, Any]], bool]

_DEEPEST: Final = 40
_COMPARISONS: Final = ("==", "!=", ">=", "<=", ">", "<", "in")
_ROOTS: Final = ("properties", "event", "user")
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<string>\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<sign>==|!=|>=|<=|[-+*/%><()\[\],]))",
    re.ASCII | re.DOTALL,
)
_TEXT: Final = json.JSONDecoder(strict=False)


def compile_where(expression: str) -> Test:
    """Give the test that an expression describes, over the properties of an event.

    The test needs numbers as floats. It passes an event whose value is `true`; that any other
    value, such as a number, does not pass is a guess.

    Raises:
        ValueError: The expression is not in the grammar.
    """
    node = _Parser(expression).whole()

    def test(properties: Mapping[str, Any]) -> bool:
        # The synthetic project has no user profiles.
        return node({"properties": properties, "event": properties, "user": {}}) is True

    return test


class _Parser:
    """A recursive descent: one method for each level at which operators bind."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = len(text.rstrip())
        self._position = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._disjunction()
        if self._position < self._end:
            raise self._error()
        return node

    def _disjunction(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
        node = self._chain(("or",), self._conjunction)
        self._depth -= 1
        return node

    def _conjunction(self) -> Node:
        return self._chain(("and",), self._negation)

    def _negation(self) -> Node:
        return self._prefixed("not", negation, self._comparison)

    def _comparison(self) -> Node:
        return self._chain(_COMPARISONS, self._sum)

    def _sum(self) -> Node:
        return self._chain(("+", "-"), self._product)

    def _product(self) -> Node:
        return self._chain(("*", "/", "%"), self._negative)

    def _negative(self) -> Node:
        return self._prefixed("-", minus, self._atom)

    def _chain(self, operators: Sequence[str], operand: Callable[[], Node]) -> Node:
        """Read operands joined by operators that bind alike, from left to right."""
        first = operand()
        rest: list[tuple[Callable[[Value, Value], Value], Node]] = []
        while (found := self._take(*operators)) is not None:
            rest.append((BINARY[found], operand()))
        if not rest:
            return first

        def evaluate(roots: Roots) -> Value:
            value = first(roots)
            for apply, node in rest:
                value = apply(value, node(roots))
            return value

        return evaluate

    def _prefixed(
        self, sign: str, apply: Callable[[Value], Value], operand: Callable[[], Node]
    ) -> Node:
        """Read an operand with any number of the sign before it."""
        times = 0
        while self._take(sign) is not None:
            times += 1
        node = operand()
        if not times:
            return node

        def evaluate(roots: Roots) -> Value:
            value = node(roots)
            for _ in range(times):
                value = apply(value)
            return value

        return evaluate

    def _atom(self) -> Node:
        if self._take("(") is not None:
            node = self._disjunction()
            self._expect(")")
            return node
        if self._take("[") is not None:
            return self._list()
        if (root := self._take(*_ROOTS)) is not None:
            self._expect("[")
            name = self._string()
            self._expect("]")
            return lambda roots: roots[root].get(name, UNDEFINED)
        if (function := self._take(*FUNCTIONS)) is not None:
            return self._call(FUNCTIONS[function])
        value = self._literal()
        return lambda _: value

    def _call(self, function: Callable[[Value], Value]) -> Node:
        self._expect("(")
        argument = self._disjunction()
        self._expect(")")
        return lambda roots: function(argument(roots))

    def _list(self) -> Node:
        items: list[Value] = []
        while self._take("]") is None:
            if items:
                self._expect(",")
            negative = self._take("-") is not None
            value = self._literal()
            items.append(minus(value) if negative else value)
        return lambda _: items

    def _literal(self) -> Value:
        token = self._peek()
        if token is None or token.lastgroup == "sign":
            raise self._error()
        text = token[token.lastgroup or 0]
        if token.lastgroup == "string":
            return self._string()
        if token.lastgroup == "word" and text not in ("true", "false"):
            raise self._error()
        self._position = token.end()
        return text == "true" if token.lastgroup == "word" else to_number(text)

    def _string(self) -> str:
        token = self._peek()
        if token is None or token["string"] is None:
            raise self._error()
        try:
            text = _TEXT.decode(token["string"])
        except ValueError:
            raise self._error() from None
        self._position = token.end()
        return str(text)

    def _peek(self) -> re.Match[str] | None:
        return _TOKEN.match(self._text, self._position)

    def _take(self, *choices: str) -> str | None:
        """Take the next token if it is one of these."""
        token = self._peek()
        if token is None or token.lastgroup == "string":
            return None
        text = token[token.lastgroup or 0]
        if text not in choices:
            return None
        self._position = token.end()
        return text

    def _expect(self, sign: str) -> None:
        if self._take(sign) is None:
            raise self._error()

    def _error(self) -> ValueError:
        rest = self._text[self._position : self._end].lstrip()
        return ValueError(f"not understood at {rest!r}" if rest else "it ends too early")
