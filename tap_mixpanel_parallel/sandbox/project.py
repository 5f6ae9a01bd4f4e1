"""A synthetic Mixpanel project: the events of any day, made from a seed.

Each day is generated on its own and only on request, so that years of history cost nothing. The
same request always has the same answer.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from tap_mixpanel_parallel.sandbox.calendar import DAY, SECOND, Day, epoch_ms
from tap_mixpanel_parallel.sandbox.poison import poisoned_lines
from tap_mixpanel_parallel.sandbox.vocabulary import PROFILES, VARIANTS, Profile, vocabulary

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_WEEKDAYS = (1.12, 1.15, 1.14, 1.11, 1.06, 0.72, 0.70)  # Monday first; their mean is 1
_YEARLY_GROWTH = 0.06
_LATEST = 5 * DAY  # mobile SDKs send events up to five days late (Mixpanel's documentation)
_ERA_DAYS = 10  # an anonymous device lives this long, and is merged within three times as long
_ANONYMOUS = 0.3  # of all sessions
_OFFLINE = 0.3  # of the mobile ones

# Which events of every 250 are odd, and how, so that a day of some size has each oddity.
_ODDITIES_EVERY = 250
_TWICE, _AGAIN, _NO_INSERT_ID, _NO_ID, _EMPTY_ID, _NUMERIC_ID, _LONE, _LONE_UPPER = range(8)
_ODDITIES = {
    5: _TWICE,
    11: _AGAIN,
    23: _NO_INSERT_ID,
    31: _NO_ID,
    37: _EMPTY_ID,
    43: _NUMERIC_ID,
    53: _LONE,
    61: _LONE_UPPER,
    71: _AGAIN,
    83: _TWICE,
}
_SURROGATES: dict[int | None, str] = {
    _LONE: r',"Note":"broken \ud83d emoji"',
    _LONE_UPPER: r',"Note":"broken \uD83D"',
}


class _Session(NamedTuple):
    """A visit of a user: what its events have in common."""

    user: int
    identity: str
    profile: Profile
    end: int
    uploaded: int
    size: int


class _Draft(NamedTuple):
    """An event as a line that is not encoded yet."""

    name: str
    processed: int
    text: str


@dataclass(frozen=True)
class Project:
    """A deterministic synthetic project.

    Attributes:
        seed: Each seed gives another project.
        events_per_day: The average number of events of a day; weekends have fewer. With 0, none.
        timezone: `UTC`, or the time zone of a project created before 2023: its days begin at the
            midnight of that zone, and `time` is the local time written as if it were UTC.
        poison: Add the lines of `poison.poisoned_lines` to each day.
        created: The first day with events.
    """

    seed: int = 1
    events_per_day: int = 500
    timezone: str = "UTC"
    poison: bool = False
    created: date = date(2010, 1, 1)

    def __post_init__(self) -> None:
        """Refuse values that are not valid."""
        if self.events_per_day < 0:
            raise ValueError(f"events_per_day must not be negative: {self.events_per_day}")
        ZoneInfo(self.timezone)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which the days of this project begin and end."""
        return ZoneInfo(self.timezone)

    def today(self, as_of: datetime) -> date:
        """Give the current day of the project at a moment."""
        return as_of.astimezone(self.zone).date()

    def lines(
        self,
        day: date,
        *,
        as_of: datetime,
        events: Collection[str] | None = None,
        time_in_ms: bool = True,
    ) -> Iterator[bytes]:
        """Give the lines of an export of a day, in no order, without line ends.

        Args:
            day: The day, in the time zone of the project.
            as_of: When the export is made (an aware datetime). What is ingested later is not in
                it, and users who are merged later still have their anonymous ids.
            events: Only events with these names.
            time_in_ms: Write `time` in milliseconds, not in seconds.
        """
        if day < self.created:
            return
        clock, now = Day.of(day, self.zone), epoch_ms(as_of)
        if now < clock.start:
            return
        poison = poisoned_lines(day, time_in_ms=time_in_ms) if self.poison else iter(())
        if events is not None:
            poison = (line for line in poison if json.loads(line)["event"] in events)
        unit = 1 if time_in_ms else SECOND
        for number, draft in enumerate(self._drafts(day, clock, now, unit)):
            if draft.processed <= now and (events is None or draft.name in events):
                yield draft.text.encode()
            if number % 3 == 0:  # so that it is spread over the day
                yield from islice(poison, 1)
        yield from poison

    def _drafts(self, day: date, clock: Day, now: int, unit: int) -> Iterator[_Draft]:
        """Give the usual events of the day, also those that are not ingested yet.

        Events that an export leaves out are drawn too, as the following ones depend on them.
        """
        rng = random.Random(f"{self.seed}:{day}")
        draw = rng.random
        deck = vocabulary(self.seed).deck
        duplicates: list[_Draft] = []
        ordinal = 0
        for session in self._sessions(rng, day, clock, now):
            instant = session.end
            for _ in range(session.size):
                # Newest first, so that a client that expects a sorted day fails on any day.
                instant = max(clock.start, instant - int(draw() * 90 * SECOND))
                kind = deck[int(draw() * len(deck))]
                oddity = _ODDITIES.get(ordinal % _ODDITIES_EVERY)
                ordinal += 1
                identity = _identity(oddity, session)
                insert_id = f'"$insert_id":"{rng.getrandbits(96):024x}",'
                if oddity == _NO_INSERT_ID:
                    insert_id = ""
                processed = max(instant + 200 + int(draw() * 20 * SECOND), session.uploaded)
                price = int(draw() * 20000)
                start = (
                    f'{{"event":{kind.json_name},"properties":{{"time":'
                    f'{clock.wall(instant) // unit},{identity}{insert_id}"mp_processing_time_ms":'
                )
                end = (
                    f",{session.profile.text},{kind.variants[int(draw() * VARIANTS)]}"
                    f"{_price(price) if kind.priced else ''}{_SURROGATES.get(oddity, '')}}}}}"
                )
                draft = _Draft(kind.name, processed, f'{start}{processed},"Revision":1{end}')
                yield draft
                if oddity == _TWICE or (oddity == _NO_INSERT_ID and day.toordinal() % 3 == 0):
                    duplicates.append(draft)
                elif oddity == _AGAIN:
                    later = processed + 5 * SECOND + instant * 7919 % DAY
                    text = f'{start}{later},"Revision":2{end}'
                    duplicates.append(_Draft(kind.name, later, text))
        yield from duplicates

    def _sessions(self, rng: random.Random, day: date, clock: Day, now: int) -> Iterator[_Session]:
        """Give the visits of the day, in no order."""
        draw = rng.random
        profiles = vocabulary(self.seed).profiles
        users = 50 + self.events_per_day
        left = self._how_many(rng, day)
        era = day.toordinal() // _ERA_DAYS
        while left > 0:
            size = min(left, 1 + int(draw() * 11))
            left -= size
            user = int(draw() * draw() * users)
            identity = f'"distinct_id":"user-{user:07d}",'
            if draw() < _ANONYMOUS:
                user, identity = self._device(era, int(draw() * users), users, now)
            profile = profiles[user * 2654435761 % PROFILES]
            end = clock.start + int((draw() + draw() + draw()) / 3 * (clock.end - clock.start))
            held_back = profile.mobile and draw() < _OFFLINE
            uploaded = end + int(draw() * draw() * (_LATEST - DAY // 24)) if held_back else 0
            yield _Session(user, identity, profile, end, uploaded, size)

    def _device(self, era: int, number: int, users: int, now: int) -> tuple[int, str]:
        """Give the user and the identity of an anonymous device, as they are known now.

        Two devices of three are merged into a user at some moment. After it, Mixpanel exports the
        id of the user for all events of the device, also for earlier ones.
        """
        digest = blake2b(f"{self.seed}:{era}:{number}".encode(), digest_size=16).digest()
        device = f'"$device:{digest.hex()}",'
        user = int.from_bytes(digest[:4], "big") % users
        era_start = (era * _ERA_DAYS - date(1970, 1, 1).toordinal()) * DAY
        merged_at = era_start + int.from_bytes(digest[4:8], "big") % (3 * _ERA_DAYS * DAY)
        if number % 3 == 0 or now < merged_at:
            return user, f'"distinct_id":{device}'
        canonical = f'"distinct_id":"user-{user:07d}",'
        return user, f'{canonical}"$distinct_id_before_identity":{device}'

    def _how_many(self, rng: random.Random, day: date) -> int:
        years = (day - date(2025, 1, 1)).days / 365.25
        growth = min(4.0, max(0.25, 1 + _YEARLY_GROWTH * years))
        mean = self.events_per_day * _WEEKDAYS[day.weekday()] * growth
        return int(mean * (0.95 + 0.1 * rng.random()) + rng.random())


def _identity(oddity: int | None, session: _Session) -> str:
    if oddity == _NO_ID:
        return ""
    if oddity == _EMPTY_ID:
        return '"distinct_id":"",'
    if oddity == _NUMERIC_ID:
        return f'"distinct_id":{100000 + session.user},'
    return session.identity


def _price(cents: int) -> str:
    return f',"price":{cents // 100}.{cents % 100:02d}'
