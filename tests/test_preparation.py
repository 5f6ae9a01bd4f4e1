"""A window's body becomes messages, or nothing is left of it."""

from __future__ import annotations

import logging
import stat
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel import preparation
from tap_mixpanel_parallel.client import Download
from tap_mixpanel_parallel.exceptions import MalformedLineError, SpoolError
from tap_mixpanel_parallel.fetcher import Task
from tap_mixpanel_parallel.messages import Prepared, fast_encoder
from tap_mixpanel_parallel.preparation import Preparation
from tap_mixpanel_parallel.settings import Settings
from tap_mixpanel_parallel.windows import Window

if TYPE_CHECKING:
    from pathlib import Path

DAY = Window(date(2025, 1, 1), date(2025, 1, 1))
NOW = datetime(2025, 2, 1, tzinfo=UTC)
GOOD = b'{"event":"a","properties":{"time":1735689600000,"distinct_id":"d"}}\n'


class Disk:
    """What happens around a preparation in a folder."""

    def __init__(self, folder: Path, *, room: bool = False, **settings: Any) -> None:
        self.folder = folder
        self.seen: list[set[str]] = []
        self._room = room
        config = {"region": "sandbox", "start_date": "2025-01-01", "spool_dir": str(folder)}
        self.preparation = Preparation(
            Settings.from_config(config | settings, today=lambda _: NOW.date()),
            lambda _: fast_encoder("events", NOW.isoformat()),
            logging.getLogger("test"),
            check=lambda: None,
            make_room=self.make_room,
        )

    def make_room(self) -> bool:
        self.seen.append(self.names())
        return self._room

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def prepare(self, body: bytes, task: Task | None = None) -> Prepared:
        path = self.folder / "window.body"
        path.write_bytes(body)
        return self.preparation.prepare(
            task or Task(DAY), Download(path, compressed=False, size=len(body), received_at=NOW)
        )


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Have the disk full at the first try; what was tried."""
    tried: list[Path] = []
    prepare = preparation.prepare

    def once_full(download: Download, path: Path, **options: Any) -> Prepared:
        tried.append(path)
        if len(tried) > 1:
            return prepare(download, path, **options)
        path.write_bytes(b"some")
        raise SpoolError("full")

    monkeypatch.setattr(preparation, "prepare", once_full)
    return tried


class TestFullDisk:
    def test_once_there_is_room_it_is_prepared_again(
        self, tmp_path: Path, full: list[Path]
    ) -> None:
        disk = Disk(tmp_path, room=True)
        assert disk.prepare(GOOD).events == 1
        assert disk.seen == [{"window.body"}], "what was begun is gone before room is made"
        assert disk.names() == {"window.messages"}
        assert len(full) == 2

    def test_without_room_it_is_not(self, tmp_path: Path, full: list[Path]) -> None:
        disk = Disk(tmp_path)
        with pytest.raises(SpoolError, match="full"):
            disk.prepare(GOOD)
        assert disk.names() == set()
        assert len(full) == 1


class TestQuarantine:
    NAME = f"tap-mixpanel-parallel-quarantine-{DAY}.jsonl"

    def prepare(self, folder: Path, **settings: Any) -> None:
        """Twice, as it takes two attempts."""
        disk, task = Disk(folder, on_malformed_line="quarantine", **settings), Task(DAY)
        with pytest.raises(MalformedLineError):
            disk.prepare(b"bad\n" + GOOD, task)
        disk.prepare(b"bad\n" + GOOD, task).path.unlink()

    def test_nobody_else_can_read_it(self, tmp_path: Path) -> None:
        self.prepare(tmp_path)
        [path] = tmp_path.iterdir()
        assert path.name == self.NAME
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_projects_have_files_of_their_own(self, tmp_path: Path) -> None:
        self.prepare(tmp_path, project_id="12")
        self.prepare(tmp_path, project_id="../3")
        assert {path.name for path in tmp_path.iterdir()} == {
            self.NAME.replace("quarantine-", "quarantine-12-"),
            self.NAME.replace("quarantine-", "quarantine-___3-"),
        }

    def test_a_link_of_its_name_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "spool").mkdir()
        (tmp_path / "precious").write_text("precious")
        (tmp_path / "spool" / self.NAME).symlink_to(tmp_path / "precious")
        self.prepare(tmp_path / "spool")
        assert (tmp_path / "precious").read_text() == "precious"
        assert (tmp_path / "spool" / self.NAME).read_bytes() == b"bad\n"

    def test_where_it_can_not_be(self, tmp_path: Path) -> None:
        (tmp_path / self.NAME / "something").mkdir(parents=True)
        with pytest.raises(SpoolError, match="can't be written"):
            self.prepare(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {self.NAME}
