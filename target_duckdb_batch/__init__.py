"""target-duckdb-batch: a Singer target that loads files of records into DuckDB."""
