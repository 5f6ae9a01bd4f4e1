"""What `--describe` counts and prints, beside what the exported lines say."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter, defaultdict
from datetime import date
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw
from rich.cells import cell_len

from tap_mixpanel_parallel.convert.records import EventReader, EventRecord
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.census import MOST_EVENTS, MOST_PROPERTIES, Census, Seen, Tally
from tap_mixpanel_parallel.report.description import Description
from tap_mixpanel_parallel.report.suggestion import json_path, setting_of, suggest
from tap_mixpanel_parallel.sandbox import Project
from tests.report.events import settings
from tests.support.expected import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DAYS: Final = Window(date(2025, 1, 31), date(2025, 2, 2))
UTC: Final = ZoneInfo("UTC")
ALL: Final = {"events": None, "where": None}
NASTY: Final = [
    *("$current_url", "a.b", "a b", "$", "$.a", "🎉", " ", "*", "a*", "a[0]", "[0]", "#-1", "0"),
    *('a"b', '"', "a\\b", 'a\\"b', "a/b", "/x", "~", "~1", "a~0b", "o'b", "'", "--", ";", "部署"),
    *("x\u200dy", "nul\x00y", "tab\ty", "\u202eevil", "\x1b[31m", "\u2028", "e\u0301", "_sdc_x"),
    *("Plan", "plan", "PLAN", "plan_2", "event", "order", "9 lives", "n" * 255, "x" * 200),
    "standard",
]


def event(name: str, properties: Mapping[str, Any]) -> EventRecord:
    raw = Raw(json.dumps(properties, ensure_ascii=False).encode())
    return EventRecord(b"k" * 16, name, 0, "u", "i", None, raw)


def census(records: Iterable[EventRecord]) -> Census:
    counted = Census()
    for record in records:
        counted.write([record])
    return counted


def described(*records: EventRecord) -> Description:
    return Description(DAYS, ALL, census(records))


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "long integer"
    kinds = {float: "number", str: "string", dict: "object", list: "array", type(None): "null"}
    return kinds[type(value)]


def read(lines: list[bytes]) -> list[EventRecord]:
    return list(EventReader(UTC).read(lines))


def test_the_counts_are_those_of_the_export() -> None:
    """Of a project whose events have whatever names and values there are."""
    lines = lines_of(Project(seed=63, events_per_day=200, poison=True), DAYS.first, DAYS.last)
    found = Description(DAYS, ALL, census(read(lines))).to_json()
    events: Counter[str] = Counter()
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    carriers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in read(lines):
        events[record.event] += 1
        for name, value in json.loads(bytes(record.properties)).items():
            kinds[name][kind(value)] += 1
            carriers[name][record.event] += 1

    assert found["count"] == len(lines)
    assert {each["event"]: each["count"] for each in found["events"]} == events
    assert len(found["properties"]) == len(kinds) > 2000
    assert found["missed"] == {"events": 0, "properties": 0}
    for each in found["properties"]:
        name = each["property"]
        types = Counter(each["types"])
        types["string"] += types.pop("date-time", 0)
        assert +types == kinds[name], name
        assert each["count"] == kinds[name].total()
        assert each["share"] == pytest.approx(each["count"] / len(lines), abs=1e-6)
        shown = Counter(each["events"])
        assert shown <= carriers[name]
        assert shown.total() + each["other_events"] == carriers[name].total()


def test_values_are_different_and_cut() -> None:
    values = ["a", "a", None, "x" * 500, "🎉" * 300, 10**30, {"k": "v" * 99}, "never shown"]
    (found,) = described(*(event("E", {"p": value}) for value in values)).to_json()["properties"]

    assert [each[:4] for each in found["values"]] == ['"a"', '"xxx', '"🎉🎉🎉'[:4], "1000", '{"k"']
    assert max(map(cell_len, found["values"])) <= 30
    assert [each for each in found["values"] if each.endswith("…")] == found["values"][1:]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([1, None, -(2**63)], "integer"),
        ([1, 2.5], "number"),
        ([2**63], "string"),
        ([True, None], "boolean"),
        ([True, 1], "string"),
        (["2025-02-01", "2025-02-01T10:00:00.5Z", "2025-02-01 10:00:00+02:00"], "date-time"),
        (["2025-02-01", "soon"], "string"),
        ([{}, []], "json"),
        ([{}, "x"], "string"),
    ],
)
def test_a_column_loses_no_value(values: list[Any], type_: str) -> None:
    counted = census(event("E", {"p": value}) for value in values)

    (column,) = suggest(counted.properties.ranked(), counted.total)
    assert (column.property, column.name, column.type) == ("p", "p", type_)


def test_the_settings_take_what_is_suggested() -> None:
    counted = census(event("E", {name: 1, f"{name}2": "x"}) for name in NASTY)

    columns = suggest(counted.properties.ranked(), 1)
    given = [setting_of(column) for column in columns]
    assert len(given) > len(NASTY)
    assert settings(property_columns=given).property_columns == tuple(columns)


def test_long_names_that_begin_alike_are_taken_too() -> None:
    counted = census([event("E", {f"{'x' * 70}{n}": 1 for n in range(120)})])

    given = [setting_of(column) for column in suggest(counted.properties.ranked(), 1)]
    assert len(settings(property_columns=given).property_columns) == 100


def test_what_has_no_value_is_no_column() -> None:
    counted = census([event("E", {"p": None, "time": 1, "$insert_id": "i"})])

    assert suggest(counted.properties.ranked(), counted.total) == []


@given(name=st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
@example(name="*")
@example(name="")
@example(name='a\\"b')
def test_a_path_leads_to_the_property_of_any_name(name: str) -> None:
    value = {name: "this", f"{name}x": "other", f"x{name}": "other"}
    found = duckdb.execute("SELECT (?::json)->>(?)", [json.dumps(value), json_path(name)])

    assert found.fetchall() == [("this",)]


def run_view(found: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the view over a table as loaders make it."""
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA mixpanel")
        connection.execute(
            "CREATE TABLE mixpanel.events (event_id VARCHAR, event VARCHAR, time TIMESTAMPTZ,"
            " distinct_id VARCHAR, insert_id VARCHAR, processed_at TIMESTAMPTZ, properties JSON)"
        )
        texts = [(str(number), json.dumps(row)) for number, row in enumerate(rows)]
        connection.executemany(
            "INSERT INTO mixpanel.events (event_id, properties) VALUES (?, ?)", texts
        )
        connection.execute(found["view"])
        view = connection.execute("FROM mixpanel.events_wide ORDER BY event_id::int")
        names = [each[0] for each in view.description or ()]
        return [dict(zip(names, row, strict=True)) for row in view.fetchall()]


