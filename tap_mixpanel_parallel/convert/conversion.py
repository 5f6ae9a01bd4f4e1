"""From a window's body to a part: all of the window in an output's form, or an error.

Nothing of a window leaves before all of it is here. The body is read once: decompressed,
split into lines, checked line by line, turned into records, and written.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import compress, count
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.convert.body import PIECE, are_utf8, read_blocks
from tap_mixpanel_parallel.convert.day_counts import DayCounts
from tap_mixpanel_parallel.convert.duplicates import Repeats, find_replaced
from tap_mixpanel_parallel.convert.malformed import Malformed, Sieve
from tap_mixpanel_parallel.convert.records import EventReader
from tap_mixpanel_parallel.convert.surrogates import mend
from tap_mixpanel_parallel.exceptions import (
    IncompleteExportError,
    MalformedLineError,
    MemoryShortError,
    drop_frames,
)
from tap_mixpanel_parallel.fetch.spool import spooling

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date
    from pathlib import Path
    from zoneinfo import ZoneInfo

    from tap_mixpanel_parallel.convert.files import Format
    from tap_mixpanel_parallel.convert.records import EventRecord
    from tap_mixpanel_parallel.fetch.job import Download
    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.settings.property_columns import PropertyColumn
    from tap_mixpanel_parallel.settings.settings import Settings

_BLANKS: Final = b" \t\r"


@dataclass(frozen=True, slots=True)
class ConversionOptions:
    """What all windows of a run have in common.

    Attributes:
        zone: The zone in which the project stores times.
        deduplicate: Whether only the latest of several lines of one event is taken.
        tolerate_malformed: Whether lines that are not events go to a file of their own,
            where one would else be an error. The last line never does: with it, the export
            may have ended early.
        columns: The properties that become columns.
    """

    zone: ZoneInfo
    deduplicate: bool = False
    tolerate_malformed: bool = False
    columns: tuple[PropertyColumn, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> ConversionOptions:
        """What the settings say."""
        return cls(
            settings.project_timezone,
            deduplicate=settings.deduplicate,
            tolerate_malformed=settings.on_malformed_line == "quarantine",
            columns=settings.property_columns,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A window that has proved complete, in the form in which it leaves.

    Attributes:
        window: Its days.
        path: The file of the messages with which it leaves, as whole lines.
        events: How many there are.
        malformed: The lines that are not events; None if there are none.
        strays: How many events of the body lie outside the window's days.
        files: The files of data, which its message announces; none if records are messages.
        staged: The names of its files in the root, if another machine has put them there.
        stored: Its place among the windows whose files are stored; None if it has none.
        by_day: How many events each day of the window has, if it has any.
        duplicates: How many events repeat one of the window, or have been dropped as they do;
            None if they were not counted.
        misfits: How many values did not fit their column, by its name.
    """

    window: Window
    path: Path
    events: int
    malformed: Malformed | None = None
    strays: int = 0
    files: tuple[Path, ...] = ()
    staged: tuple[str, ...] = ()
    stored: str | None = None
    by_day: Mapping[date, int] = field(default_factory=dict)
    duplicates: int | None = 0
    misfits: Mapping[str, int] = field(default_factory=dict)

    def discard(self) -> None:
        """Remove its files."""
        for path in (self.path, *self.files):
            path.unlink(missing_ok=True)
        if self.malformed is not None:
            self.malformed.path.unlink(missing_ok=True)


