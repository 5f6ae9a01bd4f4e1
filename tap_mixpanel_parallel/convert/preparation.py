"""From a window's body to its messages: or a rejected body, or lines in quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_mixpanel_parallel.convert.conversion import prepare
from tap_mixpanel_parallel.convert.quarantine import quarantine_name, quarantine_path
from tap_mixpanel_parallel.convert.records import EventReader
from tap_mixpanel_parallel.exceptions import AttemptError, MalformedLineError, SpoolError
from tap_mixpanel_parallel.fetch.spool import spool_error

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Encode, Prepared
    from tap_mixpanel_parallel.convert.quarantine import Malformed
    from tap_mixpanel_parallel.fetch.client import Download
    from tap_mixpanel_parallel.fetch.scheduler import Task
    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.settings.settings import Settings


class Preparation:
    """Prepares the windows of a run."""

    def __init__(
        self,
        settings: Settings,
        encoder: Callable[[datetime], Encode],
        logger: logging.Logger,
        *,
        check: Callable[[], None],
        make_room: Callable[[], bool],
    ) -> None:
        """Prepare as these settings say.

        Args:
            settings: The checked settings.
            encoder: How the records of a window become messages, by when it was received.
            logger: Where the lines for people go.
            check: Called now and then; what it raises ends the work.
            make_room: Called where the disk is full; whether there may be room now.
        """
        self._settings = settings
        self._encoder = encoder
        self._logger = logger
        self._check = check
        self._make_room = make_room

    def prepare(self, task: Task, download: Download) -> Prepared:
        """Turn a body into messages, and remove it.

        Raises:
            AttemptError: If it is not what it should be; nothing is left of it.
        """
        try:
            try:
                prepared = self._prepare_or_quarantine(task, download)
            except SpoolError:
                _discard(download)
                if not self._make_room():
                    raise
                prepared = self._prepare_or_quarantine(task, download)
        except AttemptError:
            _discard(download)
            raise
        finally:
            download.path.unlink(missing_ok=True)
        self._warn_of_strays(task.window, prepared)
        return prepared

    def _prepare_or_quarantine(self, task: Task, download: Download) -> Prepared:
        """Turn a body into messages.

        Lines that are no events are let pass only if the same were none in an earlier
        body as well, or if there is but one attempt, and all else is whole: then no
        further attempt mends them.
        """
        try:
            return self._prepare_whole(task.window, download)
        except MalformedLineError:
            if self._settings.on_malformed_line != "quarantine":
                raise
        prepared = self._prepare_whole(task.window, download, tolerant=True)
        if (malformed := prepared.malformed) is None:
            return prepared
        if malformed.digest != task.malformed and self._settings.max_attempts > 1:
            task.malformed = malformed.digest
            raise malformed.first
        self._quarantine(task.window, malformed)
        return prepared

    def _prepare_whole(
        self, window: Window, download: Download, *, tolerant: bool = False
    ) -> Prepared:
        settings = self._settings
        return prepare(
            download,
            _messages_path(download),
            reader=EventReader(
                settings.project_timezone,
                window=window,
                properties_as_text=settings.properties_format == "string",
            ),
            encode=self._encoder(download.received_at),
            tolerant=tolerant,
            deduplicate=settings.deduplicate,
            check=self._check,
        )

    def _warn_of_strays(self, window: Window, prepared: Prepared) -> None:
        if prepared.strays:
            self._logger.warning(
                "%s: events whose time lies outside these days: %d; they are loaded",
                window,
                prepared.strays,
            )

    def _quarantine(self, window: Window, malformed: Malformed) -> None:
        path = self._settings.spool_dir / quarantine_name(self._settings, window)
        try:
            # In one step, and in place of a link rather than to where it leads: spool_dir
            # may be everybody's.
            malformed.path.replace(path)
        except OSError as error:
            raise spool_error(path, error) from None
        self._logger.warning(
            "%s: lines that are no events: %d; they are in %s and not loaded",
            window,
            malformed.count,
            path,
        )


def _messages_path(download: Download) -> Path:
    return download.path.with_suffix(".messages")


def _discard(download: Download) -> None:
    """Remove what was made of a body."""
    messages = _messages_path(download)
    for path in (messages, quarantine_path(messages)):
        path.unlink(missing_ok=True)
