"""Which lines of a window repeat an event of it.

The raw export holds an event as often as it was ingested; the latest one counts (Mixpanel
docs, Event Deduplication).
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tap_mixpanel_parallel.events import EventRecord

_BUCKETS: Final = 256


def find_repeated(read: Callable[[], Iterable[EventRecord]]) -> frozenset[int]:
    """The ordinals of the records that another record of the window replaces.

    It reads the window twice, for 8 bytes of memory an event and some more for each
    repeated one: first the keys, by their first 64 bits, then the records whose keys
    occur more than once.

    Args:
        read: Starts to read the window's records.
    """
    buckets = [array("Q") for _ in range(_BUCKETS)]
    for record in read():
        key = _short_key(record)
        buckets[key % _BUCKETS].append(key)
    repeated: set[int] = set()
    while buckets:
        seen: set[int] = set()
        for key in buckets.pop():
            (repeated if key in seen else seen).add(key)
    if not repeated:
        return frozenset()
    latest: dict[str, tuple[str, int]] = {}
    replaced: set[int] = set()
    for ordinal, record in enumerate(read()):
        if _short_key(record) not in repeated:
            continue
        ingested = (record.processed_at or "", ordinal)
        known = latest.setdefault(record.event_id, ingested)
        if known is ingested:
            continue
        if ingested[0] >= known[0]:  # of equals the last, as an upserting loader keeps
            latest[record.event_id], ingested = ingested, known
        replaced.add(ingested[1])
    return frozenset(replaced)


def _short_key(record: EventRecord) -> int:
    return int(record.event_id[:16], 16)
