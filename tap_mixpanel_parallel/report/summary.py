"""A run's numbers as a line of JSON, for those who collect logs."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.report.results import ParallelFetchResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_mixpanel_parallel.report.progress import Progress


def numbers_of(progress: Progress | None) -> dict[str, Any]:
    """What a run has done so far; None if it ended before it had a plan."""
    result = progress.result if progress else ParallelFetchResult((), 0.0)
    return {
        "windows": progress.total if progress else 0,
        "windows_handed_over": len(result.batches) - len(result.failed),
        "windows_failed": len(result.failed),
        "events": result.total_events,
        "duplicates": result.duplicates,
        "quarantined_lines": sum(batch.quarantined for batch in result.batches),
        "column_misfits": dict(result.misfits),
        "bytes": sum(batch.size for batch in result.batches),
        "requests": progress.requests if progress else 0,
        "seconds": round(result.seconds, 3),
        "failed": [
            batch.window.to_json() | {"attempts": batch.attempts, "error": batch.error}
            for batch in result.failed
        ],
    }


@contextmanager
def numbers_at_the_end(numbers: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Print a run's numbers to standard error as its last line, however it ends.

    Args:
        numbers: The numbers, once it has ended.
    """
    end: dict[str, Any] = {"exit_code": 0, "error": None}
    try:
        yield
    except SystemExit as exit_:
        end = {"exit_code": exit_.code, "error": _told(exit_.__context__)}
        raise
    except BaseException as error:
        end = {"exit_code": 1, "error": _told(error)}
        raise
    finally:
        if sys.stderr is not None:
            with suppress(OSError, ValueError):  # nobody reads it
                print(json.dumps(end | numbers()), file=sys.stderr, flush=True)  # noqa: T201


def _told(error: BaseException | None) -> str | None:
    if error is None:
        return None
    return str(error) if isinstance(error, TapError) else f"{type(error).__name__}: {error}"
