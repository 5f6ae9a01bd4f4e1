"""How the events of a run leave: as messages, by the fast way or the SDK's, or as files."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from tap_mixpanel_parallel import mapped
from tap_mixpanel_parallel.convert.columns import Column, all_columns
from tap_mixpanel_parallel.convert.files import Files, Messages, RecordFile
from tap_mixpanel_parallel.convert.jsonl import JsonLinesFile
from tap_mixpanel_parallel.convert.processes import Processes
from tap_mixpanel_parallel.convert.record_lines import message_encoder, row_encoder
from tap_mixpanel_parallel.write.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Part
    from tap_mixpanel_parallel.convert.files import Format
    from tap_mixpanel_parallel.messages import MessageWriter
    from tap_mixpanel_parallel.settings.batch import BatchConfig
    from tap_mixpanel_parallel.settings.settings import Settings
    from tap_mixpanel_parallel.streams import EventsStream


@dataclass(frozen=True, slots=True)
class Way:
    """How events leave.

    Attributes:
        form: What the records of a window become, by when it was received.
        store: Has the files of a part stored; None if records leave as messages.
        processes: Convert bodies; None leaves it to the run's own process.
    """

    form: Callable[[datetime], Format]
    store: Callable[[Part], Part] | None = None
    processes: Processes | None = None


def as_messages(stream: EventsStream, writer: MessageWriter, settings: Settings) -> Way:
    """Events leave as RECORD messages.

    The SDK's way is needed only where it changes a record. Both give the same messages.
    """
    encode_rows = row_encoder(
        all_columns(settings.property_columns),
        properties_as_text=settings.properties_format == "string",
    )
    is_fast = mapped.is_unchanged(stream)
    if is_fast:
        stream.logger.debug("the fast record path serves")
    elif stream.ABORT_AT_RECORD_COUNT is None:
        stream.logger.info(
            "the SDK's record path serves: a stream map, flattening or a selection changes records"
        )

    def form(received_at: datetime) -> Format:
        if is_fast:
            return Messages(message_encoder(encode_rows, stream.name, received_at.isoformat()))
        return Messages(mapped.mapped_encoder(stream, writer, encode_rows, received_at))

    return Way(form)


@contextmanager
def as_files(
    stream: EventsStream,
    writer: MessageWriter,
    settings: Settings,
    config: BatchConfig,
    stored: str | None,
    folder: Path,
    now: datetime,
) -> Iterator[Way]:
    """Events leave as files, with BATCH messages.

    Raises:
        TapError: If files can't be stored.
    """
    columns = all_columns(settings.property_columns)
    selected = tuple(each.name for each in columns if stream.mask["properties", each.name])
    with Storage(
        config, settings.fingerprint, stored, writer.announcer(stream.name, config)
    ) as storage:
        made_in = storage.begin(now, folder)
        stream.logger.info("events leave as files: %s in %s", config.format, config.shown_root)
        form = Files(
            _beginner(config, columns, selected, settings.properties_format),
            made_in,
            storage.made_by,
            config.batch_size,
        )
        if settings.converters == 1:
            yield Way(lambda _: form, storage.store)
            return
        with Processes(settings.converters) as processes:
            yield Way(lambda _: form, storage.store, processes)


def _beginner(
    config: BatchConfig,
    columns: tuple[Column, ...],
    selected: tuple[str, ...],
    properties_format: str,
) -> Callable[[BinaryIO], RecordFile]:
    """What begins a file of the format."""
    if config.format == "parquet":
        from tap_mixpanel_parallel.convert.parquet import ParquetFile  # noqa: PLC0415 - an extra

        return partial(ParquetFile, columns, selected)
    as_text = properties_format == "string"
    return partial(JsonLinesFile, columns, selected, properties_as_text=as_text)
