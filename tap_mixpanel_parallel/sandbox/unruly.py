"""Effects of servers, proxies and caches that mix answers up, break HTTP's rules or never end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from tap_mixpanel_parallel.sandbox.effects import (
    Effect,
    Pause,
    Position,
    Source,
    Step,
    Unframed,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mixpanel_parallel.sandbox.query import Query


@dataclass(frozen=True)
class AnotherWindow(Effect):
    """The answer is that of a range so many days later, or earlier if it is negative."""

    name: ClassVar[str] = "another_window"
    days_off: int = -7

    def asked(self, query: Query) -> Query:
        """Move the range."""
        off = timedelta(days=self.days_off)
        return replace(query, from_date=query.from_date + off, to_date=query.to_date + off)


@dataclass(frozen=True)
class SecondAnswer(Effect):
    """The answer comes once more, late: on a kept connection, before that of the next request."""

    name: ClassVar[str] = "second_answer"
    comes_again: ClassVar[bool] = True


@dataclass(frozen=True)
class Trickle(Effect):
    """From a position on, a byte comes every so many seconds."""

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
    """The lines come again and again."""

    name: ClassVar[str] = "endless"

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give the lines, for ever if there are any."""
        some = True
        while some:
            some = False
            for line in source():
                some = True
                yield line


@dataclass(frozen=True)
class ChunkSize(Effect):
    """At a position, a chunk says of itself that it has this size, in hexadecimal digits."""

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
