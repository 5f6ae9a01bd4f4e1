"""Complete means proven complete: cut or changed anywhere, an answer is refused or the same."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final
from zoneinfo import ZoneInfo

import pytest

from tap_mixpanel_parallel.convert.conversion import Conversion, ConversionOptions
from tap_mixpanel_parallel.exceptions import AttemptError
from tap_mixpanel_parallel.fetch.client import download
from tap_mixpanel_parallel.fetch.job import Job, Query
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.sandbox import Cut, Damage, Effect, Fault, Project, Sandbox
from tap_mixpanel_parallel.settings.credentials import Credentials
from tests.support.bodies import MESSAGES, assert_nothing_is_left
from tests.support.expected import AS_OF

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY: Final = Window.parse("2025-01-06", "2025-01-06")
PROJECT: Final = Project(events_per_day=2)
"""Few, as every byte of an answer is tried; it is over 1,400 bytes, and so it is compressed."""


class Plain(Effect):
    """An answer that is not compressed."""

    gzip: ClassVar[bool] = False


class PlainCut(Plain, Cut):
    """The same, cut."""


class Reader:
    """Reads the answer to one request, in this process."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        credentials = Credentials(*sandbox.auth, sandbox.credentials.project_id)
        query = Query(sandbox.url, credentials, timeout=30)
        self._job = Job(DAY, query, folder / "window.body")
        self._sandbox = sandbox

    def __call__(self, effect: Effect) -> bytes | None:
        """Give the messages; None if the answer is refused, and nothing is left of it."""
        self._sandbox.faults = [Fault(effect)]
        self._job.path.unlink(missing_ok=True)  # of the answer before
        options = ConversionOptions(ZoneInfo("UTC"))
        try:
            conversion = Conversion(DAY, download(self._job), options, MESSAGES)
            for _ in conversion:
                pass
        except AttemptError:
            assert_nothing_is_left(self._job.path.parent)
            return None
        data = conversion.part.path.read_bytes()
        conversion.part.discard()
        return data


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    with Sandbox(PROJECT, limits=None, as_of=lambda: AS_OF) as sandbox:
        yield Reader(sandbox, folder)


def lines() -> list[bytes]:
    return list(PROJECT.lines(DAY.first, as_of=AS_OF))


def size(sandbox_folder: Path) -> int:
    """The length of the compressed answer."""
    with Sandbox(PROJECT, limits=None, as_of=lambda: AS_OF) as sandbox:
        Reader(sandbox, sandbox_folder)(Effect())
        [request] = sandbox.requests
    assert request.gzip
    return request.bytes_sent


@pytest.mark.slow
@pytest.mark.parametrize("clean", [False, True])
def test_compressed_and_cut_at_any_byte(tmp_path: Path, clean: bool) -> None:
    with reading(tmp_path) as read:
        whole, length = read(Effect()), size(tmp_path)
        taken = [at for at in range(length) if read(Cut(at, clean=clean)) is not None]

    assert whole is not None
    assert taken == []


@pytest.mark.slow
def test_compressed_and_damaged_at_any_byte(tmp_path: Path) -> None:
    with reading(tmp_path) as read:
        whole = read(Effect())
        changed = [at for at in range(size(tmp_path)) if read(Damage(at)) not in {None, whole}]

    assert whole is not None
    assert changed == []


@pytest.mark.slow
def test_uncompressed_and_cut_at_any_byte(tmp_path: Path) -> None:
    """The end of a line is the one place at which nothing shows that more was to come.

    Mixpanel leaves answers of up to 1,400 bytes uncompressed; all others prove their end.
    """
    text = b"".join(line + b"\n" for line in lines())[:1400]
    ends = {
        at for at in range(len(text)) if at == 0 or b"\n" in (text[at - 1 : at], text[at : at + 1])
    }
    with reading(tmp_path) as read:
        broken = [at for at in range(0, 1400, 3) if read(PlainCut(at)) is not None]
        taken = {at for at in range(1400) if read(PlainCut(at, clean=True)) is not None}

    assert broken == []
    assert taken == ends
