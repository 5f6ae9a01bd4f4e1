"""The page as HTML: valid, of a bounded size, readable, and nothing in it that acts or loads."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files
from itertools import product
from typing import TYPE_CHECKING, Any

import html5lib
import pytest

from tap_mixpanel_parallel.report.page.render import render
from tests.report.page.runs import HOSTILE, page

if TYPE_CHECKING:
    from tap_mixpanel_parallel.report.page.contents import Page

CSS = files("tap_mixpanel_parallel.report.page").joinpath("report.css").read_text()
PAGES = [(1, 1, "HTTP 503"), (90, 4, "HTTP 503"), (90, 4, HOSTILE), (1096, 1, HOSTILE)]


def parsed(text: str) -> Any:
    """The document; an error in its syntax fails."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(text)


def text_of(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())


@pytest.mark.parametrize(("days", "length", "reason"), PAGES)
def test_it_is_valid_and_small(days: int, length: int, reason: str) -> None:
    text = render(page(days, length, reason))
    document = parsed(text)
    assert len(text.encode()) < 1_000_000
    names = [element.get("id") for element in document.iter() if element.get("id")]
    assert len(names) == len(set(names))
    labels = {element.get("aria-labelledby") for element in document.iter()} - {None}
    assert labels <= set(names)


@pytest.mark.parametrize(("days", "length"), [(90, 4), (1096, 1)])
def test_text_from_outside_stays_text(days: int, length: int) -> None:
    quiet = parsed(render(page(days, length, "HTTP 503")))
    hostile = parsed(render(page(days, length, HOSTILE)))
    kinds = [[element.tag for element in document.iter()] for document in (quiet, hostile)]
    assert kinds[0] == kinds[1], "the same elements, whatever a server says"
    assert not {"script", "img", "iframe", "link", "a", "object"} & set(kinds[1])
    assert "<script>document.title='owned'</script>" in text_of(hostile)
    assert "{{ 7 * 7 }}" in text_of(hostile)
    for attribute in (name for element in hostile.iter() for name in element.attrib):
        assert not attribute.startswith("on")


def test_it_loads_nothing() -> None:
    text = render(page(90, 4, HOSTILE))
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?:", text)


def test_a_window_is_told_in_words_too() -> None:
    document = parsed(render(page(1)))
    [bar] = [e for e in document.iter() if e.get("role") == "img"]
    assert bar.get("title") == (
        "waiting for the first byte 2.0 s, receiving 1.0 s, waiting for the windows before it "
        "0.5 s, converting 0.5 s, waiting for the loader 1.5 s"
    )


def test_a_wait_for_the_hourly_limit_has_its_reason() -> None:
    document = parsed(render(page(90, 4, "HTTP 429: 61/60")))
    [row] = [e for e in document.iter() if e.tag == "li" and text_of(e).startswith("hourly limit")]
    assert text_of(row) == "hourly limit 1.0 sMixpanel: HTTP 429: 61/60"


def test_a_day_is_told_in_words_too() -> None:
    cells = [e for e in parsed(render(page(90, 4))).iter() if e.tag == "td" and e.get("class")]
    known = [cell for cell in cells if cell.get("class") != "n"]
    assert len(known) == 91
    for cell in known:
        assert re.fullmatch(r"2026-\d\d-\d\d: [a-z, ]+(, [\d,]+ events?)?", cell.get("title"))


def test_parts_that_have_nothing_to_say_are_left_out() -> None:
    empty: Page = replace(page(1), run=None, calendar=None, settings=(), failures=(), command="")
    headings = [text_of(e) for e in parsed(render(empty)).iter() if e.tag == "h2"]
    assert headings == ["Versions"]


def colors(scheme: str) -> dict[str, str]:
    block = CSS.split(":root {")[{"light": 1, "dark": 2, "print": 3}[scheme]].split("}")[0]
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", block))
    return {
        name: value if len(value) == 7 else re.sub("[0-9a-f]", r"\g<0>\g<0>", value)
        for name, value in found.items()
    }


def luminance(color: str) -> float:
    parts = (int(color[n : n + 2], 16) / 255 for n in (1, 3, 5))
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_contrast(scheme: str) -> None:
    """As WCAG 2.2 asks: 4.5 for text, 3 for what must be seen besides."""
    color = colors(scheme)
    texts = [
        *product(("text", "muted"), ("page", "card")),
        *((f"{name}", f"{name}-back") for name in ("good", "warn", "bad", "open")),
        *(("text", back) for back in ("day", "day-bar")),
    ]
    marks = ("first", "receive", "wait", "convert", "loader", "fail", "limit")
    for text, back in texts:
        assert contrast(color[text], color[back]) >= 4.5, (text, back)
    for mark in marks:
        assert contrast(color[mark], color["card"]) >= 3, mark
    assert contrast(color["loader"], color["day"]) >= 3
