"""The live display in a notebook, whose part IPython plays as it does there."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from rich import console

from tap_mixpanel_parallel import TapMixpanelParallel
from tap_mixpanel_parallel.report import display, notebook
from tap_mixpanel_parallel.sandbox import Project, Sandbox
from tests.support.harness import wait_until
from tests.support.projects import AS_OF, access_to

if TYPE_CHECKING:
    from collections.abc import Iterator

DAYS = {"start_date": "2025-01-01", "end_date": "2025-01-03", "window_days": 1}


class Cell(ModuleType):
    """`IPython.display`, and what it shows below a cell."""

    def __init__(self) -> None:
        super().__init__("IPython.display")
        self.shown: list[str] = []

    def HTML(self, text: str) -> str:  # noqa: N802 - IPython's name
        return text

    def display(self, page: str, *, display_id: bool) -> Cell:
        assert display_id
        self.update(page)
        return self

    def update(self, page: str) -> None:
        self.shown.append(page)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """A notebook's cell, in which this process runs."""
    made = Cell()
    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    monkeypatch.setattr(notebook, "_FRAME_SECONDS", 0.01)
    monkeypatch.setitem(sys.modules, "IPython.display", made)
    return made


@pytest.fixture
def tap() -> Iterator[TapMixpanelParallel]:
    with Sandbox(Project(events_per_day=5), limits=None, as_of=lambda: AS_OF) as sandbox:
        config = access_to(sandbox) | DAYS | {"requests_per_second": 1000}
        yield TapMixpanelParallel(config)


def test_a_run_is_shown_while_it_goes_on_and_no_longer(
    cell: Cell, tap: TapMixpanelParallel, capfd: pytest.CaptureFixture[str]
) -> None:
    for event in tap.events():
        day = event["time"].day
        wait_until(lambda day=day: f" {day - 1} of 3" in cell.shown[-1], "the display")

    assert cell.shown[0] == cell.shown[-1] == ""
    assert cell.shown[1].startswith("<pre")
    assert "display" not in [thread.name for thread in threading.enumerate()]
    assert capfd.readouterr() == ("", "")


def test_a_run_that_is_left_is_shown_no_longer(cell: Cell, tap: TapMixpanelParallel) -> None:
    for _ in tap.events():
        wait_until(lambda: len(cell.shown) > 1, "the display")
        break

    assert cell.shown[-1] == ""


def test_what_comes_from_outside_is_no_html(cell: Cell, tap: TapMixpanelParallel) -> None:
    page = "<script>"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebook, "render", lambda progress, height: display._line(page))  # noqa: ARG005
        for _ in tap.events():
            wait_until(lambda: len(cell.shown) > 1, "the display")

    assert "&lt;script&gt;" in cell.shown[1]
    assert page not in "".join(cell.shown)


def test_elsewhere_there_is_none() -> None:
    assert notebook.wanted_display() is None
