"""What the HTTP side and the rest of the sandbox tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tap_mixpanel_parallel.sandbox.answers import Answer
    from tap_mixpanel_parallel.sandbox.effects import Ending, Step
    from tap_mixpanel_parallel.sandbox.ledger import Ledger, Visit


class Sendable(Protocol):
    """A body that can be sent."""

    @property
    def gzip(self) -> bool:
        """Whether it is compressed."""

    @property
    def events(self) -> int:
        """How many event lines have gone into it so far."""

    def steps(self) -> Iterator[Step]:
        """Give what to send, and what to do in between."""


@dataclass(frozen=True)
class Export:
    """An export, ready to be sent.

    Attributes:
        body: The body.
        instead: What a fault answers in its place.
        delay: Seconds before the first byte.
        bytes_per_second: How fast it goes then.
        comes_again: Whether it precedes the next answer on the same connection as well.
    """

    body: Sendable
    instead: Answer | Ending | None = None
    delay: float = 0.0
    bytes_per_second: int | None = None
    comes_again: bool = False


class Backend(Protocol):
    """What the HTTP side needs of the sandbox."""

    @property
    def ledger(self) -> Ledger:
        """Where requests are written down."""

    def export(
        self, parameters: Mapping[str, str], authorization: str | None, visit: Visit, *, gzip: bool
    ) -> Export:
        """Let a request in, and give what it is answered with.

        Raises:
            RefusedError: It is not let in.
        """
