"""Every setting in every form in which JSON, YAML, Meltano and the environment give it."""

from __future__ import annotations

import json
import re
import tempfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from singer_sdk.exceptions import ConfigValidationError

from tap_mixpanel_parallel import TapMixpanelParallel
from tap_mixpanel_parallel.exceptions import SettingsError
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.settings.batch import BatchConfig
from tap_mixpanel_parallel.settings.property_columns import STANDARD, PropertyColumn
from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA
from tap_mixpanel_parallel.settings.settings import Settings
from tap_mixpanel_parallel.settings.values import parse_json, value_of
from tests.support.commands import run

if TYPE_CHECKING:
    from tap_mixpanel_parallel.tap import TapMixpanelParallel as Tap

PREFIX: Final = "TAP_MIXPANEL_PARALLEL_"
BASE: Final[dict[str, Any]] = {
    "project_id": "1",
    "service_account_username": "bob",
    "service_account_secret": "s3cret",
    "start_date": "2025-01-01",
}
FOLDER: Final = tempfile.gettempdir()
REPORT: Final = f"{FOLDER}/report-of-no-run.html"
DAY: Final = date(2025, 1, 5)
BATCH: Final[dict[str, Any]] = {
    "encoding": {"format": "parquet"},
    "storage": {"root": f"file://{FOLDER}/none yet", "prefix": "mixpanel-"},
}
FILES: Final = BatchConfig("parquet", f"file://{FOLDER}/none yet", "mixpanel-")
DASK: Final[dict[str, Any]] = {
    "executor": "dask",
    "dask_scheduler": "tls://127.0.0.1:8786",
    "batch_config": json.dumps(BATCH),
}
TLS: Final[dict[str, Any]] = dict.fromkeys(("ca_file", "cert_file", "key_file"), __file__)
EMPTY: Final[tuple[Any, ...]] = ([], "[]", "", None)
TRUE: Final = ("true", "True", "TRUE", "1", "yes", "on", " true\n")
FALSE: Final = ("false", "False", "0", "no", "off")


@pytest.fixture(autouse=True)
def _without_an_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the machine's own certificates again and again takes its time."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def whole(name: str, number: int) -> list[tuple[str, Any, Any]]:
    """A whole number in all its forms."""
    texts = [f"{number}", f" {number}\n", f"{number}.0", f"+{number}"]
    return [(name, v, number) for v in [number, float(number), Decimal(f"{number}.0"), *texts]]


TAKEN: Final[list[tuple[str, Any, Any]]] = [
    *[("project_id", value, "1234") for value in ("1234", " 1234\n", 1234, 1234.0, Decimal(1234))],
    *[("service_account_username", value, "bob") for value in ("bob", "\tbob\r\n")],
    *[("service_account_secret", value, "x y") for value in ("x y", "x y\n", "\ufeffx y "[1:])],
    *[("project_secret", value, "x") for value in ("x", "x\r\n")],
    *[("region", value, "eu") for value in ("eu", "eu\n")],
    *[("api_url", value, "https://h/x") for value in ("https://h/x", " https://h/x/\n")],
    *[
        ("start_date", value, DAY)
        for value in ("2025-01-05", "2025-01-05\n", DAY, datetime(2025, 1, 5, tzinfo=UTC))
    ],
    *[("end_date", value, DAY) for value in ("2025-01-05", DAY, "2025-01-05T00:00:00Z")],
    *[("project_timezone", value, "Asia/Kolkata") for value in ("Asia/Kolkata", "Asia/Kolkata\n")],
    *[
        (name, value, expected)
        for name in ("parallel", "balance_windows", "deduplicate")
        for expected, texts in ((True, TRUE), (False, FALSE))
        for value in (expected, *texts)
    ],
    *whole("workers", 12),
    *whole("processes", 2),
    *whole("window_days", 30),
    *whole("lookback_days", 0),
    *whole("max_attempts", 3),
    *whole("requests_per_second", 7),
    *whole("requests_per_hour", 90),
    *whole("attempt_timeout", 90),
    *whole("max_window_mb", 90),
    *whole("request_timeout", 30),
    *[("request_timeout", value, 30.5) for value in (30.5, Decimal("30.5"), "30.5", "3.05e1")],
    *[
        ("replay", value, Window(DAY, DAY))
        for value in ("2025-01-05", "2025-01-05..2025-01-05\n", DAY)
    ],
    *[
        ("events", value, ("A b", "達成"))
        for value in (["A b", "達成"], '["A b", "達成"]', ' ["A b","\\u9054\\u6210"]\n')
    ],
    *[("events", value, ()) for value in EMPTY],
    *[("where", value, "x == 1") for value in ("x == 1", "x == 1\n")],
    *[("properties_format", value, "string") for value in ("string", "string\n")],
    *[
        ("property_columns", value, (PropertyColumn("$os", "os"),))
        for value in (["$os"], '["$os"]', ' [{"property": "$os"}]\n')
    ],
    *[("property_columns", value, STANDARD) for value in ("standard", " standard\n")],
    *[("property_columns", value, ()) for value in EMPTY],
    *[("on_failed_window", value, "warn") for value in ("warn", " warn")],
    *[("on_hourly_limit", value, "fail") for value in ("fail", "fail\n")],
    *[("on_malformed_line", value, "quarantine") for value in ("quarantine", "quarantine\n")],
    *[("summary_format", value, "json") for value in ("json", " json\n")],
    *[
        ("batch_config", value, FILES)
        for value in (BATCH, json.dumps(BATCH), f" {json.dumps(BATCH)}")
    ],
    *[("executor", value, True) for value in ("dask", "dask\n")],
    *[
        ("dask_scheduler", value, "tcp://localhost:8786")
        for value in ("tcp://localhost:8786", " tcp://localhost:8786\n")
    ],
    *[("dask_tls", value, TLS) for value in (TLS, json.dumps(TLS), f" {json.dumps(TLS)}")],
    *[("dask_tls", value, {}) for value in ("", None)],
    *[("spool_dir", value, Path(FOLDER)) for value in (FOLDER, f"{FOLDER}\n")],
    *[("report", value, Path(REPORT)) for value in (REPORT, f" {REPORT}\n")],
]

