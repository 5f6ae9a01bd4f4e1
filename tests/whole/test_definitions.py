"""The plugin definitions: what they say is so, and `meltano add` takes them."""

from __future__ import annotations

import re
import shlex
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from singer_sdk.exceptions import ConfigValidationError

from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA
from tests.support.commands import ROOT, run
from tests.support.definitions import PLUGINS, as_meltano_has_it, schema_of, with_settings
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.projects import AS_OF, MAIN, sandbox_of
from tests.support.recipes import recipe
from tests.whole.test_packaging import PROJECT, SUPPORTED

if TYPE_CHECKING:
    from pathlib import Path

FIRST, LAST = date(2025, 1, 1), date(2025, 1, 14)
HUB: Final = {
    *("name", "variant", "namespace", "label", "description", "definition", "domain_url"),
    *("logo_url", "keywords", "maintenance_status", "pip_url", "executable"),
    *("supported_python_versions", "capabilities", "settings", "settings_group_validation"),
}
"""The keys of a definition on the hub, as far as they make sense here."""

EXAMPLES: Final = {
    "project_id": "1234",
    "service_account_username": "etl",
    "service_account_secret": "secret",
    "project_secret": "secret",
    "start_date": "2025-01-01",
    "filepath": "warehouse.duckdb",
    "path": "warehouse.duckdb",
}

OF_EACH_KIND: Final = {
    "TARGET_DUCKDB_BATCH_MEMORY_LIMIT": "256MB",
    "TARGET_DUCKDB_BATCH_BATCH_SIZE_ROWS": "1000",
    "TARGET_DUCKDB_BATCH_ADD_METADATA_COLUMNS": "true",
    "TARGET_DUCKDB_BATCH_SETTINGS": '{"threads": 1}',
}
"""Settings of the loader, of each kind; those of the tap are in `tests/settings/test_values.py`."""


def definition_of(name: str) -> dict[str, Any]:
    text = (ROOT / "meltano" / f"{name}.yml").read_text()
    return dict(yaml.safe_load(text))


@pytest.mark.parametrize("name", PLUGINS)
def test_a_definition_has_the_form_of_the_hub(name: str) -> None:
    definition = definition_of(name)
    assert definition.keys() == HUB
    assert definition["name"] == definition["executable"] == name
    assert name in PROJECT["scripts"]
    assert definition["namespace"] == name.replace("-", "_")
    assert definition["maintenance_status"] in {"active", "beta", "development"}
    assert definition["pip_url"] == f"../{PROJECT['name']}[files]"
    assert definition["supported_python_versions"] == SUPPORTED
    assert definition["capabilities"] == sorted(c.value for c in PLUGINS[name].capabilities)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_definition_has_every_setting(name: str) -> None:
    own = PLUGINS[name].config_jsonschema["properties"] if name.startswith("target") else None
    own = own or CONFIG_SCHEMA["properties"]
    wanted = {
        setting: as_meltano_has_it(setting, each)
        for setting, each in schema_of(PLUGINS[name])["properties"].items()
    }
    declared = {setting["name"]: setting for setting in definition_of(name)["settings"]}
    assert list(declared) == list(wanted), "make definitions"
    for setting, each in declared.items():
        # What the SDK says of its own settings changes with its version.
        of_sdk = setting not in own or setting.startswith(("stream_map", "faker"))
        for part in ("name", "kind") if of_sdk else wanted[setting].keys() | each.keys():
            assert each.get(part) == wanted[setting].get(part), f"{setting}: make definitions"


def test_the_project_s_own_file_has_every_setting() -> None:
    text = (ROOT / "meltano.yml").read_text()
    written = with_settings(text, CONFIG_SCHEMA["properties"])
    assert yaml.safe_load(text) == yaml.safe_load(written), "make definitions"


def test_the_project_s_own_file_has_capabilities_of_the_plugins() -> None:
    plugins = yaml.safe_load((ROOT / "meltano.yml").read_text())["plugins"]
    declared = {
        plugin["name"]: set(plugin.get("capabilities", ()))
        for plugin in (*plugins["extractors"], *plugins["loaders"])
    }
    for name, plugin in PLUGINS.items():
        assert declared[name] <= {each.value for each in plugin.capabilities}
        assert "structured-logging" in declared[name], "Meltano shows an error as information"


