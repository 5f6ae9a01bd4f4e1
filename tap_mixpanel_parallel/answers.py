"""What is printed instead of a run: a plan, a status, a description."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from tap_mixpanel_parallel.cli import LAST_WEEK, read_json
from tap_mixpanel_parallel.clock import Clock
from tap_mixpanel_parallel.exceptions import OutputError, TapError
from tap_mixpanel_parallel.iteration import describe
from tap_mixpanel_parallel.plan.bookmark import read_state
from tap_mixpanel_parallel.plan.status import Status
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.settings.dates import parse_days
from tap_mixpanel_parallel.wording import shown

if TYPE_CHECKING:
    from datetime import date

    from tap_mixpanel_parallel.streams import EventsStream

_PLAIN_MARKS: Final = str.maketrans("█▒✗·", "#+x.")
"""For a standard output whose encoding lacks them."""


class Report(Protocol):
    """Something to print instead of running."""

    def to_text(self) -> str:
        """The report for people."""

    def to_json(self) -> dict[str, Any]:
        """The report for scripts."""


def print_status(stream: str, state: str | None, report: str | None, *, as_json: bool) -> None:
    """Say what a state tells.

    Args:
        stream: The stream's name.
        state: The path of the state; None for standard input.
        report: The path of a page to write as well.
        as_json: Whether it is for scripts.

    Raises:
        TapError: If the state can't be read, or the page not be written.
    """
    status = Status.of(read_state(read_json(state or "-", "state"), stream))
    if report is not None:
        # Rarely needed, and slow to import.
        from tap_mixpanel_parallel.report.page.run_report import (  # noqa: PLC0415
            write_status_report,
        )

        write_status_report(Path(report), status, Clock().now())
    _print(status, as_json=as_json)


def print_plan(stream: EventsStream, *, as_json: bool) -> None:
    """Say what a run would fetch.

    Raises:
        TapError: If the state does not fit the settings.
    """
    stream.tell_warnings()
    _print(stream.plan(stream.saved_state()), as_json=as_json)


def print_description(stream: EventsStream, days: str, *, as_json: bool) -> None:
    """Say what the events of some days hold; it takes one request.

    Args:
        stream: The stream.
        days: The days as they are given.
        as_json: Whether it is for scripts.

    Raises:
        TapError: If they are not valid, or can't be had.
    """
    _print(describe(stream, _window_of(days, stream.settings.today)), as_json=as_json)


def _window_of(days: str, today: date) -> Window:
    if days == LAST_WEEK:
        return Window(today - timedelta(days=7), today - timedelta(days=1))
    try:
        return parse_days(days, today)
    except ValueError as error:
        raise TapError(f"describe: {shown(days)} {error}") from None


def _print(report: Report, *, as_json: bool) -> None:
    """Print a report to standard output.

    Raises:
        OutputError: If standard output is closed.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed; give the report a reader, or a file")
    text = json.dumps(report.to_json(), indent=2) if as_json else report.to_text()
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN_MARKS).encode(encoding, "backslashreplace").decode(encoding)
    click.echo(text)
