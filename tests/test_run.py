"""A run, part by part: a body becomes a part, or nothing is left of it."""

from __future__ import annotations

import time
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel import run as run_module
from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.convert.conversion import Conversion
from tap_mixpanel_parallel.exceptions import SpoolError, TerminatedError
from tap_mixpanel_parallel.fetch.events import Ended
from tap_mixpanel_parallel.fetch.job import Download, Query
from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
from tap_mixpanel_parallel.plan.state import ExportState
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.observers import Converted, Failed
from tap_mixpanel_parallel.run import Run, Surroundings, Way
from tap_mixpanel_parallel.settings.credentials import Credentials
from tap_mixpanel_parallel.settings.settings import Settings
from tap_mixpanel_parallel.write.output import Output
from tap_mixpanel_parallel.write.quarantine import Quarantine
from tests.support.bodies import MESSAGES, NOW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Part
    from tap_mixpanel_parallel.fetch.connection import Connections
    from tap_mixpanel_parallel.fetch.job import Job
    from tap_mixpanel_parallel.report.observers import RunEvent

DAYS = [Window(date(2025, 1, day), date(2025, 1, day)) for day in (1, 2)]
QUERY = Query("https://mixpanel.invalid/api/2.0", Credentials("user", "secret", "1"))


def body(window: Window, bad: bytes = b"") -> bytes:
    """An event at noon, and perhaps a bad line before it."""
    since = (window.first - date(1970, 1, 1)).days
    event = b'{"event":"a","properties":{"time":%d,"$insert_id":"i"}}\n'
    return bad + event % (since * 86_400_000 + 43_200_000)


class Sink:
    """A reader that takes nothing before somebody waits for it."""

    def __init__(self) -> None:
        self.lines = b""
        self.states: list[ExportState] = []
        self.stops = False

    def write(self, lines: bytes) -> None:
        self.lines += lines

    def write_some(self, _lines: bytes, start: int) -> int:
        return start

    def write_state(self, state: ExportState) -> None:
        self.states.append(state)

    def check(self) -> None:
        if self.stops:
            raise TerminatedError(15)


