"""Every problem of the settings is named at once, with its remedy."""

from __future__ import annotations

import re
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA
from tests.settings.harness import ACCOUNT, SECRET, problems, read

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("start_date", ..., "start_date: is missing; give the first day, e.g. 2025-01-01"),
        ("start_date", "", "start_date: is missing"),
        (
            "start_date",
            "yesterday",
            "start_date: 'yesterday' is not a valid date; give yyyy-mm-dd",
        ),
        ("start_date", "2025-02-29", "start_date: '2025-02-29' is not a valid date"),
        ("start_date", "2025-1-1", "start_date: '2025-1-1' is not a valid date"),
        ("start_date", "2025-01-01T10:00:00Z", "start_date: .* is not a valid date"),
        ("start_date", 20250101, "start_date: 20250101 is not a valid date"),
        ("start_date", "P0D", "start_date: 'P0D' is not a period that begins on"),
        ("start_date", "P99999D", "start_date: 'P99999D' is not a period that begins on 1970"),
        (
            "start_date",
            "0001-01-01",
            "start_date: '0001-01-01' is before 1970-01-01, and Mixpanel",
        ),
        ("start_date", "1969-12-31", "start_date: '1969-12-31' is before 1970-01-01"),
        ("start_date", "P-1D", "start_date: 'P-1D' is not a valid date"),
        ("start_date", "2025-06-02", "start_date: '2025-06-02' is in the future; give"),
        ("end_date", "31.01.2025", "end_date: '31.01.2025' is not a valid date"),
        (
            "end_date",
            "2024-12-31",
            "end_date: '2024-12-31' is before start_date 2025-01-01; give that day or a later",
        ),
        ("region", "mars", "region: 'mars' is unknown; give one of us, eu, in, sandbox"),
        ("region", ["us"], r"region: \['us'\] is unknown"),
        ("project_timezone", "America/Los_Angles", "did you mean America/Los_Angeles?"),
        ("project_timezone", "PST", "is not an IANA time zone; give e.g. America/Los_Angeles"),
        ("project_timezone", "localtime", "project_timezone: 'localtime' is not an IANA time"),
        ("project_timezone", "Factory", "project_timezone: 'Factory' is not an IANA time zone"),
        ("project_timezone", "posix/UTC", "'posix/UTC' is not an IANA time zone"),
        ("project_timezone", "right/UTC", "'right/UTC' is not an IANA time zone"),
        ("project_timezone", "Mars", "project_timezone: 'Mars' is not an IANA time zone; "),
        ("project_timezone", "../UTC", "project_timezone: '../UTC' is not an IANA time zone"),
        ("project_timezone", "America", "project_timezone: 'America' is not an IANA time zone"),
        ("project_timezone", 1, "project_timezone: 1 is not an IANA time zone"),
        ("workers", 0, "workers: 0 is not valid; give a whole number from 1 to 100"),
        ("workers", 101, "workers: 101 is not valid"),
        ("workers", "ten", "workers: 'ten' is not valid"),
        ("workers", True, "workers: True is not valid"),
        ("workers", 2.5, "workers: 2.5 is not valid"),
        ("window_days", 0, "window_days: 0 is not valid; give a whole number from 1 to 3,650"),
        ("lookback_days", -1, "lookback_days: -1 is not valid"),
        ("max_attempts", 0, "max_attempts: 0 is not valid"),
        ("requests_per_second", 0, "requests_per_second: 0 is not valid"),
        ("requests_per_hour", 0, "requests_per_hour: 0 is not valid"),
        ("request_timeout", 0.5, "request_timeout: 0.5 is not valid; give a number from 1"),
        ("request_timeout", float("nan"), "request_timeout: nan is not valid"),
        ("request_timeout", True, "request_timeout: True is not valid"),
        (
            "replay",
            "last week",
            "replay: 'last week' is not a range of days from 1970-01-01",
        ),
        ("replay", "1969-12-31", "replay: '1969-12-31' is not a range of days from 1970-01-01"),
        ("replay", "2025-01-02..2025-01-01", "replay: '2025-01-02..2025-01-01' is not a range"),
        ("replay", "2025-06-02", "replay: '2025-06-02' is not a range of days"),
        ("replay", "2025-05-01..", "replay: '2025-05-01..' is not a range"),
        ("replay", 7, "replay: 7 is not text"),
        ("parallel", "maybe", "parallel: 'maybe' is neither true nor false"),
        ("deduplicate", 1, "deduplicate: 1 is neither true nor false"),
        ("balance_windows", 0, "balance_windows: 0 is neither true nor false"),
        ("where", ["x"], r"where: \['x'\] is not text; give it in quotes"),
        ("events", "Sign Up", "events: 'Sign Up' is not a list of event names; give e.g. "),
        ("events", [1], r"events: \[1\] is not a list of event names"),
        ("events", [""], r"events: \[''\] is not a list of event names"),
        ("events", {"a": 1}, "events: .* is not a list of event names"),
        ("properties_format", "xml", "properties_format: 'xml' is unknown; give one of"),
        ("on_failed_window", "ignore", "on_failed_window: 'ignore' is unknown; give one of"),
        ("on_malformed_line", "skip", "on_malformed_line: 'skip' is unknown; give one of"),
        ("project_id", True, "project_id: True is not text"),
        (
            "api_url",
            "nonsense",
            "api_url: 'nonsense' is not a base URL; give e.g. https://data",
        ),
        ("api_url", "ftp://host/x", "api_url: 'ftp://host/x' is not a base URL"),
        ("api_url", "http://", "api_url: 'http://' is not a base URL"),
        ("api_url", "https://data mixpanel.com", "is not a base URL"),
        ("api_url", "http://[::1", "is not a base URL"),
        ("api_url", "http://host/x", "api_url: 'http://host/x' would send the credentials"),
        ("api_url", "http://10.0.0.7:8974", "over the network in clear text; give https://"),
        ("api_url", "http://localhost.example", "in clear text"),
        ("api_url", 8974, "api_url: 8974 is not text"),
    ],
)
def test_each(name: str, value: Any, problem: str) -> None:
    if name == "project_id":
        found = problems({"start_date": "2025-01-01", "region": "sandbox", name: value})
    else:
        found = problems(**{name: value})
    assert len(found) == 1
    assert re.match(problem, found[0]) or problem in found[0]


