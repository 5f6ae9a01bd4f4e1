"""From records to files: what each format has in common."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self

from tap_mixpanel_parallel.fetch.spool import create, spooling, write_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tap_mixpanel_parallel.convert.record_lines import Encode
    from tap_mixpanel_parallel.convert.records import EventRecord


class Writer(Protocol):
    """Takes the records of a window.

    Attributes:
        files: The files of data that it has made; none if the records leave as messages.
    """

    files: list[Path]

    def write(self, records: list[EventRecord]) -> None:
        """Take some records."""


class Format(Protocol):
    """What a window's records become."""

    def open(self, path: Path) -> AbstractContextManager[Writer]:
        """Begin a window.

        Args:
            path: The file of the messages with which the window leaves.
        """


class RecordFile(Protocol):
    """A file of data that is being written."""

    def write(self, records: list[EventRecord]) -> None:
        """Add some records."""

    def close(self) -> None:
        """Make the file whole."""

    def abandon(self) -> None:
        """Write nothing more: the file is removed."""


@dataclass(frozen=True, slots=True)
class Messages:
    """Records leave as messages, in one file of lines."""

    encode: Encode

    def open(self, path: Path) -> RecordWriter:
        """Begin a window."""
        return RecordWriter(path, self.encode)


class RecordWriter:
    """Writes RECORD messages. Context manager."""

    def __init__(self, path: Path, encode: Encode) -> None:
        self.files: list[Path] = []
        self._file = create(path)
        self._encode = encode

    def write(self, records: list[EventRecord]) -> None:
        """Write some records."""
        write_all(self._file, self._encode(records))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Files:
    """Records leave as files of data. It can be pickled.

    Attributes:
        begin: Begins a file of the format.
        folder: Where the files are made.
        setting: The setting that says where they lie, for an error.
        batch_size: How many records a file has at most.
    """

    begin: Callable[[BinaryIO], RecordFile]
    folder: Path
    setting: str
    batch_size: int

    def open(self, path: Path) -> FileWriter:
        """Begin a window."""
        return FileWriter(self, path.stem)


class FileWriter:
    """Writes one file of data after another. Context manager: an error leaves no file."""

    def __init__(self, form: Files, stem: str) -> None:
        """Write files whose names begin like this."""
        self.files: list[Path] = []
        self._form = form
        self._stem = stem
        self._count = 0
        self._raw: BinaryIO | None = None
        self._file: RecordFile | None = None

    def write(self, records: list[EventRecord]) -> None:
        """Write some records.

        Raises:
            SpoolError: If a file can't be written.
        """
        with spooling(self._form.folder / self._stem, self._form.setting):
            while records:
                file = self._file or self._next()
                some = records[: self._form.batch_size - self._count]
                file.write(some)
                self._count += len(some)
                records = records[len(some) :]
                if self._count == self._form.batch_size:
                    self._end()

    def _next(self) -> RecordFile:
        path = self._form.folder / f"{self._stem}-{len(self.files):04}.part"
        self._raw = path.open("wb")
        self.files.append(path)
        self._file = self._form.begin(self._raw)
        return self._file

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file, self._count = None, 0
        if self._raw is not None:
            self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Make the last file whole; after an error, remove all.

        Raises:
            SpoolError: If it can't be written.
        """
        if kind is None:
            try:
                with spooling(self._form.folder / self._stem, self._form.setting):
                    self._end()
            except BaseException:
                self._remove()
                raise
        else:
            self._remove()

    def _remove(self) -> None:
        if self._file is not None:
            self._file.abandon()
        if self._raw is not None:
            with suppress(OSError):
                self._raw.close()
        for path in self.files:
            with suppress(OSError):
                path.unlink()
