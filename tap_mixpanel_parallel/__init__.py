"""A Singer tap that exports Mixpanel events by fetching date windows concurrently.

In Python, `for event in TapMixpanelParallel({"region": "sandbox", "start_date": "P7D"}).events():`
reads events, and `.arrow()` gives them to pandas, Polars or DuckDB (docs/python.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tap_mixpanel_parallel.exceptions import ExportFailedError, TapError
    from tap_mixpanel_parallel.report.results import BatchProgress, BatchResult, ParallelFetchResult
    from tap_mixpanel_parallel.tap import TapMixpanelParallel

__all__ = [
    "BatchProgress",
    "BatchResult",
    "ExportFailedError",
    "ParallelFetchResult",
    "TapError",
    "TapMixpanelParallel",
]

_HOMES: Final = {
    "BatchProgress": "report.results",
    "BatchResult": "report.results",
    "ExportFailedError": "exceptions",
    "ParallelFetchResult": "report.results",
    "TapError": "exceptions",
    "TapMixpanelParallel": "tap",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the command line prepares for Ctrl-C before that."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, also those that are not imported yet."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