BATCH_CHANGES: Final[tuple[dict[str, Any], ...]] = (
    {"encoding": None},
    {"encoding": {"format": "csv"}},
    {"encoding": {"format": ["parquet"]}},
    {"encoding": {"format": "parquet", "compression": "gzip"}},
    {"encoding": {"format": "jsonl", "compression": "none"}},
    {"encoding": {"format": "jsonl", "level": 3}},
    {"storage": "file:///data"},
    {"storage": {}},
    {"storage": {"root": 7}},
    {"storage": {"root": "a\0b"}},
    {"storage": {"root": "/dev/null/x"}},
    {"storage": {"root": "file:///dev/null"}},
    {"storage": {"root": "ftpx://host/x"}},
    {"storage": {"root": FOLDER, "prefix": "a/b"}},
    {"storage": {"root": FOLDER, "prefix": 7}},
    {"storage": {"root": FOLDER, "params": "secret"}},
    {"batch_size": 0},
    {"batch_size": "many"},
    {"batch_size": True},
    {"x": 1},
)
REFUSED: Final[list[tuple[str, Any]]] = [
    *[("project_id", value) for value in (True, ["1"], 12.5, Decimal("12.5"))],
    *[("service_account_username", value) for value in (7, True, ["bob"], "b\nob")],
    *[("service_account_secret", value) for value in (7, 1.5, {"x": 1}, "s\x00x", "s\x7fx")],
    *[("project_secret", value) for value in (7, ["x"], "s\x1bx")],
    *[("region", value) for value in ("mars", 1, True, ["us"])],
    *[("api_url", value) for value in ("nonsense", 8974, True, 1.5)],
    *[("start_date", value) for value in ("soon", 20250105, 1.5, True, ["2025-01-05"])],
    *[("end_date", value) for value in ("late", 20250105, {"x": 1})],
    *[("project_timezone", value) for value in ("Mars", 1, 1.5, True, ["UTC"])],
    *[
        (name, value)
        for name in ("parallel", "balance_windows", "deduplicate")
        for value in ("maybe", 1, 0, 1.0, 2, [True], Decimal(1))
    ],
    *[
        (name, value)
        for name in (
            *("workers", "processes", "window_days", "lookback_days", "max_attempts"),
            *("requests_per_second", "requests_per_hour", "attempt_timeout", "max_window_mb"),
        )
        for value in (
            *("ten", "1_0", "\uff11\uff12", "0x10", "2.5", 2.5, Decimal("2.5"), True, [1], -1),
            *(Decimal("1e300"), "1e99", 10**400, 10**5000, float("inf"), float("nan")),
        )
    ],
    *[("request_timeout", value) for value in ("soon", "0.5", 0.5, True, [30], "1e99", 10**5000)],
    *[("replay", value) for value in ("last week", 7, ["2025-01-05"], 1.5)],
    *[("events", value) for value in ("Sign Up", "A,B", '["A"', '{"a": 1}', [1], 7, True, "[1]")],
    *[("where", value) for value in (["x"], 1, True, 1.5)],
    *[("properties_format", value) for value in ("xml", 1, True, ["object"])],
    *[
        ("property_columns", value)
        for value in ("$os", "$os,plan", '["a"', {"property": "a"}, [1], 7, True, "[1]", [None])
    ],
    *[("on_failed_window", value) for value in ("ignore", 1, False)],
    *[("on_hourly_limit", value) for value in ("stop", 1, True)],
    *[("on_malformed_line", value) for value in ("skip", 1, None.__class__.__name__)],
    *[("summary_format", value) for value in ("yaml", 1, True)],
    *[("batch_config", value) for value in ("x", 1, 1.5, True, ["x"], '["x"]', "{")],
    *[("batch_config", BATCH | changed) for changed in BATCH_CHANGES],
    *[("executor", value) for value in ("ray", 1, True, ["dask"])],
    *[("dask_scheduler", value) for value in ("host:8786", "a\x00b", FOLDER, 8786, True, "tcp://")],
    *[("dask_tls", value) for value in ("x", "{", 1, True, [TLS], {}, TLS | {"key_file": "/none"})],
    *[("dask_tls", TLS | {"key_file": value}) for value in (7, None, "a\x00b", FOLDER)],
    *[("spool_dir", value) for value in ("/nowhere/at/all", 7, True)],
    *[("report", value) for value in ("/nowhere/at/all", "/dev/null", FOLDER, "a\x00b", 7, True)],
]


