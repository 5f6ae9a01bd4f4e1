"""Where a run stands, as its events tell it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.convert.conversion import Part
from tap_mixpanel_parallel.convert.malformed import Malformed
from tap_mixpanel_parallel.exceptions import MalformedLineError, TransportError
from tap_mixpanel_parallel.fetch.progress import Ended, Retrying, Waiting
from tap_mixpanel_parallel.report.observers import (
    Converted,
    LeftOut,
    Looked,
    notify_each,
)
from tap_mixpanel_parallel.report.progress import Request
from tap_mixpanel_parallel.report.results import BatchProgress, BatchResult
from tests.report.events import Counting, body, failed, window, written

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.report.observers import RunEvent


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    return Counting(tmp_path)


class TestActive:
    def test_requests_are_under_way_until_they_end(self, counting: Counting) -> None:
        counting.at(1, counting.requested(2))
        counting.at(2, counting.requested(1))
        first = Request(window(1), 1, 102.0, counting.folder / "1.1.body")
        second = Request(window(2), 1, 101.0, counting.folder / "2.1.body")
        assert counting.progress.active == [first, second], "sorted by their days"
        counting.at(3, Ended(window(1)))
        assert counting.progress.active == [second]
        counting.at(4, counting.requested(1, attempt=2))
        again = Request(window(1), 2, 104.0, counting.folder / "1.2.body")
        assert counting.progress.active == [again, second]
        for day in (1, 2):
            counting.at(5, Ended(window(day)))
        assert counting.progress.active == []
        counting.at(6, Ended(window(1)))

    def test_what_has_come_is_what_its_file_holds(self, counting: Counting) -> None:
        counting.at(0, counting.requested(1))
        (request,) = counting.progress.active
        assert request.received == 0, "its file comes with the first byte"
        request.path.write_bytes(b"12345")
        assert request.received == 5
        request.path.unlink()
        assert request.received == 0


class TestEnd:
    def test_a_window_that_is_loaded(self, counting: Counting, tmp_path: Path) -> None:
        malformed = Malformed(
            path=tmp_path / "y", count=4, digest=b"", first=MalformedLineError(1, b"", "x")
        )
        counting.at(5, written(tmp_path, 1, 70, 1234, malformed))
        result = BatchResult(window(1), 70, 1234, 5.0, 1, None, 4)
        assert counting.progress.batches == [result]
        assert counting.told == [BatchProgress(result, 1, 3, 10.0)]
        assert counting.progress.events == 70

    def test_a_window_that_has_failed(self, counting: Counting) -> None:
        counting.at(5, failed(2, attempts=3))
        page = "docs/failures.md#connection"
        result = BatchResult(window(2), 0, 0, 5.0, 3, "HTTP 500", read_on=page)
        assert counting.progress.batches == [result]
        assert [told.status for told in counting.told] == ["failed"]

    def test_a_window_of_which_nothing_is_left(self, counting: Counting) -> None:
        counting.at(5, LeftOut(body(3), None, "the clocks differ"))
        assert counting.progress.batches == [BatchResult(window(3), 0, 0, 5.0, 1)]
        assert counting.progress.result.success

    def test_a_window_of_which_a_rest_is_left_goes_on(self, counting: Counting) -> None:
        counting.at(5, LeftOut(body(3), window(2), "the clocks differ"))
        assert counting.progress.batches == []
        assert counting.told == []

    def test_nothing_else_ends_a_window(self, counting: Counting, tmp_path: Path) -> None:
        for event in (
            counting.requested(1),
            Retrying(window(1), 1, TransportError("x"), 1.0),
            Waiting(datetime(2025, 1, 1, tzinfo=UTC), 20.0),
            Converted(Part(window(1), tmp_path / "x", 7), None),
            Looked(),
            Ended(window(1)),
        ):
            counting.at(1, event)
        assert counting.progress.batches == []
        assert counting.progress.events == 0

    def test_the_outcome(self, counting: Counting, tmp_path: Path) -> None:
        counting.at(2, failed(2))
        counting.at(5, written(tmp_path, 1, 70))
        counting.at(6, failed(1))
        counting.clock.seconds = 108.0
        result = counting.progress.result
        assert (result.seconds, result.total_events, result.success) == (8.0, 70, False)
        assert [batch.window for batch in result.batches] == [window(2), window(1), window(1)]
        assert [batch.window for batch in result.failed] == [window(1), window(2)], "sorted"


class TestTimeLeft:
    def test_it_goes_by_the_pace(self, counting: Counting, tmp_path: Path) -> None:
        counting.at(10, counting.requested(1))
        assert counting.progress.seconds_left == 0
        counting.at(10, written(tmp_path, 1, 1))
        assert counting.progress.seconds_left == 20
        counting.at(30, failed(2))
        assert counting.progress.seconds_left == 15
        counting.at(31, written(tmp_path, 3, 1))
        assert counting.progress.seconds_left == 0
        assert [told.seconds_left for told in counting.told] == [20, 15, 0]

    def test_it_knows_the_hourly_limit(self, tmp_path: Path) -> None:
        """Of the windows that were not requested yet; another attempt is none."""
        counting = Counting(tmp_path, per_hour=1)
        assert counting.limit.acquire() == 0
        counting.at(0, counting.requested(1))
        for attempt in (2, 3):
            counting.at(0, counting.requested(1, attempt))
        counting.at(10, written(tmp_path, 1, 1))
        assert counting.progress.seconds_held == 2 * 3602 - 10
        assert counting.progress.seconds_left == 2 * 3602 - 10
        assert counting.progress.seconds_to_next_start == 3602 - 10
        counting.at(10, counting.requested(2))
        assert counting.progress.seconds_held == 3602 - 10
        counting.at(10, counting.requested(3))
        assert counting.progress.seconds_held == 0
        assert counting.progress.seconds_left == 20

    def test_a_rest_is_requested_in_place_of_its_window(self, tmp_path: Path) -> None:
        counting = Counting(tmp_path, per_hour=1)
        assert counting.limit.acquire() == 0
        counting.at(0, counting.requested(5))
        counting.at(0, LeftOut(body(5), window(4), "the clocks differ"))
        assert counting.progress.seconds_held == 3 * 3602
        counting.at(0, counting.requested(4))
        assert counting.progress.seconds_held == 2 * 3602


def test_observers_are_told_in_their_order() -> None:
    told: list[tuple[str, RunEvent]] = []
    notify = notify_each(*(lambda e, name=name: told.append((name, e)) for name in "abc"))
    events = [Looked(), Waiting(datetime(2025, 1, 1, tzinfo=UTC), 1.0)]
    for event in events:
        notify(event)
    assert told == [(name, event) for event in events for name in "abc"]
