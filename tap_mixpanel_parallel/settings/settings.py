"""Validated settings. All of them are checked before the first request."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.exceptions import SettingsError
from tap_mixpanel_parallel.plan.hour import Hour
from tap_mixpanel_parallel.plan.plan import Plan, make_plan
from tap_mixpanel_parallel.plan.windows import Cutting, Window, subtract
from tap_mixpanel_parallel.settings.batch import BatchConfig, read_batch
from tap_mixpanel_parallel.settings.credentials import Credentials, check_apart, read_credentials
from tap_mixpanel_parallel.settings.dates import is_period, read_replay, read_wanted
from tap_mixpanel_parallel.settings.machines import Machines, read_machines
from tap_mixpanel_parallel.settings.property_columns import (
    PropertyColumn,
    read_property_columns,
)
from tap_mixpanel_parallel.settings.reader import ConfigReader
from tap_mixpanel_parallel.settings.schema import API_URLS, CONFIG_SCHEMA, SANDBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date
    from pathlib import Path
    from zoneinfo import ZoneInfo

    from tap_mixpanel_parallel.plan.state import ExportState

_MODEST_WORKERS: Final = 20
"""A fifth of the 100 queries that Mixpanel allows at once (Mixpanel docs, Rate Limits)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Validated settings; the README explains each.

    Attributes:
        credentials: None in the sandbox, which brings its own.
        wanted: The days from `start_date` to `end_date`.
        is_period: Whether `start_date` is a number of days, so that the wanted days move on.
        replay: Days to read again in this run, wanted or not.
        today: The project's current day as the run starts.
    """

    region: str
    api_url: str | None
    credentials: Credentials | None
    project_id: str | None
    wanted: Window
    is_period: bool
    replay: Window | None
    today: date
    project_timezone: ZoneInfo
    parallel: bool
    workers: int
    window_days: int
    balance_windows: bool
    lookback_days: int
    events: tuple[str, ...]
    where: str | None
    properties_format: str
    property_columns: tuple[PropertyColumn, ...]
    deduplicate: bool
    on_failed_window: str
    on_malformed_line: str
    summary_format: str
    max_attempts: int
    requests_per_second: int
    requests_per_hour: int
    on_hourly_limit: str
    request_timeout: float
    attempt_timeout: int
    max_window_mb: int
    batch_config: BatchConfig | None
    processes: int | None
    machines: Machines | None
    spool_dir: Path
    report: Path | None
    warnings: tuple[str, ...] = ()

    @property
    def concurrency(self) -> int:
        """How many requests run at once."""
        return self.workers if self.parallel else 1

    @property
    def converters(self) -> int:
        """How many processes make files; one is the run's own."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return self.processes or min(cores or 1, self.concurrency)

    @property
    def selection(self) -> dict[str, Any]:
        """The settings that decide which events a day holds; None is the default.

        Each is there, so that a state that is merged into an older one replaces all of it.
        """
        is_synthetic = self.region == SANDBOX and self.api_url is None
        zone = self.project_timezone.key
        return {
            "region": SANDBOX if is_synthetic else None,
            "project_id": self.project_id,
            "events": sorted(self.events) or None,
            "where": self.where,
            "project_timezone": None if zone == "UTC" else zone,
        }

    @property
    def fingerprint(self) -> str:
        """A name for what is read, and of which project: who reads something else has another."""
        # Without a project's id, its secret is what tells it from others.
        secret = self.credentials.secret if self.credentials else None
        selection = [
            self.region,
            self.api_url,
            self.project_id or secret,
            sorted(self.events),
            self.where,
            self.project_timezone.key,
        ]
        return _hashed(selection)

    @property
    def account(self) -> str | None:
        """A name for whose limits count; None for a sandbox that the run starts for itself."""
        url = self.api_url or API_URLS.get(self.region)
        secret = self.credentials.secret if self.credentials else None
        return None if url is None else _hashed([url, self.project_id or secret])

    def plan(self, state: ExportState, hour: Hour | None = None) -> Plan:
        """What a run with these settings fetches.

        Args:
            state: What is loaded.
            hour: What may start within the hour; by default, as much as in any.
        """
        return make_plan(
            state,
            state.resume(self.wanted) if self.is_period else self.wanted,
            today=self.today,
            lookback_days=self.lookback_days,
            replay=self.replay,
            cutting=Cutting(self.window_days, self.concurrency, self.balance_windows),
            hour=hour or Hour(self.requests_per_hour),
            waits=self.on_hourly_limit == "wait",
        )

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, today: Callable[[ZoneInfo], date]
    ) -> Settings:
        """Validate a configuration.

        Raises:
            SettingsError: If a setting is not valid; it names every problem.
        """
        reader = ConfigReader(config)
        zone = reader.zone("project_timezone")
        current = today(zone)
        region = reader.choice("region")
        project_id = reader.text("project_id", numbers=True)
        workers = reader.integer("workers")
        parallel = reader.boolean("parallel")
        if not parallel and workers != CONFIG_SCHEMA["properties"]["workers"]["default"]:
            reader.warnings.append(
                f"workers: {workers} has no effect without parallel: true (or --parallel)"
            )
        if parallel and workers > _MODEST_WORKERS:
            reader.warnings.append(
                f"workers: {workers} use over a fifth of the 100 requests that Mixpanel "
                "allows at once; others who query the project may be refused"
            )
        api_url = reader.url("api_url")
        if (url := api_url or API_URLS.get(region)) is not None:
            reader.check_connection(url)
        else:
            check_apart(reader)
        credentials = read_credentials(reader, region, project_id)
        wanted = read_wanted(reader, current)
        replay = read_replay(reader, current)
        if replay and subtract([replay], [wanted]):
            reader.warnings.append(
                f"replay: {replay} is not all within start_date to end_date, {wanted}; "
                "all of it is read"
            )
        batch_config = read_batch(reader)
        processes = reader.optional_integer("processes")
        if processes is not None and not reader.is_set("batch_config"):
            reader.warnings.append(f"processes: {processes} has no effect without batch_config")
        machines = read_machines(reader, batch_config)
        settings = cls(
            region=region,
            api_url=api_url,
            credentials=credentials,
            project_id=project_id,
            wanted=wanted,
            is_period=is_period(reader),
            replay=replay,
            today=current,
            project_timezone=zone,
            parallel=parallel,
            workers=workers,
            window_days=reader.integer("window_days"),
            balance_windows=reader.boolean("balance_windows"),
            lookback_days=reader.integer("lookback_days"),
            events=reader.names("events"),
            where=reader.text("where"),
            properties_format=reader.choice("properties_format"),
            property_columns=read_property_columns(reader),
            deduplicate=reader.boolean("deduplicate"),
            on_failed_window=reader.choice("on_failed_window"),
            on_malformed_line=reader.choice("on_malformed_line"),
            summary_format=reader.choice("summary_format"),
            max_attempts=reader.integer("max_attempts"),
            requests_per_second=reader.integer("requests_per_second"),
            requests_per_hour=reader.integer("requests_per_hour"),
            on_hourly_limit=reader.choice("on_hourly_limit"),
            request_timeout=reader.number("request_timeout"),
            attempt_timeout=reader.integer("attempt_timeout"),
            max_window_mb=reader.integer("max_window_mb"),
            batch_config=batch_config,
            processes=processes,
            machines=machines,
            spool_dir=reader.directory("spool_dir"),
            report=reader.report_file("report"),
            warnings=tuple(reader.warnings),
        )
        if reader.problems:
            raise SettingsError(reader.problems)
        return settings


def _hashed(values: list[Any]) -> str:
    """32 bits of a hash, from which no secret can be found."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]
