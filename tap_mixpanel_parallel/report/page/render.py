"""A page as HTML, by a template."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import jinja2

from tap_mixpanel_parallel.plan.status import DayKind
from tap_mixpanel_parallel.report.page.calendar import days_text
from tap_mixpanel_parallel.report.page.traces import Outcome, Phase
from tap_mixpanel_parallel.wording import counted, format_bytes, format_seconds, printable

if TYPE_CHECKING:
    from tap_mixpanel_parallel.report.page.contents import Page
    from tap_mixpanel_parallel.report.page.traces import Span, Trace

_TEMPLATE: Final = "report.html"

# The names of the style sheet: a page has thousands of them.
_PHASES: Final = {
    Phase.FIRST_BYTE: "b",
    Phase.RECEIVING: "r",
    Phase.TURN: "t",
    Phase.CONVERTING: "c",
    Phase.LOADER: "l",
    Phase.FAILED: "f",
    Phase.PAUSE: "p",
    Phase.UNDER_WAY: "u",
    Phase.LIMIT: "h",
}
_DAYS: Final = {
    DayKind.LOADED: ("l", ""),
    DayKind.UNSETTLED: ("u", "↻"),
    DayKind.FAILED: ("f", "✗"),
    DayKind.MISSING: ("m", "-"),
    DayKind.TODAY: ("t", "…"),
}
_OUTCOMES: Final = {
    Outcome.LOADED: "✓",
    Outcome.FAILED: "✗",
    Outcome.LEFT_OUT: "-",
    Outcome.UNFINISHED: "…",
}
_VERDICTS: Final = {"good": "✓", "warn": "!", "bad": "✗", "open": "…"}
_TICKS: Final = 4
_SHORTEST: Final = 0.05


def render(page: Page) -> str:
    """The page as one HTML file that loads nothing.

    Args:
        page: What it says.
    """
    return _environment().get_template(_TEMPLATE).render(page=page, total=_total(page))


def _total(page: Page) -> float:
    """The seconds that the time line spans."""
    return max(page.run.seconds, 0.001) if page.run else 0.001


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tap_mixpanel_parallel.report.page", "."),
        autoescape=True,
        finalize=_printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "seconds": format_seconds,
        "bytes": format_bytes,
        "counted": counted,
        "days": days_text,
        "place": _place,
        "in_words": _in_words,
    }
    names: dict[str, Any] = {
        "phases": _PHASES,
        "days": _DAYS,
        "outcomes": _OUTCOMES,
        "verdicts": _VERDICTS,
        "ticks": [n / _TICKS for n in range(_TICKS + 1)],
    }
    environment.globals |= names
    return environment


def _printable(value: object) -> object:
    """Text from anywhere without what HTML knows no way to hold; markup is the template's own."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _place(span: Span, total: float) -> str:
    """Where a span lies on the time line, as a style."""
    left, width = 100 * span.start / total, 100 * span.seconds / total
    return f"left:{min(left, 100):.4g}%;width:{min(width, 100 - left):.4g}%"


def _in_words(trace: Trace) -> str:
    """A window's time line as text, without what is too short to see."""
    spans = (span for span in trace.spans if span.seconds >= _SHORTEST)
    return ", ".join(f"{span.phase} {format_seconds(span.seconds)}" for span in spans)
