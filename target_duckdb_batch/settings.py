"""The loader's settings: declared as JSON schema, read, checked."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from singer_sdk import typing as th
from singer_sdk.exceptions import ConfigValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_DECLARED: Final = th.PropertiesList(
    th.Property(
        "filepath",
        th.StringType,
        title="Path of the DuckDB file",
        description="The DuckDB file; it is made if there is none. Required, or `path`.",
    ),
    th.Property(
        "path",
        th.StringType,
        title="Path",
        description="Another name of `filepath`, which goes before it.",
    ),
    th.Property(
        "default_target_schema",
        th.StringType,
        default="main",
        title="Schema of the tables",
        description="The schema of the tables.",
    ),
    th.Property(
        "schema_mapping",
        th.ObjectType(additional_properties=True),
        title="Schema mapping",
        description="Schemas for streams named `<source>-<table>`: "
        '`{"<source>": {"target_schema": "<schema>"}}`.',
    ),
    th.Property(
        "memory_limit",
        th.StringType,
        default="512MB",
        title="Memory limit",
        description="What DuckDB may use of memory, e.g. `2GB`; past it, it uses disk. "
        "The process needs about 200 MB more.",
    ),
    th.Property(
        "batch_size_rows",
        th.IntegerType(minimum=1),
        default=100_000,
        title="Rows of a batch",
        description="RECORD messages of a stream that are committed together.",
    ),
    th.Property(
        "delete_batch_files",
        th.BooleanType,
        default=True,
        title="Delete batch files",
        description="Remove the files of a BATCH message once they are committed.",
    ),
    th.Property(
        "storage_options",
        th.ObjectType(additional_properties=True),
        secret=True,
        title="Storage options",
        description="For batch files that are not local: what fsspec needs to open them, beyond "
        "what the environment says.",
    ),
    th.Property(
        "add_metadata_columns",
        th.BooleanType,
        default=False,
        title="Add metadata columns",
        description="Add `_sdc_extracted_at`, `_sdc_batched_at` and `_sdc_deleted_at`.",
    ),
    th.Property(
        "hard_delete",
        th.BooleanType,
        default=False,
        title="Hard delete",
        description="Delete rows with a `_sdc_deleted_at`, and rows of older versions of a "
        "stream. Adds the metadata columns.",
    ),
    th.Property(
        "process_activate_version_messages",
        th.BooleanType,
        default=True,
        title="Process ACTIVATE_VERSION",
        description="Take rows of older versions away: marked by `_sdc_deleted_at`, with "
        "`hard_delete` deleted.",
    ),
    th.Property(
        "data_flattening_max_level",
        th.IntegerType(minimum=0),
        default=0,
        title="Levels to flatten",
        description="Levels of objects in RECORD messages that become columns of their own.",
    ),
    th.Property(
        "primary_key_required",
        th.BooleanType,
        default=False,
        title="Primary key required",
        description="Refuse streams without a key, whose rows can only be appended.",
    ),
    th.Property(
        "validate_records",
        th.BooleanType,
        default=False,
        title="Validate records",
        description="Check RECORD messages against their JSON schema; slow.",
    ),
    th.Property(
        "temp_dir",
        th.StringType,
        title="Temporary directory",
        description="Where DuckDB puts what does not fit in memory, and copies of files that are "
        "not local. Default: beside the DuckDB file.",
    ),
    th.Property(
        "settings",
        th.ObjectType(additional_properties=True),
        title="DuckDB settings",
        description='Settings of DuckDB, e.g. `{"threads": 2}`.',
    ),
)

CONFIG_SCHEMA: Final[dict[str, Any]] = _DECLARED.to_dict()
"""The settings as JSON schema: types, defaults, bounds, descriptions."""

WITHOUT_EFFECT: Final = frozenset(
    {"database", "dbname", "delimiter", "flush_all_streams", "quotechar"}
)
"""Settings of target-duckdb that mean nothing here."""

_SIZE: Final = re.compile(r"\d+(\.\d+)?\s*([KMGT]i?)?B", re.IGNORECASE)
_REMOTE: Final = re.compile(r"(md|motherduck|\w+:/)[:/]", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """The settings, checked."""

    path: Path
    default_target_schema: str = "main"
    schema_mapping: Mapping[str, Any] = field(default_factory=dict)
    memory_limit: str = "512MB"
    batch_size_rows: int = 100_000
    delete_batch_files: bool = True
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    add_metadata_columns: bool = False
    hard_delete: bool = False
    process_activate_version_messages: bool = True
    data_flattening_max_level: int = 0
    primary_key_required: bool = False
    validate_records: bool = False
    temp_dir: Path | None = None
    duckdb: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read a configuration whose types are right.

        Raises:
            ConfigValidationError: If a setting is not valid; it names every problem.
        """
        problems = []
        path = config.get("path") or config.get("filepath") or ""
        if not path:
            problems.append("filepath: the path of the DuckDB file is required")
        elif path == ":memory:" or _REMOTE.match(path):
            problems.append(f"filepath: {path} is not a local file; give the path of one")
        limit = str(config.get("memory_limit") or "512MB")
        if not _SIZE.fullmatch(limit.strip()):
            problems.append(f"memory_limit: {limit!r} is not an amount of memory such as 2GB")
        if config.get("token"):
            problems.append("token: MotherDuck is not supported; use target-duckdb for it")
        mapping = config.get("schema_mapping") or {}
        for source, mapped in mapping.items():
            if not isinstance(mapped, dict) or not mapped.get("target_schema"):
                problems.append(f"schema_mapping: {source} has no target_schema")
        temp_dir = config.get("temp_dir")
        if temp_dir and not Path(temp_dir).is_dir():
            problems.append(f"temp_dir: there is no directory {temp_dir}; make it first")
        if problems:
            raise ConfigValidationError("; ".join(problems), errors=problems, schema=CONFIG_SCHEMA)
        plain = {
            name: config[name]
            for name in (
                "batch_size_rows",
                "delete_batch_files",
                "add_metadata_columns",
                "hard_delete",
                "process_activate_version_messages",
                "data_flattening_max_level",
                "primary_key_required",
                "validate_records",
            )
            if config.get(name) is not None
        }
        return cls(
            path=Path(path).expanduser(),
            default_target_schema=(config.get("default_target_schema") or "").strip() or "main",
            schema_mapping=mapping,
            memory_limit=limit,
            storage_options=config.get("storage_options") or {},
            temp_dir=Path(temp_dir) if temp_dir else None,
            duckdb=config.get("settings") or {},
            **plain,
        )

    @property
    def copies(self) -> Path:
        """Where copies of files go: one folder for each database, so that none stays for long.

        Only one process has a database open, so a later one may remove what it finds.
        """
        name = hashlib.md5(str(self.path.absolute()).encode(), usedforsecurity=False).hexdigest()
        return (self.temp_dir or self.path.parent) / f"target-duckdb-batch-{name[:8]}"

    @property
    def has_metadata_columns(self) -> bool:
        """Whether tables get the metadata columns."""
        return self.add_metadata_columns or self.hard_delete

    def schema_for(self, namespace: str | None) -> str:
        """The schema for streams whose names begin with a namespace."""
        mapped = self.schema_mapping.get(namespace) if namespace else None
        return str(mapped["target_schema"]) if mapped else self.default_target_schema