def ids(table: list[Any]) -> list[str]:
    """Names for the rows; a value may be too long for one."""
    return [f"{row[0]} {number}" for number, row in enumerate(table)]


def config_with(name: str, value: Any) -> dict[str, Any]:
    if name == "project_secret":
        return {"start_date": "2025-01-01", name: value}
    if name == "project_id":
        return {"start_date": "2025-01-01", "region": "sandbox", name: value}
    if name in {"executor", "dask_scheduler", "dask_tls"}:
        return BASE | DASK | {name: value}
    return BASE | {name: value}


def checked(config: dict[str, Any]) -> Settings:
    return Settings.from_config(config, today=lambda _: date(2025, 6, 1))


def result(name: str, settings: Settings) -> Any:
    if name in {"service_account_username", "project_secret"}:
        assert settings.credentials is not None
        return settings.credentials.username
    if name == "service_account_secret":
        assert settings.credentials is not None
        return settings.credentials.password
    if name in {"start_date", "end_date"}:
        return settings.wanted.first if name == "start_date" else settings.wanted.last
    if name == "executor":
        return settings.machines is not None
    if name in {"dask_scheduler", "dask_tls"}:
        assert settings.machines is not None
        return getattr(settings.machines, name.removeprefix("dask_"))
    value = getattr(settings, name)
    return value.key if name == "project_timezone" else value


def test_the_tables_have_every_setting() -> None:
    assert {name for name, *_ in TAKEN} == CONFIG_SCHEMA["properties"].keys()
    assert {name for name, *_ in REFUSED} == CONFIG_SCHEMA["properties"].keys()


@pytest.mark.parametrize(("name", "value", "expected"), TAKEN, ids=ids(TAKEN))
def test_taken(name: str, value: Any, expected: Any) -> None:
    assert result(name, checked(config_with(name, value))) == expected


@pytest.mark.parametrize(("name", "value", "expected"), TAKEN, ids=ids(TAKEN))
def test_taken_from_a_file(tmp_path: Path, name: str, value: Any, expected: Any) -> None:
    """As the command line reads it, where fractions are Decimals."""
    text = json.dumps(config_with(name, value), default=str)
    assert result(name, checked(parse_json(text))) == expected


@pytest.mark.parametrize(("name", "value", "expected"), TAKEN, ids=ids(TAKEN))
def test_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any, expected: Any
) -> None:
    if value is None or (name == "project_id" and isinstance(value, (float, Decimal))):
        return  # neither is a text
    text = value if isinstance(value, str) else json.dumps(value, default=str).strip('"')
    for key, given_text in config_with(name, text).items():
        monkeypatch.setenv(f"{PREFIX}{key.upper()}", given_text)
    assert result(name, checked(tap_of_environment()._config)) == expected


