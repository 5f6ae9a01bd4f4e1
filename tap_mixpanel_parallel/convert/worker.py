"""A process that converts: tasks in on standard input, results out on standard output.

It ends at once as its standard input does, so that it never outlives the run.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO

from tap_mixpanel_parallel.convert.conversion import Conversion, ConversionOptions, Part
from tap_mixpanel_parallel.exceptions import TapError, drop_frames

if TYPE_CHECKING:
    from tap_mixpanel_parallel.convert.files import Format
    from tap_mixpanel_parallel.fetch.job import Download
    from tap_mixpanel_parallel.plan.windows import Window

    Task = tuple[Window, Download, ConversionOptions, Format]


def convert(window: Window, download: Download, options: ConversionOptions, form: Format) -> Part:
    """Turn a body into a part.

    Raises:
        AttemptError: If it is not what it should be, or can't be written.
    """
    conversion = Conversion(window, download, options, form)
    for _ in conversion:
        pass
    return conversion.part


def _read(tasks: queue.SimpleQueue[Task], source: BinaryIO) -> None:
    try:
        while True:
            tasks.put(pickle.load(source))  # noqa: S301 - of the process that started this one
    finally:
        os._exit(0)  # whatever the other thread does


def main() -> None:
    """Convert until nothing more is asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides what ends
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not spoil the results
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(tasks, sys.stdin.buffer), daemon=True).start()
    while True:
        result: Part | TapError
        try:
            result = convert(*tasks.get())
        except TapError as error:
            drop_frames(error)
            result = error
        try:
            pickle.dump(result, results)
            results.flush()
        except BrokenPipeError:  # the run has ended
            os._exit(0)
