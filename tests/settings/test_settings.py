"""Settings: defaults, values, warnings and days."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.plan.state import ExportState
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.settings.credentials import Credentials
from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA
from tap_mixpanel_parallel.settings.settings import Settings
from tests.settings.harness import CONFIG, SECRET, TODAY, UNSET, read

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


class TestDefaults:
    def test_all(self) -> None:
        settings = read()
        expected = {
            "region": "us",
            "api_url": None,
            "credentials": Credentials("bob.mp-service-account", SECRET, "123"),
            "project_id": "123",
            "wanted": Window(date(2025, 1, 1), TODAY),
            "today": TODAY,
            "replay": None,
            "parallel": False,
            "workers": 10,
            "window_days": 7,
            "balance_windows": True,
            "lookback_days": 5,
            "events": (),
            "where": None,
            "properties_format": "object",
            "deduplicate": False,
            "on_failed_window": "fail",
            "on_malformed_line": "fail",
            "summary_format": "text",
            "max_attempts": 5,
            "requests_per_second": 3,
            "requests_per_hour": 60,
            "on_hourly_limit": "wait",
            "request_timeout": 600,
            "spool_dir": Path(tempfile.gettempdir()),
            "warnings": (),
            "concurrency": 1,
            "selection": UNSET | {"project_id": "123"},
        }
        assert {name: getattr(settings, name) for name in expected} == expected
        assert settings.project_timezone.key == "UTC"

    def test_an_empty_text_is_not_set(self) -> None:
        names = set(CONFIG_SCHEMA["properties"]) - set(CONFIG)
        assert read(CONFIG | dict.fromkeys(names, "")) == read()
        assert read(CONFIG | dict.fromkeys(names)) == read()

    def test_the_sandbox_needs_no_credentials(self) -> None:
        settings = read({"start_date": "2025-01-01", "region": "sandbox"})
        assert settings.credentials is None
        assert settings.selection == UNSET | {"region": "sandbox"}, "its events are no project's"

    def test_today_is_asked_for_in_the_project_s_zone(self) -> None:
        asked: list[str] = []

        def today(zone: ZoneInfo) -> date:
            asked.append(zone.key)
            return TODAY

        Settings.from_config(CONFIG | {"project_timezone": "Asia/Kolkata"}, today=today)
        assert asked == ["Asia/Kolkata"]


class TestValues:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("project_id", 123, "123"),
            ("region", "eu", "eu"),
            ("api_url", "http://127.0.0.1:8974/api/2.0/", "http://127.0.0.1:8974/api/2.0"),
            ("replay", "2025-06-01", Window(TODAY, TODAY)),
            ("replay", "2024-01-01..2024-01-31", Window.parse("2024-01-01", "2024-01-31")),
            ("workers", 1, 1),
            ("workers", 100, 100),
            ("window_days", 1, 1),
            ("lookback_days", 0, 0),
            ("events", ["Sign Up", "達成"], ("Sign Up", "達成")),
            ("events", [], ()),
            ("where", "true", "true"),
            ("properties_format", "string", "string"),
            ("on_failed_window", "warn", "warn"),
            ("on_malformed_line", "quarantine", "quarantine"),
            ("on_hourly_limit", "fail", "fail"),
            ("summary_format", "json", "json"),
            ("request_timeout", 1.5, 1.5),
            ("balance_windows", False, False),
        ],
    )
    def test_taken(self, name: str, value: object, expected: object) -> None:
        assert getattr(read(**{name: value}), name) == expected

    def test_concurrency(self) -> None:
        assert read(parallel=True, workers=7).concurrency == 7
        assert read(parallel=False, workers=7).concurrency == 1

    def test_plan(self) -> None:
        def lengths(**config: Any) -> list[int]:
            plan = read(end_date="2025-01-30", **config).plan(ExportState())
            assert plan.hour.limit == config.get("requests_per_hour", 60)
            return [len(planned.window) for planned in plan.windows]

        assert lengths() == [7, 7, 7, 7, 2]
        assert lengths(parallel=True) == [3] * 10
        assert lengths(parallel=True, balance_windows=False) == [7, 7, 7, 7, 2]
        assert lengths(window_days=10, requests_per_hour=7) == [10, 10, 10]
        assert lengths(replay="2025-01-31") == [7, 7, 7, 7, 3]

    def test_selection(self) -> None:
        settings = read(events=["B", "A"], where="x", project_timezone="Asia/Kolkata")
        assert settings.selection == {
            "region": None,
            "project_id": "123",
            "events": ["A", "B"],
            "where": "x",
            "project_timezone": "Asia/Kolkata",
        }

    def test_project_secret(self) -> None:
        settings = read({"start_date": "2025-01-01", "project_secret": SECRET, "project_id": "1"})
        assert settings.credentials == Credentials(SECRET, "", None)
        [warning] = settings.warnings
        assert warning.startswith("project_secret: Mixpanel retires project secrets on 2027-03-03")
        assert SECRET not in warning

    def test_secrets_are_not_in_the_repr(self) -> None:
        assert SECRET not in repr(read())
        assert SECRET not in repr(read({"start_date": "2025-01-01", "project_secret": SECRET}))

    @pytest.mark.parametrize(
        ("workers", "parallel", "warned"), [(20, True, 0), (21, True, 1), (21, False, 1)]
    )
    def test_many_workers(self, workers: int, parallel: bool, warned: int) -> None:
        warnings = read(workers=workers, parallel=parallel).warnings
        assert len(warnings) == warned
        told = f"workers: {workers} " + (
            "use over a fifth" if parallel else "has no effect without"
        )
        assert all(told in text for text in warnings)

    @pytest.mark.parametrize(
        ("given", "warned"),
        [({}, False), ({"workers": 10}, False), ({"workers": 9}, True), ({"workers": "4"}, True)],
    )
    def test_workers_without_parallel(self, given: dict[str, Any], warned: bool) -> None:
        """Meltano passes the default on whether or not a person has set it."""
        expected = f"workers: {given.get('workers')} has no effect without parallel: true (or --"
        assert [text.startswith(expected) for text in read(**given).warnings] == [True] * warned

    def test_processes_without_files(self) -> None:
        assert read(processes=2).warnings == ("processes: 2 has no effect without batch_config",)


class TestDates:
    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            ("2025-01-01", ..., "2025-01-01..2025-06-01"),
            ("2025-01-01", "2025-01-01", "2025-01-01..2025-01-01"),
            ("2025-06-01", ..., "2025-06-01..2025-06-01"),
            ("2025-01-01T00:00:00Z", "2025-01-31T00:00:00+00:00", "2025-01-01..2025-01-31"),
            ("2025-01-01T00:00", "2025-01-31T00:00:00.000Z", "2025-01-01..2025-01-31"),
            ("P90D", ..., "2025-03-04..2025-06-01"),
            ("P1D", ..., "2025-06-01..2025-06-01"),
            ("P7D", "2025-01-31", "2025-01-25..2025-01-31"),
        ],
    )
    def test_wanted(self, start: object, end: object, expected: str) -> None:
        settings = read(start_date=start, end_date=end)
        assert str(settings.wanted) == expected
        assert settings.warnings == ()

    @pytest.mark.parametrize("start", ["2025-01-01", "P10D"])
    def test_an_end_in_the_future_is_clamped(self, start: str) -> None:
        settings = read(start_date=start, end_date="2025-06-02")
        assert settings.wanted.last == TODAY
        assert settings.warnings == (
            "end_date 2025-06-02 is in the future: reading up to today, 2025-06-01",
        )

    @pytest.mark.parametrize(
        ("replay", "warned"),
        [
            ("2025-01-05..2025-01-11", False),
            ("2025-01-01..2025-06-01", False),
            ("2024-01-05..2024-01-11", True),
            ("2024-12-31..2025-01-02", True),
        ],
    )
    def test_a_replay_outside_the_wanted_days(self, replay: str, warned: bool) -> None:
        settings = read(replay=replay, start_date="2025-01-01")
        assert str(settings.replay).startswith(replay[:10])
        told = f"replay: {replay} is not all within start_date to end_date, 2025-01-01..2025-06-01"
        assert [told in warning for warning in settings.warnings] == [True] * warned
