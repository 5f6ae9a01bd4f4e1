"""A Dask cluster, as what has jobs done. Imported only where it is wanted: it is an extra."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from distributed import KilledWorker

from tap_mixpanel_parallel.exceptions import TapError, ThreadError
from tap_mixpanel_parallel.fetch.events import Progressed
from tap_mixpanel_parallel.fetch.threads import DaemonThreads
from tap_mixpanel_parallel.machines.checks import problems, said, wanted, within
from tap_mixpanel_parallel.machines.claim import SECONDS, Claim, LostError
from tap_mixpanel_parallel.machines.connect import ANSWER_SECONDS, ClusterError, connect
from tap_mixpanel_parallel.machines.sealed import Sealed
from tap_mixpanel_parallel.machines.task import attempt
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.settings.machines import SCHEDULER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tap_mixpanel_parallel.convert.processes import Prepared
    from tap_mixpanel_parallel.fetch.events import FetchEvent
    from tap_mixpanel_parallel.fetch.job import Download, Job
    from tap_mixpanel_parallel.machines.task import Work
    from tap_mixpanel_parallel.settings.machines import Machines

_WORKER_SECONDS: Final = 60.0
"""How long a run goes on without a worker: machines take so long to come back."""

_WATCH_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 1.5
"""A run that is stopped has to end within two seconds."""


class Cluster:
    """Has jobs done by workers. Context manager: entering connects and checks."""

    def __init__(self, machines: Machines, work: Work, probe: str) -> None:
        """Prepare.

        Args:
            machines: How the cluster is reached.
            work: What all attempts have in common.
            probe: A file that lies in the root, for workers to see.
        """
        self._machines = machines
        self._work = work
        self._probe = probe
        self._topic = f"tap-mixpanel-parallel-{secrets.token_hex(8)}"
        self._notify: Callable[[FetchEvent], None] = lambda _: None
        self._begin: Callable[[], None] = lambda: None
        self._begun: dict[str, threading.Event] = {}
        self._under_way: dict[Future[Download], tuple[Claim, Any]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads = 0
        self._problem: ClusterError | None = None

    def __enter__(self) -> Self:
        """Connect, and check that every worker can do the work.

        Raises:
            ClusterError: If the scheduler does not answer, or a worker can't.
        """
        for name in ("distributed", "distributed.client", "tornado", "tornado.application"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # they log tracebacks
        self._client = connect(self._machines)
        try:
            self._client.subscribe_topic(self._topic, self._listen)
            self._check()
        except BaseException as error:
            self._close()
            if isinstance(error, TapError) or not isinstance(error, Exception):
                raise
            raise self._gone(error) from None
        threading.Thread(target=self._watch, name="cluster", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what is under way: it can store nothing any more."""
        self._close()

    def watch(self, notify: Callable[[FetchEvent], None], begin: Callable[[], None]) -> None:
        """Have an observer told how far requests are, and the limit when each begins."""
        self._notify, self._begin = notify, begin

    def slots(self) -> int:
        """How many tasks start at once, now, if nobody else has any.

        Raises:
            ClusterError: If the cluster is gone.
        """
        if self._problem is not None:
            raise self._problem
        return self._threads

    def submit(self, job: Job) -> Future[Download]:
        """Have a job done, and wait until it begins: the next must not overtake it.

        The workers' threads may be taken by others, however long.

        Raises:
            ClusterError: If the cluster is gone.
        """
        name = f"window-{secrets.token_hex(16)}"
        done: Future[Download] = Future()
        done.set_running_or_notify_cancel()
        begun = self._begun[name] = threading.Event()
        try:
            claim = Claim(name, self._client)
            claim.give()
            task = self._client.submit(
                attempt,
                Sealed((job, self._work)),
                name,
                self._topic,
                key=name,
                pure=False,
                retries=0,
            )
        except Exception as error:  # noqa: BLE001 - Dask raises anything
            raise self._problem or self._gone(error) from None
        with self._lock:
            self._under_way[done] = claim, task
        task.add_done_callback(partial(self._end, done, job, name))
        while not (begun.wait(_WATCH_SECONDS) or self._problem or self._closing.is_set()):
            pass
        self._begun.pop(name, None)
        if self._problem is not None:
            raise self._problem
        if not self._closing.is_set():
            self._begin()
        return done

    def _end(self, done: Future[Download], job: Job, name: str, task: Any) -> None:
        """Have a thread take what came of a task.

        The thread of Dask's that calls it is the only one, and a process that ends waits for it.
        """
        self._tell_begun(name)
        with self._lock:
            claim, _ = self._under_way.pop(done, (None, None))
        if claim is None or self._closing.is_set():
            return
        try:
            DaemonThreads().submit(self._take, done, claim, job, name, task)
        except RuntimeError as error:
            done.set_exception(ThreadError(error))

    def _take(self, done: Future[Download], claim: Claim, job: Job, name: str, task: Any) -> None:
        try:
            found = self._taken(task, job, name)
        except Exception as error:  # noqa: BLE001 - the scheduler tells them apart
            done.set_exception(error)
            if not isinstance(error, ClusterError):  # or else nobody would answer
                claim.withdraw()
        else:
            done.set_result(found)
        claim.close()

    def _taken(self, task: Any, job: Job, name: str) -> Prepared:
        try:
            found: Prepared | TapError = task.result(timeout=_WORKER_SECONDS)
        except KilledWorker:
            raise LostError from None
        except Exception as error:  # noqa: BLE001 - of Dask, or of a worker without the tap
            if task.status == "error":
                raise ClusterError(
                    f"a worker can't do the work: {type(error).__name__}: {error}; "
                    f"does each have {wanted()}?"
                ) from None
            # Only the worker has what it made. As one waits in vain, Dask ends others' waiting too.
            is_kept = task.status == "finished" and not isinstance(error, OSError)
            if is_kept or isinstance(error, TimeoutError):
                raise LostError from None
            raise self._gone(error) from None
        if isinstance(found, TapError):
            raise found
        part = self._work.staging.take(found.part, name, job.path.with_suffix(".lines"))
        return replace(found, path=job.path, part=part)

    def _check(self) -> None:
        """Check every worker, and the scheduler, which unpacks tasks too."""
        client = self._client
        try:
            client.wait_for_workers(1, timeout=_WORKER_SECONDS)
        except Exception:  # noqa: BLE001
            raise ClusterError(
                f"{SCHEDULER}: {self._machines.scheduler} has no worker for "
                f"{_WORKER_SECONDS:.0f} seconds; start some"
            ) from None
        checking = partial(next, problems(client, self._work, self._probe), None)
        try:
            problem = within(checking, _WORKER_SECONDS)
        except TimeoutError:
            problem = f"a worker has not answered for {_WORKER_SECONDS:.0f} seconds; restart it"
        if problem is not None:
            raise ClusterError(f"{SCHEDULER}: {problem}")
        self._threads = sum(client.nthreads().values())

    def _listen(self, event: tuple[float, Any]) -> None:
        with suppress(Exception):  # whoever can reach the scheduler can send anything
            name, window, worker, received = event[1]
            self._tell_begun(name)
            self._notify(Progressed(Window.parse(*window.split("..")), worker, received))

    def _tell_begun(self, name: str) -> None:
        if (begun := self._begun.get(name)) is not None:
            begun.set()

    def _watch(self) -> None:
        """Keep count of the workers' threads; notice that the cluster is gone."""
        seen = answered = time.monotonic()
        while not self._closing.wait(_WATCH_SECONDS):
            try:
                threads = self._client.nthreads(callback_timeout=ANSWER_SECONDS)
            except Exception as error:  # noqa: BLE001 - Dask raises anything
                # One that is connected may be busy.
                late = time.monotonic() - answered
                if self._client.status == "running" and late < SECONDS:
                    continue
                self._fail(self._gone(error))
                return
            answered = time.monotonic()
            self._threads = sum(threads.values())
            if self._threads:
                seen = time.monotonic()
            elif time.monotonic() - seen > _WORKER_SECONDS:
                self._fail(
                    ClusterError(
                        f"{SCHEDULER}: {self._machines.scheduler} has had no worker for "
                        f"{_WORKER_SECONDS:.0f} seconds, so the run ends; start workers, and run "
                        "again"
                    )
                )
                return

    def _fail(self, problem: ClusterError) -> None:
        self._problem = problem
        for name in [*self._begun]:
            self._tell_begun(name)
        with self._lock:
            under_way, self._under_way = self._under_way, {}
        if not self._closing.is_set():
            for done in under_way:
                done.set_exception(problem)

    def _gone(self, error: Exception) -> ClusterError:
        return ClusterError(
            f"{SCHEDULER}: the connection to {self._machines.scheduler} is lost ({said(error)}), "
            "so the run ends; the next run continues after what is loaded"
        )

    def _close(self) -> None:
        """Close the connection; a scheduler that is gone must not keep the run."""
        self._closing.set()

        def close() -> None:
            with suppress(Exception):
                # Workers break off the requests of tasks that nobody wants.
                self._client.cancel([task for _, task in under_way], force=True)
                for claim, _ in under_way:
                    claim.withdraw()
                    claim.close()
            with suppress(Exception):
                self._client.close(timeout=_CLOSE_SECONDS)

        with self._lock:
            under_way = list(self._under_way.values())
        thread = threading.Thread(target=close, daemon=True)
        thread.start()
        thread.join(_CLOSE_SECONDS)
