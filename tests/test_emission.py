"""A window's messages leave while the next one is prepared."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.emission import Emission
from tap_mixpanel_parallel.fetcher import Fetcher
from tap_mixpanel_parallel.sandbox import Project, Sandbox
from tap_mixpanel_parallel.streams import EventsStream
from tests.test_increments import CollectingTap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.events import EventRecord
    from tap_mixpanel_parallel.fetcher import Outcome
    from tap_mixpanel_parallel.messages import Encode

LINES = [b"%d %b\n" % (number, b"x" * (number * 7919 % 4000)) for number in range(400)]


class Reader:
    """Takes so many lines at an offer, then none until asked again."""

    def __init__(self, lines_at_once: int) -> None:
        self.taken = b""
        self._lines_at_once = lines_at_once
        self._is_full = False

    def emit(self, lines: bytes) -> None:
        self.taken += lines

    def offer(self, lines: bytes, start: int) -> int:
        self._is_full = not self._is_full
        if not self._is_full:
            return start
        end = start
        for _ in range(self._lines_at_once):
            end = lines.find(b"\n", end) + 1 or len(lines)
        self.taken += lines[start:end]
        return end


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "window.messages"
    path.write_bytes(b"".join(LINES))
    return path


@pytest.fixture
def reader() -> Reader:
    return Reader(lines_at_once=3)


@pytest.fixture
def emission(path: Path, reader: Reader) -> Iterator[Emission]:
    emission = Emission(path, reader)
    yield emission
    emission.close()


def test_an_offer_ends_as_soon_as_nothing_is_taken(emission: Emission, reader: Reader) -> None:
    assert not emission.offer()
    assert reader.taken == b"".join(LINES[:3])


def test_offers_pass_everything_on_once(emission: Emission, reader: Reader) -> None:
    while not emission.offer():
        assert reader.taken.endswith(b"\n")

    assert reader.taken == b"".join(LINES)


def test_what_was_not_taken_can_be_waited_for(emission: Emission, reader: Reader) -> None:
    emission.offer()
    while not emission.advance():
        assert reader.taken.endswith(b"\n")

    assert reader.taken == b"".join(LINES)


def test_a_window_without_events_is_done_at_once(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "empty.messages"
    path.touch()
    emission = Emission(path, reader)

    assert emission.offer()
    assert emission.advance()
    emission.close()
    assert reader.taken == b""


class WatchedStream(EventsStream):
    """The stream, which notes how many windows have left as each is turned into messages."""

    def __init__(self, tap: CollectingTap) -> None:
        super().__init__(tap)
        self.left: list[int] = []
        self._collected = tap

    def encoder(self, time_extracted: datetime) -> Encode:
        encode = super().encoder(time_extracted)

        def watched(records: list[EventRecord]) -> bytes:
            self.left.append(sum(m["type"] == "STATE" for m in self._collected.messages))
            return encode(records)

        return watched


class WatchedTap(CollectingTap):
    """The tap with that stream."""

    def discover_streams(self) -> list[EventsStream]:
        return [WatchedStream(self)]


def test_each_window_leaves_before_the_next_is_turned_into_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All have arrived by then, so a run that emits only when it has nothing to do emits last."""
    windows = 4
    taken: list[Outcome | None] = []
    next_outcome = Fetcher.next

    def patiently(fetcher: Fetcher, timeout: float) -> Outcome | None:
        outcome = next_outcome(fetcher, timeout if len(taken) == windows else 60)
        taken.append(outcome)
        return outcome

    monkeypatch.setattr(Fetcher, "next", patiently)
    project = Project(events_per_day=10)
    with Sandbox(project, limits=None, as_of=lambda: datetime(2025, 6, 1, tzinfo=UTC)) as sandbox:
        account = sandbox.credentials
        config: dict[str, Any] = {
            "api_url": sandbox.url,
            "project_id": account.project_id,
            "service_account_username": account.username,
            "service_account_secret": account.secret,
            "start_date": "2025-01-01",
            "end_date": "2025-01-04",
            "window_days": 1,
            "balance_windows": False,
            "requests_per_second": 1000,
        }
        tap = WatchedTap(config=config)
        tap.run()

    assert isinstance(tap.events, WatchedStream)
    assert tap.events.left == list(range(windows))
