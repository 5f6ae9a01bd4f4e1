"""Segmentation expressions: the grammar, and the rules of Mixpanel's documentation."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.sandbox import Project
from tap_mixpanel_parallel.sandbox.operators import BINARY, FUNCTIONS
from tap_mixpanel_parallel.sandbox.query import Query
from tap_mixpanel_parallel.sandbox.where import compile_where

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT: dict[str, Any] = {
    "plan": "pro",
    "seats": 3.0,
    "debt": -7.0,
    "ok": True,
    "digits": "42",
    "null": None,
    "tags": ["new", 4.0],
    "object": {"a": 1.0},
    "huge": 1.7e308,
    'a"b': "c",
    "部署": "営業",
}


def holds(expression: str) -> bool:
    return compile_where(expression)(EVENT)


@pytest.mark.parametrize(
    "expression",
    [
        # Comparison: values of two types are never equal, and have no order.
        'properties["plan"] == "pro"',
        'properties["seats"]==3',
        'properties["seats"] == 3.0',
        'properties["seats"] != "3"',
        'properties["ok"] == true',
        'properties["ok"] != 1',
        'properties["none"] != "x"',
        'properties["none"] == properties["neither"]',
        'properties["null"] != properties["none"]',
        'properties["tags"] != "new"',
        "1 < 2",
        "2 <= 2",
        "3 > 2",
        "2 >= 2",
        'not (properties["plan"] > 3)',
        'not (properties["plan"] < 3)',
        # Logic: undefined counts as false.
        'properties["plan"] == "pro" and properties["seats"] == 3',
        'properties["seats"] == 4 or properties["ok"]',
        'properties["none"] or true',
        'not (properties["none"] and true)',
        "not false",
        'not properties["none"]',
        "not not true",
        "true or false and false",
        "not (not false == false)",
        '(properties["seats"] == 4 or true) and true',
        # Texts and lists.
        '"r" in properties["plan"]',
        'not "x" in properties["plan"]',
        'not (3 in properties["plan"])',
        'properties["seats"] in [1, 2, 3]',
        'properties["debt"] in [-7]',
        'not (properties["seats"] in ["3"])',
        'not (properties["none"] in [1])',
        "not (1 in [])",
        '"new" in properties["tags"]',
        'properties["plan"] + "!" == "pro!"',
        # Arithmetic.
        "1 + 2 * 3 == 7",
        "(1 + 2) * 3 == 9",
        "7 - 2 - 1 == 4",
        "12 / 3 / 2 == 2",
        "7 / 2 == 3.5",
        "- 1 == 1 - 2",
        "--1 == 1",
        "1e3 == 1000",
        'properties["debt"] % 4 == -3',
        "not defined(1 / 0)",
        "not defined(1 % 0)",
        'not defined(1 + "1")',
        'not defined("a" * 2)',
        'not defined(-"a")',
        'not defined(properties["ok"] + 1)',
        'not defined(properties["huge"] * 10)',
        f"not defined({'9' * 400})",
        "floor(2.7) == 2 and ceil(2.1) == 3 and round(2.5) == 3 and round(-2.6) == -3",
        'not defined(floor("2"))',
        # defined, casts.
        'defined(properties["plan"])',
        'defined (properties["plan"])',
        'not defined(properties["none"])',
        'not defined(properties["null"])',
        'string(properties["seats"]) == "3"',
        'string(2.5) == "2.5"',
        'string(true) == "true"',
        'string(properties["null"]) == properties["null"]',
        'string(properties["none"]) == properties["none"]',
        'string(properties["object"]) == "{\\"a\\": 1.0}"',
        'number(properties["digits"]) == 42',
        "number(true) == 1 and number(false) == 0",
        'not defined(number("many"))',
        'not defined(number(properties["null"]))',
        'number(properties["seats"]) == 3',
        'boolean("x") and boolean(1) and boolean(properties["ok"])',
        'not (boolean("false") or boolean("") or boolean(0) or boolean(properties["none"]))',
        'not (boolean(properties["null"]) or boolean(false))',
        'not defined(datetime("x"))',
        # Names and roots.
        r'properties["a\"b"] == "c"',
        'properties["部署"] == "営業"',
        'event["plan"] == "pro"',
        'not defined(user["plan"])',
        ' properties [ "plan" ]\n==\t"pro" ',
    ],
)
def test_true(expression: str) -> None:
    assert holds(expression)
    assert not holds(f"not ({expression})")


@pytest.mark.parametrize(
    "expression",
    ['properties["none"]', 'properties["plan"]', "1", '"x"', "1 < 2 < 3", 'not properties["plan"]'],
)
def test_only_true_passes(expression: str) -> None:
    assert not holds(expression)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "it ends too early"),
        ('properties["a"] == 3 and', "it ends too early"),
        ("(1 == 1", "it ends too early"),
        ('properties["a"', "it ends too early"),
        ('properties["a"] == 3 nand true', "not understood at 'nand true'"),
        ("properties[a] == 3", "not understood at 'a] == 3'"),
        ("properties['a'] == 3", "not understood at \"'a'] == 3\""),
        ("properties == 3", "not understood at '== 3'"),
        ("profile == 3", "not understood at 'profile == 3'"),
        ("1 = 1", "not understood at '= 1'"),
        ("1 == 1)", "not understood at ')'"),
        ("true AND true", "not understood at 'AND true'"),
        ("true == notdefined(1)", "not understood at 'notdefined(1)'"),
        ('"a" in5', "not understood at 'in5'"),
        ("x in [1, y]", "not understood at 'x in [1, y]'"),
        ("1 in [1 2]", "not understood at '2]'"),
        ("1 in [[1]]", "not understood at '[1]]'"),
        (r'"\q" == "q"', r"""not understood at '"\\q" == "q"'"""),
        ("(" * 40 + "1" + ")" * 40, "it is nested more than 40 levels deep"),
        ("(" * 30_000, "it is nested more than 40 levels deep"),
    ],
)
def test_refused(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        compile_where(expression)


def test_long_expressions() -> None:
    many = 5000
    assert holds(" or ".join(["false"] * many + ["true"]))
    assert holds(" + ".join(["1"] * many) + f" == {many}")
    assert holds("not " * many + "true")
    assert holds("(" * 39 + "true" + ")" * 39)


@pytest.mark.parametrize("operator", ["and", "or"])
@pytest.mark.parametrize("operand", ['properties["plan"]', "1", 'properties["null"]'])
def test_logic_fails_on_other_types(operator: str, operand: str) -> None:
    for expression in (f"true {operator} {operand}", f"{operand} {operator} true"):
        with pytest.raises(ValueError, match="not a boolean"):
            holds(expression)


WORDS = [*BINARY, *FUNCTIONS, "properties", "user", "event", "not", "true", "(", ")", "[", "]", ","]


@given(st.lists(st.sampled_from([*WORDS, '"plan"', '"x"', "3", '["seats"]', '["tags"]', "("])))
def test_any_text_is_a_test_or_a_value_error(words: list[str]) -> None:
    try:
        assert isinstance(holds(" ".join(words)), bool)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either outcome is right


class TestOverTheEvents:
    DAY: ClassVar = date(2025, 1, 8)
    PROJECT: ClassVar = Project(events_per_day=200, poison=True)

    def lines(self, where: str | None = None, *, time_in_ms: bool = True) -> Iterator[bytes]:
        query = Query(self.DAY, self.DAY, where=where, time_in_ms=time_in_ms)
        return query.lines(self.PROJECT, datetime(2026, 1, 1, tzinfo=UTC))

    @pytest.mark.parametrize("name", ["$time", "time"])
    def test_times_are_in_seconds_whatever_the_export_says(self, name: str) -> None:
        noon = int(datetime(2025, 1, 8, 12, tzinfo=UTC).timestamp())
        where = f'properties["{name}"]>=datetime({noon})'
        found = list(self.lines(where))
        times = [json.loads(line)["properties"]["time"] for line in self.lines()]
        assert 0 < len(found) < len(times)
        assert len(found) == sum(isinstance(t, (int, float)) and t >= noon * 1000 for t in times)
        same = list(self.lines(where.replace('"time"', '"$time"')))
        assert found == same

    def test_seconds_and_milliseconds_select_the_same_events(self) -> None:
        noon = int(datetime(2025, 1, 8, 12, tzinfo=UTC).timestamp())
        where = f'properties["$time"]>=datetime({noon}) and not "Poison: time" in event["x"]'
        usual = [
            sum(b"Poison" not in line for line in self.lines(where, time_in_ms=unit))
            for unit in (True, False)
        ]
        assert usual[0] == usual[1] > 0

    def test_an_expression_that_fails_ends_the_body_with_an_error(self) -> None:
        *events, last = self.lines('not defined(properties["plan"]) or properties["plan"]')
        assert json.loads(last) == {
            "error": "Invalid where expression: and, or: an operand is not a boolean"
        }
        assert all("event" in json.loads(line) for line in events)
