"""The command line, run in this process."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import unicodedata
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import requests_mock

from tap_mixpanel_parallel import TapMixpanelParallel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNPRINTABLE: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True)
class Ended:
    """How a command has ended, and what it has written."""

    code: int
    output: str
    errors: str


@contextlib.contextmanager
def as_a_process(env: Mapping[str, str], stdin: bytes) -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    """This process as it would be for a command, put back as it was at the end."""
    output, errors = io.BytesIO(), io.BytesIO()
    root, metrics = logging.getLogger(), logging.getLogger("singer_sdk.metrics")
    before = (list(root.handlers), root.level, metrics.level, sys.excepthook)
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    streams: dict[str, Any] = {
        "stdin": io.TextIOWrapper(io.BytesIO(stdin), "utf-8"),
        "stdout": io.TextIOWrapper(output, "utf-8", write_through=True),
        "stderr": io.TextIOWrapper(errors, "utf-8", "backslashreplace", write_through=True),
    }
    root.handlers = []
    try:
        with mock.patch.multiple(sys, **streams), mock.patch.dict(os.environ, env, clear=True):
            yield output, errors
    finally:
        for stream in streams.values():
            with contextlib.suppress(ValueError):  # the command has closed it
                stream.detach()
        root.handlers, root.level, metrics.level, sys.excepthook = before
        logging.captureWarnings(capture=False)
        for number, handler in signals.items():
            signal.signal(number, handler)


def invoke(*arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Ended:
    """Run the command line in this process, against a Mixpanel without events."""
    with (
        as_a_process(env or {}, stdin) as (output, errors),
        requests_mock.Mocker() as mixpanel,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        mixpanel.get(requests_mock.ANY, content=b"", headers={"Content-Length": "0"})
        try:
            TapMixpanelParallel.cli(list(arguments))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        else:
            code = 0
    return Ended(code, output.getvalue().decode(), errors.getvalue().decode())


def assert_plain(ended: Ended) -> None:
    """An exit code that says how it went, and words without a traceback or a command."""
    assert ended.code in {0, 1, 2}, ended
    assert "Traceback" not in ended.errors
    assert "s3cr3t-w0rd" not in ended.errors + ended.output
    if ended.code:
        assert ended.errors.strip()
    shown = (ended.errors + ended.output).replace("\n", "")
    assert [char for char in shown if unicodedata.category(char) in UNPRINTABLE] == []
