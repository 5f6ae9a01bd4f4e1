"""The tap with every record sent through the SDK's own record path: for comparison.

`python -m benchmarks.sdk_path` takes the tap's own command line.
"""

from __future__ import annotations

from tap_mixpanel_parallel import TapMixpanelParallel
from tap_mixpanel_parallel.streams import EventsStream


class SdkEventsStream(EventsStream):
    """The stream, as if a stream map or a selection changed its records."""

    def _is_unchanged(self) -> bool:
        return False


class SdkTap(TapMixpanelParallel):
    """The tap with that stream."""

    def discover_streams(self) -> list[EventsStream]:
        """The stream `events`."""
        return [SdkEventsStream(self)]


if __name__ == "__main__":
    SdkTap.cli()
