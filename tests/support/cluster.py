"""A Dask cluster on this machine: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import json
import operator
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from distributed import Client, Event

from tests.support.commands import environment
from tests.support.harness import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
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
        threads_of_it = ("--nthreads", str(threads), "--no-nanny")
        pages = ("--dashboard-address", "127.0.0.1:0", "--dashboard")
        local = ("--local-directory", str(self.folder))
        self._workers[name] = self._run(
            name, "worker", "--name", name, *threads_of_it, *pages, *local, *self._file, env=env
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

    @contextmanager
    def connected(self) -> Iterator[Client]:
        """A client of Dask's."""
        with Client(scheduler_file=str(self.file), set_as_default=False) as client:
            yield client

    @contextmanager
    def held(self) -> Iterator[Callable[[], object]]:
        """Have another's tasks take all threads of the workers, until what is given is called."""
        with self.connected() as client:
            event = Event(client=client)
            tasks = [
                client.submit(operator.methodcaller("wait"), event, workers=[worker], pure=False)
                for worker, threads in client.nthreads().items()
                for _ in range(threads)
            ]
            try:
                wait_until(lambda: in_work(client) == len(tasks), "the threads are taken")
                yield event.set
            finally:
                event.set()
                client.gather(tasks)

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
    def tasks(self) -> int:
        """How many tasks the scheduler knows of, begun or not."""
        return int(json.loads(page(self.port, "/json/counts.json"))["tasks"])

    @property
    def port(self) -> int:
        """Where the scheduler has its pages."""
        return int(json.loads(self.file.read_text())["services"]["dashboard"])

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


def in_work(client: Client) -> int:
    """How many tasks the workers have."""
    return sum(map(len, client.processing().values()))


def page(port: int, path: str) -> str:
    """A page of a scheduler or a worker."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.NOT_IMPLEMENTED:  # it needs what is not installed
            raise
        return str(error.read().decode())


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
