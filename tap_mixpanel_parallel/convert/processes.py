"""Conversion on several cores: one process for each, and one window at a time in each.

The pools of the standard library do not serve. As one process of theirs dies, the work of all
is lost. Their processes run the program of whoever calls `tap.run()` once more, keep the pipe
to the loader open, and outlive a run that is killed.
"""

from __future__ import annotations

import pickle
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final, Self

from tap_mixpanel_parallel.exceptions import AttemptError, TapError, ThreadError
from tap_mixpanel_parallel.fetch.job import Download

if TYPE_CHECKING:
    from tap_mixpanel_parallel.convert.conversion import ConversionOptions, Part
    from tap_mixpanel_parallel.convert.files import Format
    from tap_mixpanel_parallel.plan.windows import Window

_PROGRAM: Final = (
    "import sys; sys.path[:] = {path!r}; "
    "from tap_mixpanel_parallel.convert.worker import main; main()"
)


class ProcessDiedError(AttemptError):
    """The process that converted a window has died."""

    read_on = "docs/failures.md#machine-limits"

    def __init__(self, code: int) -> None:
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        super().__init__(
            f"the process that converted the window was ended {how}; if the machine has too "
            "little memory, lower processes"
        )


@dataclass(frozen=True, slots=True)
class Prepared(Download):
    """A body that is converted already.

    Attributes:
        part: What it became.
    """

    part: Part = field(kw_only=True)


class _Process:
    """A process that converts, started as it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._is_over = False

    def convert(
        self, window: Window, download: Download, options: ConversionOptions, form: Format
    ) -> Part:
        """Have a body turned into a part."""
        process = self._process or self._start()
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        try:
            pickle.dump((window, download, options, form), process.stdin)
            process.stdin.flush()
            result: Part | TapError = pickle.load(process.stdout)  # noqa: S301 - our own process
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            code = process.poll()
            self.end()
            raise ProcessDiedError(process.wait() if code is None else code) from None
        if isinstance(result, TapError):
            raise result
        return result

    def _start(self) -> subprocess.Popen[bytes]:
        command = (sys.executable, "-P", "-c", _PROGRAM.format(path=sys.path))
        with self._lock:
            if self._is_over:
                raise ProcessDiedError(-signal.SIGKILL)
            try:
                self._process = subprocess.Popen(  # noqa: S603 - this program's own
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
            except OSError as error:
                raise ThreadError(RuntimeError(f"can't start a process: {error}")) from None
            return self._process

    def end(self, *, for_good: bool = False) -> None:
        """End the process, whatever it does.

        Args:
            for_good: Whether no other may start in its place.
        """
        with self._lock:
            self._is_over = self._is_over or for_good
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what it has not read is lost
                    if pipe is not None:
                        pipe.close()


class Processes:
    """Processes that convert. Context manager: none is left at its end."""

    def __init__(self, count: int) -> None:
        self._all = [_Process() for _ in range(count)]
        self._free: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for process in self._all:
            self._free.put(process)

    def convert(
        self, window: Window, download: Download, options: ConversionOptions, form: Format
    ) -> Prepared:
        """Have a body converted, once a process is free; the body is gone then.

        Raises:
            AttemptError: If it is not what it should be, can't be written, or the process dies.
        """
        process = self._free.get()
        try:
            part = process.convert(window, download, options, form)
        finally:
            self._free.put(process)
            download.path.unlink(missing_ok=True)
        return Prepared(
            **{each.name: getattr(download, each.name) for each in fields(Download)}, part=part
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.end(for_good=True)
