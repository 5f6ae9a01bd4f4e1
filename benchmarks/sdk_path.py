"""The tap with every record sent through the SDK's own record path: for comparison.

`python -m benchmarks.sdk_path` takes the tap's own command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_mixpanel_parallel import TapMixpanelParallel, mapped

if TYPE_CHECKING:
    from tap_mixpanel_parallel.streams import EventsStream


def is_unchanged(stream: EventsStream) -> bool:
    """As if a stream map or a selection changed the records."""
    del stream
    return False


if __name__ == "__main__":
    mapped.is_unchanged = is_unchanged
    TapMixpanelParallel.cli()
