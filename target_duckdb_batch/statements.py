"""The SQL of a load, as text. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from target_duckdb_batch.columns import Column
    from target_duckdb_batch.table import Table

STAGE: Final = 'temp.main."_stage"'
"""The keys of a batch, and what decides between its rows."""

SUPERSEDED: Final = 'temp.main."_superseded"'
"""Rows of a batch that another row of the same key replaces."""

FILE: Final = "_sdc_batch_file"
"""The column with the file that a row is in."""

ROW: Final = "file_row_number"
"""The column with a row's number in its file; DuckDB gives it no other name."""

SLACK: Final = "INTERVAL 1 DAY"
"""How far a range reaches beyond a batch: a change of time zone moves times by less."""

SHOWN: Final = 100
"""How much of a value an error shows."""

_PATTERN: Final = re.compile(r"[*?[]")
_TEXT: Final = "VARCHAR"
_ZONED: Final = "TIMESTAMP WITH TIME ZONE"


@dataclass(frozen=True)
class Source:
    """Rows to load, as DuckDB reads them.

    Attributes:
        relation: What stands after FROM.
        order: Expressions that put its rows in order, and tell them apart.
        types: Its columns and their types.
        fixed: SQL of values that all rows have, by column of the table.
    """

    relation: str
    order: tuple[str, ...]
    types: Mapping[str, str]
    fixed: Mapping[str, str] = field(default_factory=dict)


def identifier(name: str) -> str:
    """A name in quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in quotes."""
    return "'" + text.replace("'", "''") + "'"


def qualified(catalog: str, table: Table) -> str:
    """A table's whole name: a catalog may be named like a schema."""
    return ".".join(identifier(part) for part in (catalog, table.schema, table.name))


def files(paths: Iterable[str], types: Mapping[str, str]) -> Source:
    """The rows of Parquet files."""
    paths = list(paths)
    listed = f"[{', '.join(map(literal, paths))}]"
    as_they_are = _PATTERN.sub(r"[\g<0>]", ", ".join(map(literal, paths)))
    # A folder may be named like a pattern, or like a partition: `event=all`.
    relation = (
        f"read_parquet([{as_they_are}], union_by_name=true, hive_partitioning=false, "
        f"{ROW}=true, filename={literal(FILE)})"
    )
    return Source(relation, (f"list_position({listed}, {FILE})", ROW), types)


def value(column: Column, source: Source, cast: str = "CAST") -> str:
    """A column's value in the source, in the table's type.

    Args:
        column: The column of the table.
        source: Where its value comes from.
        cast: `CAST` fails where a value does not fit, `TRY_CAST` gives NULL.
    """
    if column.name in source.fixed:
        return f"CAST({source.fixed[column.name]} AS {column.type})"
    given = source.types.get(column.source)
    if given is None:
        return f"CAST(NULL AS {column.type})"
    raw = identifier(column.source)
    if given == "JSON":  # Parquet's JSON is not checked as it is read
        raw, given = f"CAST({raw} AS {_TEXT})", _TEXT
    if given == _TEXT:
        raw = f"nullif({raw}, '')"
    if given == column.type:
        return raw
    if column.type == "JSON" and given != _TEXT:
        return f"to_json({raw})"
    if column.type == _TEXT and given.endswith(("]", ")")) and not given.startswith("DECIMAL"):
        return f"CAST(to_json({raw}) AS {_TEXT})"
    if column.type == "TIMESTAMP" and given == _TEXT:
        # Later DuckDB passes over the offset in a text that becomes a plain TIMESTAMP.
        raw = f"{cast}({raw} AS {_ZONED})"
    return f"{cast}({raw} AS {column.type})"


def unfit(column: Column, source: Source) -> str | None:
    """Finds a value of a column that does not fit: its text, and where it is.

    None if every value of the source fits.
    """
    given = source.types.get(column.source)
    if column.name in source.fixed or given in {None, column.type} - {"JSON"}:
        return None
    raw = identifier(column.source)
    text = f"nullif(CAST({raw} AS VARCHAR), '')"
    fits = (
        f"json_valid({text})"
        if column.type == "JSON"
        else f"{value(column, source, 'TRY_CAST')} IS NOT NULL"
    )
    return (
        f"SELECT left({text}, {SHOWN}), {', '.join(source.order)} FROM {source.relation} "
        f"WHERE {text} IS NOT NULL AND NOT ({fits}) LIMIT 1"
    )


