"""What the settings look like in `meltano.yml` and in the plugin definitions.

`python -m tests.support.definitions` writes them there, as `make definitions` does.
"""

from __future__ import annotations

import copy
import re
from textwrap import indent
from typing import TYPE_CHECKING, Any, Final

import yaml  # type: ignore[import-untyped]

from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA
from tap_mixpanel_parallel.tap import TapMixpanelParallel
from target_duckdb_batch.target import TargetDuckDBBatch
from tests.support.commands import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from singer_sdk.plugin_base import PluginBase

PLUGINS: Final[dict[str, type[PluginBase]]] = {
    "tap-mixpanel-parallel": TapMixpanelParallel,
    "target-duckdb-batch": TargetDuckDBBatch,
}
"""The plugins that have a definition."""


def schema_of(plugin: type[PluginBase]) -> dict[str, Any]:
    """All settings of a plugin, those of the SDK as well."""
    schema = copy.deepcopy(plugin.config_jsonschema)
    plugin.append_builtin_config(schema)
    return schema


def kind_of(setting: Mapping[str, Any]) -> str:
    """What Meltano calls the type of a setting."""
    if "enum" in setting:
        return "options"
    # A list or a word is a string: Meltano leaves either as it is then.
    kinds = setting["type"]
    kind = "string" if "string" in kinds else next(kind for kind in kinds if kind != "null")
    # Meltano makes a Decimal of a `decimal`, which its configuration file can't hold.
    return "string" if kind == "number" else str(kind)


def as_meltano_has_it(name: str, setting: Mapping[str, Any]) -> dict[str, Any]:
    """A setting of the schema, in the form of Meltano."""
    return {
        "name": name,
        "kind": kind_of(setting),
        **({"sensitive": True} if setting.get("secret") else {}),
        "label": setting["title"],
        "description": setting["description"],
        **({"value": setting["default"]} if "default" in setting else {}),
        **(
            {"options": [{"label": value, "value": value} for value in setting["enum"]]}
            if "enum" in setting
            else {}
        ),
    }


def with_settings(text: str, properties: Mapping[str, Mapping[str, Any]]) -> str:
    """A file of Meltano's, with these as the settings of its first plugin."""
    settings = [as_meltano_has_it(name, each) for name, each in properties.items()]
    shown = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=94)
    replaced, count = re.subn(
        r"^( *)settings:\n.*?(?=^\1settings_group_validation:)",
        lambda match: f"{match[1]}settings:\n" + indent(shown, f"{match[1]}  "),
        text,
        count=1,
        flags=re.DOTALL | re.MULTILINE,
    )
    assert count == 1
    return replaced


def write() -> None:
    """Write the settings into all files that list them."""
    files = {ROOT / "meltano.yml": CONFIG_SCHEMA["properties"]}
    for name, plugin in PLUGINS.items():
        files[ROOT / "meltano" / f"{name}.yml"] = schema_of(plugin)["properties"]
    for path, properties in files.items():
        path.write_text(with_settings(path.read_text(), properties))


if __name__ == "__main__":
    write()
