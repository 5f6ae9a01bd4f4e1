"""A schedule: what goes wrong in which run, all of it from one seed."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.sandbox import (
    AnotherWindow,
    ChunkSize,
    Cut,
    Damage,
    Effect,
    Fault,
    HalfLine,
    Line,
    Plain,
    Project,
    Reset,
    SecondAnswer,
    Shaping,
    Stall,
    Status,
    TerminatedEarly,
    Trickle,
)

if TYPE_CHECKING:
    from tap_mixpanel_parallel.sandbox.effects import Position
    from tests.campaign.lanes import Lane, Victim

_FIRST_DAYS: Final = date(2024, 12, 20)
_LONG_AFTER: Final = datetime(2025, 6, 1, tzinfo=UTC)
_PASSING: Final = 0.4
"""How many schedules have days pass between their runs."""
_REPLAYING: Final = 0.2
"""How many runs read days again."""
_LONGEST: Final = 7
"""The longest window, in days."""

_NO_EVENTS: Final = (
    b"99",
    b"[]",
    b'{"event": 1}',
    b'{"event": "A"}',
    b'{"event": "A", "properties": {"distinct_id": "no time"}}',
    b'{"event": "A", "properties": {"time":',
    b'{"error": "query failed"}',
    b"\xff\xfe",
)


@dataclass(frozen=True)
class Kill:
    """A signal to one end of the pipe, or to a process that works for the tap.

    Attributes:
        victim: Whom.
        signum: Which signal.
        requests: Sent once the tap has made so many requests; None: once the tap has ended.
        delay: Seconds after that.
    """

    victim: Victim
    signum: signal.Signals
    requests: int | None
    delay: float


@dataclass(frozen=True)
class Round:
    """One run of the pipe, and what goes wrong in it.

    Attributes:
        faults: What the server does.
        kill: What happens to the processes.
        hours: How long after the run before it is.
        lag: How many of the states that the loader prints at last are lost.
        replay: The days that the tap is asked to read again.
    """

    faults: tuple[Fault, ...] = ()
    kill: Kill | None = None
    hours: int = 0
    lag: int = 0
    replay: str | None = None


@dataclass(frozen=True)
class Schedule:
    """Everything random about a trial.

    Attributes:
        start: The moment of the first run, for the tap and for Mixpanel.
        rounds: The runs in which something goes wrong; in all further ones nothing does.
        tap: The tap's settings.
        target: The loader's settings.
    """

    seed: int
    lane: Lane
    project: Project
    first: date
    last: date
    shaping: Shaping
    start: datetime
    rounds: tuple[Round, ...]
    tap: dict[str, Any] = field(default_factory=dict)
    target: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def draw(cls, seed: int, lane: Lane) -> Schedule:
        """Give the schedule of a seed in a lane."""
        dice = Random(f"schedule {seed}")  # noqa: S311 - it shuffles, it guards nothing
        first = _FIRST_DAYS + timedelta(days=dice.randrange(40))
        last = first + timedelta(days=dice.randrange(1, 15))
        passing = dice.random() < _PASSING
        return cls(
            seed=seed,
            lane=lane,
            project=Project(
                seed=seed, events_per_day=dice.randrange(20, 80), poison=dice.random() < 0.75
            ),
            first=first,
            last=last,
            shaping=Shaping(first_byte_seconds=dice.choice((0.0, 0.0, 0.02, 0.05))),
            start=datetime.combine(last, time(dice.randrange(24)), UTC) if passing else _LONG_AFTER,
            rounds=tuple(
                _round(dice, lane, first, last, passing=passing)
                for _ in range(dice.randrange(1, 5))
            ),
            tap={
                "start_date": str(first),
                **({} if passing else {"end_date": str(last)}),
                "parallel": dice.random() < 0.7,
                "workers": dice.randrange(1, 9),
                "window_days": dice.randrange(1, _LONGEST + 1),
                "balance_windows": dice.random() < 0.5,
                "properties_format": dice.choice(("object", "string")),
                "attempt_timeout": 2,
                "max_attempts": dice.choice((1, 1, 1, 1, 2)),
                **lane.draw_tap(dice),
            },
            target=lane.draw_target(dice),
        )


def _round(dice: Random, lane: Lane, first: date, last: date, *, passing: bool) -> Round:
    faults = tuple(_fault(dice, first, last) for _ in range(dice.choice((0, 1, 1, 2, 3))))
    return Round(
        faults,
        _kill(dice, lane) if not faults or dice.random() < 0.75 else None,
        hours=dice.choice((0, 3, 24, 24, 72, 150)) if passing else 0,
        lag=dice.choice((0, 0, 1, 2, 5)),
        replay="{}..{}".format(*_days(dice, first, last)) if dice.random() < _REPLAYING else None,
    )


def _kill(dice: Random, lane: Lane) -> Kill:
    victim = dice.choice(lane.victims)
    if victim in {"converter", "worker"}:
        return Kill(victim, signal.SIGKILL, dice.randrange(1, 8), dice.uniform(0, 0.6))
    signum = dice.choice((signal.SIGKILL, signal.SIGTERM))
    if victim == "target" and dice.random() < 0.5:
        return Kill(victim, signum, None, dice.uniform(0, 0.3))
    # Not before the first request, on the whole: the start of a process is long and dull.
    requests = dice.choice((0, *range(1, 12), *range(1, 5)))
    return Kill(victim, signum, requests, dice.uniform(0, 0.1 if requests else 0.5))


def _fault(dice: Random, first: date, last: date) -> Fault:
    days = None
    if dice.random() < 0.5:
        days = _days(dice, first, last)
    effect, times = _effect(dice), dice.choice((None, 1, 2, 5))
    if isinstance(effect, Status) and effect.status == 429 and effect.retry_after is None:
        times = 1  # the tap rightly waits for minutes after some of them in a row
    return Fault(
        effect,
        days=days,
        times=times,
        after=dice.choice((0, 0, 1, 3)),
        probability=dice.choice((1.0, 0.7, 0.3)),
        seed=dice.randrange(1 << 30),
        each_range=dice.random() < 0.5,
    )


def _days(dice: Random, first: date, last: date) -> tuple[date, date]:
    """Some days from a first one to a last one; three at most."""
    start = first + timedelta(days=dice.randrange((last - first).days + 1))
    return start, min(start + timedelta(days=dice.randrange(3)), last)


def _effect(dice: Random) -> Effect:
    """Give one of the effects that can be told from a whole export.

    An empty 200 can't, since a day without events is one. Nor can a range of other days
    that has some in common with the one that was asked for.
    """
    somewhere = dice.choice((1, -1)) * dice.randrange(1, 4000)
    at: Position = "middle" if dice.random() < 0.25 else somewhere
    text = dice.choice((b"terminated early", b"export terminated early"))
    return dice.choice(
        (
            Status(dice.choice((500, 502, 503, 504)), b"<h1>busy</h1>", "text/html"),
            Status(dice.choice((400, 401, 402, 403, 404))),
            dice.choice((Status(429, b"too many in progress", retry_after="1"), Status(429))),
            Reset(),
            Reset(at),
            Cut(at),
            Cut(at, clean=True),
            Damage(at),
            Plain(),
            Stall(dice.uniform(0, 0.3), at),
            TerminatedEarly(text, dice.choice((0, "middle", -1, 10))),
            Line(dice.choice(_NO_EVENTS), dice.choice((0, "middle", -1, 10))),
            HalfLine(),
            # Not a later one: of days to come it is empty, as is that of a day without events.
            AnotherWindow(dice.choice((-30, -_LONGEST))),
            SecondAnswer(),
            ChunkSize(dice.choice(("-5", "x", "")), at),
            # The last bytes, or so slowly that only `attempt_timeout` ends it.
            Trickle(0.01, -dice.randrange(1, 40)),
            Trickle(0.4, "middle"),
        )
    )
