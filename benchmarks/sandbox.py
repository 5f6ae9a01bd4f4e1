"""The sandbox as a process of its own, told by its parent what to do.

Orders come as JSON lines on standard input, answers leave as JSON lines on standard output;
`benchmarks.server` is the other end.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import requests

from tap_mixpanel_parallel.plan.windows import Cutting, Window
from tap_mixpanel_parallel.sandbox import Project, Sandbox, Shaping

if TYPE_CHECKING:
    import random

_AS_OF: Final = datetime(2026, 1, 1, tzinfo=UTC)
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class EvenProject(Project):
    """A project whose days are all of one size, so that figures follow from their number."""

    def _how_many(self, rng: random.Random, day: date) -> int:
        return super()._how_many(rng, day) and self.events_per_day


class Orders:
    """What the parent may order; each method is one order."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Rule over a running sandbox."""
        self._sandbox = sandbox
        self._reported = 0

    def url(self) -> str:
        """Where it listens."""
        return self._sandbox.url

    def warm(
        self, first: str, last: str, *, longest: int, workers: int, time_in_ms: bool = True
    ) -> None:
        """Prepare the bodies of all the windows that a tap with these settings asks for."""
        windows = Cutting(longest, workers).cut([Window.parse(first, last)])
        for window in windows:
            parameters = {
                "project_id": self._sandbox.credentials.project_id,
                "from_date": str(window.first),
                "to_date": str(window.last),
            }
            if time_in_ms:
                parameters["time_in_ms"] = "true"
            with requests.get(
                f"{self._sandbox.url}/export",
                params=parameters,
                auth=self._sandbox.auth,
                stream=True,
                timeout=600,
            ) as response:
                response.raise_for_status()
                while response.raw.read(_PIECE):
                    pass
        self.requests()

    def property_names(self, day: str) -> list[str]:
        """The names of all properties that events of a day have."""
        lines = self._sandbox.project.lines(date.fromisoformat(day), as_of=_AS_OF)
        return sorted({name for line in lines for name in json.loads(line)["properties"]})

    def shape(self, **shaping: Any) -> None:
        """Be as slow as a `Shaping` says, from now on."""
        self._sandbox.shaping = Shaping(**shaping)

    def requests(self) -> list[dict[str, Any]]:
        """The requests that have ended since this was last asked for."""
        ended = self._sandbox.requests[self._reported :]
        self._reported += len(ended)
        return [
            {
                "window": f"{request.from_date}..{request.to_date}",
                "status": request.status,
                "started": request.started,
                "ended": request.ended,
                "size": request.bytes_sent,
                "events": request.events,
            }
            for request in ended
        ]


def main() -> None:
    """Serve until the parent closes standard input."""
    project = EvenProject(events_per_day=int(sys.argv[1]))
    with Sandbox(project, limits=None, cache_bodies=True, as_of=lambda: _AS_OF) as sandbox:
        orders = Orders(sandbox)
        for line in sys.stdin:
            order = json.loads(line)
            answer = getattr(orders, order["order"])(*order["args"], **order["kwargs"])
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
