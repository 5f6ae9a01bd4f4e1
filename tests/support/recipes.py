"""What the documents say: the code that they advise, as it is written, and the settings."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from tests.support.commands import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def assert_lists(page: str, settings: Mapping[str, dict[str, Any]], required: str) -> None:
    """Assert that a page's table has each setting, with its default and its meaning."""
    table = (ROOT / page).read_text().split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    rows = [row.split(" | ", 2) for row in table.strip().splitlines()[2:]]
    assert [row[0].strip("| `") for row in rows] == list(settings)
    for (_, default, meaning), (name, setting) in zip(rows, settings.items(), strict=True):
        assert meaning.removesuffix(" |") == setting["description"], name
        value = setting.get("default")
        shown = value if isinstance(value, str) else json.dumps(value)
        expected = "" if value is None else f"`{shown}`"
        assert default == ("required" if name == required else expected), name
