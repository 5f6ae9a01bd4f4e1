"""Runs processes, alone or as a pipe, and has the kernel say what each of them cost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Result = TypeVar("_Result")

_NULL: Final = Path(os.devnull)
_MAXRSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
_TAIL: Final = 15


class RunError(Exception):
    """A process failed, so there is nothing to measure."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a process cost.

    Attributes:
        started: When it was started, by `time.monotonic()`.
        ended: When it had ended.
        cpu_seconds: Of user and system, all its threads together.
        peak_bytes: The most memory it had resident, or that which this process had as it started
            it, if that is more: the kernel counts from before `exec` (getrusage(2)).
        log: The lines of its standard error, each with the time at which it came.
    """

    started: float
    ended: float
    cpu_seconds: float
    peak_bytes: int
    log: tuple[tuple[float, str], ...]

    @property
    def seconds(self) -> float:
        """From start to end."""
        return self.ended - self.started


def run(
    *commands: Sequence[str],
    stdin: Path = _NULL,
    stdout: Path = _NULL,
) -> list[Run]:
    """Run commands as a pipe, to their ends.

    Args:
        commands: What to run; each reads what the one before it writes.
        stdin: What the first one reads. Default: nothing.
        stdout: Where the last one's output goes. Default: nowhere.

    Raises:
        RunError: If one fails.
    """
    with ExitStack() as stack:
        source: IO[bytes] = stack.enter_context(stdin.open("rb"))
        sink = stack.enter_context(stdout.open("wb"))
        children: list[_Child] = []
        for command in commands:
            is_last = len(children) + 1 == len(commands)
            child = _Child(command, source, sink if is_last else None)
            if children:
                source.close()  # the child has it; held here, its writer would not see it close
            children.append(child)
            source = child.process.stdout or source
        return [child.wait() for child in children]


class _Child:
    """A process whose standard error is read along."""

    def __init__(self, command: Sequence[str], source: IO[bytes], sink: IO[bytes] | None) -> None:
        self._command = command
        self._log: list[tuple[float, str]] = []
        self._started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603
            command,
            stdin=source,
            stdout=sink or subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
        )
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()

    def wait(self) -> Run:
        _, status, usage = os.wait4(self.process.pid, 0)
        ended = time.monotonic()
        code = self.process.returncode = os.waitstatus_to_exitcode(status)
        self._reader.join()
        if code != 0:
            tail = "\n".join(line for _, line in self._log[-_TAIL:])
            raise RunError(f"{' '.join(self._command)} exited with {code}:\n{tail}")
        return Run(
            self._started,
            ended,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * _MAXRSS_UNIT,
            tuple(self._log),
        )

    def _read_log(self) -> None:
        assert self.process.stderr is not None  # noqa: S101 - it is a pipe
        with self.process.stderr as lines:
            for line in lines:
                self._log.append((time.monotonic(), line.decode("utf-8", "replace").rstrip()))


def alternate(times: int, *measurements: Callable[[], _Result]) -> list[list[_Result]]:
    """Take each measurement so many times, in turns: A B A B.

    Returns:
        The results of each measurement.
    """
    rounds = [[measure() for measure in measurements] for _ in range(times)]
    return [list(results) for results in zip(*rounds, strict=True)]


def median_of(results: Sequence[_Result], value: Callable[[_Result], float]) -> float:
    """The median of a value of the results."""
    return median(map(value, results))


def _environment() -> dict[str, str]:
    """The environment, without what would configure a tap or lead it astray."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TAP_", "TARGET_"))
    } | {
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "XDG_CACHE_HOME": os.devnull,  # no run waits for the requests of those before it
    }
