"""Whatever a person or a system may hand to the command line: strategies."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import strategies as st

from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA

PREFIX: Final = "TAP_MIXPANEL_PARALLEL_"
ACCOUNT: Final = {
    "project_id": "1",
    "service_account_username": "bob",
    "service_account_secret": "s3cr3t-w0rd",
}
CONFIG: Final[dict[str, Any]] = ACCOUNT | {"start_date": "P3D", "max_attempts": 1}

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
        "unsettled": st.lists(st.lists(DAY, min_size=3, max_size=3) | JSON, max_size=3) | JSON,
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
        *(["--describe"], ["--describe", "--format", "json"]),
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
        st.sampled_from(
            ["--workers", "--replay", "--describe", "--state", "--config", "--catalog"]
        ),
        ENV_TEXT,
    ).map(list),
)
OPTIONS: Final = st.tuples(MODES, FILES, st.just([]) | st.just([]) | ODD).map(
    lambda parts: [word for part in parts for word in part]
)
