"""A Dask cluster, as what has jobs done. Imported only where it is wanted: it is an extra."""

from __future__ import annotations

import logging
import secrets
import threading
import time
import warnings
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from distributed import Client, KilledWorker, Security

from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.fetch.events import Progressed
from tap_mixpanel_parallel.machines.checks import problems, said, wanted, within
from tap_mixpanel_parallel.machines.claim import SECONDS, Claim, LostError
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

_ANSWER_SECONDS: Final = 5.0
_WORKER_SECONDS: Final = 60.0
"""How long a run goes on without a worker: machines take so long to come back."""

_WATCH_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 1.5
"""A run that is stopped has to end within two seconds."""


class ClusterError(TapError):
    """The cluster can't be used, or is gone."""

    read_on = "docs/failures.md#cluster"


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
        self._client = self._connect()
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
        """How many tasks start at once, now.

        Raises:
            ClusterError: If the cluster is gone.
        """
        if self._problem is not None:
            raise self._problem
        return self._threads

    def submit(self, job: Job) -> Future[Download]:
        """Have a job done, and wait until it begins: the next must not overtake it.

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
        if begun.wait(SECONDS):
            self._begin()
        self._begun.pop(name, None)
        return done

    def _end(self, done: Future[Download], job: Job, name: str, task: Any) -> None:
        """Take what came of a task; called by a thread of Dask's."""
        self._tell_begun(name)
        with self._lock:
            claim, _ = self._under_way.pop(done, (None, None))
        if claim is None or self._closing.is_set():
            return
        try:
            found = self._taken(task, job, name)
        except TapError as error:
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
            raise self._gone(error) from None
        if isinstance(found, TapError):
            raise found
        part = self._work.staging.take(found.part, name, job.path.with_suffix(".lines"))
        return replace(found, path=job.path, part=part)

    def _connect(self) -> Any:
        machines = self._machines
        where = {"scheduler_file" if machines.is_file else "address": machines.scheduler}
        tls = machines.tls
        try:
            security = (
                Security(
                    tls_ca_file=tls["ca_file"],
                    tls_client_cert=tls["cert_file"],
                    tls_client_key=tls["key_file"],
                    require_encryption=True,
                )
                if tls
                else None
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of versions: the check says more
                connecting = partial(
                    Client,
                    **where,
                    timeout=_ANSWER_SECONDS,
                    security=security,
                    set_as_default=False,
                )
                return within(connecting, 2 * _ANSWER_SECONDS)
        except Exception as error:  # noqa: BLE001 - Dask raises anything
            raise ClusterError(
                f"{SCHEDULER}: {machines.scheduler} does not answer ({said(error)}); start the "
                "scheduler, correct the address, or see that both ends have the same TLS"
            ) from None

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
                threads = self._client.nthreads(callback_timeout=_ANSWER_SECONDS)
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
                for claim, _ in under_way:
                    claim.withdraw()
                    claim.close()
                self._client.cancel([task for _, task in under_way], force=True)
            with suppress(Exception):
                self._client.close(timeout=_CLOSE_SECONDS)

        with self._lock:
            under_way = list(self._under_way.values())
        thread = threading.Thread(target=close, daemon=True)
        thread.start()
        thread.join(_CLOSE_SECONDS)
