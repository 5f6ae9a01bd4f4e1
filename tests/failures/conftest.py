"""A sandbox over a small project, and a folder to work in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.sandbox import Project, Sandbox
from tests.support.expected import AS_OF
from tests.support.harness import Lab

if TYPE_CHECKING:
    from pathlib import Path

LabMaker = Callable[..., Lab]


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[LabMaker]:
    """Make a lab; its sandbox takes these options."""
    labs: list[Lab] = []
    with ExitStack() as stack:

        def make(project: Project | None = None, **options: Any) -> Lab:
            options = {"limits": None, "as_of": lambda: AS_OF} | options
            sandbox = Sandbox(project or Project(events_per_day=40), **options)
            folder = tmp_path / f"lab{len(labs)}"
            folder.mkdir()
            labs.append(Lab(folder, stack.enter_context(sandbox)))
            labs[-1].settings |= {
                "start_date": "2025-01-06",
                "end_date": "2025-01-09",
                "window_days": 1,
            }
            return labs[-1]

        yield make
    for lab in labs:
        spools = [name for name in lab.left_behind if "quarantine" not in name]
        assert not spools, "a spool is left behind"


@pytest.fixture
def lab(make_lab: LabMaker) -> Lab:
    """A lab with four days of one window each."""
    return make_lab()


DAYS = tuple(date(2025, 1, day) for day in range(6, 10))
