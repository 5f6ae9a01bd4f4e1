"""One line of export in, one record out. Pure.

Only the fields that the record needs are decoded; `properties` passes through as the
bytes that Mixpanel sent. Only what no loader can store, a lone surrogate, is mended.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw, Struct, field

from tap_mixpanel_parallel.convert.lifting import Lifter, Value
from tap_mixpanel_parallel.convert.occurrences import Occurrences
from tap_mixpanel_parallel.convert.strays import Strays
from tap_mixpanel_parallel.convert.surrogates import mend
from tap_mixpanel_parallel.convert.times import bounded, local_time, parse_time
from tap_mixpanel_parallel.exceptions import IncompleteExportError, MalformedLineError, quote_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from hashlib import md5
    from zoneinfo import ZoneInfo

    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.settings.property_columns import PropertyColumn
else:
    try:
        # CPython's own takes half as long as hashlib's, which is OpenSSL's, for a short text.
        from _md5 import md5
    except ImportError:  # not every build has it
        from hashlib import md5

UNIT_SEPARATOR: Final = "\x1f"
"""Joins the parts of an event's key."""

_ABORTED: Final = re.compile(rb"(export )?terminated early[\s.]*\Z", re.IGNORECASE)
"""What a server-side abort leaves in place of the rest, even within a line."""

_NULL: Final = Raw(b"null")


class EventRecord(Struct, gc=False):
    """A record of the stream `events`. Each format writes it in its own way.

    Its fields are the stream's columns, in this order (see `columns`); `lifted` holds those
    that are properties.
    """

    event_id: Annotated[
        bytes,
        Meta(
            description="MD5 over event, sent id, time in milliseconds and $insert_id, "
            "joined by U+001F"
        ),
    ]
    event: Annotated[str, Meta(description="The event's name")]
    time_ms: Annotated[int, Meta(description="When it happened, in UTC")] = field(name="time")
    distinct_id: Annotated[str | None, Meta(description="The user, as known today")]
    insert_id: Annotated[str | None, Meta(description="$insert_id")]
    processed_ms: Annotated[int | None, Meta(description="When Mixpanel took it in, UTC")] = field(
        name="processed_at"
    )
    properties: Annotated[Raw, Meta(description="Every property, as Mixpanel exports it")]
    lifted: tuple[Value, ...] = ()


class _Line(Struct, gc=False):
    """A line of the export."""

    event: str
    properties: Raw


class _Error(Struct, gc=False):
    """A line in which Mixpanel reports why it ends the export."""

    error: Raw


class _Properties(Struct, gc=False):
    """The properties that a record needs, when their types are the usual ones."""

    time: int
    distinct_id: str | None = None
    insert_id: str | None = field(name="$insert_id", default=None)
    sent_id: str | None = field(name="$distinct_id_before_identity", default=None)
    processed_ms: int | None = field(name="mp_processing_time_ms", default=None)


class _AnyProperties(Struct, gc=False):
    """The same properties, of whatever types."""

    time: Any
    distinct_id: Raw = _NULL
    insert_id: Raw = field(name="$insert_id", default=_NULL)
    sent_id: Raw = field(name="$distinct_id_before_identity", default=_NULL)
    processed_ms: Any = field(name="mp_processing_time_ms", default=None)


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_error = msgspec.json.Decoder(_Error).decode
_decode_any_properties = msgspec.json.Decoder(_AnyProperties).decode
_decode_pairs = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def event_key(event: str, sent_id: str | None, time_ms: int, insert_id: str | None) -> bytes:
    """The key of an event: 16 bytes.

    Mixpanel takes events of the same name, distinct_id, time and `$insert_id` for one
    (Mixpanel docs, Event Deduplication). The id is the one that the event was sent with,
    since `distinct_id` changes when users are merged.

    Args:
        event: The event's name.
        sent_id: `$distinct_id_before_identity`, else `distinct_id`.
        time_ms: `time` in whole milliseconds, as exported.
        insert_id: `$insert_id`.
    """
    parts = (event, sent_id or "", str(time_ms), insert_id or "")
    return md5(UNIT_SEPARATOR.join(parts).encode(), usedforsecurity=False).digest()


