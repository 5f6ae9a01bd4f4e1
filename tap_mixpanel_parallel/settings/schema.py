"""The settings as a JSON schema: names, types, defaults, bounds, descriptions."""

from __future__ import annotations

from typing import Any, Final

from tap_mixpanel_parallel.plan.windows import LONGEST_WINDOW

SANDBOX: Final = "sandbox"
"""The region whose Mixpanel runs inside the tap."""

API_URLS: Final = {
    "us": "https://data.mixpanel.com/api/2.0",
    "eu": "https://data-eu.mixpanel.com/api/2.0",
    "in": "https://data-in.mixpanel.com/api/2.0",
}
"""The export's base URL in each region (Mixpanel docs, Raw Event Export)."""


def _setting(kind: str, title: str, description: str, **more: Any) -> dict[str, Any]:
    return {"type": [kind, "null"], "title": title, "description": description} | more


def _text(title: str, description: str, **more: Any) -> dict[str, Any]:
    return _setting("string", title, description, **more)


def _secret(title: str, description: str) -> dict[str, Any]:
    return _text(title, description, secret=True, writeOnly=True)


def _choice(values: list[str], title: str, description: str) -> dict[str, Any]:
    """One of some values; the first is the default."""
    return _text(title, description, enum=values, default=values[0])


def _boolean(title: str, description: str, *, default: bool) -> dict[str, Any]:
    return _setting("boolean", title, description, default=default)


def _number(
    title: str,
    description: str,
    *,
    bounds: tuple[int, int],
    default: int | None,
    kind: str = "integer",
) -> dict[str, Any]:
    low, high = bounds
    given = {} if default is None else {"default": default}
    return _setting(kind, title, description, minimum=low, maximum=high, **given)


