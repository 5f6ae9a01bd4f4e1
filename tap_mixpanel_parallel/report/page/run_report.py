"""The reports of a run and of a state, from begin to end."""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.plan.state import ExportState
from tap_mixpanel_parallel.report.page.calendar import make_calendar
from tap_mixpanel_parallel.report.page.contents import (
    Page,
    Verdict,
    failures_of,
    make_run_part,
    shortened,
)
from tap_mixpanel_parallel.report.page.recorder import Recorder
from tap_mixpanel_parallel.report.page.render import render
from tap_mixpanel_parallel.report.page.verdicts import RUNNING, judge
from tap_mixpanel_parallel.settings.report_file import report_problem, write_report
from tap_mixpanel_parallel.wording import shown

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from tap_mixpanel_parallel.clock import Clock
    from tap_mixpanel_parallel.plan.plan import Plan
    from tap_mixpanel_parallel.plan.status import Status
    from tap_mixpanel_parallel.report.observers import RunEvent
    from tap_mixpanel_parallel.settings.settings import Settings
    from tap_mixpanel_parallel.settings.shown import ShownSetting

_PACKAGES: Final = (
    *("tap-mixpanel-parallel", "singer-sdk", "requests", "urllib3", "isal", "msgspec"),
    *("pyarrow", "fsspec"),
)


@dataclass(frozen=True, slots=True)
class About:
    """What a report says of its run besides what happens in it.

    Attributes:
        settings: The checked settings.
        shown: What is shown of them.
        command: What to run to repair; empty if it is not known.
    """

    settings: Settings
    shown: tuple[ShownSetting, ...]
    command: str


class RunReport:
    """Writes the report of a run, as it begins and as it ends. Context manager, and an observer.

    Attributes:
        plan: What the run fetches; None as long as it is not known.
    """

    def __init__(
        self,
        path: Path,
        about: About,
        state: Callable[[], ExportState],
        reason: Callable[[BaseException], str],
        clock: Clock,
        logger: logging.Logger,
    ) -> None:
        """Prepare a report.

        Args:
            path: The file.
            about: What it says besides what happens.
            state: The state that was last written.
            reason: What an error says, without secrets.
            clock: The time.
            logger: Where a report that can't be written is told of.
        """
        self.plan: Plan | None = None
        self._path = path
        self._about = about
        self._state = state
        self._reason = reason
        self._clock = clock
        self._logger = logger
        self._started = clock.now()
        self._recorder = Recorder(clock)

    def __call__(self, event: RunEvent) -> None:
        """Take note of an event."""
        self._recorder(event)

    def __enter__(self) -> Self:
        """Say that the run has begun, which stays if it is killed.

        Raises:
            TapError: If the report can't be written.
        """
        try:
            self._write(RUNNING)
        except OSError as error:
            raise TapError(
                f"report: {shown(str(self._path))} can't be written ({error.strerror})"
            ) from None
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say how the run ended; an error in that does not change how it ends."""
        try:
            self._write(None, exc)
        except Exception as error:  # noqa: BLE001 - the run has done its work
            self._logger.error(  # noqa: TRY400 - people can do nothing with a traceback
                "report: %s could not be written (%s: %s); the run itself is not affected",
                self._path,
                type(error).__name__,
                error,
            )

    def _write(self, verdict: Verdict | None, error: BaseException | None = None) -> None:
        write_report(self._path, render(self._page(verdict, error)))

    def _page(self, verdict: Verdict | None, error: BaseException | None) -> Page:
        settings, state = self._about.settings, ExportState()
        with suppress(TapError):  # a state that is not valid is what ends the run
            state = self._state()
        warnings = [*settings.warnings, *(self.plan.warnings if self.plan else ())]
        run = make_run_part(
            [planned.window for planned in self.plan.windows] if self.plan else [],
            list(self._recorder.notes),
            started=self._started,
            seconds=self._recorder.seconds,
            warnings=warnings,
            reason=self._reason,
        )
        found = verdict or judge(run, error, self._reason(error) if error else "")
        failures, more = failures_of(state.failed)
        wanted = self.plan.wanted if self.plan else settings.wanted
        return Page(
            title=f"Mixpanel {_project(settings)}, {wanted}",
            verdict=found,
            written=self._clock.now(),
            calendar=make_calendar(
                state, wanted=wanted, today=settings.today, events=run.events_by_day
            ),
            failures=failures,
            more_failures=more,
            command=self._about.command if found.kind in {"bad", "warn"} else "",
            run=run,
            settings=self._about.shown,
            versions=_versions(),
        )


def write_status_report(path: Path, status: Status, now: datetime) -> None:
    """Write the report of a state.

    Args:
        path: The file.
        status: The state, and what is missing.
        now: The time.

    Raises:
        TapError: If it can't be written.
    """
    problem = report_problem(path)
    failed = status.state.failed
    failures, more = failures_of(failed)
    summary = status.summary[:1].upper() + status.summary[1:]
    page = Page(
        title="Mixpanel, the days of a state",
        verdict=Verdict("warn" if failed or status.missing else "good", f"{summary}."),
        written=now,
        calendar=make_calendar(status.state),
        failures=failures,
        more_failures=more,
        command="",
        run=None,
        settings=(),
        versions=_versions(),
    )
    if problem is None:
        try:
            write_report(path, render(page))
        except OSError as error:
            problem = f"can't be written ({error.strerror})"
    if problem is not None:
        raise TapError(f"report: {shown(str(path))} {problem}")


def _project(settings: Settings) -> str:
    if settings.region == "sandbox" and settings.api_url is None:
        return "sandbox"
    return f"project {shortened(settings.project_id)}" if settings.project_id else "project"


def _versions() -> tuple[tuple[str, str], ...]:
    found = [("Python", platform.python_version())]
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append((name, version(name)))
    return (*found, ("system", platform.platform(terse=True)))
