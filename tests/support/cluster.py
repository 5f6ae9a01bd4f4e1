"""A Dask cluster on this machine: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.commands import environment
from tests.support.harness import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_QUIET = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "null",
    "DASK_DISTRIBUTED__ADMIN__TICK__LIMIT": "1h",
    "PYTHONWARNINGS": "ignore",
}


@dataclass
class Cluster:
    """The cluster.

    Attributes:
        folder: Where the logs are, and the scheduler's file.
        env: What all of its processes have in their environment.
        options: What all of its processes have on their command line.
    """

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    scheme: str = "tcp"
    _stack: ExitStack = field(default_factory=ExitStack)
    _workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, workers: int, threads: int = 2) -> None:
        """Start the scheduler, and so many workers; also once more, when it has ended."""
        self._workers.clear()
        self.file.unlink(missing_ok=True)
        where = ("--host", f"{self.scheme}://127.0.0.1", "--port", "0")
        pages = ("--dashboard-address", "127.0.0.1:0", "--dashboard")
        self.scheduler = self._run("scheduler", "scheduler", *where, *pages, *self._file)
        wait_until(lambda: "address" in self._text(self.file), "the scheduler has an address")
        for number in range(workers):
            self.add_worker(f"worker-{number}", threads)
        for name in list(self._workers):
            self.wait_for(name)

    def add_worker(self, name: str, threads: int = 2, env: Mapping[str, str] | None = None) -> None:
        """Start a worker; it ends as the scheduler does."""
        threads_of_it = ("--nthreads", str(threads), "--no-nanny", "--no-dashboard")
        local = ("--local-directory", str(self.folder))
        self._workers[name] = self._run(
            name, "worker", "--name", name, *threads_of_it, *local, *self._file, env=env
        )

    def replenish(self, workers: int, threads: int = 2) -> None:
        """Have so many workers live, and a scheduler."""
        if self.scheduler.poll() is not None:
            self.start(workers, threads)
        for name in [name for name, each in self._workers.items() if each.poll() is not None]:
            del self._workers[name]
        while len(self._workers) < workers:
            name = f"worker-{len(list(self.folder.glob('*.log')))}"
            self.add_worker(name, threads)
            self.wait_for(name)

    def wait_for_end(self, name: str) -> None:
        """Wait until the scheduler knows that a worker is gone."""
        pattern = re.compile(f"Remove worker .*name: {re.escape(name)}")
        wait_until(lambda: pattern.search(self.log("scheduler")), f"{name} is gone")

    def wait_for(self, name: str) -> None:
        """Wait until a worker is there."""
        wait_until(lambda: "Registered to" in self.log(name), f"{name} is there")

    def kill(self, name: str) -> None:
        """Kill a worker, whatever it does."""
        worker = self._workers.pop(name)
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    @property
    def workers(self) -> list[str]:
        """The names of the workers that live."""
        return sorted(self._workers)

    @property
    def pids(self) -> list[int]:
        """The processes of the workers that live."""
        return [self._workers[name].pid for name in self.workers]

    @property
    def file(self) -> Path:
        """The scheduler's file."""
        return self.folder / "scheduler.json"

    @property
    def logs(self) -> str:
        """All that the scheduler and the workers have logged."""
        return "".join(path.read_text() for path in self.folder.glob("*.log"))

    def log(self, name: str) -> str:
        """What one of them has logged."""
        return self._text(self.folder / f"{name}.log")

    @property
    def _file(self) -> tuple[str, ...]:
        return (*self.options, "--scheduler-file", str(self.file))

    def _run(
        self, name: str, kind: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", kind, *arguments]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment({**_QUIET, **self.env, **(env or {})}),
            )
        self._stack.callback(_end, process)
        return process

    @staticmethod
    def _text(path: Path) -> str:
        with suppress(OSError):
            return path.read_text()
        return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def cluster_in(
    folder: Path, workers: int = 2, threads: int = 2, **more: object
) -> Iterator[Cluster]:
    """A cluster while the block runs."""
    folder.mkdir(exist_ok=True)
    cluster = Cluster(folder, **more)
    with cluster._stack:
        cluster.start(workers, threads)
        yield cluster
