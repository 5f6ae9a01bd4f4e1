"""The outcome of a run in a sentence. Pure."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.exceptions import ExportFailedError, ReaderGoneError, TerminatedError
from tap_mixpanel_parallel.report.page.contents import Verdict, shortened
from tap_mixpanel_parallel.wording import counted

if TYPE_CHECKING:
    from tap_mixpanel_parallel.report.page.contents import RunPart

RUNNING: Final = Verdict(
    "open",
    "The run has begun and has not ended.",
    "This page is written again at its end. If the process is gone, it was killed: run the same "
    "command again, and it continues.",
)
"""The outcome of a run that goes on."""

_AGAIN: Final = "The next run reads the rest."
_NOTHING: Final = (
    "There are no events on these days. If you expect some, check project_id, region, events "
    "and where."
)


def judge(run: RunPart, error: BaseException | None, reason: str) -> Verdict:
    """The outcome of a run that has ended.

    Args:
        run: What became of its windows.
        error: What ended it; None if it came to its end.
        reason: What the error says, without secrets.
    """
    if error is None or isinstance(error, ExportFailedError):
        return _complete(run, is_good=error is None)
    whole = f"{_whole(run)} handed to the loader" if run.planned else "no window was requested"
    if isinstance(error, TerminatedError):
        name = signal.Signals(error.signum).name
        return Verdict("bad", f"Stopped by {name}: {whole}.", _AGAIN)
    if isinstance(error, ReaderGoneError):
        detail = f"The loader's own log says why. {_AGAIN}"
        return Verdict("bad", f"The loader stopped reading: {whole}.", detail)
    return Verdict("bad", f"The run ended with an error: {whole}.", shortened(reason))


def _complete(run: RunPart, *, is_good: bool) -> Verdict:
    """The outcome of a run that has dealt with all of its windows."""
    if not run.planned:
        return Verdict("good", "There was nothing to fetch.")
    if run.failed and not run.loaded:
        return Verdict("bad", f"No data was retrieved: {_all(run.failed)} failed.")
    if run.failed:
        sentence = f"{run.failed:,} of {counted(run.planned, 'window')} failed."
        return Verdict("warn" if is_good else "bad", sentence, _AGAIN)
    verb = "is" if run.loaded == 1 else "are"
    return Verdict(
        "good",
        f"{_all(run.loaded).capitalize()} {verb} handed to the loader: "
        f"{counted(run.events, 'event')}.",
        "" if run.events or not run.loaded else _NOTHING,
    )


def _whole(run: RunPart) -> str:
    return f"{run.loaded:,} of {counted(run.planned, 'window')}"


def _all(windows: int) -> str:
    return "the only window" if windows == 1 else f"all {windows:,} windows"
