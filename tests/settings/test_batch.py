"""`batch_config`: where files go, and what does not go with them."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

import pytest

from tap_mixpanel_parallel.exceptions import SettingsError
from tap_mixpanel_parallel.settings.batch import BatchConfig
from tap_mixpanel_parallel.settings.settings import Settings


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("/data/x", "/data/x"),
        ("file:///data/x y", "/data/x y"),
        ("file://localhost/data", "/data"),
        ("file:/data", "/data"),
        ("output/files", f"{Path.cwd()}/output/files"),
        ("file://output/files", f"{Path.cwd()}/output/files"),
        ("s3://bucket/x", None),
        ("memory://x", None),
    ],
)
def test_a_root_is_a_local_folder_or_not(root: str, path: str | None) -> None:
    assert BatchConfig("jsonl", root).path == (path and Path(path))


def test_files_are_as_mixpanel_sent_them() -> None:
    files = {"encoding": {"format": "jsonl"}, "storage": {"root": tempfile.gettempdir()}}
    config = {"region": "sandbox", "start_date": "2025-01-01", "batch_config": files}
    maps = {"stream_maps": {"events": {"x": "1"}}, "flattening_enabled": True}
    with pytest.raises(SettingsError) as caught:
        Settings.from_config(config | maps, today=lambda _: date(2025, 2, 1))
    assert list(caught.value.problems) == [
        f"batch_config: files hold records as they are, so {name} would have no effect; "
        f"remove {name}, or batch_config"
        for name in maps
    ]


def test_parquet_without_pyarrow_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"encoding": {"format": "parquet"}, "storage": {"root": tempfile.gettempdir()}}
    config = {"region": "sandbox", "start_date": "2025-01-01", "batch_config": files}
    monkeypatch.setattr("tap_mixpanel_parallel.settings.batch.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"install tap-mixpanel-parallel\[files\], or give"):
        Settings.from_config(config, today=lambda _: date(2025, 2, 1))


@pytest.mark.parametrize(("length", "is_valid"), [(100, True), (101, False)])
def test_a_prefix_leaves_room_for_the_rest_of_a_name(length: int, is_valid: bool) -> None:
    storage = {"root": tempfile.gettempdir(), "prefix": "p" * length}
    files = {"encoding": {"format": "jsonl"}, "storage": storage}
    config = {"region": "sandbox", "start_date": "2025-01-01", "batch_config": files}
    problems: list[str] = []
    try:
        Settings.from_config(config, today=lambda _: date(2025, 2, 1))
    except SettingsError as error:
        problems += error.problems
    assert [problem.partition(":")[0] for problem in problems] == (
        [] if is_valid else ["batch_config.storage.prefix"]
    )
