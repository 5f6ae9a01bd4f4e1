"""Records on their way into DuckDB: as text, in a temporary table that may go to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import duckdb
import pyarrow as pa

from target_duckdb_batch.connection import rows
from target_duckdb_batch.statements import Source, identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from target_duckdb_batch.errors import LoaderError

_ROW: Final = "_sdc_batch_row"
_ROWS: Final = 10_000
_BYTES: Final = 16_000_000


class Spool:
    """Collects rows of texts; their order is kept."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        number: int,
        explained: Callable[[duckdb.Error], LoaderError],
    ) -> None:
        """Make an empty one.

        Args:
            connection: The connection that loads it.
            number: Tells it from the others of the connection.
            explained: What to raise if DuckDB can't keep the rows; so do the other methods.
        """
        self._connection = connection
        self._explained = explained
        self._name = f"_spool_{number}"
        self._columns: tuple[str, ...] = ()
        self._rows: list[list[str | None]] = []
        self._bytes = 0
        self._written = 0

    def __len__(self) -> int:
        """How many rows it holds."""
        return self._written + len(self._rows)

    def append(self, columns: Sequence[str], row: list[str | None]) -> None:
        """Add a row; the columns are the same for all rows until `clear`."""
        self._columns = tuple(columns)
        self._rows.append(row)
        self._bytes += sum(map(len, filter(None, row)))
        if len(self._rows) >= _ROWS or self._bytes >= _BYTES:
            self._write()

    def source(self) -> Source:
        """The rows, to load."""
        self._write()
        return Source(
            self._table,
            (_ROW,),
            dict.fromkeys(self._columns, "VARCHAR"),
        )

    def clear(self) -> None:
        """Forget the rows."""
        self._rows, self._bytes, self._written = [], 0, 0
        rows(self._connection, f"DROP TABLE IF EXISTS {self._table}")

    @property
    def _table(self) -> str:
        return f"temp.main.{identifier(self._name)}"

    def _write(self) -> None:
        if not self._rows and self._written:
            return
        values = zip(*self._rows, strict=True) if self._rows else [[] for _ in self._columns]
        arrays = [pa.array(column, pa.string()) for column in values]
        count = len(self._rows)
        arrays.append(pa.array(range(self._written, self._written + count), pa.int64()))
        chunk = pa.Table.from_arrays(arrays, names=[*self._columns, _ROW])
        self._connection.register("_chunk", chunk)
        try:
            if self._written:
                rows(self._connection, f"INSERT INTO {self._table} SELECT * FROM _chunk")
            else:
                name = identifier(self._name)
                rows(self._connection, f"CREATE TEMP TABLE {name} AS SELECT * FROM _chunk")
        except duckdb.Error as error:
            raise self._explained(error) from None
        finally:
            self._connection.unregister("_chunk")
        self._written += count
        self._rows, self._bytes = [], 0
