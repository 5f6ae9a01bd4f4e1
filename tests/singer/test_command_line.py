"""Whatever a person gives to the command line: an exit code and plain words, never a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
import tempfile
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import pytest
import requests_mock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tap_mixpanel_parallel import TapMixpanelParallel
from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA
from tests.support.commands import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PREFIX: Final = "TAP_MIXPANEL_PARALLEL_"
ACCOUNT: Final = {
    "project_id": "1",
    "service_account_username": "bob",
    "service_account_secret": "s3cr3t-w0rd",
}
CONFIG: Final[dict[str, Any]] = ACCOUNT | {"start_date": "P3D", "max_attempts": 1}
UNPRINTABLE: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True)
class Ended:
    """How a command has ended, and what it has written."""

    code: int
    output: str
    errors: str


@contextlib.contextmanager
def as_a_process(env: Mapping[str, str], stdin: bytes) -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    """This process as it would be for a command, put back as it was at the end."""
    output, errors = io.BytesIO(), io.BytesIO()
    root, metrics = logging.getLogger(), logging.getLogger("singer_sdk.metrics")
    before = (list(root.handlers), root.level, metrics.level, sys.excepthook)
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    streams: dict[str, Any] = {
        "stdin": io.TextIOWrapper(io.BytesIO(stdin), "utf-8"),
        "stdout": io.TextIOWrapper(output, "utf-8", write_through=True),
        "stderr": io.TextIOWrapper(errors, "utf-8", "backslashreplace", write_through=True),
    }
    root.handlers = []
    try:
        with mock.patch.multiple(sys, **streams), mock.patch.dict(os.environ, env, clear=True):
            yield output, errors
    finally:
        for stream in streams.values():
            with contextlib.suppress(ValueError):  # the command has closed it
                stream.detach()
        root.handlers, root.level, metrics.level, sys.excepthook = before
        logging.captureWarnings(capture=False)
        for number, handler in signals.items():
            signal.signal(number, handler)


def invoke(*arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Ended:
    """Run the command line in this process, against a Mixpanel without events."""
    with (
        as_a_process(env or {}, stdin) as (output, errors),
        requests_mock.Mocker() as mixpanel,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        mixpanel.get(requests_mock.ANY, content=b"", headers={"Content-Length": "0"})
        try:
            TapMixpanelParallel.cli(list(arguments))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        else:
            code = 0
    return Ended(code, output.getvalue().decode(), errors.getvalue().decode())


def assert_plain(ended: Ended) -> None:
    """An exit code that says how it went, and words without a traceback or a command."""
    assert ended.code in {0, 1, 2}, ended
    assert "Traceback" not in ended.errors
    assert "s3cr3t-w0rd" not in ended.errors + ended.output
    if ended.code:
        assert ended.errors.strip()
    shown = (ended.errors + ended.output).replace("\n", "")
    assert [char for char in shown if unicodedata.category(char) in UNPRINTABLE] == []


NASTY: Final = st.sampled_from(
    [
        *("", " ", "\n", "x\n", "null", "true", "0", "-1", "1e999", "1e99999999999", "NaN"),
        *(
            "\x1b[31mred",
            "\u202ebidi",
            "a\x00b",
            "\ud800",
            "\r",
            "\u2028",
            "🧑\u200d💻",
            "%s",
            "{x}",
        ),
        *(
            "[",
            "{",
            "[]",
            "{}",
            '"',
            "'",
            "((",
            "1/0",
            "P9D",
            "2025-01-01",
            "9999-12-31",
            "x" * 999,
        ),
        *("/", "..", "/dev/null", "-", "ENV", "events", "__NULL__", "http://[", "https://h/"),
    ]
)
TEXT: Final = NASTY | st.text(max_size=8)
SCALAR: Final = st.one_of(
    TEXT,
    st.none(),
    st.booleans(),
    st.integers(-5, 400),
    st.sampled_from([10**18, -(10**30), 0.5, 12.0, 1e308, float("nan"), float("inf")]),
)
JSON: Final = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
EXPRESSION: Final = st.sampled_from(
    [
        *("event", "md5(event_id)", "1/0", "((", "", " ", "a = 1", "import os", "nope", "\x00"),
        *("fake.name()", "int('x')", "float(event)", "record", "__NULL__", "[", "'", "lambda: 0"),
    ]
)
MAP_KEY: Final = TEXT | st.sampled_from(
    ["__alias__", "__else__", "__filter__", "__key_properties__", "__source__", "event_id", "x"]
)
STREAM_MAPS: Final = st.dictionaries(
    st.sampled_from(["events", "*", "__else__", "other", "e*"]) | TEXT,
    st.dictionaries(MAP_KEY, EXPRESSION | JSON, max_size=4) | JSON,
    max_size=3,
)
SDK_SETTINGS: Final = (
    *("stream_map_config", "faker_config", "flattening_enabled", "batch_config"),
    *("flattening_max_depth", "flattening_max_key_length", "flattening_separator"),
)
SETTINGS: Final = st.one_of(
    st.tuples(st.sampled_from(list(CONFIG_SCHEMA["properties"])), JSON),
    st.tuples(st.just("stream_maps"), STREAM_MAPS | JSON),
    st.tuples(st.sampled_from(SDK_SETTINGS), JSON),
    st.tuples(TEXT, JSON),
)
CONFIGS: Final = st.lists(SETTINGS, max_size=3).map(lambda given: CONFIG | dict(given))

DAY: Final = st.sampled_from(["2025-01-01", "2026-11-20", "0001-01-01", "9999-12-31"]) | TEXT
RANGE: Final = st.lists(DAY, min_size=2, max_size=2) | JSON
PARTITION: Final = st.fixed_dictionaries(
    {},
    optional={
        "context": st.fixed_dictionaries({"from_date": DAY, "to_date": DAY}) | JSON,
        "status": st.just("failed") | JSON,
        "attempts": st.integers(0, 9) | JSON,
        "error": TEXT | JSON,
        "failed_at": TEXT | JSON,
    },
)
BOOKMARK: Final = st.fixed_dictionaries(
    {},
    optional={
        "loaded": st.lists(RANGE, max_size=3) | JSON,
        "partitions": st.lists(PARTITION | JSON, max_size=3) | JSON,
        "refreshed_on": DAY | JSON,
        "selection": st.fixed_dictionaries({}, optional={"project_id": TEXT, "events": JSON})
        | JSON,
        "replication_key": JSON,
    },
)
STATES: Final = st.one_of(
    st.fixed_dictionaries({"bookmarks": st.fixed_dictionaries({"events": BOOKMARK | JSON})}),
    st.dictionaries(st.sampled_from(["bookmarks", "singer_state"]) | TEXT, BOOKMARK | JSON),
    JSON,
)
CHOICES: Final = st.dictionaries(
    st.sampled_from(["selected", "inclusion", "selected-by-default", "table-key-properties"]),
    st.sampled_from([True, False, None, "available", "automatic", "unsupported"]) | JSON,
    max_size=3,
)
METADATA: Final = st.fixed_dictionaries(
    {
        "breadcrumb": st.sampled_from(
            [[], ["properties", "event"], ["properties", "event_id"], ["properties"]]
        )
        | JSON,
        "metadata": CHOICES | JSON,
    }
)
STREAM: Final = st.fixed_dictionaries(
    {"tap_stream_id": st.just("events") | JSON},
    optional={
        "metadata": st.lists(METADATA | JSON, max_size=3) | JSON,
        "schema": st.fixed_dictionaries({"properties": JSON}) | JSON,
        "key_properties": JSON,
        "replication_key": JSON,
        "replication_method": JSON,
        "stream": JSON,
    },
)
CATALOGS: Final = st.fixed_dictionaries({"streams": st.lists(STREAM, max_size=2) | JSON}) | JSON

CONTENT: Final = st.one_of(
    st.binary(max_size=12), JSON.map(lambda value: json.dumps(value).encode())
)
"""What a file may hold that was meant to hold something else."""


def encoded(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """A file's content: mostly the JSON that it should hold."""
    return st.one_of(*[strategy.map(lambda value: json.dumps(value).encode())] * 6, CONTENT)


