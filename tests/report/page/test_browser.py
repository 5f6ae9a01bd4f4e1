"""The page in a real browser: on a phone, a laptop, on paper, in the dark."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel.report.page.render import render
from tests.report.page.runs import HOSTILE, page
from tests.support.browser import Browser, find_browser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium"),
]

PAGES = {
    "1": (1, 1, "HTTP 503"),
    "90": (90, 4, "HTTP 503"),
    "90-hostile": (90, 4, HOSTILE),
    "1096-hostile": (1096, 1, HOSTILE),
}
VIEWS = {
    "phone": {"width": 375},
    "laptop": {"width": 1280},
    "dark": {"width": 1280, "scheme": "dark"},
    "dark-phone": {"width": 375, "scheme": "dark"},
    "print": {"width": 794, "media": "print"},
}

# Only what is cut off on purpose may reach over the edge.
OVERFLOWING = """
[...document.body.querySelectorAll('*')]
  .filter(e => {
    const box = e.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 1 || box.left < -1) && !e.closest('.axis, .bar');
  })
  .map(e => e.outerHTML.slice(0, 200))
"""
# Text of which a reader sees only a part, since its box is too small and nothing scrolls.
CUT = """
[...document.body.querySelectorAll('h1, h2, p, dt, dd, li, caption, td, th, code')]
  .filter(e => e.getBoundingClientRect().width && e.scrollWidth > e.clientWidth + 1
    && getComputedStyle(e).display != 'inline' && !e.querySelector('.axis'))
  .map(e => e.outerHTML.slice(0, 200))
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, values in PAGES.items():
        (folder / f"{name}.html").write_text(render(page(*values)))
    return {name: folder / f"{name}.html" for name in PAGES}


@pytest.mark.parametrize("name", PAGES)
def test_nothing_overflows(browser: Browser, pages: dict[str, Path], name: str) -> None:
    for label, view in VIEWS.items():
        browser.show(pages[name], **view)
        browser.picture(pages[name].with_name(f"{name}-{label}.png"), most=4000)
        assert pages[name].with_name(f"{name}-{label}.png").stat().st_size > 10_000
        browser.run("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert browser.run("document.documentElement.scrollWidth - innerWidth") <= 0, label
        assert browser.run(OVERFLOWING) == [], label
        assert browser.run(CUT) == [], label


def test_what_a_server_says_does_nothing(browser: Browser, pages: dict[str, Path]) -> None:
    for name in ("90-hostile", "1096-hostile"):
        browser.show(pages[name], width=1280)
        assert browser.run("document.title").startswith("Mixpanel project 1234, ")
        assert browser.run("document.querySelectorAll('script, img, iframe').length") == 0
        assert browser.run("document.querySelectorAll('style').length") == 1
        assert browser.run("performance.getEntriesByType('resource').length") == 0
        assert "{{ 7 * 7 }}" in browser.run("document.body.innerText")


def test_light_dark_and_paper_differ(browser: Browser, pages: dict[str, Path]) -> None:
    found = {}
    for label in ("laptop", "dark", "print"):
        browser.show(pages["90"], **VIEWS[label])
        found[label] = browser.run("getComputedStyle(document.body).backgroundColor")
    assert found == {
        "laptop": "rgb(251, 251, 249)",
        "dark": "rgb(20, 24, 27)",
        "print": "rgb(255, 255, 255)",
    }
    browser.show(pages["90"], width=794, scheme="dark", media="print")
    assert browser.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert browser.print().startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(browser: Browser, pages: dict[str, Path], scheme: str) -> None:
    """By the rules of axe-core: names, roles, structure, contrast."""
    axe = files("axe_core_python").joinpath("axe.min.js").read_text()
    browser.show(pages["90-hostile"], width=375, scheme=scheme)
    browser.run(f"{axe}; 0")
    found = json.loads(browser.run("axe.run().then(found => JSON.stringify(found.violations))"))
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
