"""The effects of faults, each a small value object.

An effect changes an answer in one of four places: the query (`asked`), the whole answer
(`answer`), its lines (`lines`), or its bytes as they are sent (`wire`). An effect does not use a
socket: it gives steps, and the server takes them.

A position counts from the start; a negative one counts from the end; `"middle"` is the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tap_mixpanel_parallel.sandbox.answers import JSON, Answer
from tap_mixpanel_parallel.sandbox.steps import Ending, Pause

if TYPE_CHECKING:
    from tap_mixpanel_parallel.sandbox.query import Query
    from tap_mixpanel_parallel.sandbox.steps import Step

Position = int | Literal["middle"]
Source = Callable[[], Iterator[bytes]]


_ERROR = b'{"error": "a fault as ordered"}'


@dataclass(frozen=True)
class Effect:
    """An effect that changes nothing, and the base of all others."""

    name: ClassVar[str] = "none"
    gzip: ClassVar[bool] = True
    comes_again: ClassVar[bool] = False

    def asked(self, query: Query) -> Query:
        """Give the query to answer."""
        return query

    def answer(self) -> Answer | Ending | None:
        """Give what replaces the export, if anything does."""
        return None

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give the lines of the body, with their line ends."""
        return source()

    def wire(self, source: Source) -> Iterator[Step]:
        """Give the steps in which the encoded body is sent."""
        return source()


@dataclass(frozen=True)
class Status(Effect):
    """Another status, with any body; without a body, a JSON error.

    With `trickle`, one byte of the body is sent every so many seconds.
    """

    name: ClassVar[str] = "status"
    status: int
    body: bytes | None = None
    content_type: str = JSON
    retry_after: str | None = None
    trickle: float = 0.0

    def answer(self) -> Answer:
        """Give the answer with the status."""
        body = _ERROR if self.body is None else self.body
        headers = () if self.retry_after is None else (("Retry-After", self.retry_after),)
        return Answer(self.status, body, self.content_type, headers, self.trickle)


@dataclass(frozen=True)
class Redirect(Effect):
    """A redirect (302) to another URL."""

    name: ClassVar[str] = "redirect"
    url: str

    def answer(self) -> Answer:
        """Give the redirect."""
        return Answer(302, headers=(("Location", self.url),))


@dataclass(frozen=True)
class Reset(Effect):
    """The connection is reset (TCP RST) before the headers, or at a position of the body."""

    name: ClassVar[str] = "reset"
    at: Position | None = None

    def answer(self) -> Ending | None:
        """Give the reset if no position is given."""
        return Ending.RESET if self.at is None else None

    def wire(self, source: Source) -> Iterator[Step]:
        """Send up to the position, then reset."""
        yield from _until(source, 0 if self.at is None else self.at)
        yield Ending.RESET


@dataclass(frozen=True)
class Cut(Effect):
    """The body is cut. With `clean` it ends as valid HTTP; else the connection is closed."""

    name: ClassVar[str] = "cut"
    at: Position = "middle"
    clean: bool = False

    def wire(self, source: Source) -> Iterator[Step]:
        """Send up to the position."""
        yield from _until(source, self.at)
        if not self.clean:
            yield Ending.CLOSE


@dataclass(frozen=True)
class Stall(Effect):
    """The body pauses for some seconds; without a number, for ever."""

    name: ClassVar[str] = "stall"
    seconds: float | None = None
    at: Position = "middle"

    def wire(self, source: Source) -> Iterator[Step]:
        """Pause at the position."""
        paused = False
        for is_after, piece in split(source, self.at):
            if is_after and not paused:
                paused = True
                yield Pause(self.seconds)
            yield piece
        if not paused:
            yield Pause(self.seconds)


@dataclass(frozen=True)
class Damage(Effect):
    """One byte is inverted. The last eight bytes of gzip are its checksum and its length."""

    name: ClassVar[str] = "damage"
    at: Position = "middle"

    def wire(self, source: Source) -> Iterator[Step]:
        """Invert the byte at the position."""
        damaged = False
        for is_after, piece in split(source, self.at):
            if is_after and not damaged:
                damaged = True
                yield bytes([piece[0] ^ 0xFF]) + piece[1:]
            else:
                yield piece


@dataclass(frozen=True)
class Plain(Effect):
    """The body is not compressed, even if the client accepts gzip."""

    name: ClassVar[str] = "plain"
    gzip: ClassVar[bool] = False


@dataclass(frozen=True)
class Empty(Effect):
    """A 200 with an empty body, as for a range without events."""

    name: ClassVar[str] = "empty"

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give nothing."""
        del source
        return iter(())


@dataclass(frozen=True)
class TerminatedEarly(Effect):
    """A text replaces the rest of the lines; the body is valid HTTP and gzip."""

    name: ClassVar[str] = "terminated_early"
    text: bytes = b"terminated early"
    after_lines: Position = "middle"

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give the lines before the position, and the text."""
        yield from _until(source, self.after_lines, _count)
        yield self.text + b"\n"


@dataclass(frozen=True)
class Line(Effect):
    """A line that is not an event is added; all others are sent."""

    name: ClassVar[str] = "line"
    line: bytes
    after_lines: Position = "middle"

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give all lines, with the added one at the position."""
        position = _resolve(source, self.after_lines, _count)
        odd = self.line + b"\n"
        for number, line in enumerate(source()):
            if number == position:
                yield odd
                odd = b""
            yield line
        if odd:
            yield odd


@dataclass(frozen=True)
class HalfLine(Effect):
    """The last line is cut in the middle; the body is valid HTTP and gzip."""

    name: ClassVar[str] = "half_line"

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give all lines, but only half of the last."""
        last = b""
        for line in source():
            if last:
                yield last
            last = line
        if last:
            yield last[: len(last) // 2]


EFFECTS: tuple[type[Effect], ...] = (
    Status,
    Redirect,
    Reset,
    Cut,
    Stall,
    Damage,
    Plain,
    Empty,
    TerminatedEarly,
    Line,
    HalfLine,
)


def _count(_line: bytes) -> int:
    return 1


def _resolve(source: Source, at: Position, measure: Callable[[bytes], int] = len) -> int:
    """Give the position from the start. The body is measured only if it must be."""
    if isinstance(at, int) and at >= 0:
        return at
    total = sum(map(measure, source()))
    return total // 2 if at == "middle" else max(0, total + at)


def split(source: Source, at: Position) -> Iterator[tuple[bool, bytes]]:
    """Give the pieces, each with whether it is after the position; one piece may be split."""
    left = _resolve(source, at)
    for piece in source():
        if 0 < left < len(piece):
            yield False, piece[:left]
            yield True, piece[left:]
        elif piece:
            yield left <= 0, piece
        left -= len(piece)


def _until(source: Source, at: Position, measure: Callable[[bytes], int] = len) -> Iterator[bytes]:
    """Give the pieces before the position."""
    left = _resolve(source, at, measure)
    if left <= 0:
        return
    for piece in source():
        yield piece[:left] if measure is len else piece
        left -= measure(piece)
        if left <= 0:
            return