@pytest.mark.parametrize("name", PLUGINS)
def test_each_group_of_settings_is_enough_and_needed(name: str) -> None:
    for group in definition_of(name)["settings_group_validation"]:
        config = {setting: EXAMPLES[setting] for setting in group}
        PLUGINS[name](config=config)
        for setting in group:
            without = {other: value for other, value in config.items() if other != setting}
            with pytest.raises(ConfigValidationError, match=setting):
                PLUGINS[name](config=without)


PIP_URLS: Final = [
    pytest.param(yaml.safe_load(found), id=f"{path.relative_to(ROOT)} {number}")
    for pattern in ("*.md", "docs/*.md", "*.yml", "meltano/*.yml")
    for path in sorted(ROOT.glob(pattern))
    for number, found in enumerate(re.findall("pip_url: ([^`\n]+)", path.read_text()), 1)
]


@pytest.mark.parametrize("pip_url", PIP_URLS)
def test_meltano_can_install_each_pip_url(pip_url: str) -> None:
    """It splits one as a shell does, and hands the parts to pip or uv."""
    address = "https://git.example/tap.git"
    for part in shlex.split(pip_url.replace("<this repository>", address)):
        if part == "-e":
            continue
        requirement = Requirement(re.sub(r"^\.[^\[]*", PROJECT["name"], part))
        if requirement.name == PROJECT["name"]:
            assert part.startswith(".") or requirement.url == f"git+{address}", "no registry has it"
            assert requirement.extras <= PROJECT["optional-dependencies"].keys()


def test_the_documents_say_how_to_install_without_a_clone() -> None:
    places = {str(each.id).split()[0] for each in PIP_URLS if "git+" in str(each.values[0])}
    assert places == {"docs/meltano.md", "docs/target-duckdb-batch.md"}


@pytest.mark.slow
@pytest.mark.timeout(300)  # a dozen commands
def test_a_project_of_one_s_own(tmp_path: Path) -> None:
    """As docs/meltano.md says it, with the account of a sandbox in place of the example's."""
    (tmp_path / "tap-mixpanel-parallel").symlink_to(ROOT)
    project = tmp_path / "analytics"
    outputs = []
    with sandbox_of(MAIN, "1234") as sandbox:
        settings = recipe("meltano config")
        for example, real in {
            "etl.9a8b7c.mp-service-account": sandbox.credentials.username,
            "the secret": sandbox.credentials.secret,
        }.items():
            assert settings.count(example) == 1
            settings = settings.replace(example, real)
        variables = {
            "TAP_MIXPANEL_PARALLEL_API_URL": sandbox.url,
            "TAP_MIXPANEL_PARALLEL_END_DATE": str(LAST),
            "TAP_MIXPANEL_PARALLEL_REQUESTS_PER_SECOND": "100",
            **OF_EACH_KIND,
        }
        for code, folder in (
            (recipe("meltano add"), tmp_path),
            (settings, project),
            (recipe("meltano run"), project),
            (recipe("meltano plan"), project),
            (recipe("meltano status"), project),
        ):
            done = run("bash", "-ec", code, cwd=folder, settings=variables, timeout=300)
            assert done.returncode == 0, done.stdout + done.stderr

            outputs.append(done.stdout)

    assert "every day is loaded, nothing to fetch" in outputs[-2]
    assert outputs[-1].startswith("14 days loaded, 0 failed, 0 missing")
    assert f"start_date {FIRST}\n" in settings
    database = project / "output" / "warehouse.duckdb"
    assert_same(loaded(database), expected(lines_of(MAIN, FIRST, LAST, AS_OF)))
    with duckdb.connect(str(database)) as connection:
        assert "_sdc_batched_at" in connection.table("mixpanel.events").columns
    assert "secret-of-1234" in (project / ".env").read_text()
    assert not re.search("secret-of-1234", (project / "meltano.yml").read_text())