def tap_of_environment() -> Tap:
    return TapMixpanelParallel(parse_env_config=True, validate_config=False, setup_mapper=False)


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=ids(REFUSED))
def test_refused_in_plain_words(name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        checked(config_with(name, value))
    (problem,) = caught.value.problems
    assert re.match(rf"{name}(\.\w+)*: ", problem)
    assert "Decimal" not in problem
    assert len(problem) < 500
    assert problem.isprintable()


SDK_TAKEN: Final[list[tuple[str, Any, Any]]] = [
    *[("stream_maps", value, None) for value in (None, "", " ")],
    *[
        ("stream_maps", value, {"events": {"x": "1"}})
        for value in ({"events": {"x": "1"}}, '{"events": {"x": "1"}}')
    ],
    *[("stream_map_config", value, {"rate": Decimal("0.5")}) for value in ('{"rate": 0.5}',)],
    *[("faker_config", value, {"seed": 1}) for value in ({"seed": 1}, '{"seed": 1}')],
    *[("flattening_enabled", value, False) for value in (False, "false", "0")],
    *[("flattening_max_depth", value, 2) for value in (2, 2.0, Decimal(2), "2", "2.0", " 2\n")],
    *[("flattening_max_key_length", value, 60) for value in (60, "60", Decimal("60.0"))],
    *[("flattening_separator", value, "_") for value in ("_", "_\n")],
]
SDK_REFUSED: Final[dict[str, tuple[Any, ...]]] = {
    "stream_maps": ("x", [], 1, {"events": 1.5}, '{"events": ', True),
    "stream_map_config": ("x", [1], 1.5, "[1]"),
    "faker_config": ("x", [], '"x"', {"seed": [1]}),
    "flattening_enabled": ("maybe", 1, 1.5, []),
    "flattening_max_depth": ("deep", 2.5, "2.5", [], True),
    "flattening_max_key_length": ("long", Decimal("2.5"), {}),
    "flattening_separator": (1, ["_"], True),
}
SDK_REFUSED_ROWS: Final = [(name, value) for name, row in SDK_REFUSED.items() for value in row]


def sdk_tap(config: dict[str, Any]) -> Tap:
    return TapMixpanelParallel(config={"region": "sandbox", "start_date": "P1D"} | config)


@pytest.mark.parametrize(("name", "value", "expected"), SDK_TAKEN, ids=ids(SDK_TAKEN))
def test_the_sdk_s_settings_taken(name: str, value: Any, expected: Any) -> None:
    assert sdk_tap({name: value}).config.get(name) == expected


@pytest.mark.parametrize(("name", "value"), SDK_REFUSED_ROWS, ids=ids(SDK_REFUSED_ROWS))
def test_the_sdk_s_settings_refused_in_plain_words(name: str, value: Any) -> None:
    with pytest.raises(ConfigValidationError) as caught:
        sdk_tap({name: value})
    (problem,) = caught.value.errors
    assert problem.startswith(name)
    assert "Decimal" not in problem


@given(
    value=st.one_of(
        st.text(), st.floats(), st.integers(), st.decimals(), st.booleans(), st.lists(st.text())
    ),
    kind=st.sampled_from(
        [*CONFIG_SCHEMA["properties"].values(), {}, {"type": "array"}, {"type": ["object", "null"]}]
    ),
)
def test_to_take_twice_changes_nothing(value: Any, kind: dict[str, Any]) -> None:
    taken = value_of(value, kind)
    again = value_of(taken, kind)
    assert repr(again) == repr(taken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "in_the_file"),
    [
        pytest.param(
            {
                "request_timeout": "120",
                "parallel": "true",
                "workers": "3",
                "events": '["Purchase"]',
                "deduplicate": "0",
                "property_columns": '["$os", {"property": "amount", "type": "number"}]',
            },
            {},
            id="variables",
        ),
        pytest.param(
            {},
            {
                "request_timeout": 30.5,
                "start_date": DAY,
                "project_id": 1234,
                "window_days": "3",
                "workers": 3,
                "lookback_days": 2,
                "balance_windows": "false",
            },
            id="meltano.yml",
        ),
    ],
)
def test_meltano_passes_it_on(
    meltano_project: Path, variables: dict[str, str], in_the_file: dict[str, Any]
) -> None:
    manifest = meltano_project / "meltano.yml"
    before = manifest.read_text()
    project = yaml.safe_load(before)
    (tap,) = project["environments"][0]["config"]["plugins"]["extractors"]
    tap["config"] |= {"end_date": "2025-01-10"} | in_the_file
    manifest.write_text(yaml.safe_dump(project))
    settings = {f"{PREFIX}{name.upper()}": value for name, value in variables.items()}
    # That a value which is not valid is refused shows that it arrives.
    wrong = {"REQUEST_TIMEOUT": "0.5", "PROPERTY_COLUMNS": '["$os", "OS"]'} if variables else {}
    refusing = {f"{PREFIX}{name}": value for name, value in wrong.items()}
    plan = ("meltano", "invoke", "tap-mixpanel-parallel", "--plan", "--format", "json")

    try:
        done = run(*plan, cwd=meltano_project, settings=settings)
        refused = run(*plan, cwd=meltano_project, settings=settings | refusing) if wrong else None
    finally:
        manifest.write_text(before)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["wanted"]["to_date"] == "2025-01-10"
    assert json.loads(done.stdout)["concurrency"] == 3
    if refused is not None:
        assert refused.returncode == 1
        assert "request_timeout: 0.5 is not valid; give a number from 1 to" in refused.stderr
        assert "property_columns: '$os' and 'OS' would all be the column os" in refused.stderr
