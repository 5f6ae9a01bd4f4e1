"""The columns, and the JSON schema that the SDK itself would make of them."""

from __future__ import annotations

from typing import Any

import pytest
from singer_sdk import typing as th

from tap_mixpanel_parallel.convert.columns import COLUMNS, json_schema
from tap_mixpanel_parallel.convert.records import EventRecord
from tap_mixpanel_parallel.streams import properties_schema


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"properties_format": "object"},
        {"properties_format": "string"},
        {"flattening_enabled": True, "properties_format": "string"},
    ],
    ids=str,
)
def test_the_schema_is_what_the_sdk_makes(config: dict[str, Any]) -> None:
    expected = th.PropertiesList(
        th.Property(
            "event_id",
            th.StringType(nullable=False),
            required=True,
            description="MD5 over event, sent id, time in milliseconds and $insert_id, "
            "joined by U+001F",
        ),
        th.Property("event", th.StringType, description="The event's name"),
        th.Property("time", th.DateTimeType, description="When it happened, in UTC"),
        th.Property("distinct_id", th.StringType, description="The user, as known today"),
        th.Property("insert_id", th.StringType, description="$insert_id"),
        th.Property("processed_at", th.DateTimeType, description="When Mixpanel took it in, UTC"),
    ).to_dict()
    properties = properties_schema(config)
    expected["properties"]["properties"] = properties

    schema = json_schema(properties)

    assert schema == expected
    assert list(schema["properties"]) == list(expected["properties"])


def test_a_column_for_each_field() -> None:
    assert [(column.name, column.field, column.kind) for column in COLUMNS] == [
        ("event_id", "event_id", "key"),
        ("event", "event", "text"),
        ("time", "time_ms", "time"),
        ("distinct_id", "distinct_id", "text"),
        ("insert_id", "insert_id", "text"),
        ("processed_at", "processed_ms", "time"),
        ("properties", "properties", "json"),
    ]
    assert [column.field for column in COLUMNS] == list(EventRecord.__struct_fields__[:-1])
