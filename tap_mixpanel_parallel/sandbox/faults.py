r"""Faults: what goes wrong with which requests.

A fault has a text form, for the command line and for tests:

    status=500,times=2                              the first two requests get this status
    status=503,body=<h1>busy</h1>,content_type=text/html,retry_after=1
    status=401,trickle=0.5                          one byte of the body every half second
    redirect=http://127.0.0.1/elsewhere             302 to this URL
    reset                                           the connection is reset before the headers
    reset=1000                                      after 1000 bytes of the body
    cut=-100,days=2025-01-05..2025-01-11            closed 100 bytes before the end, on these days
    cut=1000,clean                                  the body ends early, but as valid HTTP
    stall=2.5,at=middle                             a pause of 2.5 s; without a number, for ever
    damage=-8                                       a byte is inverted: here the gzip checksum
    plain                                           not compressed
    empty                                           200 without a body
    terminated_early,after_lines=10,probability=0.2,seed=7
    terminated_early=export terminated early,after_lines=0
    line={"error": "oops"},after_lines=3,times=1,each_range
    half_line                                       the last line is cut
    another_window=-7                               the answer for a week earlier
    second_answer                                   sent again before the next on the connection
    trickle=0.5,at=0                                one byte every half second
    endless                                         the events are repeated without end
    chunk_size=-5                                   a chunk with a negative size

Write a comma within a value as `\,`. A position may be negative (from the end) or `middle`, which
is the default of most faults. `times`, `after`, `probability`, `seed`, `each_range` and `days`
select the requests, and fit each fault.
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import MISSING, dataclass, field, fields
from datetime import date
from threading import Lock
from typing import TYPE_CHECKING, Any

from tap_mixpanel_parallel.sandbox.effects import EFFECTS, Effect, Position
from tap_mixpanel_parallel.sandbox.unruly import UNRULY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tap_mixpanel_parallel.sandbox.query import Query


@dataclass(frozen=True)
class Fault:
    """An effect, and the requests that have it.

    Attributes:
        effect: What goes wrong.
        days: Only requests whose range includes one of these days, the first to the last.
        times: The highest number of requests that have it; None for no limit.
        after: The number of matching requests that do not have it first.
        probability: The probability that each further request has it.
        seed: The seed of the random numbers: the same seed selects the same requests.
        each_range: Count `times` and `after` for each requested range on its own, so that
            `times=1` breaks the first request for each window.
    """

    effect: Effect
    days: tuple[date, date] | None = None
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    seed: int = 1
    each_range: bool = False

    def __post_init__(self) -> None:
        """Refuse values that are not valid."""
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be between 0 and 1: {self.probability}")
        if self.after < 0 or (self.times is not None and self.times < 0):
            raise ValueError("after and times must not be negative")
        if self.days is not None and self.days[0] > self.days[1]:
            raise ValueError(f"days end before they start: {self.days[0]}..{self.days[1]}")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read the text form; see the description of the module.

        Raises:
            ValueError: The text is not a fault; the message says why.
        """
        first, *rest = (part.replace("\\,", ",") for part in re.split(r"(?<!\\),", text))
        name, *value = first.strip().split("=", 1)
        kind = KINDS.get(name)
        if kind is None:
            raise ValueError(f"unknown fault {name!r}; the faults are {', '.join(KINDS)}")
        what = {option.name: option.type for option in fields(kind)}
        when = {option.name: option.type for option in fields(cls)[1:]}
        arguments: dict[str, Any] = {}
        if value:
            if not what:
                raise ValueError(f"fault {name!r} takes no value: {first!r}")
            key = next(iter(what))
            arguments[key] = _convert(key, what[key], value[0])
        for part in rest:
            key, separator, given = part.strip().partition("=")
            if key not in what | when:
                options = ", ".join([*what, *when])
                raise ValueError(f"fault {name!r} has no option {key!r}; it has {options}")
            arguments[key] = _convert(key, (what | when)[key], given if separator else None)
        missing = [
            option.name
            for option in fields(kind)
            if option.default is MISSING and option.name not in arguments
        ]
        if missing:
            raise ValueError(f"fault {name!r} needs a value: {name}=...")
        effect = kind(**{key: arguments.pop(key) for key in what if key in arguments})
        return cls(effect, **arguments)

    def touches(self, query: Query) -> bool:
        """Tell whether the range of the query includes one of the days."""
        return self.days is None or (
            query.from_date <= self.days[1] and self.days[0] <= query.to_date
        )


@dataclass
class _Count:
    """How many requests matched a fault, and how many had it."""

    asked: int = 0
    happened: int = 0


@dataclass
class FaultPlan:
    """Decides which requests have a fault. Threads share it."""

    faults: Sequence[Fault] = ()
    _counts: dict[object, _Count] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def draw(self, query: Query) -> Fault | None:
        """Give the first fault that hits this request. The faults after it do not count it."""
        with self._lock:
            for number, fault in enumerate(self.faults):
                if fault.touches(query) and self._hits(number, fault, query):
                    return fault
        return None

    def _hits(self, number: int, fault: Fault, query: Query) -> bool:
        scope = (query.from_date, query.to_date) if fault.each_range else None
        count = self._counts.setdefault((number, scope), _Count())
        asked = count.asked
        count.asked += 1
        if asked < fault.after or (fault.times is not None and count.happened >= fault.times):
            return False
        chance = random.Random(f"{fault.seed}:{scope}:{asked}")
        if chance.random() >= fault.probability:
            return False
        count.happened += 1
        return True


KINDS = {kind.name: kind for kind in (*EFFECTS, *UNRULY)}


def _position(text: str) -> Position:
    return "middle" if text == "middle" else int(text)


def _days(text: str) -> tuple[date, date]:
    first, _, last = text.partition("..")
    return date.fromisoformat(first), date.fromisoformat(last or first)


_CONVERTERS: dict[str, Callable[[str], object]] = {
    "int": int,
    "int | None": int,
    "float": float,
    "float | None": float,
    "str": str,
    "str | None": str,
    "bytes": os.fsencode,
    "bytes | None": os.fsencode,
    "Position": _position,
    "Position | None": _position,
    "tuple[date, date] | None": _days,
}


def _convert(key: str, kind: Any, text: str | None) -> object:
    """Read the value of an option as its annotation says."""
    if kind == "bool":
        if text is not None:
            raise ValueError(f"{key!r} is a flag and takes no value: {text!r}")
        return True
    if text is None:
        raise ValueError(f"{key!r} needs a value: {key}=...")
    try:
        return _CONVERTERS[kind](text)
    except ValueError as error:
        raise ValueError(f"{key}={text}: {error}") from None