class Lab:
    """A run in a folder, with bodies that need no network."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.spool = folder / "spool"
        self.windows = self.spool / "run"
        self.windows.mkdir(parents=True)
        self.bodies = {window: [body(window)] for window in DAYS}
        self.sink = Sink()
        self.events: list[RunEvent] = []
        patch.setattr(run_module, "download", self.download)

    def download(self, job: Job, _connections: Connections) -> Download:
        """The next body of a window; the last one for ever."""
        bodies = self.bodies[job.window]
        data = bodies.pop(0) if len(bodies) > 1 else bodies[0]
        job.path.write_bytes(data)
        return Download(job.path, compressed=False, size=len(data), received_at=NOW)

    def run(self, *windows: Window, **settings: Any) -> ExportState:
        config = {
            "region": "sandbox",
            "start_date": "2025-01-01",
            "spool_dir": str(self.spool),
            "max_attempts": 1,
        }
        run = Run(
            Settings.from_config(config | settings, today=lambda _: NOW.date()),
            ExportState(),
            Way(lambda _: MESSAGES, partial(Output, self.sink)),
            Surroundings(
                self.windows,
                RateLimit(per_second=1000, per_hour=100_000, clock=Clock().monotonic),
                Clock(),
                self.events.append,
                str,
            ),
        )
        for _ in run.parts(windows, QUERY):
            pass
        return run.state

    @property
    def left_behind(self) -> set[str]:
        return {path.name for path in self.windows.iterdir()}

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, monkeypatch)


def full_disk(lab: Lab, patch: pytest.MonkeyPatch, window: Window, times: int) -> list[set[str]]:
    """Have the disk full so many times as a window is converted; the files before each try."""
    seen: list[set[str]] = []

    class Full(Conversion):
        def __iter__(self) -> Iterator[None]:
            if self._window != window:  # the other has come by then: what follows is no chance
                while Ended(window) not in lab.events:
                    time.sleep(0.001)
                time.sleep(0.05)
            if self._window == window:
                seen.append(lab.left_behind)
                if len(seen) <= times:
                    yield
                    raise SpoolError("full")
            yield from super().__iter__()

    patch.setattr(run_module, "Conversion", Full)
    return seen


class TestFullDisk:
    def test_once_there_is_room_it_is_converted_again(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is on its way leaves, and makes room."""
        first, second = DAYS
        seen = full_disk(lab, monkeypatch, second, times=1)

        state = lab.run(*DAYS)

        assert seen == [{f"{first}.1.lines", f"{second}.1.body"}, {f"{second}.1.body"}]
        assert state.loaded == (Window(first.first, second.first),)
        assert lab.sink.lines.count(b"\n") == 2
        assert lab.left_behind == set()

    def test_twice_is_once_too_often(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = full_disk(lab, monkeypatch, DAYS[1], times=2)

        state = lab.run(*DAYS)

        assert len(seen) == 2
        assert state.loaded == (DAYS[0],)
        assert [failed.reason for failed in lab.told(Failed)] == ["full"]
        assert lab.left_behind == set()

    def test_without_room_it_is_not_tried_again(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = full_disk(lab, monkeypatch, DAYS[0], times=1)

        state = lab.run(DAYS[0])

        assert len(seen) == 1
        assert state.loaded == ()
        assert lab.left_behind == set()


class TestMalformed:
    @pytest.fixture(autouse=True)
    def _no_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "tap_mixpanel_parallel.fetch.retries.RetryPolicy.pause",
            lambda self, attempts, _: 0.0 if attempts < self.max_attempts else None,
        )

    def parts(self, lab: Lab) -> list[tuple[Part, Path | None]]:
        return [(event.part, event.quarantine) for event in lab.told(Converted)]

    def test_a_line_that_stays_bad_is_kept(self, lab: Lab) -> None:
        lab.bodies[DAYS[0]] = [body(DAYS[0], b"bad\n")]

        state = lab.run(DAYS[0], max_attempts=3, on_malformed_line="quarantine")

        [(part, kept)] = self.parts(lab)
        assert part.events == 1
        assert kept
        assert kept.parent == lab.spool
        assert kept.read_bytes() == b"bad\n"
        assert state.loaded == (DAYS[0],)
        assert lab.left_behind == set()

    def test_a_line_that_another_attempt_mends_is_not(self, lab: Lab) -> None:
        lab.bodies[DAYS[0]].insert(0, body(DAYS[0], b"bad\n"))

        state = lab.run(DAYS[0], max_attempts=3, on_malformed_line="quarantine")

        assert [kept for _, kept in self.parts(lab)] == [None]
        assert state.loaded == (DAYS[0],)
        assert lab.left_behind == set()

    def test_where_it_can_not_be_kept_the_window_fails(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.bodies[DAYS[0]] = [body(DAYS[0], b"bad\n")]
        (lab.spool / "taken" / "something").mkdir(parents=True)
        monkeypatch.setattr(Quarantine, "_name", lambda *_: "taken")

        state = lab.run(*DAYS, on_malformed_line="quarantine")

        assert state.loaded == (DAYS[1],)
        assert "can't be written" in lab.told(Failed)[0].reason
        assert lab.left_behind == set()

    def test_without_quarantine_it_fails_the_window(self, lab: Lab) -> None:
        lab.bodies[DAYS[0]] = [body(DAYS[0], b"bad\n")]

        state = lab.run(*DAYS)

        assert state.loaded == (DAYS[1],)
        assert "line 1 is no" in lab.told(Failed)[0].reason
        assert lab.left_behind == set()


def test_a_signal_in_the_midst_of_a_conversion_leaves_nothing_of_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Signalled(Conversion):
        def __iter__(self) -> Iterator[None]:
            for _ in super().__iter__():
                lab.sink.stops = True
                yield

    monkeypatch.setattr(run_module, "Conversion", Signalled)
    with pytest.raises(TerminatedError):
        lab.run(DAYS[0])
    assert lab.left_behind == set()
    assert lab.sink.states == []
