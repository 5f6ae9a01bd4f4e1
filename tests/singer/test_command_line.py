"""Whatever a person gives to the command line: an exit code and plain words, never a traceback."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.anything import (
    CATALOGS,
    CONFIG,
    CONFIGS,
    CONTENT,
    ENVIRONMENT,
    JSON,
    MODES,
    OPTIONS,
    PREFIX,
    SDK_SETTINGS,
    STATES,
    STREAM_MAPS,
    encoded,
)
from tests.support.commands import run
from tests.support.invocation import Ended, assert_plain, invoke

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def fuzz(**strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """Give a test many of these."""
    health = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    return lambda test: health(given(**strategies)(test))


def check(
    *arguments: str,
    files: Mapping[str, bytes] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> None:
    """Run the command line in a folder with these files."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        for file, content in (files or {}).items():
            Path(file).write_bytes(content)
        assert_plain(invoke(*arguments, env=env, stdin=stdin))


@fuzz(config=encoded(CONFIGS), mode=MODES)
def test_any_configuration(config: bytes, mode: list[str]) -> None:
    check("--config", "tap.json", *mode, files={"tap.json": config})


@fuzz(maps=STREAM_MAPS | JSON, others=st.dictionaries(st.sampled_from(SDK_SETTINGS), JSON))
def test_any_setting_of_the_sdk(maps: Any, others: dict[str, Any]) -> None:
    config = CONFIG | others | {"stream_maps": maps}
    check("--config", "tap.json", files={"tap.json": json.dumps(config).encode()})


@fuzz(state=encoded(STATES), mode=MODES)
def test_any_state(state: bytes, mode: list[str]) -> None:
    files = {"tap.json": json.dumps(CONFIG).encode(), "state.json": state}
    check("--config", "tap.json", "--state", "state.json", *mode, files=files)


@fuzz(catalog=encoded(CATALOGS), mode=MODES)
def test_any_catalog(catalog: bytes, mode: list[str]) -> None:
    files = {"tap.json": json.dumps(CONFIG).encode(), "catalog.json": catalog}
    check("--config", "tap.json", "--catalog", "catalog.json", *mode, files=files)


@fuzz(env=ENVIRONMENT, mode=MODES)
def test_any_environment(env: dict[str, str], mode: list[str]) -> None:
    own = {f"{PREFIX}{name.upper()}": str(value) for name, value in CONFIG.items()}
    check("--config", "ENV", *mode, env=own | env)


@fuzz(options=OPTIONS, state=encoded(STATES), catalog=encoded(CATALOGS), stdin=CONTENT)
def test_any_command(options: list[str], state: bytes, catalog: bytes, stdin: bytes) -> None:
    files = {"tap.json": json.dumps(CONFIG).encode(), "state.json": state, "catalog.json": catalog}
    check("--config", "tap.json", *options, files=files, stdin=stdin)


