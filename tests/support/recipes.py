"""The code that the documents advise, as it is written there."""

from __future__ import annotations

import re
from typing import Final

from tests.support.commands import ROOT

_DOCUMENTS: Final = tuple(
    path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
)


def recipe(name: str) -> str:
    """The code of a recipe."""
    pattern = re.compile(rf"<!-- recipe: {name} -->\n```\w+\n(.*?)```", re.DOTALL)
    found = [code for document in _DOCUMENTS for code in pattern.findall(document)]
    assert len(found) == 1, f"the documents have {len(found)} recipes {name!r}"
    return str(found[0])


def section(title: str, language: str = r"\w+", number: int = 0) -> str:
    """A code of a section; the first."""
    found = [document for document in _DOCUMENTS if f"# {title}\n" in document]
    assert len(found) == 1, f"{len(found)} documents have a section {title!r}"
    rest = found[0].partition(f"# {title}\n")[2]
    code = re.findall(
        rf"```{language}\n(.*?)```", re.split("^#+ ", rest, flags=re.MULTILINE)[0], re.DOTALL
    )
    return str(code[number])