_PROPERTIES: Final = {
    "project_id": _text("Project ID", "Mixpanel project. Required with a service account."),
    "service_account_username": _text(
        "Service account username", "Service account, the recommended credentials."
    ),
    "service_account_secret": _secret("Service account secret", "The service account's secret."),
    "project_secret": _secret(
        "Project secret",
        "Older credentials, instead of a service account. Mixpanel retires them on 2027-03-03.",
    ),
    "region": _choice(
        [*API_URLS, SANDBOX],
        "Region",
        "Where the project's data lives: `us`, `eu` or `in`. "
        "`sandbox` starts a local Mixpanel with synthetic data and needs no credentials.",
    ),
    "api_url": _text(
        "API URL",
        "Base URL instead of the region's, e.g. `http://127.0.0.1:8974/api/2.0`. "
        "`https`, except to this machine.",
    ),
    "start_date": _text(
        "Start date",
        "First day, inclusive (yyyy-mm-dd), or a number of days that end with `end_date`: `P90D`.",
        type=["string"],
    ),
    "end_date": _text(
        "End date",
        "Last day, inclusive (yyyy-mm-dd), today at most. Default: today in `project_timezone`.",
    ),
    "project_timezone": _text(
        "Project time zone",
        "Set it only for projects created before 2023-01-01: the zone in which "
        "their days are cut and their times are stored, e.g. `America/Los_Angeles`.",
        default="UTC",
    ),
    "parallel": _boolean(
        "Parallel",
        "Fetch windows concurrently. On the command line: `--parallel`.",
        default=False,
    ),
    "workers": _number(
        "Workers",
        "Concurrent requests in parallel mode, 1 to 100. On the command line: `--workers N`.",
        bounds=(1, 100),
        default=10,
    ),
    "window_days": _number(
        "Window days", "The longest window, in days.", bounds=(1, LONGEST_WINDOW), default=7
    ),
    "balance_windows": _boolean(
        "Balance windows",
        "In parallel mode: more days than two windows hold are spread over all `workers`, in "
        "windows of at least three days. `false`: plain windows of `window_days`.",
        default=True,
    ),
    "lookback_days": _number(
        "Look-back days",
        "A day is read again by every run until it was read so many days after its "
        "end, for late events.",
        bounds=(0, 3650),
        default=5,
    ),
    "replay": _text(
        "Replay",
        "Days to read again in this run though they are loaded, e.g. "
        "`2025-01-05..2025-01-11`. On the command line: `--replay`.",
    ),
    "events": _setting(
        "array",
        "Events",
        "Only events of these names. Default: all.",
        items={"type": ["string"]},
    ),
    "where": _text("Where", 'Mixpanel\'s filter expression, e.g. `properties["plan"] == "pro"`.'),
    "properties_format": _choice(
        ["object", "string"],
        "Properties format",
        "`properties` as a JSON `object`, or as a `string` of JSON text, which loads faster.",
    ),
    "property_columns": _setting(
        "array",
        "Property columns",
        'Properties that become columns, e.g. `["$os", {"property": "amount", "type": "number"}]`, '
        "or `standard` for Mixpanel's own; see [Columns](docs/columns.md).",
        type=["array", "string", "null"],
        items={},
    ),
    "deduplicate": _boolean(
        "Deduplicate",
        "Drop the raw export's own duplicates in the tap, for loaders that "
        "only append. The latest ingested stays.",
        default=False,
    ),
    "on_failed_window": _choice(
        ["fail", "warn"],
        "On a failed window",
        "After all other windows are loaded: `fail` exits 1, `warn` exits 0.",
    ),
    "on_malformed_line": _choice(
        ["fail", "quarantine"],
        "On a malformed line",
        "`fail` the window, or `quarantine` the line to a file and load the rest.",
    ),
    "summary_format": _choice(
        ["text", "json"],
        "Summary format",
        "`json`: the last line on standard error is the run's numbers, as JSON. See "
        "[Watching](docs/schedules.md#watching).",
    ),
    "max_attempts": _number(
        "Maximum attempts",
        "Tries for one window in one run, for errors worth another try.",
        bounds=(1, 100),
        default=5,
    ),
    "requests_per_second": _number(
        "Requests per second",
        "Mixpanel's limit, for accounts that have another.",
        bounds=(1, 1000),
        default=3,
    ),
    "requests_per_hour": _number(
        "Requests per hour",
        "Mixpanel's limit, for accounts that have another.",
        bounds=(1, 1_000_000),
        default=60,
    ),
    "on_hourly_limit": _choice(
        ["wait", "fail"],
        "On the hourly limit",
        "`wait` until Mixpanel takes more requests, or `fail`: load what the hour allows, exit 1.",
    ),
    "request_timeout": _number(
        "Request timeout",
        "Seconds without a byte after which an attempt has failed.",
        bounds=(1, 86_400),
        default=600,
        kind="number",
    ),
    "attempt_timeout": _number(
        "Attempt timeout",
        "Seconds after which an attempt has failed, however its bytes come: six hours by default.",
        bounds=(1, 604_800),
        default=21_600,
    ),
    "max_window_mb": _number(
        "Maximum window size",
        "Megabytes of a window as it arrives, compressed; a larger one fails.",
        bounds=(1, 1_000_000),
        default=20_000,
    ),
    "batch_config": _setting(
        "object",
        "Batch configuration",
        "Send events as files, by BATCH messages: "
        '`{"encoding": {"format": "parquet"}, "storage": {"root": "file:///data/mixpanel"}}`. '
        "`parquet` or `jsonl`; see [Files](docs/files.md).",
        additionalProperties=True,
    ),
    "processes": _number(
        "Processes",
        "With `batch_config`, how many processes make files. Default: one for each core, and at "
        "most one for each worker.",
        bounds=(1, 256),
        default=None,
    ),
    "executor": _choice(
        ["local", "dask"],
        "Executor",
        "Who fetches and converts: this machine (`local`), or the workers of a Dask cluster "
        "(`dask`), which needs `batch_config`; see [Scale](docs/scale.md).",
    ),
    "dask_scheduler": _text(
        "Dask scheduler",
        "Address of the cluster's scheduler, e.g. `tcp://scheduler:8786`, or its scheduler file.",
    ),
    "dask_tls": _setting(
        "object",
        "Dask TLS",
        "Certificates for `tls://`, as files: "
        '`{"ca_file": "ca.pem", "cert_file": "tap.pem", "key_file": "tap.key"}`.',
        additionalProperties=True,
    ),
    "spool_dir": _text(
        "Spool directory",
        "Where windows wait on disk. Default: the system's temporary directory.",
    ),
    "report": _text(
        "Report",
        "The file of the run report, an HTML page; see [Report](docs/report.md). "
        "On the command line: `--report FILE`.",
    ),
}

CONFIG_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": _PROPERTIES,
    "required": ["start_date"],
    "$schema": "https://json-schema.org/draft/2020-12/schema",
}
"""The settings as a JSON schema."""
