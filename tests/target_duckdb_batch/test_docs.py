"""docs/target-duckdb-batch.md says what is so."""

from __future__ import annotations

import json
import re
from typing import Final

import duckdb
import pytest

from target_duckdb_batch.settings import CONFIG_SCHEMA, WITHOUT_EFFECT
from tests.support.commands import ROOT
from tests.support.recipes import assert_lists
from tests.target_duckdb_batch.harness import EVENTS, TARGET_DUCKDB, Lab, event, record

DOCS: Final = (ROOT / "docs" / "target-duckdb-batch.md").read_text()
# The SDK adds those of stream maps to the declared ones.
SETTINGS: Final = {
    name: setting
    for name, setting in CONFIG_SCHEMA["properties"].items()
    if not name.startswith(("stream_map", "faker"))
}


def test_the_table_lists_every_setting() -> None:
    assert_lists("docs/target-duckdb-batch.md", SETTINGS, required="filepath")


def test_settings_without_effect_are_named() -> None:
    sentence = re.search(r"`faker_config` work.*?have no effect\.", DOCS, re.DOTALL)
    assert sentence
    assert set(re.findall(r"`(\w+)`", sentence[0].split("refused.")[1])) == WITHOUT_EFFECT


def test_the_example_of_a_schema_loads(lab: Lab) -> None:
    (example,) = re.findall(r'```json\n(\{"type": "SCHEMA".*?)```', DOCS, re.DOTALL)
    message = json.loads(example)
    message["schema"]["properties"] = EVENTS["schema"]["properties"]
    lab.load(message, record(event(1)), record(event(1, processed_at=None, event="older")))
    assert [row["event"] for row in lab.rows()] == ["Sign Up"]


@pytest.mark.slow
def test_a_primary_key_can_be_taken_away(lab: Lab) -> None:
    pytest.importorskip("target_duckdb", reason="target-duckdb is not installed")
    (recipe,) = re.findall(r"<!-- recipe: without a key -->\s+```sql\n(.*?)```", DOCS, re.DOTALL)
    both = [EVENTS, record(event(1)), record(event(2))]
    assert lab.run(*both, name=TARGET_DUCKDB, python_path="").code == 0
    assert "has a primary key" in lab.run(*both).errors
    with duckdb.connect(str(lab.path)) as connection:
        connection.execute(recipe)
    changed = [EVENTS, record(event(2, event="changed")), record(event(3))]
    assert lab.run(*changed, name=TARGET_DUCKDB, python_path="").code == 0
    ended = lab.run(EVENTS, record(event(3, event="changed")))
    assert ended.code == 0
    assert "primary key" not in ended.errors
    names = [row["event"] for row in lab.rows(order="event_id")]
    assert names == ["Sign Up", "changed", "changed"]
