"""Records through the SDK, where a stream map, flattening or a selection changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from singer_sdk.mapper import SameRecordTransform
from singer_sdk.singerlib.json import deserialize_json

from tap_mixpanel_parallel.convert.columns import NAMES
from tap_mixpanel_parallel.convert.record_lines import encode_row
from tap_mixpanel_parallel.exceptions import TapError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tap_mixpanel_parallel.convert.record_lines import Encode, Rows
    from tap_mixpanel_parallel.convert.records import EventRecord
    from tap_mixpanel_parallel.messages import MessageWriter
    from tap_mixpanel_parallel.streams import EventsStream


def is_unchanged(stream: EventsStream) -> bool:
    """Whether the SDK would pass every record on as it is."""
    maps = stream.stream_maps
    return (
        len(maps) == 1
        and type(maps[0]) is SameRecordTransform
        and not maps[0].flattening_enabled
        and all(stream.mask["properties", name] for name in NAMES)
    )


def mapped_encoder(
    stream: EventsStream, writer: MessageWriter, rows: Rows, time_extracted: datetime
) -> Encode:
    """Encode records as the messages that the SDK makes of them."""

    def lines(records: list[EventRecord]) -> Iterable[bytes]:
        for record, row in zip(records, rows(records), strict=True):
            try:
                messages = list(stream.map_record(deserialize_json(encode_row(row))))
            except Exception as error:  # noqa: BLE001 - a map's expression raises anything
                raise TapError(
                    f"stream_maps: event {record.event_id.hex()} can't be mapped: "
                    f"{type(error).__name__}: {error}"
                ) from None
            for message in messages:
                message.time_extracted = time_extracted
                yield writer.line(message)

    return lambda records: b"".join(lines(records))
