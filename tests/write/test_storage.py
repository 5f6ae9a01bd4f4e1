"""Files that can't be stored leave nothing behind, and another attempt finds room."""

from __future__ import annotations

import shutil
from datetime import date
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.convert.conversion import Part
from tap_mixpanel_parallel.exceptions import SpoolError
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.settings.batch import BatchConfig
from tap_mixpanel_parallel.write.storage import Storage
from tests.support.bodies import NOW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WINDOW = Window(date(2025, 1, 1), date(2025, 1, 2))


def announced(urls: Sequence[str]) -> bytes:
    return b"".join(url.encode() + b"\n" for url in urls)


def part_in(folder: Path, spool: Path) -> Part:
    files = tuple(folder / f"{number}.parquet" for number in range(3))
    for file in files:
        file.write_bytes(b"data")
    return Part(WINDOW, spool / "window.lines", 9, files=files)


@pytest.mark.parametrize("blocked", [0, 2])
def test_a_file_that_cannot_be_stored(tmp_path: Path, blocked: int) -> None:
    root, spool = tmp_path / "root", tmp_path / "spool"
    spool.mkdir()
    with Storage(BatchConfig("parquet", str(root)), "me", None, announced) as storage:
        folder = storage.begin(NOW, spool)
        name = f"events-me-{NOW:%Y%m%dT%H%M%S%f}Z-000001-{WINDOW.first}_{WINDOW.last}"
        in_the_way = root / f"{name}.{blocked:04}.parquet"
        in_the_way.mkdir()

        with pytest.raises(SpoolError, match=r"root can.t be written \(Is a directory"):
            storage.store(part_in(folder, spool))

        assert list(root.glob("**/*.parquet")) == [in_the_way]
        assert list(spool.iterdir()) == []
        in_the_way.rmdir()
        stored = storage.store(part_in(folder, spool))
        urls = stored.path.read_text().splitlines()
        assert urls == [f"file://{root}/{name}.{number:04}.parquet" for number in range(3)]
    assert sorted(root.iterdir()) == [root / url.rpartition("/")[2] for url in urls]


def test_what_is_staged_is_removed_though_some_of_it_can_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, spool = tmp_path / "root", tmp_path / "spool"
    spool.mkdir()
    with Storage(BatchConfig("parquet", str(root)), "me", None, announced) as storage:
        storage.begin(NOW, spool)
        names = [f"{storage.staging.start}{number}" for number in range(3)]
        monkeypatch.setattr(storage._root, "names", lambda: names)
        (root / names[0]).mkdir()
        for name in names[1:]:
            (root / name).touch()

        storage.remove_staged()

        assert [(root / name).exists() for name in names] == [True, False, False]


def test_a_message_that_cannot_be_written(tmp_path: Path) -> None:
    root, spool = tmp_path / "root", tmp_path / "spool"
    spool.mkdir()
    with Storage(BatchConfig("parquet", str(root)), "me", None, announced) as storage:
        folder = storage.begin(NOW, spool)
        part = part_in(folder, spool)
        shutil.rmtree(spool)
        with pytest.raises(SpoolError, match="spool_dir: "):
            storage.store(part)
        assert list(root.glob("**/*.parquet")) == []
