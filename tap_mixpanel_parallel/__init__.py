"""A Singer tap that exports Mixpanel events by fetching date windows concurrently."""

from tap_mixpanel_parallel.progress import BatchProgress, BatchResult, ParallelFetchResult
from tap_mixpanel_parallel.tap import TapMixpanelParallel

__all__ = ["BatchProgress", "BatchResult", "ParallelFetchResult", "TapMixpanelParallel"]
