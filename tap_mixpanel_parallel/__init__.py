"""A Singer tap that exports Mixpanel events by fetching date windows concurrently."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tap_mixpanel_parallel.report.results import BatchProgress, BatchResult, ParallelFetchResult
    from tap_mixpanel_parallel.tap import TapMixpanelParallel

__all__ = ["BatchProgress", "BatchResult", "ParallelFetchResult", "TapMixpanelParallel"]

_HOMES: Final = {
    "BatchProgress": "report.results",
    "BatchResult": "report.results",
    "ParallelFetchResult": "report.results",
    "TapMixpanelParallel": "tap",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the command line prepares for Ctrl-C before that."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
