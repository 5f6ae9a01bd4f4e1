"""Two questions of docs/querying.md, asked of what the demo has loaded.

`python demo/questions.py FILE`
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import duckdb

QUESTIONS: Final = ("revenue by plan", "top pages")
PAGE: Final = Path(__file__).parent.parent / "docs" / "querying.md"


def query(name: str) -> str:
    """The SQL of a question."""
    pattern = re.compile(rf"<!-- query: {name}, json -->\n```sql\n(.*?)```", re.DOTALL)
    (sql,) = pattern.findall(PAGE.read_text(encoding="utf-8"))
    return str(sql)


def main() -> None:
    """Print the questions, the answers, and how to ask more."""
    (database_file,) = sys.argv[1:]
    with duckdb.connect(database_file, read_only=True) as database:
        for name in QUESTIONS:
            print(f"\n{name.capitalize()}:\n\n{query(name)}")
            print(database.sql(query(name)))
    print("More questions are in docs/querying.md. This line opens the database:\n")
    connect = f"import duckdb; database = duckdb.connect('{database_file}', read_only=True)"
    print(f'  {Path(sys.prefix).name}/bin/python -i -c "{connect}"')
    print(f"\nor, where DuckDB's command line is installed: duckdb -readonly {database_file}")


if __name__ == "__main__":
    main()
