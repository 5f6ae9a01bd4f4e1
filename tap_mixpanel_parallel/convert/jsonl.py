"""Records as JSON lines, compressed with gzip: the `record` of each RECORD message."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from isal import igzip

from tap_mixpanel_parallel.convert.record_lines import row_encoder, row_maker

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tap_mixpanel_parallel.convert.columns import Column
    from tap_mixpanel_parallel.convert.records import EventRecord


class JsonLinesFile:
    """A file of JSON lines that is being written."""

    def __init__(
        self,
        columns: Sequence[Column],
        selected: Collection[str],
        file: BinaryIO,
        *,
        properties_as_text: bool,
    ) -> None:
        self._encode = row_encoder(
            row_maker(columns, properties_as_text=properties_as_text, selected=selected)
        )
        self._gzip = igzip.IGzipFile(fileobj=file, mode="wb", filename="", mtime=0)

    def write(self, records: list[EventRecord]) -> None:
        """Add some records."""
        self._gzip.write(self._encode(records))

    def close(self) -> None:
        """Make the file whole."""
        self._gzip.close()

    def abandon(self) -> None:
        """Write nothing more."""
