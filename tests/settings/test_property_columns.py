"""`property_columns`: its forms, the names that follow, and every problem at once."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.convert.columns import NAMES
from tap_mixpanel_parallel.settings.property_columns import (
    RECORD_FIELDS,
    STANDARD,
    PropertyColumn,
    plain_name,
)
from tests.settings.harness import problems, read


def columns(given: Any) -> tuple[PropertyColumn, ...]:
    return read(property_columns=given).property_columns


OS = PropertyColumn("$os", "os", "string")
AMOUNT = PropertyColumn("amount", "amount_usd", "number")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ()),
        ([], ()),
        ("", ()),
        (["$os"], (OS,)),
        ('["$os"]', (OS,)),
        ([{"property": "$os"}], (OS,)),
        ([{"property": "$os", "name": None, "type": None}], (OS,)),
        (["$os", {"property": "amount", "type": "number", "name": "amount_usd"}], (OS, AMOUNT)),
        ('["$os", {"property": "amount", "type": "number", "name": "amount_usd"}]', (OS, AMOUNT)),
        ("standard", STANDARD),
        ('["standard"]', STANDARD),
        (["standard", {"property": "amount", "type": "number", "name": "amount_usd"}],
         (*STANDARD, AMOUNT)),
        ([{"property": "standard"}], (PropertyColumn("standard", "standard", "string"),)),
        ([{"property": "$insert_id", "name": "sent"}], (PropertyColumn("$insert_id", "sent"),)),
        (
            ["plan", {"property": "plan", "name": "plan_json", "type": "json"}],
            (PropertyColumn("plan", "plan"), PropertyColumn("plan", "plan_json", "json")),
        ),
    ],
)  # fmt: skip
def test_forms(given: Any, expected: tuple[PropertyColumn, ...]) -> None:
    assert columns(given) == expected


def test_a_column_of_ones_own_replaces_the_standard_one() -> None:
    own = PropertyColumn("$os", "system", "json")
    chosen = columns(["standard", {"property": "$os", "name": "system", "type": "json"}])
    assert own in chosen
    assert not [each for each in chosen if each.property == "$os" and each != own]
    assert len(chosen) == len(STANDARD)


def test_the_standard_columns_are_valid() -> None:
    given = [{"property": c.property, "name": c.name, "type": c.type} for c in STANDARD]
    assert columns(given) == STANDARD


def test_the_names_that_records_have_are_those_of_the_stream() -> None:
    assert RECORD_FIELDS == NAMES


@pytest.mark.parametrize(
    ("property_name", "expected"),
    [
        ("$os", "os"),
        ("Page Title", "page_title"),
        ("Latency (ms)", "latency_ms"),
        ("utm.campaign.first", "utm_campaign_first"),
        ("Größe", "grosse"),
        ("Crème_Brûlée", "creme_brulee"),
        ("__proto__", "proto"),
        ("3d model", "_3d_model"),
        ('a"b', "a_b"),
        ("🎉 party", "party"),
        ("🎉", ""),
        ("東京", ""),
        ("", ""),
    ],
)
def test_plain_names(property_name: str, expected: str) -> None:
    assert plain_name(property_name) == expected


@given(st.text())
def test_a_plain_name_needs_no_quotes_and_stays(name: str) -> None:
    plain = plain_name(name)
    assert re.fullmatch(r"(_?[a-z0-9]+(_[a-z0-9]+)*)?", plain)
    assert not plain[:1].isdigit()
    assert plain_name(plain).lstrip("_") == plain.lstrip("_")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("$os", ["property_columns: '$os' is not a list"]),
        (7, ["property_columns: 7 is not a list"]),
        ({"property": "$os"}, ["property_columns: {'property': '$os'} is not a list"]),
        ([7], ["7 is neither a name nor an object"]),
        ([None], ["None is neither a name nor an object"]),
        ([["a"]], ["['a'] is neither a name nor an object"]),
        ([{"property": "a", "typ": "json"}], ["is neither a name nor an object"]),
        ([{"name": "a"}], ["{'name': 'a'} has no valid `property`"]),
        ([{"property": 7}], ["{'property': 7} has no valid `property`"]),
        ([""], ["'' has no valid `property`"]),
        (["a\ud83d"], [r"'a\ud83d' has no valid `property`"]),
        ([{"property": "a", "name": ""}], ["has no name that a column can have"]),
        ([{"property": "a", "name": 7}], ["has no name that a column can have"]),
        ([{"property": "a", "name": "Plan"}], ["has no name that a column can have"]),
        ([{"property": "a", "name": "a b"}], ["has no name that a column can have"]),
        ([{"property": "a", "name": "1a"}], ["has no name that a column can have"]),
        ([{"property": "a", "name": "a\n"}], ["has no name that a column can have"]),
        ([{"property": "a", "name": "_sdc_deleted_at"}], ["has no name that a column can have"]),
        (["a" * 64], ["has no name that a column can have"]),
        (["🎉"], ["'🎉' has no name that a column can have"]),
        ([{"property": "a", "type": "text"}],
         ["has an unknown type; give one of string, number, integer, boolean, date-time, json"]),
        ([{"property": "a", "type": ["json"]}], ["has an unknown type"]),
        ([{"property": "a", "type": ""}], ["has an unknown type"]),
        (["$insert_id"], ["'$insert_id' would be the column insert_id, which every record has"]),
        ([{"property": "a", "name": "time"}], ["'a' would be the column time, which every record"]),
        (["$os", "OS"], ["'$os' and 'OS' would all be the column os; give each another `name`"]),
        (["$os", "$os"], ["'$os' and '$os' would all be the column os"]),
        (["Plan", "plan", "PLAN"], ["'Plan' and 'plan' and 'PLAN' would all be the column plan"]),
        (["standard", {"property": "a", "name": "os"}], ["'$os' and 'a' would all be the column"]),
    ],
)  # fmt: skip
def test_problems(given: Any, expected: list[str]) -> None:
    found = problems(property_columns=given)
    assert len(found) == len(expected)
    for problem, text in zip(found, expected, strict=True):
        assert problem.startswith("property_columns: ")
        assert text in problem


def test_every_problem_is_named_at_once() -> None:
    found = problems(
        property_columns=["$os", "OS", "time", "", {"property": "a", "name": "", "type": "x"}],
        workers=0,
    )
    assert [text for text in found if not text.startswith("property_columns: ")] == [
        "workers: 0 is not valid; give a whole number from 1 to 100"
    ]
    assert len(found) == 6