@pytest.mark.parametrize("name", ["where", "project_id", "service_account_secret"])
def test_a_lone_surrogate(name: str) -> None:
    expected = f"{name}: contains a lone surrogate, which is not a valid character"
    assert expected in problems(**{name: "x\ud800"})


@pytest.mark.parametrize("url", ["http://host:99999/x", "http://host:port/"])
def test_a_port_that_is_none(url: str) -> None:
    assert "is not a base URL" in problems(api_url=url)[0]


@pytest.mark.parametrize(
    "url",
    [
        f"https://bob:{SECRET}@data.mixpanel.com/api/2.0",
        f"https://{SECRET}@data.mixpanel.com/api/2.0",
        f"ftp://bob:{SECRET}@data.mixpanel.com",
        f"bob:{SECRET}@data.mixpanel.com/api/2.0",
        f"http://b:{SECRET}@[::1",
    ],
)
def test_credentials_inside_the_url(url: str) -> None:
    assert problems(api_url=url) == [
        "api_url: contains credentials; give them in their own settings"
    ]


@pytest.mark.parametrize(
    "url",
    [
        f"https://data.mixpanel.com/api/2.0?token={SECRET}",
        f"https://data.mixpanel.com/api/2.0#{SECRET}",
        f"http://host:port/?{SECRET}",
        f"gopher://host?{SECRET}",
    ],
)
def test_what_may_be_a_token_is_not_quoted(url: str) -> None:
    [found] = problems(api_url=url)
    assert found.startswith("api_url: has a query (?) or a fragment (#); give the base URL")
    assert SECRET not in found