REFUSED: Final[list[tuple[str, dict[str, str], str]]] = [
    ("--config tap.json", {"LOGLEVEL": "LOUD"}, "LOGLEVEL: 'LOUD' is not a level; give one of"),
    ("--config tap.json", {f"{PREFIX}LOGLEVEL": "1"}, f"{PREFIX}LOGLEVEL: '1' is not a level"),
    (
        "--config tap.json",
        {"SINGER_SDK_LOG_CONFIG": "tap.json"},
        "SINGER_SDK_LOG_CONFIG: tap.json can't be used: ",
    ),
    (
        "--config tap.json",
        {"SINGER_SDK_LOG_CONFIG": "nowhere"},
        "SINGER_SDK_LOG_CONFIG: nowhere can't be used: ",
    ),
    (
        "--config tap.json",
        {"REQUESTS_CA_BUNDLE": "nowhere.pem"},
        "REQUESTS_CA_BUNDLE: 'nowhere.pem' can't be used (No such file or directory); give the",
    ),
    (
        "--config tap.json",
        {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "tap.json"},
        "CURL_CA_BUNDLE: 'tap.json' can't be used (",
    ),
    (
        "--config tap.json",
        {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "", "SSLKEYLOGFILE": "no/where"},
        "SSLKEYLOGFILE: 'no/where' can't be written (No such file or directory); unset it",
    ),
    ("--config ENV", {f"{PREFIX}STREAM_MAPS": "{"}, "stream_maps: '{' is not of type 'object'"),
    ("--config ENV", {f"{PREFIX}FLATTENING_MAX_DEPTH": "x"}, "flattening_max_depth: 'x' is not"),
    (
        "--config ENV",
        {f"{PREFIX}BATCH_CONFIG": "{}"},
        "batch_config.encoding: is not an object",
    ),
    ("--config ENV", {f"{PREFIX}PARALLEL": "perhaps"}, "parallel: 'perhaps' is neither true nor"),
    ("--config tap.json --catalog list.json", {}, "catalog: list.json holds a list, not an object"),
    (
        "--config tap.json --catalog other.json",
        {},
        "catalog: it has no stream 'events', only users",
    ),
    ("--config list.json", {}, "config: list.json holds a list, not an object"),
    ("--config deep.json", {}, "config: deep.json is nested too deeply; give a flatter one"),
    ("--status --plan --state state.json", {}, "--plan and --status: each prints an answer of its"),
]
IN_A_SHELL: Final[list[tuple[str, dict[str, str], str]]] = [
    ("--config ENV", {f"{PREFIX}PARALLEL": "maybe"}, "parallel: 'maybe' is neither true nor"),
    ("--status --state - <&-", {}, "state: standard input is closed; give it a file"),
    ("--config - <&-", {}, "config: standard input is closed; give it a file"),
    ("--status --state state.json >&-", {}, "standard output is closed"),
    ("--config tap.json --replay $'\\xff'", {}, "replay: contains a lone surrogate"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files lie that the commands name, and where the commands run."""
    for name, content in {
        "tap": CONFIG,
        "list": [],
        "other": {"streams": [{"tap_stream_id": "users"}]},
        "state": {"bookmarks": {}},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "deep.json").write_text('{"stream_map_config": ' + "[" * 9000 + "]" * 9000 + "}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings_of(arguments: str, env: dict[str, str]) -> dict[str, str]:
    """The variables of a command; it may take its settings from them."""
    own = {f"{PREFIX}{name.upper()}": str(value) for name, value in CONFIG.items()}
    return (own if "ENV" in arguments else {}) | env


def assert_refused(ended: Ended, said: str) -> None:
    assert ended.code == 1
    assert said in ended.errors
    assert "Traceback" not in ended.errors
    assert ended.output == ""


@pytest.mark.parametrize(
    ("arguments", "env", "said"), REFUSED, ids=[row[2][:40] for row in REFUSED]
)
@pytest.mark.usefixtures("folder")
def test_what_is_refused(arguments: str, env: dict[str, str], said: str) -> None:
    assert_refused(invoke(*arguments.split(), env=settings_of(arguments, env)), said)


@pytest.mark.parametrize(
    "arguments", ["--none", "tap.json", "--workers", "--workers many", "--about --format xml"]
)
def test_a_command_line_that_makes_no_sense(arguments: str) -> None:
    ended = invoke(*arguments.split())
    assert_plain(ended)
    assert ended.code == 2, "as docs/failures.md says"
    assert arguments.rsplit(maxsplit=1)[-1] in ended.errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "env", "said"), IN_A_SHELL, ids=[row[2][:40] for row in IN_A_SHELL]
)
def test_a_real_process(folder: Path, arguments: str, env: dict[str, str], said: str) -> None:
    variables = settings_of(arguments, env)
    done = run("bash", "-c", f"tap-mixpanel-parallel {arguments}", cwd=folder, settings=variables)
    assert_refused(Ended(done.returncode, done.stdout, done.stderr), said)


def test_the_command_line_replaces_the_environment() -> None:
    own = {f"{PREFIX}{name.upper()}": str(value) for name, value in CONFIG.items()}
    env = own | {f"{PREFIX}WORKERS": "3", f"{PREFIX}PARALLEL": "yes"}
    options = ("--config", "ENV", "--plan", "--format", "json")

    assert json.loads(invoke(*options, env=env).output)["concurrency"] == 3
    assert json.loads(invoke(*options, "--workers", "7", env=env).output)["concurrency"] == 7


@pytest.mark.parametrize("content", [b"X=\xe4", b"X=a\x00b"])
def test_a_dotenv_that_can_t_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    (tmp_path / ".env").write_bytes(content)
    home = "singer_sdk.configuration._dict_config.find_dotenv"
    monkeypatch.setattr(home, lambda: str(tmp_path / ".env"))

    ended = invoke("--config", "ENV", "--plan")

    assert_plain(ended)
    assert ".env: can't be read" in ended.errors


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "tap.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(CONFIG).encode())
    assert invoke("--config", str(path), "--plan").code == 0


@pytest.mark.slow
def test_a_status_where_the_encoding_has_no_marks(tmp_path: Path) -> None:
    late = [["2025-01-03", "2025-01-03", "2025-01-04"]]
    bookmark = {"loaded": [["2025-01-01", "2025-01-03"]], "unsettled": late}
    (tmp_path / "state.json").write_text(json.dumps({"bookmarks": {"events": bookmark}}))
    done = run(
        *("tap-mixpanel-parallel", "--status", "--state", "state.json"),
        cwd=tmp_path,
        settings={"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0
    assert "2025-01  ##+" in done.stdout


class TestCatalog:
    """A catalog selects; the schema and the keys are the tap's own."""

    @staticmethod
    def run(tmp_path: Path, *metadata: tuple[list[str], dict[str, Any]], **others: Any) -> Any:
        config = {"region": "sandbox", "start_date": "P1D"}
        stream = {
            "tap_stream_id": "events",
            "metadata": [{"breadcrumb": place, "metadata": said} for place, said in metadata],
        }
        (tmp_path / "tap.json").write_text(json.dumps(config))
        (tmp_path / "catalog.json").write_text(json.dumps({"streams": [stream | others]}))
        done = run(
            *("tap-mixpanel-parallel", "--config", "tap.json", "--catalog", "catalog.json"),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        messages = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
        return {message["type"]: message for message in messages}

    def test_a_field_that_is_left_out(self, tmp_path: Path) -> None:
        messages = self.run(
            tmp_path,
            ([], {"selected": True}),
            (["properties", "distinct_id"], {"selected": False}),
            (["properties", "event_id"], {"selected": False}),
        )
        assert "distinct_id" not in messages["RECORD"]["record"]
        assert "event_id" in messages["RECORD"]["record"], "the key stays"
        assert "distinct_id" not in messages["SCHEMA"]["schema"]["properties"]

    def test_a_stream_that_is_left_out(self, tmp_path: Path) -> None:
        assert "RECORD" not in self.run(tmp_path, ([], {"selected": False}))

    def test_an_old_schema_and_other_keys(self, tmp_path: Path) -> None:
        messages = self.run(tmp_path, schema={"properties": {}}, key_properties=["x"])
        assert messages["SCHEMA"]["key_properties"] == ["event_id"]
        assert (
            messages["RECORD"]["record"].keys() == messages["SCHEMA"]["schema"]["properties"].keys()
        )
