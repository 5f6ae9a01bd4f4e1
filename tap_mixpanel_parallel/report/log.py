"""A run's lines in the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.fetch.progress import Retrying, Waiting
from tap_mixpanel_parallel.report.observers import Converted, Failed, LeftOut, Looked
from tap_mixpanel_parallel.wording import counted, format_bytes, format_seconds
from tap_mixpanel_parallel.write.output import Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from tap_mixpanel_parallel.report.observers import RunEvent
    from tap_mixpanel_parallel.report.progress import Progress, Request
    from tap_mixpanel_parallel.report.results import BatchResult
    from tap_mixpanel_parallel.settings.settings import Settings

_LONG_SECONDS: Final = 600.0
"""A request that takes so long gets a line, and another after each time as long again."""


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
        self._told: dict[Request, int] = {}

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
            case Waiting(seconds):
                self._logger.info(
                    "%d requests have started within an hour, as many as requests_per_hour "
                    "allows: the next starts in %s",
                    self._settings.requests_per_hour,
                    format_seconds(seconds),
                )
            case Converted():
                self._log_oddities(event)
            case Written():
                self._log_loaded(self._progress.batches[-1])
            case Failed():
                self._log_failed(self._progress.batches[-1])
            case LeftOut(body, _, reason):
                self._logger.warning(
                    "%s: %s is left out. %s", body.window, body.window.last, reason
                )
            case Looked():
                self._log_long_requests()

    def _log_oddities(self, converted: Converted) -> None:
        part = converted.part
        if part.strays:
            self._logger.warning(
                "%s: events whose time lies outside these days: %d; they are loaded",
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

    def _log_loaded(self, result: BatchResult) -> None:
        progress = self._progress
        quarantined = (
            f", {counted(result.quarantined, 'line')} quarantined" if result.quarantined else ""
        )
        is_last = len(progress.batches) == progress.total
        left = "done" if is_last else f"about {format_seconds(progress.seconds_left)} left"
        self._logger.log(
            self._shown,
            "%s loaded: %s events, %s in %s%s (%d of %d, %s)",
            result.window,
            f"{result.events:,}",
            format_bytes(result.size),
            format_seconds(result.seconds),
            quarantined,
            len(progress.batches),
            progress.total,
            left,
        )

    def _log_failed(self, result: BatchResult) -> None:
        self._logger.error(
            "%s failed after %s: %s (%d of %d)",
            result.window,
            counted(result.attempts, "attempt"),
            result.error,
            len(self._progress.batches),
            self._progress.total,
        )

    def _log_long_requests(self) -> None:
        active = self._progress.active
        self._told = {request: self._told.get(request, 0) for request in active}
        for request in active:
            seconds = self._progress.now() - request.started
            if seconds >= (self._told[request] + 1) * _LONG_SECONDS:
                self._told[request] = int(seconds / _LONG_SECONDS)
                self._logger.log(
                    self._shown,
                    "%s: under way for %s, %s so far",
                    request.window,
                    format_seconds(seconds),
                    format_bytes(request.received),
                )

    def sum_up(self) -> None:
        """Log the outcome, with a table of what failed."""
        result, total = self._progress.result, self._progress.total
        loaded = len(result.batches) - len(result.failed)
        self._logger.info(
            "%d of %d windows loaded: %s events, %s in %s",
            loaded,
            total,
            f"{result.total_events:,}",
            format_bytes(sum(batch.size for batch in result.batches)),
            format_seconds(result.seconds),
        )
        if loaded and not result.total_events:
            self._logger.warning(
                "there is not an event on these days; if there should be some, check project_id, "
                "region, events and where"
            )
        if quarantined := sum(batch.quarantined for batch in result.batches):
            self._logger.warning("%s quarantined and not loaded", counted(quarantined, "line"))
        if misfits := result.misfits:
            self._logger.warning(
                "property_columns: values that do not fit their column, and are null in it, but "
                "still in properties: %s",
                ", ".join(f"{name} {count:,}" for name, count in sorted(misfits.items())),
            )
        if result.failed:
            rows = [("from_date", "to_date", "attempts", "reason")] + [
                (str(b.window.first), str(b.window.last), str(b.attempts), b.error or "")
                for b in result.failed
            ]
            table = "\n".join(f"  {a:<12}{b:<12}{c:>8}  {d}" for a, b, c, d in rows)
            self._logger.error(
                "%d of %d windows failed; the next run with this state reads them again:\n%s",
                len(result.failed),
                total,
                table,
            )
