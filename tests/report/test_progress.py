"""Where a run stands, as its events tell it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.convert.conversion import Part
from tap_mixpanel_parallel.convert.malformed import Malformed
from tap_mixpanel_parallel.exceptions import MalformedLineError, RateLimitError, TransportError
from tap_mixpanel_parallel.fetch.events import Ended, Progressed, Refused, Retrying, Waiting
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.report.estimate import Expected, Fetched, Pace
from tap_mixpanel_parallel.report.observers import Converted, LeftOut, notify_each
from tap_mixpanel_parallel.report.progress import Pausing, Request
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

    def test_what_another_machine_tells(self, counting: Counting) -> None:
        """What it tells too late makes no request of its own, and is not the next one's."""
        counting.at(0, counting.requested(1))
        counting.at(1, Progressed(window(1), "worker-3", 5_000))
        (request,) = counting.progress.active
        assert request.received == 5_000
        assert request.remote is not None
        assert request.remote.worker == "worker-3"
        counting.at(2, Ended(window(1)))
        counting.at(3, Progressed(window(1), "worker-3", 6_000))
        assert counting.progress.active == []
        counting.at(4, counting.requested(1, attempt=2))
        assert [each.remote for each in counting.progress.active] == [None]


class TestEnd:
    def test_a_window_that_is_loaded(self, counting: Counting, tmp_path: Path) -> None:
        malformed = Malformed(
            path=tmp_path / "y", count=4, digest=b"", first=MalformedLineError(1, b"", "x")
        )
        counting.at(5, written(tmp_path, 1, 70, 1234, malformed, duplicates=3))
        result = BatchResult(window(1), 70, 1234, 5.0, 1, None, 4, 3)
        assert counting.progress.batches == [result]
        assert counting.told == [BatchProgress(result, 1, 3, None)]
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


class TestOnTheWay:
    """Windows between a request and the loader."""

    def test_a_window_waits_for_its_next_attempt_until_that_starts(
        self, counting: Counting
    ) -> None:
        counting.at(0, counting.requested(2))
        counting.at(1, Ended(window(2)))
        assert counting.progress.arrived == 1
        counting.at(1, Retrying(window(2), 1, TransportError("x"), 5.0))
        assert counting.progress.arrived == 0
        assert counting.progress.pausing == [Pausing(window(2), 2, 106.0)]
        counting.at(1, counting.requested(1))
        counting.at(1, Retrying(window(1), 1, TransportError("x"), 1.0))
        assert [p.window for p in counting.progress.pausing] == [window(1), window(2)], "sorted"
        counting.at(6, counting.requested(2, attempt=2))
        assert [p.window for p in counting.progress.pausing] == [window(1)]

    @pytest.mark.parametrize("end", ["written", "failed", "left out"])
    def test_a_window_that_has_come_is_on_its_way_until_its_end(
        self, counting: Counting, tmp_path: Path, end: str
    ) -> None:
        counting.at(0, counting.requested(3))
        counting.at(1, Ended(window(3)))
        assert counting.progress.arrived == 1
        ends = {
            "written": written(tmp_path, 3, 1),
            "failed": failed(3),
            "left out": LeftOut(body(3), window(2), "the clocks differ"),
        }
        counting.at(2, ends[end])
        assert counting.progress.arrived == 0

    def test_the_hourly_limit_holds_until_a_request_starts(self, counting: Counting) -> None:
        assert counting.progress.waiting is None
        waiting = Waiting(datetime(2025, 1, 1, tzinfo=UTC), 3300.0)
        counting.at(10, waiting)
        counting.clock.seconds += 100
        assert counting.progress.waiting == waiting
        counting.at(120, counting.requested(1))
        assert counting.progress.waiting is None
        counting.at(130, waiting)
        counting.clock.seconds += 3300
        assert counting.progress.waiting is None, "it is over, though no request needs to start"

    def test_what_the_hourly_limit_refused_is_on_no_way(self, counting: Counting) -> None:
        for start in (0, 5):
            counting.at(start, counting.requested(1))
            assert counting.progress.arrived == 0
            counting.at(start + 1, Ended(window(1)))
            counting.at(start + 1, Refused(window(1), RateLimitError("HTTP 429")))
            assert counting.progress.arrived == 0
            assert counting.progress.active == counting.progress.pausing == []


