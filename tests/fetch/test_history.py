"""What runs on one machine remember of each other's requests, in a folder that may be anybody's."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.fetch import history as module
from tap_mixpanel_parallel.fetch.history import RequestHistory
from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
from tests.support.commands import PATIENCE, environment

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = "1a2b3c4d"
NOW = 1_764_042_902.0


def history_in(folder: Path) -> RequestHistory:
    return RequestHistory(ACCOUNT, {"XDG_CACHE_HOME": str(folder)})


def file_in(folder: Path) -> Path:
    return folder / "tap-mixpanel-parallel" / f"requests-{ACCOUNT}"


def limit_in(folder: Path, now: float = NOW, per_hour: int = 5) -> RateLimit:
    history = history_in(folder)
    return RateLimit(per_second=1000, per_hour=per_hour, clock=lambda: now, history=history)


class TestShared:
    def test_runs_share_the_hour(self, tmp_path: Path) -> None:
        one, other = limit_in(tmp_path), limit_in(tmp_path)
        taken = [limit.acquire() for _ in range(3) for limit in (one, other)]
        assert taken[:5] == [0.0] * 5
        assert taken[5] == pytest.approx(3602)
        assert (one.hour.left, other.hour.left) == (0, 0)
        assert limit_in(tmp_path).hour.left == 0
        assert limit_in(tmp_path, NOW + 3602).hour.left == 5

    def test_it_is_private_and_says_nothing_else(self, tmp_path: Path) -> None:
        limit_in(tmp_path).acquire()
        path = file_in(tmp_path)
        assert path.read_text() == f"{NOW:.3f}\n"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700

    def test_what_is_over_is_dropped(self, tmp_path: Path) -> None:
        for hours in range(5):
            limit_in(tmp_path, NOW + hours * 3700).acquire()
        assert file_in(tmp_path).read_text() == f"{NOW + 4 * 3700:.3f}\n"

    def test_to_look_makes_nothing(self, tmp_path: Path) -> None:
        assert limit_in(tmp_path).hour.left == 5
        assert list(tmp_path.iterdir()) == []

    def test_a_clock_that_went_back_ages_from_now_on(self, tmp_path: Path) -> None:
        for _ in range(5):
            limit_in(tmp_path).acquire()
        assert limit_in(tmp_path, NOW - 1800).acquire() == pytest.approx(3602)
        assert limit_in(tmp_path, NOW - 1800 + 3602).acquire() == 0
        assert limit_in(tmp_path, NOW - 9000).acquire() == 0, "more than an hour tells nothing"

    def test_a_state_and_the_file_tell_of_the_same_requests(self, tmp_path: Path) -> None:
        before = limit_in(tmp_path)
        for _ in range(3):
            before.acquire()
        history = history_in(tmp_path)

        def limit(**known: RequestHistory | None) -> RateLimit:
            return RateLimit(
                per_second=9, per_hour=5, clock=lambda: NOW + 5, earlier=before.minutes, **known
            )

        assert limit(history=history).hour.left == 2
        assert limit(history=None).hour.left == 2

    def test_processes_at_once(self, tmp_path: Path) -> None:
        """Each takes what it gets; together they take what the hour has."""
        code = (
            "import sys, os\n"
            "from tap_mixpanel_parallel.fetch.history import RequestHistory\n"
            "from tap_mixpanel_parallel.fetch.rate_limit import RateLimit\n"
            "history = RequestHistory(sys.argv[1])\n"
            "limit = RateLimit(per_second=10**6, per_hour=100, history=history)\n"
            "print(sum(limit.acquire() == 0 for _ in range(60)))\n"
        )
        env = environment(XDG_CACHE_HOME=str(tmp_path))
        command = [sys.executable, "-c", code, ACCOUNT]
        runs = [
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)
        ]
        taken = [int(run.communicate(timeout=PATIENCE)[0]) for run in runs]
        assert sum(taken) == 100
        assert len(history_in(tmp_path).recall()) == 100


class TestWithout:
    @pytest.mark.parametrize(
        "environ",
        [{}, {"HOME": ""}, {"HOME": "relative"}, {"XDG_CACHE_HOME": "x"}, {"HOME": "/dev/null"}],
        ids=str,
    )
    def test_no_folder(self, environ: dict[str, str]) -> None:
        limit = RateLimit(
            per_second=9, per_hour=2, clock=lambda: NOW, history=RequestHistory(ACCOUNT, environ)
        )
        assert [limit.acquire() for _ in range(3)][:2] == [0, 0]
        assert limit.hour.left == 0

    def test_where_it_is(self, tmp_path: Path) -> None:
        for environ, folder in (
            ({"HOME": str(tmp_path / "home")}, tmp_path / "home" / ".cache"),
            ({"HOME": "/", "XDG_CACHE_HOME": str(tmp_path / "x")}, tmp_path / "x"),
        ):
            with RequestHistory(ACCOUNT, environ).shared() as starts:
                starts.append(NOW)
            assert file_in(folder).exists()

    @pytest.mark.parametrize("place", ["folder", "file"])
    @pytest.mark.parametrize("thing", ["link", "file or folder", "fifo", "socket", "other's"])
    def test_what_is_not_our_own_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, thing: str
    ) -> None:
        path = file_in(tmp_path) if place == "file" else file_in(tmp_path).parent
        path.parent.mkdir(exist_ok=True)
        kept = tmp_path / "kept"
        kept.mkdir() if place == "folder" else kept.write_text("mine")
        make: dict[str, Callable[[], object]] = {
            "link": lambda: path.symlink_to(kept),
            "file or folder": path.touch if place == "folder" else path.mkdir,
            "fifo": lambda: os.mkfifo(path),
            "socket": lambda: bind(path),
            "other's": lambda: path.mkdir() if place == "folder" else path.write_text(f"{NOW}\n"),
        }
        make[thing]()
        if thing == "other's":
            monkeypatch.setattr(module.os, "geteuid", lambda: os.getuid() + 1)
        limit = limit_in(tmp_path)
        assert (limit.hour.left, limit.acquire(), limit.hour.left) == (5, 0, 4)
        assert list(kept.iterdir()) == [] if place == "folder" else kept.read_text() == "mine"

    def test_a_second_name_of_a_file_is_left(self, tmp_path: Path) -> None:
        kept = tmp_path / "kept"
        kept.write_text("mine")
        file_in(tmp_path).parent.mkdir()
        file_in(tmp_path).hardlink_to(kept)
        assert limit_in(tmp_path).acquire() == 0
        assert kept.read_text() == "mine"

    def test_one_that_stays_locked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_PAUSE", 0)
        limit_in(tmp_path).acquire()
        with file_in(tmp_path).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            limit = limit_in(tmp_path, NOW + 1)
            assert (limit.acquire(), limit.hour.left) == (0, 4)
        assert limit.acquire() == 0
        assert limit.hour.left == 2, "what the file knows counts again, and both were written"
        assert len(history_in(tmp_path).recall()) == 3

    @pytest.mark.parametrize("call", ["pread", "pwrite", "truncate", "open"])
    def test_a_disk_that_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        limit = limit_in(tmp_path)

        def fail(*_args: object, **_more: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(module.os, call, fail)
        assert [limit.acquire() for _ in range(6)][:5] == [0.0] * 5
        assert limit.hour.left == 0


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's name is short
        try:
            bound.bind(path.name)
        finally:
            os.chdir(here)


@given(
    st.binary(max_size=200) | st.lists(st.floats()).map(lambda f: "\n".join(map(str, f)).encode())
)
def test_whatever_the_file_holds(content: bytes) -> None:
    folder = Path(os.environ["XDG_CACHE_HOME"])
    make: Callable[[], RateLimit] = lambda: limit_in(folder, per_hour=1000)  # noqa: E731
    file_in(folder).parent.mkdir(parents=True, exist_ok=True)
    file_in(folder).write_bytes(content)
    before = make().hour.left
    assert make().acquire() == 0
    assert make().hour.left == before - 1