class EventReader:
    """Turns the lines of one window into records.

    It counts byte-identical events that have no `$insert_id`, so use one reader for one
    window.

    Attributes:
        strays: Counts the events that lie outside the window.
        lifter: Gives the columns that are properties, and counts the values that do not fit.
    """

    def __init__(
        self,
        zone: ZoneInfo,
        window: Window | None = None,
        columns: Sequence[PropertyColumn] = (),
    ) -> None:
        """Make a reader.

        Args:
            zone: The zone in which the project stores times.
            window: The days that the events should lie on; None lets them lie anywhere.
            columns: The properties that become columns.
        """
        self.lifter = Lifter(columns, _Properties)
        self.strays = Strays(window)
        self._first_ms, self._last_ms = self.strays.first_ms, self.strays.last_ms
        self._to_utc = local_time(zone).to_utc
        self._identical = Occurrences()

    def read(self, lines: Iterable[bytes], first: int = 1) -> Iterator[EventRecord]:
        """Turn lines into records, up to the first that is not an event.

        Args:
            lines: The lines, in UTF-8 and without their line ends. Of an iterator, those that
                follow an error can still be read.
            first: The number of the first one in the export, for the error.

        Raises:
            MalformedLineError: If a line is not an event.
            IncompleteExportError: If it says that Mixpanel ended the export.
        """
        # Looked up once: this loop is where the time goes.
        lifter, to_utc = self.lifter, self._to_utc
        first_ms, last_ms = self._first_ms, self._last_ms
        for number, line in enumerate(lines, first):
            try:
                parsed = _decode_line(line)
                raw = parsed.properties
                properties = lifter.decode(raw)
            except msgspec.ValidationError:
                yield self._read_unusual(line, number)
                continue
            except (msgspec.DecodeError, RecursionError) as error:
                # The decoder refuses lone surrogates everywhere, so only what fails is mended.
                mended = mend(line)
                if mended == line:
                    raise _no_event(line, number, error) from None
                yield from self.read((mended,), number)
                continue
            insert_id = properties.insert_id
            if not insert_id:
                yield self._read_unusual(line, number)
                continue
            event = parsed.event
            distinct_id = properties.distinct_id
            sent_id = properties.sent_id
            time_ms = properties.time
            processed_ms = properties.processed_ms
            if not first_ms <= time_ms <= last_ms:
                self.strays.add(time_ms)
            key = (
                f"{event}\x1f{distinct_id or '' if sent_id is None else sent_id}"
                f"\x1f{time_ms}\x1f{insert_id}"
            )
            yield EventRecord(
                md5(key.encode(), usedforsecurity=False).digest(),
                event,
                to_utc(time_ms),
                distinct_id,
                insert_id,
                None if processed_ms is None else bounded(processed_ms),
                raw,
                lifter.lift(properties) if lifter.lift else lifter.lift_any(raw),
            )

    def _read_unusual(self, line: bytes, number: int) -> EventRecord:
        """Turn a line into a record, whatever the types of its fields."""
        try:
            parsed = _decode_line(line)
            properties = _decode_any_properties(parsed.properties)
            time_ms, is_utc = parse_time(properties.time)
            sent_id = _as_text(properties.sent_id)
            distinct_id = _as_text(properties.distinct_id)
            insert_id = _as_text(properties.insert_id)
            processed_ms = _processed_ms(properties.processed_ms)
        except (msgspec.DecodeError, RecursionError, ValueError, OverflowError) as error:
            raise _no_event(line, number, error) from None
        self.strays.add(time_ms)
        return EventRecord(
            event_key(
                parsed.event,
                distinct_id if sent_id is None else sent_id,
                time_ms,
                insert_id or self._content_key(parsed.event, parsed.properties),
            ),
            parsed.event,
            bounded(time_ms) if is_utc else self._to_utc(time_ms),
            distinct_id,
            insert_id,
            processed_ms,
            parsed.properties,
            self.lifter.lift_any(parsed.properties),
        )

    def _content_key(self, event: str, properties: Raw) -> str:
        """What stands in the key for a missing `$insert_id`: a hash of the properties.

        Merging a user rewrites `distinct_id` and keeps the id that was sent in
        `$distinct_id_before_identity`; both forms of an event hash alike.
        """
        pairs = {name: bytes(value) for name, value in _decode_pairs(properties).items()}
        sent_id = pairs.pop("$distinct_id_before_identity", None)
        if sent_id is not None:
            pairs["distinct_id"] = sent_id
        digest = md5(usedforsecurity=False)
        for name, value in pairs.items():
            digest.update(b"%b\x1f%b\x1f" % (name.encode(), value))
        content = digest.hexdigest()
        digest.update(event.encode())
        ordinal = self._identical.add(digest.digest())
        return f"{content}{UNIT_SEPARATOR}{ordinal}" if ordinal else content


def _processed_ms(value: Any) -> int | None:
    try:
        return None if value is None else bounded(parse_time(value)[0])
    except ValueError:
        return None


def _as_text(value: Raw) -> str | None:
    """A JSON value as text: a string's own, a number's digits."""
    raw = bytes(value)
    if raw == b"null":
        return None
    return _decode_text(raw) if raw.startswith(b'"') else raw.decode()


def _no_event(line: bytes, number: int, error: Exception) -> IncompleteExportError:
    if aborted := _ABORTED.search(line):
        said, how = aborted[0], "early"
    elif (reported := _reported(line)) is not None:
        said, how = reported, "with an error"
    else:
        return MalformedLineError(number, line, str(error))
    return IncompleteExportError(
        f"Mixpanel ended the export {how}: line {number} is {quote_line(said).strip()!r}"
    )


def _reported(line: bytes) -> bytes | None:
    """The object with which Mixpanel reports an error: the line, or what it ends with."""
    for start in (0, line.rfind(b'{"error"'), line.rfind(b"{")):
        try:
            _decode_error(line[start:])
        except (msgspec.DecodeError, RecursionError):
            continue
        return line[start:]
    return None