def stage(table: Table, source: Source) -> str:
    """Collects the keys of a source, and what decides between its rows."""
    chosen = [f"{value(key, source)} AS k{number}" for number, key in enumerate(table.keys)]
    chosen += [f"{order} AS o{number}" for number, order in enumerate(source.order)]
    if table.range_column is not None:
        chosen.append(f"{value(table.range_column, source)} AS ranged")
    if table.newest_by is not None:
        chosen.append(f"{value(table.newest_by, source)} AS newest")
    return (
        f"CREATE OR REPLACE TEMP TABLE _stage AS SELECT {', '.join(chosen)} FROM {source.relation}"
    )


def null_keys(table: Table, source: Source) -> str:
    """Finds a row without a key: the number of the key column, and where the row is."""
    checks = " ".join(f"WHEN k{n} IS NULL THEN {n}" for n in range(len(table.keys)))
    order = ", ".join(f"o{n}" for n in range(len(source.order)))
    return (
        f"SELECT CASE {checks} END AS absent, {order} FROM {STAGE} WHERE absent IS NOT NULL LIMIT 1"
    )


def count_keys(table: Table) -> str:
    """Counts the rows of the stage, and its different keys."""
    return (
        f"SELECT (SELECT count(*) FROM {STAGE}), "
        f"(SELECT count(*) FROM (SELECT DISTINCT {_stage_keys(table)} FROM {STAGE}))"
    )


def superseded(table: Table, source: Source) -> str:
    """Collects the rows of a batch that another one with the same key replaces."""
    order = [f"o{number}" for number in range(len(source.order))]
    ranked = ["newest DESC NULLS LAST"] if table.newest_by is not None else []
    ranked += [f"{name} DESC" for name in order]
    return (
        f"CREATE OR REPLACE TEMP TABLE _superseded AS SELECT {', '.join(order)} FROM {STAGE} "
        f"QUALIFY row_number() OVER (PARTITION BY {_stage_keys(table)} "
        f"ORDER BY {', '.join(ranked)}) > 1"
    )


def key_range(table: Table) -> str:
    """The range of a batch, as text, and whether it holds rows outside of any range."""
    slack = SLACK if table.range_column and table.range_column.type == "TIMESTAMP" else "0"
    return (
        f"SELECT CAST(min(ranged) - {slack} AS VARCHAR), CAST(max(ranged) + {slack} AS VARCHAR), "
        f"count(*) > count(ranged) FROM {STAGE}"
    )


def delete(table: Table, target: str, key_range: tuple[str | None, str | None, bool] | None) -> str:
    """Deletes the rows that a batch replaces.

    Args:
        table: The table.
        target: Its whole name.
        key_range: Where those rows are, as `key_range` finds it; None for anywhere.
    """
    joined = " AND ".join(
        f"t.{identifier(key.name)} = s.k{number}" for number, key in enumerate(table.keys)
    )
    within = ""
    if table.range_column is not None and key_range is not None:
        low, high, has_nulls = key_range
        name, kind = f"t.{identifier(table.range_column.name)}", table.range_column.type
        ranges = [f"{name} IS NULL"] if has_nulls else []
        if low is not None and high is not None:
            ranges.append(
                f"{name} BETWEEN CAST({literal(low)} AS {kind}) AND CAST({literal(high)} AS {kind})"
            )
        within = f" AND ({' OR '.join(ranges) or 'false'})"
    return f"DELETE FROM {target} AS t USING {STAGE} AS s WHERE {joined}{within}"


def insert(table: Table, target: str, source: Source, *, without_superseded: bool) -> str:
    """Inserts the rows of a source.

    Args:
        table: The table.
        target: Its whole name.
        source: The rows.
        without_superseded: Whether some of them are left out.
    """
    names = ", ".join(identifier(column.name) for column in table.columns)
    values = ", ".join(value(column, source) for column in table.columns)
    statement = f"INSERT INTO {target} ({names}) SELECT {values} FROM {source.relation}"
    if without_superseded:
        same = " AND ".join(f"s.o{n} = {order}" for n, order in enumerate(source.order))
        statement += f" WHERE NOT EXISTS (SELECT 1 FROM {SUPERSEDED} AS s WHERE {same})"
    return statement


def create(table: Table, target: str, compression: str | None) -> str:
    """Creates a table without an index: its upkeep would grow with the table.

    Args:
        table: The table.
        target: Its whole name.
        compression: How JSON is compressed; None leaves it to DuckDB.
    """
    clause = f" USING COMPRESSION {compression}" if compression else ""
    columns = ", ".join(
        f"{identifier(column.name)} {column.type}{clause if column.type == 'JSON' else ''}"
        for column in table.columns
    )
    return f"CREATE TABLE IF NOT EXISTS {target} ({columns})"


def _stage_keys(table: Table) -> str:
    return ", ".join(f"k{number}" for number in range(len(table.keys)))
