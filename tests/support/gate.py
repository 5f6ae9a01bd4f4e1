"""A sandbox that waits for the test, instead of a test that waits for a while."""

from __future__ import annotations

from threading import Condition
from typing import TYPE_CHECKING

from tests.support.commands import PATIENCE

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Self


class Gate:
    """A sandbox's `as_of` that holds each request until the test lets it pass: first come first.

    It is a context manager, so that nothing stays held when a test fails.
    """

    def __init__(self, moment: datetime) -> None:
        """Tell this time, later."""
        self._moment = moment
        self._changed = Condition()
        self._arrived = self._allowed = 0
        self._is_open = False

    def __call__(self) -> datetime:
        """Tell the time, when the test lets a request pass."""
        with self._changed:
            self._arrived += 1
            place = self._arrived
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_open or place <= self._allowed)
        return self._moment

    @property
    def arrived(self) -> int:
        """How many requests have come."""
        with self._changed:
            return self._arrived

    def wait_for(self, requests: int) -> None:
        """Wait until so many requests have come."""
        with self._changed:
            come = self._changed.wait_for(lambda: self._arrived >= requests, PATIENCE)
            assert come, f"{self._arrived} of {requests} requests have come"

    def let_pass(self, requests: int) -> None:
        """Let so many more requests pass."""
        with self._changed:
            self._allowed += requests
            self._changed.notify_all()

    def open(self) -> None:
        """Let all requests pass, from now on."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
