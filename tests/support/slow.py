"""Readers that a `LineWriter` has to wait for."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import select
    from collections.abc import Callable

    from tap_mixpanel_parallel.write.stdout import LineWriter

SIGTERM: Final = int(signal.SIGTERM)


class SlowReader:
    """Stands in for `select.poll`: does something each time the reader is waited for."""

    def __init__(self, poll: select.poll, act: Callable[[int], None]) -> None:
        self._poll = poll
        self._act = act
        self.calls = 0

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        self.calls += 1
        self._act(self.calls)
        return self._poll.poll(timeout)


def slow(writer: LineWriter, act: Callable[[int], None]) -> SlowReader:
    reader = SlowReader(writer._poll, act)
    writer._poll = reader  # type: ignore[assignment]
    return reader


def stopping(writer: LineWriter, after: int) -> Callable[[int], None]:
    """A signal that comes as the reader is waited for the n-th time."""

    def act(calls: int) -> None:
        if calls == after:
            writer.stop_signal = SIGTERM

    return act
