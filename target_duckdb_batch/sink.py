"""A stream on its way into its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from singer_sdk.exceptions import InvalidRecord
from singer_sdk.sinks import Sink

from target_duckdb_batch import records
from target_duckdb_batch.connection import first_line
from target_duckdb_batch.errors import (
    InputError,
    LoaderError,
    ManifestError,
    NullKeyError,
    ValueDoesNotFitError,
)
from target_duckdb_batch.manifest import Manifest
from target_duckdb_batch.statements import ROW
from target_duckdb_batch.table import EXTRACTED_AT, table_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec
    from singer_sdk.helpers._batch import BaseBatchFileEncoding
    from singer_sdk.sinks.core import BaseJSONSchemaValidator

    from target_duckdb_batch.target import TargetDuckDBBatch


class StreamSink(Sink):
    """Collects the records of a stream, and loads them together."""

    def __init__(
        self,
        target: TargetDuckDBBatch,
        stream_name: str,
        schema: dict[str, Any],
        key_properties: Sequence[str] | None,
    ) -> None:
        """Make a sink, and its table ready; the SDK calls it."""
        super().__init__(target, stream_name, schema, key_properties)
        self._settings = target.settings
        self._database = target.database
        self.table = table_of(
            stream_name, self.original_schema, self.key_properties, self._settings
        )
        self._names = [column.source for column in self.table.columns]
        self._key_places = [self.table.columns.index(key) for key in self.table.keys]
        self._spool = self._database.spool(self.table)
        self._version: int | None = None
        self._time_extracted: str | None = None
        # Not in `setup`: if that fails, the SDK logs an error of its own beside ours.
        self._database.prepare(self.table)

    @property
    def max_size(self) -> int:
        """How many records are loaded together."""
        return self._settings.batch_size_rows

    def get_validator(self) -> BaseJSONSchemaValidator | None:
        """What checks records, if they are to be checked."""
        return super().get_validator() if self.config.get("validate_records") else None

    def takes(self, version: int | None) -> bool:
        """Whether a record of a version can be loaded together with those that wait."""
        return not self.current_size or version == self._version

    def append(
        self,
        record: bytes | msgspec.Raw,
        version: int | None,
        time_extracted: str | None,
        where: str = "a record",
    ) -> None:
        """Take a record.

        Args:
            record: Its JSON text.
            version: The version of the stream that it belongs to.
            time_extracted: When the tap read it.
            where: What it is, for messages.

        Raises:
            InputError: If it is not a JSON object.
            NullKeyError: If it has no key.
        """
        try:
            row = records.texts(record, self.table.columns)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"stream {self.stream_name}: {where} can't be read: {error}: {_start(record)!r}"
            ) from None
        for place in self._key_places:
            if row[place] is None:
                raise NullKeyError(
                    f"stream {self.stream_name}: {self.table.columns[place].source} of its key is "
                    f"missing, null or empty in {where}, {_start(record)}; "
                    "every record needs its key"
                )
        if EXTRACTED_AT in self.table.columns:
            row[self.table.columns.index(EXTRACTED_AT)] = time_extracted
        self._version = version
        self._spool.append(self._names, row)

    def process_record(self, record: dict[str, Any], context: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Take a record that the SDK has mapped or checked."""
        self.append(records.encoded(record), self._version, self._time_extracted)

    def process_batch(self, context: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Load the records that wait."""
        self._database.load(self.table, self._spool.source(), self._version)
        self._spool.clear()

    def process_batch_files(
        self,
        encoding: BaseBatchFileEncoding,
        files: Sequence[str],
        version: int | None = None,
    ) -> None:
        """Load the files of a BATCH message, and remove them.

        Raises:
            LoaderError: If they can't be loaded; then nothing of them is.
        """
        manifest = Manifest.of(self.stream_name, files, self._settings.storage_options)
        manifest.check()
        if not files:
            return
        if encoding.format == "parquet":
            self._load_parquet(manifest, version)
        else:
            self._load_lines(manifest, encoding.compression, version)
        if self._settings.delete_batch_files:
            manifest.remove(self.logger)

    def activate_version(self, new_version: int) -> None:
        """Take rows of older versions away."""
        self._database.activate_version(self.table, new_version)

    def _load_parquet(self, manifest: Manifest, version: int | None) -> None:
        if any(len(column.path) > 1 for column in self.table.columns):
            raise InputError(
                f"stream {self.stream_name}: data_flattening_max_level does not go with batch "
                "files in Parquet; remove the setting, or use jsonl in the tap's batch_config"
            )
        if any(column.source.lower() == ROW for column in self.table.columns):
            raise InputError(
                f"stream {self.stream_name}: DuckDB reads no Parquet file with a column {ROW}; "
                "give it another name in the tap, or use jsonl in the tap's batch_config"
            )
        with manifest.local_paths(self._settings.copies) as paths:
            try:
                source = self._database.parquet(paths)
                count = self._database.load(self.table, source, version)
            except (NullKeyError, ValueDoesNotFitError):
                raise
            except (LoaderError, duckdb.Error) as error:
                for url, path in zip(manifest.urls, paths, strict=True):
                    damage = _damage(path)
                    if damage is not None:
                        raise manifest.damaged(url, damage) from None
                if isinstance(error, LoaderError):
                    raise
                raise ManifestError(f"stream {self.stream_name}: {first_line(error)}") from None
        self._count(count)

    def _load_lines(self, manifest: Manifest, compression: str | None, version: int | None) -> None:
        for url in manifest.urls:
            shown = manifest.shown(url)
            for number, line in enumerate(manifest.lines(url, compression), 1):
                if line.strip():
                    self.append(line, version, None, f"{shown}, line {number}")
        if len(self._spool):
            count = self._database.load(self.table, self._spool.source(), version)
            self._spool.clear()
            self._count(count)

    def _count(self, rows: int) -> None:
        self.record_counter_metric.increment(rows)
        self.tally_record_written(rows)

    # The SDK's metadata columns are others than target-duckdb's, which `table` has.

    @property
    def include_sdc_metadata_properties(self) -> bool:
        """Whether the SDK calls what follows for each record."""
        return True

    def _add_sdc_metadata_to_schema(self) -> None:
        pass

    def _add_sdc_metadata_to_record(
        self,
        record: dict[str, Any],  # noqa: ARG002
        message: dict[str, Any],
        context: dict[str, Any],  # noqa: ARG002
    ) -> None:
        self._version = message.get("version")
        self._time_extracted = message.get("time_extracted")

    def _validate_and_parse(self, record: dict[str, Any]) -> dict[str, Any]:
        """Check a record, and leave its times as text: DuckDB reads them."""
        if self._validator is not None:
            try:
                self._validator.validate(record)
            except InvalidRecord as error:
                raise InputError(
                    f"stream {self.stream_name}: validate_records: {error.error_message} in "
                    f"{_start(records.encoded(record))}"
                ) from None
        return record


def _start(record: bytes | msgspec.Raw) -> str:
    return bytes(record)[:200].decode("utf-8", "replace").strip()


def _damage(path: str) -> str | None:
    """What is wrong with a Parquet file; None if nothing is."""
    try:
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches():
                pass
    except (OSError, pa.ArrowException) as error:
        return first_line(error)
    return None
