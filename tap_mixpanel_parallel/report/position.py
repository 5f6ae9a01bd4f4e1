"""Where a run stands, in words: for the log and for the display."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_mixpanel_parallel.wording import counted, format_moment, format_seconds

if TYPE_CHECKING:
    from tap_mixpanel_parallel.report.progress import Progress


def tell_count(progress: Progress) -> str:
    """How many windows are handed to the loader, and how many have failed."""
    failed = len(progress.failed)
    told = f"{len(progress.batches) - failed} of {counted(progress.total, 'window')}"
    return f"{told}, {failed} failed" if failed else told


def tell_time_left(progress: Progress) -> str:
    """How long the rest may take; empty as long as that is not known."""
    if len(progress.batches) == progress.total:
        return "done"
    seconds = progress.seconds_left
    return "" if seconds is None else f"about {format_seconds(max(seconds, 1.0))} left"


def tell_waiting(progress: Progress) -> str:
    """Until when the hourly limit lets no request start; empty if it holds none back."""
    if (waiting := progress.waiting) is None:
        return ""
    until = format_moment(waiting.until)
    if waiting.error is None:
        return f"waiting for the hourly limit until {until}"
    return f"waiting: Mixpanel is asked again at {until} (hourly limit)"


def tell_position(progress: Progress) -> str:
    """Both in one."""
    return ", ".join(filter(None, [tell_count(progress), tell_time_left(progress)]))
