"""What the documents refer to is there."""

from __future__ import annotations

import pkgutil
import re
import tomllib
from collections import Counter
from importlib import import_module
from inspect import getsource
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
import urllib3.connection
from markdown_it import MarkdownIt

import tap_mixpanel_parallel
from tap_mixpanel_parallel.exceptions import AttemptError, LastAttemptError, TapError
from target_duckdb_batch.command import READ_ON
from tests.support.commands import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from markdown_it.token import Token

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
MARKDOWN = MarkdownIt().enable("table")


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    tokens = MARKDOWN.parse(path.read_text())
    seen: Counter[str] = Counter()
    found = set()
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            title = "".join(part.content for part in token.children or ())
            anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
    return found


def links(tokens: list[Token]) -> Iterator[str]:
    """Where a page's links lead, and its images."""
    for token in tokens:
        for name in ("href", "src"):
            if name in token.attrs:
                yield str(token.attrs[name])
        yield from links(token.children or [])


def broken_links(path: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    broken = []
    for link in links(MARKDOWN.parse(path.read_text())):
        url = urlsplit(link)
        if url.scheme or url.netloc:
            continue
        target = path.parent / unquote(url.path) if url.path else path
        if not target.exists() or (url.fragment and url.fragment not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    there, page = tmp_path / "there.md", tmp_path / "page.md"
    there.write_text("# A `b`, c's (d)\n\n## Twice\n\n## Twice\n\n```\n# code\n```\n")
    page.write_text(
        "[a](there.md#a-b-cs-d) [b](there.md#twice-1) [c](#own) [d](https://a.example/none)"
        " `[e](f)`\n\n# Own\n\n[g](none.md) ![h](none.png) [i](there.md#code) [j](#none) [k][l]\n\n"
        "| table |\n|---|\n| [m](there.md#twice-2) |\n\n[l]: there.md#none\n"
    )

    assert broken_links(page) == [
        *("none.md", "none.png", "there.md#code", "#none", "there.md#none", "there.md#twice-2")
    ]


def errors(kind: type[TapError] = TapError) -> Iterator[type[TapError]]:
    """Every kind of error of the tap, wherever it is defined."""
    for each in kind.__subclasses__():
        yield each
        yield from errors(each)


def test_every_error_leads_to_its_paragraph() -> None:
    for module in pkgutil.walk_packages(tap_mixpanel_parallel.__path__, "tap_mixpanel_parallel."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    kinds = set(errors()) - {AttemptError, LastAttemptError}  # which others derive from
    without = {kind.__name__ for kind in kinds if kind.read_on == TapError.read_on}

    assert without == {"SettingsError"}, "whose paragraph it is"
    assert len(kinds) > 15
    for read_on in {READ_ON, *(kind.read_on for kind in kinds)}:
        page, _, anchor = read_on.partition("#")
        assert anchor in anchors(ROOT / page), read_on


OF_OTHERS = {
    "No space left on device",
    "Unknown message type BATCH",
    "PostgreSQL text fields cannot contain NUL (0x00) bytes",
    "unsupported Unicode escape sequence",
    'column "properties" is of type jsonb',
}
"""What the system, other loaders and databases say, as other tests see it."""


def texts_of(*folders: str) -> str:
    """The code of folders, with each text in one line."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    code = "\n".join(path.read_text() for path in paths if path.name != "test_documents.py")
    return re.sub(r'"\s*\n\s*[fb]?"', "", code)


def test_the_symptoms_are_what_the_tap_and_the_loaders_say() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| (.*?`.*?`.*?) \|", page, re.MULTILINE)
    sentences = re.findall(r"(?:log says|shows) ((?:`[^`]+`(?: … )?)+)", page)
    said = set(re.findall("`([^`]+)`", " ".join([*rows, *sentences])))
    own = texts_of("tap_mixpanel_parallel", "target_duckdb_batch")

    assert len(said - OF_OTHERS) > 15
    assert {text for text in said if text not in own + getsource(urllib3.connection)} == OF_OTHERS
    assert {text for text in OF_OTHERS if text not in texts_of("tests")} == set()


def test_every_recipe_is_run() -> None:
    named = [n for path in PAGES for n in re.findall("<!-- recipe: (.*?) -->", path.read_text())]
    used = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r'\brecipe(?:\("|: )(.*?)(?:"\)| -->)', path.read_text())
    }
    assert set(named) <= used


def test_the_architecture_names_every_module_folder_and_dependency() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    tap = ROOT / "tap_mixpanel_parallel"
    folders = {f"{path.parent.name}/" for path in tap.glob("*/__init__.py")}
    modules = {path.name for path in tap.glob("*.py")} - {"__init__.py"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # The other extras are for tests, and for what the tap is used with.
    extras = set(project["optional-dependencies"]) - {"test", "lint", "meltano", "duckdb"}
    required = [
        *project["dependencies"],
        *(each for extra in extras for each in project["optional-dependencies"][extra]),
    ]
    packages = {re.split(r"[^\w-]", each)[0] for each in required}
    rows = [row for row in page.splitlines() if row.startswith("|")]
    named = {name for row in rows for name in re.findall("`([^`]+)`", row.split("|")[1])}
    own = {path.name for path in (ROOT / "target_duckdb_batch").glob("*.py")}

    assert folders | modules | packages <= named
    assert named <= folders | modules | packages | own | {"files"}