class Conversion:
    """Turns a body into a part, a block of lines at each step of the iteration."""

    def __init__(
        self,
        window: Window,
        download: Download,
        options: ConversionOptions,
        form: Format,
        *,
        piece: int = PIECE,
    ) -> None:
        """Prepare; nothing is read before the first step.

        Args:
            window: Its days.
            download: The body.
            options: What all windows of a run have in common.
            form: What the records become.
            piece: How many bytes of the body are worked on at a time.
        """
        self._window = window
        self._download = download
        self._options = options
        self._form = form
        self._piece = piece
        self._path = download.path.with_suffix(".lines")
        self._malformed_path = download.path.with_suffix(".malformed")
        self._part: Part | None = None

    @property
    def part(self) -> Part:
        """The part, once the iteration has ended.

        Raises:
            ValueError: If it has not.
        """
        if self._part is None:
            raise ValueError(f"{self._window} is not converted yet")
        return self._part

    def __iter__(self) -> Iterator[None]:
        """Do the work, a step at a time.

        Raises:
            IncompleteExportError: If the body is damaged, ends before the export does, or is
                that of another window.
            MalformedLineError: If a line is not an event.
            MemoryShortError: If there is not enough memory.
            SpoolError: If a file can't be read or written; none is left then.
        """
        try:
            yield from self._convert()
        except BaseException as error:
            for path in (self._path, self._malformed_path):
                with suppress(OSError):
                    path.unlink()
            if isinstance(error, MemoryError):
                raise MemoryShortError from None
            raise

    def _convert(self) -> Iterator[None]:
        replaced = bytearray()
        if self._options.deduplicate:
            replaced = yield from find_replaced(self._read)
        ordinal = events = 0
        repeats = Repeats()
        days = DayCounts()
        reader = EventReader(self._options.zone, self._window, self._options.columns)
        with (
            Sieve(self._malformed_path) as sieve,
            spooling(self._path),
            self._form.open(self._path) as writer,
        ):
            for block in self._read_with(reader, sieve):
                records = block
                if replaced:
                    kept = (not gone for gone in replaced[ordinal : ordinal + len(block)])
                    records = list(compress(block, kept))
                elif not self._options.deduplicate:
                    repeats.add(records)
                ordinal += len(block)
                events += len(records)
                days.add(records)
                writer.write(records)
                yield
            if sieve.malformed and not events:
                raise sieve.malformed.first
            if replaced and ordinal != len(replaced):
                raise IncompleteExportError("the body could not be read twice alike")
            reader.strays.check(ordinal)
        self._part = Part(
            self._window,
            self._path,
            events,
            sieve.malformed,
            reader.strays.count,
            tuple(writer.files),
            by_day=days.within(self._window, self._options.zone),
            misfits=dict(reader.lifter.misfits),
            duplicates=sum(replaced) or repeats.count,
        )

    def _read(self) -> Iterator[list[EventRecord]]:
        """The records, for a look ahead that keeps nothing."""
        return self._read_with(EventReader(self._options.zone, self._window), None)

    def _read_with(self, reader: EventReader, sieve: Sieve | None) -> Iterator[list[EventRecord]]:
        """The records, a few hundred at a time.

        Args:
            reader: Turns lines into records.
            sieve: Takes the lines that are not events, if they are tolerated; None has them
                passed over.
        """
        before = events = 0
        malformed: MalformedLineError | None = None
        events_before = 0
        for block in read_blocks(self._download, piece=self._piece):
            records: list[EventRecord] = []
            lines: Iterator[bytes] = iter(block.lines)
            if not block.is_utf8:
                lines = map(_as_utf8, lines, count(before + 1))
            number = before + 1
            while True:
                try:
                    for record in reader.read(lines, number):
                        records.append(record)  # noqa: PERF402 - kept if an error follows
                    break
                except MalformedLineError as error:
                    number = error.line_number + 1
                    line = block.lines[error.line_number - before - 1]
                    if not line.strip(_BLANKS):
                        continue
                    if not self._options.tolerate_malformed:
                        raise
                    drop_frames(error)
                    if sieve is not None:
                        sieve.add(line, error)
                    malformed, events_before = error, events + len(records)
            before += len(block.lines)
            events += len(records)
            yield records
        if malformed and events == events_before:
            raise malformed  # the export may well have ended in its midst


def _as_utf8(line: bytes, number: int) -> bytes:
    """The line, with encoded surrogates mended.

    Raises:
        MalformedLineError: If it is not UTF-8 even then.
    """
    if are_utf8([line]):
        return line
    mended = mend(line)
    if not are_utf8([mended]):
        raise MalformedLineError(number, line, "it is not UTF-8")
    return mended