@pytest.mark.parametrize(
    "host", ["localhost:8974", "127.0.0.1", "127.1.2.3:1", "[::1]:8974", "mixpanel.localhost"]
)
def test_this_machine_needs_no_encryption(host: str) -> None:
    assert read(api_url=f"http://{host}/api/2.0").api_url == f"http://{host}/api/2.0"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "project_id, service_account_username, service_account_secret: are .* sandbox"),
        ({"project_id": "1"}, "service_account_username, service_account_secret: are missing"),
        (ACCOUNT | {"project_secret": "x"}, "project_secret: is set together with a service"),
        (
            {"service_account_secret": SECRET, "project_secret": SECRET},
            "project_secret: is set together with a service account; give only one of the two",
        ),
        (ACCOUNT | {"project_id": ...}, "project_id: is missing; a service account needs it"),
        (ACCOUNT | {"service_account_secret": ...}, "service_account_secret: is missing; a s"),
        (ACCOUNT | {"service_account_username": ""}, "service_account_username: is missing"),
        (ACCOUNT | {"service_account_username": 7}, "service_account_username: is not text"),
        ({"project_secret": [SECRET]}, "project_secret: is not text; give it in quotes"),
    ],
)
def test_credentials(given: dict[str, Any], expected: str) -> None:
    [found] = problems({"start_date": "2025-01-01"} | given)
    assert re.match(expected, found)


def test_half_an_account_in_the_sandbox() -> None:
    config = {"start_date": "2025-01-01", "region": "sandbox", "service_account_username": "x"}
    assert problems(config) == [
        "service_account_secret: is missing; a service account has a username and a secret"
    ]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (ACCOUNT, "service_account_secret"),
        ({"project_secret": SECRET}, "project_secret"),
    ],
)
def test_the_sandbox_beside_a_real_project(given: dict[str, Any], named: str) -> None:
    config = {"start_date": "2025-01-01", "region": "sandbox"} | given
    [found] = problems(config)
    assert found.startswith(f"region: 'sandbox' makes synthetic events, but {named} is that of")
    assert read(config | {"api_url": "http://127.0.0.1:8974/api/2.0"}).credentials


@pytest.mark.parametrize(
    ("name", "reason"), [("file", "Not a directory"), ("missing", "No such file or directory")]
)
def test_spool_dir(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    assert problems(spool_dir=str(tmp_path / name)) == [
        f"spool_dir: '{tmp_path / name}' can't be written to ({reason}); give a writable folder"
    ]
    assert read(spool_dir=str(tmp_path)).spool_dir == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_no_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that can't be written, where Python's own search finds none."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/nowhere"])
    assert problems() == [
        "spool_dir: is not set, and the system has no writable folder for temporary files; "
        "give a writable folder",
    ]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0o777, ["everybody can write to", "can replace the files there"]),
        (0o757, ["everybody can write to"]),
        (0o775, ["its group can write to", "can replace the files there"]),
        (0o1777, []),
        (0o1775, []),
        (0o755, []),
        (0o700, []),
    ],
)
def test_a_spool_dir_in_which_others_can_replace_files(
    tmp_path: Path, mode: int, expected: list[str]
) -> None:
    tmp_path.chmod(mode)
    warnings = read(spool_dir=str(tmp_path)).warnings
    assert [part for part in expected if part in "".join(warnings)] == expected
    assert len(warnings) == bool(expected)


def test_all_at_once() -> None:
    found = problems(
        {
            "start_date": "soon",
            "end_date": "later",
            "region": "mars",
            "workers": 0,
            "window_days": "week",
            "events": "A",
            "where": 1,
            "project_timezone": "Mars",
            "api_url": "x",
            "parallel": "x",
        }
    )
    assert sorted(text.split(":")[0] for text in found) == [
        "api_url",
        "end_date",
        "events",
        "parallel",
        "project_id, service_account_username, service_account_secret",
        "project_timezone",
        "region",
        "start_date",
        "where",
        "window_days",
        "workers",
    ]


def test_every_setting_with_a_bound_is_checked_on_both_sides() -> None:
    for name, schema in CONFIG_SCHEMA["properties"].items():
        if "minimum" in schema:
            for value in (schema["minimum"] - 1, schema["maximum"] + 1):
                assert [text.split(":")[0] for text in problems(**{name: value})] == [name]
            for value in (schema["minimum"], schema["maximum"]):
                assert getattr(read(**{name: value}), name) == value
