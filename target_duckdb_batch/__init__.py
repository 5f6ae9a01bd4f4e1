"""target-duckdb-batch: a Singer target that loads files of records into DuckDB."""

from target_duckdb_batch.target import TargetDuckDBBatch

__all__ = ["TargetDuckDBBatch"]
