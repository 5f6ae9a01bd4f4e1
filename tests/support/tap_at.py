"""The tap's command line at another time: `python tap_at.py 2025-01-20T12:00:00+00:00 ...`."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.__main__ import main
from tap_mixpanel_parallel.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = Path(__file__)


def tap_at(moment: datetime, arguments: Sequence[str]) -> list[str]:
    """The command that runs the tap with these arguments as if it were that moment."""
    return [sys.executable, str(PROGRAM), moment.isoformat(), *arguments]


if __name__ == "__main__":
    stopped = datetime.fromisoformat(sys.argv.pop(1))

    def now(self: Clock) -> datetime:
        return stopped

    Clock.now = now  # type: ignore[method-assign]
    main()
