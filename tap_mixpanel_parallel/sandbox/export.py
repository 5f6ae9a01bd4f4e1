"""The interface between the HTTP server and the rest of the sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tap_mixpanel_parallel.sandbox.answers import Answer
    from tap_mixpanel_parallel.sandbox.ledger import Ledger, Visit
    from tap_mixpanel_parallel.sandbox.steps import Ending, Step


class Sendable(Protocol):
    """A body that can be sent."""

    @property
    def gzip(self) -> bool:
        """Whether it is compressed."""

    @property
    def events(self) -> int:
        """The number of event lines that were put into it so far."""

    def steps(self) -> Iterator[Step]:
        """Give the steps in which it is sent."""


@dataclass(frozen=True)
class Export:
    """An export, ready to be sent.

    Attributes:
        body: The body.
        instead: The answer or the ending that a fault puts in its place.
        delay: The seconds before the first byte.
        bytes_per_second: The highest rate of the body; None for no limit.
        comes_again: Whether it is sent once more, before the next answer on the same connection.
        made_at: When it is made, in seconds since 1970.
    """

    body: Sendable
    instead: Answer | Ending | None = None
    delay: float = 0.0
    bytes_per_second: int | None = None
    comes_again: bool = False
    made_at: float | None = None


class Backend(Protocol):
    """What the HTTP server needs from the sandbox."""

    @property
    def ledger(self) -> Ledger:
        """The ledger of all requests."""

    def export(
        self, parameters: Mapping[str, str], authorization: str | None, visit: Visit, *, gzip: bool
    ) -> Export:
        """Accept a request, and give its answer.

        Raises:
            RefusedError: The request is refused.
        """
