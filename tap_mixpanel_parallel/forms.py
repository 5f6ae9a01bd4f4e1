"""How the events of a run leave: as messages, by the fast way or the SDK's, or as files."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from tap_mixpanel_parallel import mapped
from tap_mixpanel_parallel.convert.conversion import ConversionOptions
from tap_mixpanel_parallel.convert.files import Files, Messages, RecordFile
from tap_mixpanel_parallel.convert.jsonl import JsonLinesFile
from tap_mixpanel_parallel.convert.processes import Processes
from tap_mixpanel_parallel.convert.record_lines import message_encoder, row_encoder, row_maker
from tap_mixpanel_parallel.fetch.threads import run_in_thread
from tap_mixpanel_parallel.run import Way
from tap_mixpanel_parallel.write.output import Handover, Output
from tap_mixpanel_parallel.write.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from tap_mixpanel_parallel.convert.columns import Column
    from tap_mixpanel_parallel.convert.files import Format
    from tap_mixpanel_parallel.machines.cluster import Cluster
    from tap_mixpanel_parallel.settings.batch import BatchConfig
    from tap_mixpanel_parallel.settings.machines import Machines
    from tap_mixpanel_parallel.settings.settings import Settings
    from tap_mixpanel_parallel.streams import EventsStream

_FILE_ROWS: Final = 1_000_000
"""Records of a file that a program takes."""


def as_messages(stream: EventsStream, settings: Settings) -> Way:
    """Events leave as RECORD messages.

    The SDK's way is needed only where it changes a record. Both give the same messages.
    """
    rows = row_maker(
        stream.columns,
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
            return Messages(message_encoder(rows, stream.name, received_at.isoformat()))
        return Messages(mapped.mapped_encoder(stream, stream.tap.writer, rows, received_at))

    return Way(form, partial(Output, stream.sink))


@contextmanager
def as_files(
    stream: EventsStream,
    settings: Settings,
    config: BatchConfig,
    stored: str | None,
    folder: Path,
) -> Iterator[Way]:
    """Events leave as files, with BATCH messages.

    Args:
        stream: The stream.
        settings: The run's.
        config: How files are made, and where they go.
        stored: The last window that has left as files.
        folder: Where windows wait on disk.

    Raises:
        TapError: If files can't be stored.
    """
    writer, now = stream.tap.writer, stream.tap.clock.now()
    output, selected = partial(Output, stream.sink), stream.selected_names
    as_text = settings.properties_format == "string"
    with Storage(
        config, settings.fingerprint, stored, writer.announcer(stream.name, config)
    ) as storage:
        made_in = run_in_thread(partial(storage.begin, now, folder), writer.check)
        stream.logger.info("events leave as files: %s in %s", config.format, config.shown_root)
        form = Files(
            file_factory(config.format, stream.columns, selected, as_text=as_text),
            made_in,
            storage.made_by,
            config.batch_size,
        )
        if settings.machines is not None:
            with _on(settings.machines, settings, form, storage, writer.check) as cluster:
                yield Way(lambda _: form, output, storage.store, cluster=cluster)
            return
        if settings.converters == 1:
            yield Way(lambda _: form, output, storage.store)
            return
        with Processes(settings.converters) as processes:
            yield Way(lambda _: form, output, storage.store, processes)


@contextmanager
def _on(
    machines: Machines,
    settings: Settings,
    form: Files,
    storage: Storage,
    check: Callable[[], None],
) -> Iterator[Cluster]:
    """Other machines, which make attempts."""
    from tap_mixpanel_parallel.machines.cluster import Cluster  # noqa: PLC0415 - an extra
    from tap_mixpanel_parallel.machines.task import Work  # noqa: PLC0415

    # Where the default is meant, each machine has its own.
    spool = None if settings.spool_dir == Path(tempfile.gettempdir()) else settings.spool_dir
    work = Work(ConversionOptions.of(settings), form, storage.staging, spool)
    with ExitStack() as stack:
        stack.callback(run_in_thread, storage.remove_staged, check)
        with storage.probing() as probe:
            connecting = partial(stack.enter_context, Cluster(machines, work, probe))
            cluster = run_in_thread(connecting, check)
        yield cluster


def as_rows(stream: EventsStream) -> Way:
    """Events are handed over as lines of JSON, in the file of each part."""
    rows = row_maker(
        stream.columns,
        properties_as_text=stream.settings.properties_format == "string",
        selected=stream.selected_names,
    )
    return Way(lambda _: Messages(row_encoder(rows)), partial(Handover, stream.sink.keep))


def as_tables(stream: EventsStream, folder: Path) -> Way:
    """Events are handed over as Parquet, in the files of each part.

    Args:
        stream: The stream.
        folder: Where the files are made.
    """
    begin = file_factory("parquet", stream.columns, stream.selected_names, as_text=True)
    form = Files(begin, folder, "spool_dir", _FILE_ROWS)
    return Way(lambda _: form, partial(Handover, stream.sink.keep))


def file_factory(
    file_format: str, columns: tuple[Column, ...], selected: tuple[str, ...], *, as_text: bool
) -> Callable[[BinaryIO], RecordFile]:
    """What makes a file of a format.

    Args:
        file_format: `parquet` or `jsonl`.
        columns: All of a record's.
        selected: The names of those that it has.
        as_text: Whether `properties` is text in JSON lines.
    """
    if file_format == "parquet":
        from tap_mixpanel_parallel.convert.parquet import ParquetFile  # noqa: PLC0415 - an extra

        return partial(ParquetFile, columns, selected)
    return partial(JsonLinesFile, columns, selected, properties_as_text=as_text)
