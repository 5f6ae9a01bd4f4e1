"""What can go wrong with an export, each kind a small value object.

An effect changes an answer in one of four places: in what is exported (`asked`), instead of it
(`answer`), in its lines (`lines`), or in its bytes on the wire (`wire`). None of them touches a
socket: the server does what the steps say.

Positions are counted from the beginning, or from the end when negative; `"middle"` is the
middle.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tap_mixpanel_parallel.sandbox.answers import JSON, Answer

if TYPE_CHECKING:
    from tap_mixpanel_parallel.sandbox.query import Query

Position = int | Literal["middle"]
Source = Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Pause:
    """Send nothing for some seconds, or, with None, ever again."""

    seconds: float | None


@dataclass(frozen=True)
class Unframed:
    """Send these bytes as they are, in no chunk."""

    data: bytes


class Ending(enum.Enum):
    """How a connection is broken off."""

    CLOSE = "close"
    RESET = "reset"


Step = bytes | Pause | Unframed | Ending

_ERROR = b'{"error": "a fault as ordered"}'


@dataclass(frozen=True)
class Effect:
    """Nothing goes wrong."""

    name: ClassVar[str] = "none"
    gzip: ClassVar[bool] = True
    comes_again: ClassVar[bool] = False

    def asked(self, query: Query) -> Query:
        """Give what is exported."""
        return query

    def answer(self) -> Answer | Ending | None:
        """Give what takes the export's place, if anything does."""
        return None

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give the body's lines, line ends included."""
        return source()

    def wire(self, source: Source) -> Iterator[Step]:
        """Give the steps in which the encoded body is sent."""
        return source()


@dataclass(frozen=True)
class Status(Effect):
    """Another status, with any body; a JSON error if none is given.

    With `trickle`, a byte of the body comes every so many seconds.
    """

    name: ClassVar[str] = "status"
    status: int
    body: bytes | None = None
    content_type: str = JSON
    retry_after: str | None = None
    trickle: float = 0.0

    def answer(self) -> Answer:
        """Give the status."""
        body = _ERROR if self.body is None else self.body
        headers = () if self.retry_after is None else (("Retry-After", self.retry_after),)
        return Answer(self.status, body, self.content_type, headers, self.trickle)


@dataclass(frozen=True)
class Redirect(Effect):
    """302 to another place."""

    name: ClassVar[str] = "redirect"
    url: str

    def answer(self) -> Answer:
        """Give the redirect."""
        return Answer(302, headers=(("Location", self.url),))


@dataclass(frozen=True)
class Reset(Effect):
    """The connection is reset (TCP RST), before the headers or after some bytes of the body."""

    name: ClassVar[str] = "reset"
    at: Position | None = None

    def answer(self) -> Ending | None:
        """Reset at once if no position is given."""
        return Ending.RESET if self.at is None else None

    def wire(self, source: Source) -> Iterator[Step]:
        """Send up to the position, then reset."""
        yield from _until(source, 0 if self.at is None else self.at)
        yield Ending.RESET


@dataclass(frozen=True)
class Cut(Effect):
    """The body is cut; `clean` ends it properly, else the connection is closed in its midst."""

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
    """Nothing is sent for some seconds (or ever again), then the body goes on."""

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
    """One byte is flipped. The last eight bytes of gzip are its checksum and length."""

    name: ClassVar[str] = "damage"
    at: Position = "middle"

    def wire(self, source: Source) -> Iterator[Step]:
        """Flip the byte at the position."""
        damaged = False
        for is_after, piece in split(source, self.at):
            if is_after and not damaged:
                damaged = True
                yield bytes([piece[0] ^ 0xFF]) + piece[1:]
            else:
                yield piece


@dataclass(frozen=True)
class Plain(Effect):
    """The body is not compressed, whatever the client accepts."""

    name: ClassVar[str] = "plain"
    gzip: ClassVar[bool] = False


@dataclass(frozen=True)
class Empty(Effect):
    """200 with an empty body, as if there were no events."""

    name: ClassVar[str] = "empty"

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give nothing."""
        del source
        return iter(())


@dataclass(frozen=True)
class TerminatedEarly(Effect):
    """The export ends with this text in place of the rest, and the body is otherwise proper."""

    name: ClassVar[str] = "terminated_early"
    text: bytes = b"terminated early"
    after_lines: Position = "middle"

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give some lines, and the text."""
        yield from _until(source, self.after_lines, _count)
        yield self.text + b"\n"


@dataclass(frozen=True)
class Line(Effect):
    """A line that is no event stands among the others, which are all there."""

    name: ClassVar[str] = "line"
    line: bytes
    after_lines: Position = "middle"

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give all lines, and the odd one among them."""
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
    """The last line is cut in its middle, and the body ends properly."""

    name: ClassVar[str] = "half_line"

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give all lines but half of the last."""
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
    """Give the position from the beginning. The body is measured only if that is needed."""
    if isinstance(at, int) and at >= 0:
        return at
    total = sum(map(measure, source()))
    return total // 2 if at == "middle" else max(0, total + at)


def split(source: Source, at: Position) -> Iterator[tuple[bool, bytes]]:
    """Give the pieces, each wholly before (False) or after (True) the position."""
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
