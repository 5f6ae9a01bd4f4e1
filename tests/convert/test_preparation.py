"""A window's body becomes messages, or nothing is left of it."""

from __future__ import annotations

import logging
import re
import stat
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.convert import preparation
from tap_mixpanel_parallel.convert.conversion import Prepared, fast_encoder
from tap_mixpanel_parallel.convert.preparation import Preparation
from tap_mixpanel_parallel.exceptions import MalformedLineError, SpoolError
from tap_mixpanel_parallel.fetch.client import Download
from tap_mixpanel_parallel.fetch.scheduler import Task
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.settings.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "5ec4e7" * 5 + "aa"
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
    def prepare(self, folder: Path, bad: bytes = b"bad", **settings: Any) -> None:
        """Twice, as it takes two attempts."""
        disk, task = Disk(folder, on_malformed_line="quarantine", **settings), Task(DAY)
        with pytest.raises(MalformedLineError):
            disk.prepare(bad + b"\n" + GOOD, task)
        assert not (folder / "window.quarantine").exists()
        disk.prepare(bad + b"\n" + GOOD, task).path.unlink()

    def name(self, folder: Path) -> str:
        """The name of the file that a tap makes."""
        (folder / "first").mkdir()
        self.prepare(folder / "first")
        [path] = (folder / "first").iterdir()
        return path.name

    def test_nobody_else_can_read_it(self, tmp_path: Path) -> None:
        self.prepare(tmp_path)
        [path] = tmp_path.iterdir()
        assert re.fullmatch(
            rf"tap-mixpanel-parallel-quarantine-[0-9a-f]{{8}}-{DAY}.jsonl", path.name
        )
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_project_is_in_the_name(self, tmp_path: Path) -> None:
        self.prepare(tmp_path, project_id="../3")
        [path] = tmp_path.iterdir()
        assert path.name.startswith("tap-mixpanel-parallel-quarantine-___3-")

    def test_taps_that_read_other_events_have_files_of_their_own(self, tmp_path: Path) -> None:
        taps: list[dict[str, Any]] = [
            {},
            {"events": ["A"]},
            {"events": ["B"]},
            {"where": 'properties["a"] == "b"'},
            {"project_timezone": "Asia/Tokyo"},
            {"project_id": "1"},
            {"project_id": "2"},
            {"project_secret": SECRET},
            {"project_secret": SECRET[::-1]},
            {"api_url": "http://127.0.0.1:1"},
        ]
        for number, settings in enumerate(taps):
            self.prepare(tmp_path, bad=b"%d" % number, **settings)
        for number, settings in enumerate(taps):
            self.prepare(tmp_path, bad=b"%d" % number, **settings)  # its own once more
        lines = [path.read_bytes() for path in tmp_path.iterdir()]
        assert sorted(lines) == [b"%d\n" % number for number in range(len(taps))]
        names = "".join(path.name for path in tmp_path.iterdir())
        assert not [part for part in (SECRET, SECRET[::-1]) if part[:12] in names]

    def test_the_order_of_the_lines_and_of_the_events_makes_no_difference(
        self, tmp_path: Path
    ) -> None:
        disk, task = Disk(tmp_path, on_malformed_line="quarantine", events=["A", "B"]), Task(DAY)
        with pytest.raises(MalformedLineError):
            disk.prepare(b"x\ny\n" + GOOD, task)
        disk.prepare(b"y\nx\n" + GOOD, task).path.unlink()
        self.prepare(tmp_path, events=["B", "A"])
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"bad\n"]

    def test_more_lines_than_memory_was_made_for(self, tmp_path: Path) -> None:
        bad = b"\n".join(b"%d" % number for number in range(20_000))
        self.prepare(tmp_path, bad=bad)
        [path] = tmp_path.iterdir()
        assert path.read_bytes() == bad + b"\n"

    def test_a_link_of_its_name_is_not_followed(self, tmp_path: Path) -> None:
        name = self.name(tmp_path)
        (tmp_path / "spool").mkdir()
        (tmp_path / "precious").write_text("precious")
        (tmp_path / "spool" / name).symlink_to(tmp_path / "precious")
        self.prepare(tmp_path / "spool")
        assert (tmp_path / "precious").read_text() == "precious"
        assert not (tmp_path / "spool" / name).is_symlink()
        assert (tmp_path / "spool" / name).read_bytes() == b"bad\n"

    def test_where_it_can_not_be(self, tmp_path: Path) -> None:
        name = self.name(tmp_path)
        (tmp_path / "spool" / name / "something").mkdir(parents=True)
        with pytest.raises(SpoolError, match="can't be written"):
            self.prepare(tmp_path / "spool")
        assert {path.name for path in (tmp_path / "spool").iterdir()} == {name}
