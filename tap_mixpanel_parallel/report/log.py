"""A run's lines in the log."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.exceptions import AttemptError, ThreadError
from tap_mixpanel_parallel.fetch.events import Retrying, Waiting
from tap_mixpanel_parallel.report.observers import Converted, Failed, LeftOut
from tap_mixpanel_parallel.report.position import tell_position, tell_waiting
from tap_mixpanel_parallel.report.results import tell_misfits
from tap_mixpanel_parallel.wording import counted, format_bytes, format_moment, format_seconds
from tap_mixpanel_parallel.write.output import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_mixpanel_parallel.report.observers import RunEvent
    from tap_mixpanel_parallel.report.progress import Progress
    from tap_mixpanel_parallel.report.results import BatchResult
    from tap_mixpanel_parallel.settings.settings import Settings

_BEAT_SECONDS: Final = 30.0
"""How often a line says what is under way."""


class LogLines:
    """Logs what a person should know of a run. An observer, told after its `Progress`."""

    def __init__(
        self,
        logger: logging.Logger,
        progress: Progress,
        settings: Settings,
        redact: Callable[[BaseException], str],
        *,
        quiet: bool,
    ) -> None:
        """Log to this logger.

        Args:
            logger: Where the lines go.
            progress: Where the run stands.
            settings: The checked settings.
            redact: What an error says, without secrets.
            quiet: Whether what a display shows gets no line.
        """
        self._logger = logger
        self._progress = progress
        self._settings = settings
        self._redact = redact
        self._shown = logging.DEBUG if quiet else logging.INFO

    def __call__(self, event: RunEvent) -> None:
        """Log an event, if there is anything to say of it."""
        match event:
            case Retrying(window, attempt, error, pause):
                self._logger.warning(
                    "%s: attempt %d of %d failed: %s; again in %s",
                    window,
                    attempt,
                    self._settings.max_attempts,
                    self._redact(error),
                    format_seconds(pause),
                )
            case Waiting(until, seconds, None):
                self._logger.info(
                    "%d requests have started within an hour, as many as requests_per_hour "
                    "allows: the next starts in %s, at %s",
                    self._settings.requests_per_hour,
                    format_seconds(seconds),
                    format_moment(until),
                )
            case Waiting(until, seconds, AttemptError() as error):
                self._logger.info(
                    "Mixpanel takes no further request for now (%s): it is asked again in %s, "
                    "at %s",
                    self._redact(error),
                    format_seconds(seconds),
                    format_moment(until),
                )
            case Converted():
                self._log_oddities(event)
            case Written():
                self._log_written(self._progress.batches[-1])
            case Failed():
                self._log_failed(self._progress.batches[-1])
            case LeftOut(arrival, _, reason):
                self._logger.warning(
                    "%s: %s is left out. %s", arrival.window, arrival.window.last, reason
                )

    def _log_oddities(self, converted: Converted) -> None:
        part = converted.part
        if part.strays:
            self._logger.warning(
                "%s: events whose time lies outside these days: %d; they are handed on too",
                part.window,
                part.strays,
            )
        if part.malformed:
            self._logger.warning(
                "%s: lines that are not events: %d; they are in %s and not loaded",
                part.window,
                part.malformed.count,
                converted.quarantine,
            )

    def _log_written(self, result: BatchResult) -> None:
        quarantined = (
            f", {counted(result.quarantined, 'line')} quarantined" if result.quarantined else ""
        )
        self._logger.log(
            self._shown,
            "%s handed to the loader: %s, %s in %s%s (%s)",
            result.window,
            counted(result.events, "event"),
            format_bytes(result.size),
            format_seconds(result.seconds),
            quarantined,
            tell_position(self._progress),
        )

    def _log_failed(self, result: BatchResult) -> None:
        self._logger.error(
            "%s failed after %s: %s (%s)",
            result.window,
            counted(result.attempts, "attempt"),
            result.error,
            tell_position(self._progress),
        )

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Say now and then what is under way, also while the loader makes the run wait.

        Raises:
            ThreadError: If the machine lets no further thread start.
        """
        over = threading.Event()

        def beat() -> None:
            while not over.wait(_BEAT_SECONDS):
                self.tell_under_way()

        thread = threading.Thread(target=beat, name="log", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise ThreadError(error) from None
        try:
            yield
        finally:
            over.set()
            thread.join()

    def tell_under_way(self) -> None:
        """Log what is under way, if anything is."""
        progress = self._progress
        active, pausing = progress.active, progress.pausing
        found = []
        received = [request.received for request in active]
        if waiting := received.count(0):
            found.append(f"{counted(waiting, 'window')} waiting for the first byte")
        if coming := len(active) - waiting:
            size = format_bytes(sum(received))
            found.append(f"{counted(coming, 'window')} receiving, {size} so far")
        if active:
            oldest = min(active, key=lambda request: request.started)
            age = format_seconds(progress.now() - oldest.started)
            found.append(f"the longest {oldest.window}, for {age}")
        if pausing:
            first = min(pausing, key=lambda window: window.due)
            pause = format_seconds(max(first.due - progress.now(), 0.0))
            found.append(
                f"{counted(len(pausing), 'window')} to be tried again, the first {first.window}, "
                f"try {first.attempt} of {progress.max_attempts} in {pause}"
            )
        if progress.arrived:
            found.append(f"{counted(progress.arrived, 'window')} on the way to the loader")
        if wait := tell_waiting(progress):
            found.append(wait)
        if found:
            self._logger.log(
                self._shown, "under way: %s (%s)", "; ".join(found), tell_position(progress)
            )

    def sum_up(self) -> None:
        """Log the outcome, with a table of what failed."""
        result, total = self._progress.result, self._progress.total
        loaded = len(result.batches) - len(result.failed)
        repeat = "duplicates dropped" if self._settings.deduplicate else "of them duplicates"
        self._logger.info(
            "%d of %s handed to the loader: %s%s, %s in %s",
            loaded,
            counted(total, "window"),
            counted(result.total_events, "event"),
            f", {result.duplicates:,} {repeat}" if result.duplicates else "",
            format_bytes(sum(batch.size for batch in result.batches)),
            format_seconds(result.seconds),
        )
        if loaded and not result.total_events:
            self._logger.warning(
                "there are no events on these days; if you expect some, check project_id, region, "
                "events and where"
            )
        if quarantined := sum(batch.quarantined for batch in result.batches):
            self._logger.warning("%s quarantined and not loaded", counted(quarantined, "line"))
        if result.misfits:
            self._logger.warning(tell_misfits(result.misfits))
        if result.failed:
            rows = [("from_date", "to_date", "attempts", "reason")] + [
                (str(b.window.first), str(b.window.last), str(b.attempts), b.error or "")
                for b in result.failed
            ]
            table = "\n".join(f"  {a:<12}{b:<12}{c:>8}  {d}" for a, b, c, d in rows)
            pages = ", ".join(sorted({batch.read_on for batch in result.failed if batch.read_on}))
            self._logger.error(
                "%d of %d windows failed; the next run with this state reads them again:\n%s\n"
                "see %s",
                len(result.failed),
                total,
                table,
                pages,
            )
