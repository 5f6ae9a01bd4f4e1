"""Effects of servers, proxies and caches: wrong answers, invalid HTTP, bodies without an end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from tap_mixpanel_parallel.sandbox.effects import (
    Effect,
    Position,
    Source,
    split,
)
from tap_mixpanel_parallel.sandbox.steps import Pause, Unframed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mixpanel_parallel.sandbox.query import Query
    from tap_mixpanel_parallel.sandbox.steps import Step


@dataclass(frozen=True)
class AnotherWindow(Effect):
    """The answer is for a range this many days later, or earlier if negative."""

    name: ClassVar[str] = "another_window"
    days_off: int = -7

    def asked(self, query: Query) -> Query:
        """Move the range."""
        off = timedelta(days=self.days_off)
        return replace(query, from_date=query.from_date + off, to_date=query.to_date + off)


@dataclass(frozen=True)
class SecondAnswer(Effect):
    """The answer is sent again, before the answer to the next request on the connection."""

    name: ClassVar[str] = "second_answer"
    comes_again: ClassVar[bool] = True


@dataclass(frozen=True)
class Trickle(Effect):
    """From a position on, one byte is sent every `seconds`."""

    name: ClassVar[str] = "trickle"
    seconds: float = 0.5
    at: Position = "middle"

    def wire(self, source: Source) -> Iterator[Step]:
        """Send byte by byte from the position on."""
        for is_after, piece in split(source, self.at):
            if not is_after:
                yield piece
                continue
            for number in range(len(piece)):
                yield Pause(self.seconds)
                yield piece[number : number + 1]


@dataclass(frozen=True)
class Endless(Effect):
    """The lines are repeated without end."""

    name: ClassVar[str] = "endless"

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give the lines without end, if there are any."""
        some = True
        while some:
            some = False
            for line in source():
                some = True
                yield line


@dataclass(frozen=True)
class ChunkSize(Effect):
    """At a position, a chunk header states this size, which should be hexadecimal digits."""

    name: ClassVar[str] = "chunk_size"
    size: str = "-5"
    at: Position = "middle"

    def wire(self, source: Source) -> Iterator[Step]:
        """Send up to the position, then the size and the rest."""
        said = False
        for is_after, piece in split(source, self.at):
            if is_after and not said:
                said = True
                yield Unframed(self.size.encode() + b"\r\n")
            yield piece
        if not said:
            yield Unframed(self.size.encode() + b"\r\n")


UNRULY: tuple[type[Effect], ...] = (AnotherWindow, SecondAnswer, Trickle, Endless, ChunkSize)
