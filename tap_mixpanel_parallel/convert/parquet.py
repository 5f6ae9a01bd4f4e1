"""Records as Parquet. Imported only where Parquet is wanted: it needs the extra `files`."""

from __future__ import annotations

import base64
from sys import getsizeof
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tap_mixpanel_parallel.convert.columns import column_values

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from tap_mixpanel_parallel.convert.columns import Column, Kind
    from tap_mixpanel_parallel.convert.records import EventRecord

_ROW_GROUP: Final = 65_536
_BLOCK: Final = 2_048
"""Records that become arrays together: as arrays they take less memory."""

_BLOCK_BYTES: Final = 1 << 22
"""A block ends early where events are long: each record keeps its own piece of the body."""

_LONG: Final = 1 << 10
"""Bytes of properties from which on the values of columns are measured, too: one character
outside of ASCII makes a text several times as long."""

_ROW_GROUP_BYTES: Final = 1 << 24
"""A row group ends early where events are long."""

_LEVEL: Final = 1
"""Of zstd: the highest at which compression is not what takes the time."""

_POOL: Final = pa.system_memory_pool()
"""Arrow's own pools keep a third more memory than is in use."""

_TYPES: Final[dict[Kind, pa.DataType]] = {
    "key": pa.string(),
    "text": pa.string(),
    "time": pa.timestamp("ms", "UTC"),
    "json": pa.json_(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
}


class ParquetFile:
    """A Parquet file that is being written."""

    def __init__(
        self, columns: Sequence[Column], selected: Collection[str], file: BinaryIO
    ) -> None:
        self._columns = [
            (place, column) for place, column in enumerate(columns) if column.name in selected
        ]
        self._schema = pa.schema([(each.name, _TYPES[each.kind]) for _, each in self._columns])
        plain = pa.schema([(field.name, _plain(field.type)) for field in self._schema])
        short = [each.name for _, each in self._columns if each.kind not in {"key", "json"}]
        self._writer = pq.ParquetWriter(
            file,
            self._schema,
            compression="zstd",
            compression_level=_LEVEL,
            use_dictionary=short,
            write_statistics=short,
            store_schema=False,
            memory_pool=_POOL,
        )
        # To Arrow's readers JSON is text: earlier Polars fails on Arrow's own JSON type, and
        # without any schema of Arrow's it takes Parquet's for bytes.
        schema = base64.b64encode(plain.serialize()).decode()
        self._writer.add_key_value_metadata({"ARROW:schema": schema})
        self._records: list[EventRecord] = []
        self._blocks: list[pa.RecordBatch] = []
        self._rows = self._bytes = self._waiting = 0

    def write(self, records: list[EventRecord]) -> None:
        """Add some records."""
        self._records += records
        self._waiting += sum(map(_size, records))
        if len(self._records) >= _BLOCK or self._waiting >= _BLOCK_BYTES:
            self._end_block()

    def close(self) -> None:
        """Make the file whole."""
        self._end_block()
        self._end_row_group()
        self._writer.close()

    def abandon(self) -> None:
        """Write nothing more, not even its end; pyarrow would try when it is freed."""
        self._writer.is_open = False

    def _end_block(self) -> None:
        if not self._records:
            return
        values = column_values(self._records)
        self._records, self._waiting = [], 0
        block = pa.RecordBatch.from_arrays(
            [_array(column.kind, values[place]) for place, column in self._columns],
            schema=self._schema,
        )
        self._blocks.append(block)
        self._rows += block.num_rows
        self._bytes += block.nbytes
        if self._rows >= _ROW_GROUP or self._bytes >= _ROW_GROUP_BYTES:
            self._end_row_group()

    def _end_row_group(self) -> None:
        if not self._blocks:
            return
        table = pa.Table.from_batches(self._blocks)
        self._blocks, self._rows, self._bytes = [], 0, 0
        self._writer.write_table(table)


def _size(record: EventRecord) -> int:
    """About how many bytes a record takes."""
    size = len(memoryview(record.properties))
    return size if size < _LONG else size + sum(map(getsizeof, record.lifted))


def _array(kind: Kind, values: Iterable[Any]) -> pa.Array:
    """The values of a column as Arrow has them."""
    if kind == "json":
        texts = [None if value is None else bytes(value) for value in values]
        return pa.ExtensionArray.from_storage(
            _TYPES[kind], pa.array(texts, pa.string(), memory_pool=_POOL)
        )
    if kind == "key":
        values = [key.hex() for key in values]
    return pa.array(values, _TYPES[kind], memory_pool=_POOL)


def _plain(kind: pa.DataType) -> pa.DataType:
    return getattr(kind, "storage_type", kind)