def test_the_view_has_the_values_of_properties_of_any_name() -> None:
    rows = [{name: f"{n} {name}" for name in NASTY} for n in range(2)]
    found = described(*(event("E", row) for row in rows)).to_json()
    columns = {
        (setting if isinstance(setting, str) else setting["property"]): setting
        for setting in found["property_columns"]
    }
    assert set(columns) == set(NASTY)

    viewed = run_view(found, rows)

    for number, row in enumerate(rows):
        values = list(viewed[number].values())[6:-1]
        assert sorted(values) == sorted(row.values())
        named = viewed[number]
        for name, setting in columns.items():
            if isinstance(setting, dict):
                assert named[setting.get("name", name)] == row[name]
    assert not any(name.startswith("_sdc_") for name in viewed[0])


def test_the_view_has_the_types() -> None:
    rows: list[dict[str, Any]] = [
        {"i": 5, "n": 1.5, "b": True, "t": "2025-02-01T10:00:00Z", "j": {"a": [1]}, "s": "x"},
        {"i": None, "n": 2, "b": False, "t": "2025-02-01", "j": [], "s": 7},
    ]
    found = described(*(event("E", row) for row in rows)).to_json()
    first, second = run_view(found, rows)

    assert (first["i"], first["n"], first["b"], first["s"]) == (5, 1.5, True, "x")
    assert (second["i"], second["n"], second["b"], second["s"]) == (None, 2.0, False, "7")
    assert (str(first["t"]), str(second["t"])) == ("2025-02-01 10:00:00", "2025-02-01 00:00:00")
    assert (json.loads(first["j"]), json.loads(second["j"])) == ({"a": [1]}, [])


ANY_TEXT: Final = st.text(max_size=40) | st.sampled_from(NASTY)
PLAIN_TEXT: Final = ANY_TEXT.map(lambda text: text.encode(errors="replace").decode())


@given(
    events=st.lists(
        st.tuples(PLAIN_TEXT, st.dictionaries(PLAIN_TEXT, PLAIN_TEXT, max_size=5)),
        min_size=1,
        max_size=5,
    )
)
@example(events=[("x" * 3000, {"y" * 3000: "z" * 3000, "\x1b]0;evil\x07": "\u202e"})])
def test_whatever_is_named_is_printable_in_80_columns(
    events: list[tuple[str, dict[str, str]]],
) -> None:
    text = described(*(event(name, properties) for name, properties in events)).to_text()
    table = text.partition("\nThe setting")[0]

    assert max(map(cell_len, table.split("\n"))) <= 80
    assert text.replace("\n", "").isprintable()


def test_nothing_to_describe_is_said() -> None:
    assert described().to_text() == (
        "0 events on 2025-01-31..2025-02-02 (3 days)\n"
        "there is nothing to describe; choose other days"
    )
    assert described().to_json()["properties"] == []


def test_what_is_left_out_by_settings_is_said() -> None:
    found = Description(DAYS, {"events": ["A"], "where": "1 == 1"}, census([event("A", {})]))

    assert found.to_text().split("\n")[1:3] == ["only of events: ['A']", "only of where: 1 == 1"]


def test_millions_of_names_take_bounded_memory() -> None:
    """Names that hold values: each occurs once, and all but the most frequent are forgotten."""
    counted = Census()

    def add(count: int, start: int) -> None:
        for number in range(start, start + count):
            names = {f"id {number} {n}": f"v{number}" for n in range(4)}
            counted.write([event(f"name {number}", {"common": number} | names)])

    add(3000, 0)
    tracemalloc.start()
    add(7000, 3000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8_000_000
    ranked = counted.properties.ranked()
    assert len(ranked) <= 2 * MOST_PROPERTIES
    assert (ranked[0][0], ranked[0][1].count) == ("common", 10_000)
    assert len(ranked[0][1].carriers) == 50
    assert ranked[0][1].other_carriers == 9_950
    assert counted.properties.missed == (40_001 - 2 * MOST_PROPERTIES) // MOST_PROPERTIES + 1
    assert counted.events.missed == (10_000 - 2 * MOST_EVENTS - 1) // MOST_EVENTS + 1
    text = Description(DAYS, ALL, counted).to_text()
    assert text.count("the rare ones are left out") == 2
    assert "Names of properties seem to hold values." in text


@given(names=st.lists(st.integers(0, 30), max_size=300))
def test_a_count_lacks_no_more_than_is_said(names: list[int]) -> None:
    tally = Tally(Seen, 4)
    for number in names:
        tally.of(str(number)).count += 1

    ranked = dict(tally.ranked())
    assert len(ranked) <= 8
    for name, count in Counter(map(str, names)).items():
        kept = ranked[name].count if name in ranked else 0
        assert count - tally.missed <= kept <= count
