"""The settings as JSON schema: names, types, defaults, bounds, descriptions."""

from __future__ import annotations

from typing import Any, Final

from singer_sdk import typing as th

LONGEST_WINDOW: Final = 3650
"""The most days that `window_days` takes."""

SANDBOX: Final = "sandbox"
"""The region whose Mixpanel runs inside the tap."""

API_URLS: Final = {
    "us": "https://data.mixpanel.com/api/2.0",
    "eu": "https://data-eu.mixpanel.com/api/2.0",
    "in": "https://data-in.mixpanel.com/api/2.0",
}
"""The export's base URL in each region (Mixpanel docs, Raw Event Export)."""

_SETTINGS: Final = th.PropertiesList(
    th.Property(
        "project_id",
        th.StringType,
        title="Project ID",
        description="Mixpanel project. Required with a service account.",
    ),
    th.Property(
        "service_account_username",
        th.StringType,
        title="Service account username",
        description="Service account, the recommended credentials.",
    ),
    th.Property(
        "service_account_secret",
        th.StringType,
        secret=True,
        title="Service account secret",
        description="The service account's secret.",
    ),
    th.Property(
        "project_secret",
        th.StringType,
        secret=True,
        title="Project secret",
        description="Older credentials, instead of a service account. "
        "Mixpanel retires them on 2027-03-03.",
    ),
    th.Property(
        "region",
        th.StringType,
        default="us",
        allowed_values=[*API_URLS, SANDBOX],
        title="Region",
        description="Where the project's data lives: `us`, `eu` or `in`. "
        "`sandbox` starts a local Mixpanel with synthetic data and needs no credentials.",
    ),
    th.Property(
        "api_url",
        th.StringType,
        title="API URL",
        description="Base URL instead of the region's, e.g. `http://127.0.0.1:8974/api/2.0`. "
        "`https`, except to this machine.",
    ),
    th.Property(
        "start_date",
        th.StringType,
        required=True,
        title="Start date",
        description="First day, inclusive (yyyy-mm-dd), or a number of days that end with "
        "`end_date`: `P90D`.",
    ),
    th.Property(
        "end_date",
        th.StringType,
        title="End date",
        description="Last day, inclusive (yyyy-mm-dd), today at most. Default: today in "
        "`project_timezone`.",
    ),
    th.Property(
        "project_timezone",
        th.StringType,
        default="UTC",
        title="Project time zone",
        description="Set it only for projects created before 2023-01-01: the zone in which "
        "their days are cut and their times are stored, e.g. `America/Los_Angeles`.",
    ),
    th.Property(
        "parallel",
        th.BooleanType,
        default=False,
        title="Parallel",
        description="Fetch windows concurrently. On the command line: `--parallel`.",
    ),
    th.Property(
        "workers",
        th.IntegerType(minimum=1, maximum=100),
        default=10,
        title="Workers",
        description="Concurrent requests in parallel mode, 1 to 100. "
        "On the command line: `--workers N`.",
    ),
    th.Property(
        "window_days",
        th.IntegerType(minimum=1, maximum=LONGEST_WINDOW),
        default=7,
        title="Window days",
        description="The longest window, in days.",
    ),
    th.Property(
        "balance_windows",
        th.BooleanType,
        default=True,
        title="Balance windows",
        description="In parallel mode: equal windows, a multiple of `workers`, none longer "
        "than `window_days`. `false`: plain windows of `window_days`.",
    ),
    th.Property(
        "lookback_days",
        th.IntegerType(minimum=0, maximum=3650),
        default=5,
        title="Look-back days",
        description="A day is read again by every run until it was read so many days after its "
        "end, for late events.",
    ),
    th.Property(
        "replay",
        th.StringType,
        title="Replay",
        description="Days to read again in this run though they are loaded, e.g. "
        "`2025-01-05..2025-01-11`. On the command line: `--replay`.",
    ),
    th.Property(
        "events",
        th.ArrayType(th.StringType),
        title="Events",
        description="Only events of these names. Default: all.",
    ),
    th.Property(
        "where",
        th.StringType,
        title="Where",
        description='Mixpanel\'s filter expression, e.g. `properties["plan"] == "pro"`.',
    ),
    th.Property(
        "properties_format",
        th.StringType,
        default="object",
        allowed_values=["object", "string"],
        title="Properties format",
        description="`properties` as a JSON `object`, or as a `string` of JSON text, "
        "which loads faster.",
    ),
    th.Property(
        "deduplicate",
        th.BooleanType,
        default=False,
        title="Deduplicate",
        description="Drop the raw export's own duplicates in the tap, for loaders that "
        "only append. The latest ingested stays.",
    ),
    th.Property(
        "on_failed_window",
        th.StringType,
        default="fail",
        allowed_values=["fail", "warn"],
        title="On a failed window",
        description="After all other windows are loaded: `fail` exits 1, `warn` exits 0.",
    ),
    th.Property(
        "on_malformed_line",
        th.StringType,
        default="fail",
        allowed_values=["fail", "quarantine"],
        title="On a malformed line",
        description="`fail` the window, or `quarantine` the line to a file and load the rest.",
    ),
    th.Property(
        "max_attempts",
        th.IntegerType(minimum=1, maximum=100),
        default=5,
        title="Maximum attempts",
        description="Tries for one window in one run, for errors worth another try.",
    ),
    th.Property(
        "requests_per_second",
        th.IntegerType(minimum=1, maximum=1000),
        default=3,
        title="Requests per second",
        description="Mixpanel's limit, for accounts that have another.",
    ),
    th.Property(
        "requests_per_hour",
        th.IntegerType(minimum=1, maximum=1000000),
        default=60,
        title="Requests per hour",
        description="Mixpanel's limit, for accounts that have another.",
    ),
    th.Property(
        "request_timeout",
        th.NumberType(minimum=1, maximum=86_400),
        default=600,
        title="Request timeout",
        description="Seconds without a byte after which an attempt has failed.",
    ),
    th.Property(
        "attempt_timeout",
        th.IntegerType(minimum=1, maximum=604_800),
        default=21_600,
        title="Attempt timeout",
        description="Seconds after which an attempt has failed, however its bytes come: "
        "six hours by default.",
    ),
    th.Property(
        "max_window_mb",
        th.IntegerType(minimum=1, maximum=1_000_000),
        default=20_000,
        title="Maximum window size",
        description="Megabytes of a window as it arrives, compressed; a larger one fails.",
    ),
    th.Property(
        "spool_dir",
        th.StringType,
        title="Spool directory",
        description="Where windows wait on disk. Default: the system's temporary directory.",
    ),
)

CONFIG_SCHEMA: Final[dict[str, Any]] = _SETTINGS.to_dict()
"""The settings as JSON schema: types, defaults, bounds, descriptions."""
