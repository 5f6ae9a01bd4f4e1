"""The live display in a notebook: below its cell, while the run goes on."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from tap_mixpanel_parallel.exceptions import ThreadError
from tap_mixpanel_parallel.report.display import is_wanted, live_display, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tap_mixpanel_parallel.report.progress import Progress

_FRAME_SECONDS: Final = 0.5
_COLUMNS, _LINES = 100, 20
_PAGE: Final = '<pre style="font-family:monospace">{code}</pre>'


def wanted_display() -> Callable[[Progress], AbstractContextManager[None]] | None:
    """The display for where this process shows what it does; None where it can show none."""
    if Console().is_jupyter:
        return notebook_display
    return live_display if is_wanted() else None


@contextmanager
def notebook_display(progress: Progress) -> Iterator[None]:
    """Show a run in a notebook while it goes on.

    Args:
        progress: Where the run stands.

    Raises:
        ThreadError: If the machine lets no further thread start.
    """
    notebook: Any = import_module("IPython.display")  # whatever shows notebooks has it
    over = threading.Event()
    shown = notebook.display(notebook.HTML(""), display_id=True)

    def show() -> None:
        while not over.wait(_FRAME_SECONDS):
            shown.update(notebook.HTML(as_html(progress)))

    thread = threading.Thread(target=show, name="display", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise ThreadError(error) from None
    try:
        yield
    finally:
        over.set()
        thread.join()
        shown.update(notebook.HTML(""))


def as_html(progress: Progress) -> str:
    """What the display shows, as HTML."""
    console = Console(
        file=StringIO(), record=True, width=_COLUMNS, force_terminal=True, force_jupyter=False
    )
    console.print(render(progress, _LINES))
    return console.export_html(inline_styles=True, code_format=_PAGE)
