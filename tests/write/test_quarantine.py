"""Lines that stay bad are kept, each window's in a file that nothing else overwrites."""

from __future__ import annotations

import re
import stat
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.exceptions import AttemptError, MalformedLineError, SpoolError
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.settings.settings import Settings
from tap_mixpanel_parallel.write.quarantine import Quarantine
from tests.support.bodies import NOW, convert

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "5ec4e7" * 5 + "aa"
DAY = Window(date(2025, 1, 1), date(2025, 1, 1))
NEXT_DAY = Window(date(2025, 1, 2), date(2025, 1, 2))
GOOD = b'{"event":"a","properties":{"time":1735732800000,"distinct_id":"d"}}\n'


def quarantine(folder: Path, **settings: Any) -> Quarantine:
    config = {"region": "sandbox", "start_date": "2025-01-01", "spool_dir": str(folder)}
    return Quarantine(Settings.from_config(config | settings, today=lambda _: NOW.date()))


def keep(kept: Quarantine, folder: Path, bad: bytes, window: Window = DAY) -> Path | None:
    """Have the lines of a body kept; as in a run, no part is left."""
    part = convert(folder, bad + GOOD, window=window, tolerate_malformed=True)
    try:
        return kept.keep(part)
    finally:
        part.discard()
        (folder / "window.body").unlink()


class TestWhen:
    """They are kept once a further attempt would not mend them."""

    def test_whole_windows_have_none(self, tmp_path: Path) -> None:
        assert keep(quarantine(tmp_path), tmp_path, b"") is None
        assert list(tmp_path.iterdir()) == []

    def test_the_same_lines_twice(self, tmp_path: Path) -> None:
        kept = quarantine(tmp_path)
        with pytest.raises(MalformedLineError, match="line 1 is no"):
            keep(kept, tmp_path, b"x\ny\n")
        assert list(tmp_path.iterdir()) == []
        path = keep(kept, tmp_path, b"y\nx\n")
        assert path
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_bytes() == b"y\nx\n"

    def test_other_lines_each_time(self, tmp_path: Path) -> None:
        kept = quarantine(tmp_path)
        for bad in (b"x\n", b"y\n", b"x\n", b"x\nx\n", b"x\n"):
            with pytest.raises(MalformedLineError):
                keep(kept, tmp_path, bad)
        assert keep(kept, tmp_path, b"x\n")

    def test_windows_do_not_count_for_each_other(self, tmp_path: Path) -> None:
        kept = quarantine(tmp_path)
        for window in (DAY, NEXT_DAY):
            with pytest.raises(MalformedLineError):
                keep(kept, tmp_path, b"x\n", window)
        assert keep(kept, tmp_path, b"x\n", DAY) != keep(kept, tmp_path, b"x\n", NEXT_DAY)

    def test_the_only_attempt(self, tmp_path: Path) -> None:
        assert keep(quarantine(tmp_path, max_attempts=1), tmp_path, b"x\n")


class TestWhere:
    def keep_twice(self, folder: Path, bad: bytes = b"bad", **settings: Any) -> None:
        """Twice, as it takes two attempts."""
        kept = quarantine(folder, **settings)
        with pytest.raises(MalformedLineError):
            keep(kept, folder, bad + b"\n")
        keep(kept, folder, bad + b"\n")

    def name(self, folder: Path) -> str:
        """The name of the file that a tap makes."""
        (folder / "first").mkdir()
        self.keep_twice(folder / "first")
        [path] = (folder / "first").iterdir()
        return path.name

    def test_nobody_else_can_read_it(self, tmp_path: Path) -> None:
        self.keep_twice(tmp_path)
        [path] = tmp_path.iterdir()
        assert re.fullmatch(
            rf"tap-mixpanel-parallel-quarantine-[0-9a-f]{{8}}-{DAY}.jsonl", path.name
        )
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_project_is_in_the_name(self, tmp_path: Path) -> None:
        self.keep_twice(tmp_path, project_id="../3")
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
            {"region": "us", "project_secret": SECRET},
            {"region": "us", "project_secret": SECRET[::-1]},
            {"api_url": "http://127.0.0.1:1"},
        ]
        for number, settings in enumerate(taps):
            self.keep_twice(tmp_path, bad=b"%d" % number, **settings)
        for number, settings in enumerate(taps):
            self.keep_twice(tmp_path, bad=b"%d" % number, **settings)  # its own once more
        lines = [path.read_bytes() for path in tmp_path.iterdir()]
        assert sorted(lines) == [b"%d\n" % number for number in range(len(taps))]
        names = "".join(path.name for path in tmp_path.iterdir())
        assert not [part for part in (SECRET, SECRET[::-1]) if part[:12] in names]

    def test_the_order_of_the_events_makes_no_difference(self, tmp_path: Path) -> None:
        for number, events in enumerate((["A", "B"], ["B", "A"])):
            self.keep_twice(tmp_path, bad=b"%d" % number, events=events)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"1\n"]

    def test_more_lines_than_memory_was_made_for(self, tmp_path: Path) -> None:
        bad = b"\n".join(b"%d" % number for number in range(20_000))
        self.keep_twice(tmp_path, bad=bad)
        [path] = tmp_path.iterdir()
        assert path.read_bytes() == bad + b"\n"

    def test_a_link_of_its_name_is_not_followed(self, tmp_path: Path) -> None:
        name = self.name(tmp_path)
        (tmp_path / "spool").mkdir()
        (tmp_path / "precious").write_text("precious")
        (tmp_path / "spool" / name).symlink_to(tmp_path / "precious")
        self.keep_twice(tmp_path / "spool")
        assert (tmp_path / "precious").read_text() == "precious"
        assert not (tmp_path / "spool" / name).is_symlink()
        assert (tmp_path / "spool" / name).read_bytes() == b"bad\n"

    def test_where_it_can_not_be(self, tmp_path: Path) -> None:
        name = self.name(tmp_path)
        (tmp_path / "spool" / name / "something").mkdir(parents=True)
        with pytest.raises(SpoolError, match="can't be written") as caught:
            self.keep_twice(tmp_path / "spool")
        assert {path.name for path in (tmp_path / "spool").iterdir()} == {name}
        assert isinstance(caught.value, AttemptError), "other windows go on"