ENV_TEXT: Final = (NASTY | st.text(st.characters(codec="utf-8"), max_size=8)).map(
    lambda text: text.replace("\x00", "").replace("\ud800", "\udcff")
)
"""What the system hands on: no NUL, and a byte that is no UTF-8 as Python passes it on."""

ENVIRONMENT: Final = st.dictionaries(
    st.sampled_from(
        [
            *(f"{PREFIX}{name.upper()}" for name in CONFIG_SCHEMA["properties"]),
            *(f"{PREFIX}{name}" for name in ("STREAM_MAPS", "STREAM_MAP_CONFIG", "FAKER_CONFIG")),
            *(f"{PREFIX}FLATTENING_{name}" for name in ("ENABLED", "MAX_DEPTH", "SEPARATOR")),
            *(f"{PREFIX}{name}" for name in ("BATCH_CONFIG", "LOGLEVEL")),
            *("LOGLEVEL", "SINGER_SDK_LOG_CONFIG", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
            *("SSLKEYLOGFILE", "HTTP_PROXY", "https_proxy", "NO_PROXY", "TERM", "COLUMNS", "TZ"),
            *("NETRC", "HOME", "PATH", "NO_COLOR", "LANG"),
        ]
    ),
    ENV_TEXT,
    max_size=3,
)
MODES: Final = st.sampled_from(
    [
        *([], ["--plan"], ["--plan", "--format", "json"], ["--status"], ["--parallel"]),
        *(["--test"], ["--test=schema"], ["--discover"]),
    ]
)
FILES: Final = st.sets(
    st.sampled_from([("--state", "state.json"), ("--catalog", "catalog.json"), ("--config", "ENV")])
).map(lambda files: [word for option in sorted(files) for word in option])
ODD: Final = st.one_of(
    st.sampled_from(
        [
            *(["--about"], ["--version"], ["--help"], ["--test", "x"], ["--nonsense"]),
            *(["--format", "markdown"], ["--format", "x"]),
            *(["--state", "-"], ["--catalog", "-"], ["--config", "-"]),
            *(["--state", "nowhere"], ["--catalog", "."], ["--config", ""]),
        ]
    ),
    st.tuples(
        st.sampled_from(["--workers", "--replay", "--state", "--config", "--catalog"]), ENV_TEXT
    ).map(list),
)
OPTIONS: Final = st.tuples(MODES, FILES, st.just([]) | st.just([]) | ODD).map(
    lambda parts: [word for part in parts for word in part]
)


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


REAL: Final[list[tuple[str, dict[str, str], str]]] = [
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
    ("--config ENV", {f"{PREFIX}BATCH_CONFIG": "{}"}, "batch_config: BATCH messages are not"),
    ("--config ENV", {f"{PREFIX}PARALLEL": "perhaps"}, "parallel: 'perhaps' is neither true nor"),
    ("--config tap.json --catalog list.json", {}, "catalog: list.json holds a list, not an object"),
    ("--config tap.json --catalog other.json", {}, "catalog: it has no stream 'events' but users"),
    ("--config list.json", {}, "config: list.json holds a list, not an object"),
    ("--config deep.json", {}, "config: deep.json is nested too deeply; give a flatter one"),
    ("--status --state - <&-", {}, "state: standard input is closed; give it a file"),
    ("--config - <&-", {}, "config: standard input is closed; give it a file"),
    ("--status --state state.json >&-", {}, "standard output is closed"),
    ("--config tap.json --replay $'\\xff'", {}, "replay: holds a lone surrogate"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "env", "said"), REAL, ids=[row[2][:40] for row in REAL])
def test_a_real_process(tmp_path: Path, arguments: str, env: dict[str, str], said: str) -> None:
    for name, content in {
        "tap": CONFIG,
        "list": [],
        "other": {"streams": [{"tap_stream_id": "users"}]},
        "state": {"bookmarks": {}},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "deep.json").write_text('{"stream_map_config": ' + "[" * 9000 + "]" * 9000 + "}")
    own = {f"{PREFIX}{name.upper()}": str(value) for name, value in CONFIG.items()}
    command = f"tap-mixpanel-parallel {arguments}"

    done = run(
        "bash", "-c", command, cwd=tmp_path, settings=(own if "ENV" in command else {}) | env
    )

    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


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