class TestTimeLeft:
    def test_of_one_worker(self, tmp_path: Path) -> None:
        run = Counting(tmp_path, windows=3)
        run.at(0, run.requested(1))
        assert run.progress.seconds_left is None, "nothing has come yet"
        run.write(1, 0, 10)
        run.at(14, run.requested(2))
        assert run.progress.seconds_left == 20
        run.clock.seconds += 4
        assert run.progress.seconds_left == 16
        run.write(2, 14, 24)
        run.write(3, 24, 34)
        assert run.progress.seconds_left == 0
        assert [told.seconds_left for told in run.told] == [20, 10, 0]

    def test_the_first_of_many_workers_mislead(self, tmp_path: Path) -> None:
        """Of ten windows at once, the first to come says little of when the twentieth does."""
        run = Counting(tmp_path, windows=20, workers=10)
        for day in range(1, 11):
            run.at(0, run.requested(day, received=1000))
        for day in range(1, 11):
            run.at(10, Ended(window(day)))
            run.at(10, written(tmp_path, day, 1))
        told = [each.seconds_left for each in run.told]
        assert told[:4] == [None] * 4
        assert told[4:] == [pytest.approx(10, abs=0.1)] * 6, "not 190 s, at 10 s for a window"

    def test_an_old_request_goes_on_as_its_bytes_have_come(self, tmp_path: Path) -> None:
        run = Counting(tmp_path, windows=2, workers=2)
        run.at(0, run.requested(2, received=250))
        run.write(1, 0, 10, size=1000)
        run.clock.seconds = 100.0 + 20
        assert run.progress.seconds_left == 60, "a quarter in 20 s"

    def test_a_pause_counts(self, tmp_path: Path) -> None:
        run = Counting(tmp_path, windows=2, workers=2)
        run.write(1, 0, 10)
        run.at(10, Retrying(window(2), 1, TransportError("x"), 30.0))
        assert run.progress.seconds_left == 40

    def test_a_slow_loader_counts(self, tmp_path: Path) -> None:
        run = Counting(tmp_path, windows=4, workers=4)
        for day in (1, 2, 3, 4):
            run.at(0, run.requested(day))
        for day in (1, 2, 3, 4):
            run.at(1, Ended(window(day)))
        run.at(21, written(tmp_path, 1, 1))
        assert run.progress.seconds_left == 60

    def test_it_knows_the_hourly_limit(self, tmp_path: Path) -> None:
        """Of the windows that were not requested yet; another attempt is none."""
        run = Counting(tmp_path, windows=3, per_hour=1)
        assert run.limit.acquire() == 0
        assert run.progress.seconds_left == 3 * 3602, "whatever the windows take"
        run.write(1, 0, 10)
        assert run.progress.seconds_left == 2 * 3602 - 10 + 10
        run.at(20, run.requested(2))
        assert run.progress.seconds_left == 3602 - 20 + 10

    def test_what_the_hourly_limit_refused_is_to_come(self, tmp_path: Path) -> None:
        run = Counting(tmp_path, windows=3)
        run.write(1, 0, 10)
        for day in (2, 3):
            run.at(10, run.requested(day))
            run.at(11, Ended(window(day)))
            run.at(11, Refused(window(day), RateLimitError("HTTP 429")))
        assert run.progress.seconds_left == 20
        run.at(11, Waiting(datetime(2025, 1, 1, tzinfo=UTC), 300.0, RateLimitError("HTTP 429")))
        assert run.progress.seconds_left == 320
        run.at(311, run.requested(2))
        assert run.progress.seconds_left == 20

    def test_a_rest_is_requested_in_place_of_its_window(self, tmp_path: Path) -> None:
        run = Counting(tmp_path, windows=2)
        run.write(1, 0, 10)
        run.at(10, run.requested(2))
        run.at(10, Ended(window(2)))
        run.at(10, LeftOut(body(2), Window(date(2025, 1, 1), date(2025, 1, 1)), "clocks"))
        assert run.progress.seconds_left == 10
        run.write(1, 10, 20)
        assert run.progress.seconds_left == 0


class TestPace:
    """The estimate by itself."""

    def test_windows_are_weighed_by_their_days(self) -> None:
        pace = Pace(2, 0.0)
        pace.add(Fetched(1, 2.0, 100))
        pace.add(Fetched(3, 6.0, 300))
        assert pace.seconds_of(5) == 10
        assert pace.seconds_to_fetch([Expected(4, age=1.0)], [Expected(4), Expected(1)]) == 10 - 1

    def test_the_limit_on_starts_counts(self) -> None:
        pace = Pace(10, 0.5)
        pace.add(Fetched(1, 0.1, 100))
        assert pace.seconds_to_fetch([], [Expected(1)] * 21) == pytest.approx(20 * 0.5 + 0.1)

    def test_it_follows_the_latest_windows(self) -> None:
        pace = Pace(1, 0.0)
        for seconds in (100.0, 1.0, 1.0, 1.0):
            pace.add(Fetched(1, seconds, 100))
        assert pace.seconds_of(1) == 1

    @given(
        st.integers(1, 20),
        st.lists(st.floats(0.5, 2.0), min_size=1, max_size=60),
        st.lists(st.integers(1, 30), max_size=60),
    )
    def test_no_estimate_is_absurd(
        self, workers: int, seconds: list[float], days: list[int]
    ) -> None:
        """It lies between all workers at once, and one after another."""
        pace = Pace(workers, 0.0)
        for each in seconds:
            pace.add(Fetched(1, each, 100))
        left = pace.seconds_to_fetch([], [Expected(number) for number in days])
        assert pace.seconds_of(sum(days)) / workers <= left * 1.001
        assert left <= pace.seconds_of(sum(days)) * 1.001


def test_observers_are_told_in_their_order() -> None:
    told: list[tuple[str, RunEvent]] = []
    notify = notify_each(*(lambda e, name=name: told.append((name, e)) for name in "abc"))
    events = [Ended(window(1)), Waiting(datetime(2025, 1, 1, tzinfo=UTC), 1.0)]
    for event in events:
        notify(event)
    assert told == [(name, event) for event in events for name in "abc"]
