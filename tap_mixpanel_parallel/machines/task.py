"""What a worker does: one attempt at one window, from the request to the stored files."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from distributed import get_worker

from tap_mixpanel_parallel.convert.processes import Prepared
from tap_mixpanel_parallel.convert.worker import convert
from tap_mixpanel_parallel.exceptions import (
    IncompleteExportError,
    LaterThanTodayError,
    RateLimitError,
    RefusedError,
    TapError,
    UnknownError,
    drop_frames,
)
from tap_mixpanel_parallel.fetch.client import download
from tap_mixpanel_parallel.fetch.connection import Connections
from tap_mixpanel_parallel.fetch.job import Download
from tap_mixpanel_parallel.fetch.redaction import Redactor
from tap_mixpanel_parallel.fetch.spool import Spool
from tap_mixpanel_parallel.fetch.threads import DaemonThreads
from tap_mixpanel_parallel.machines.claim import Claim, LostError, answered
from tap_mixpanel_parallel.settings.batch import ROOT_SETTING
from tap_mixpanel_parallel.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mixpanel_parallel.convert.conversion import ConversionOptions
    from tap_mixpanel_parallel.convert.files import Files
    from tap_mixpanel_parallel.fetch.job import Job
    from tap_mixpanel_parallel.machines.sealed import Sealed
    from tap_mixpanel_parallel.write.staging import Staging

_TELL_SECONDS: Final = 1.0

_ANYWHERE: Final = (
    IncompleteExportError,
    LaterThanTodayError,
    LostError,
    RateLimitError,
    RefusedError,
)
"""Errors that are about no machine."""


@dataclass(frozen=True, slots=True)
class Work:
    """What all attempts of a run have in common. It can be pickled.

    Attributes:
        options: How bodies are converted.
        form: What records become.
        staging: Where the files go.
        spool: The folder in which windows wait on the worker's disk; None: the system's.
    """

    options: ConversionOptions
    form: Files
    staging: Staging
    spool: Path | None

    @property
    def spool_dir(self) -> Path:
        """The folder on this machine."""
        return self.spool or Path(tempfile.gettempdir())


def attempt(sealed: Sealed, name: str, topic: str) -> Prepared | TapError:
    """Make an attempt, unless it was begun before.

    Its error is returned, not raised: a worker logs what a task raises.

    Args:
        sealed: The job, and the work.
        name: The attempt's own name.
        topic: Where the run listens for how far it is.
    """
    worker = get_worker()
    who = f"worker {worker.name}"
    claim: Claim | None = None
    redact = Redactor(None)
    try:
        job, work = sealed.open()
        redact = Redactor(job.query.credentials)
        with answered(who):
            claim = Claim(name)
            claim.take()
        return _make(job, work, claim, name, topic)
    except TapError as error:
        drop_frames(error)
        said = redact.reason(error)
        error.args = (said if isinstance(error, _ANYWHERE) else f"{printable(who)}: {said}",)
        return error
    except Exception as error:  # noqa: BLE001 - the run ends with it
        return UnknownError(who, ValueError(redact.reason(error)))
    finally:
        if claim is not None:
            claim.close()


def _make(job: Job, work: Work, claim: Claim, name: str, topic: str) -> Prepared:
    worker = get_worker()
    with Spool(work.spool_dir) as spool:
        job = replace(job, path=spool.path / job.path.name)
        with Connections() as connections, _telling(worker, job, name, topic, connections):
            body = download(job, connections)
        form = replace(work.form, folder=spool.path, setting="spool_dir")
        part = convert(job.window, body, work.options, form)
        with answered(f"worker {worker.name}"):
            claim.take_to_store()
        part = work.staging.put(part, name)
    return Prepared(**{each.name: getattr(body, each.name) for each in fields(Download)}, part=part)


@contextmanager
def _telling(
    worker: Any, job: Job, name: str, topic: str, connections: Connections
) -> Iterator[None]:
    """Tell the run how many bytes have come, at first and once a second, and who has them.

    A thread can't be stopped, so what is told to nobody is broken off.
    """
    over = threading.Event()

    def tell() -> None:
        while True:
            size = 0
            with suppress(OSError):
                size = job.path.stat().st_size
            worker.log_event(topic, [name, str(job.window), str(worker.name), size])
            if over.wait(_TELL_SECONDS):
                return
            if not _is_wanted(worker, name):
                connections.break_off()

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _is_wanted(worker: Any, name: str) -> bool:
    """Whether the scheduler wants a task: it lets go of those of a run that has ended, or died."""
    task = worker.state.tasks.get(name)
    return task is not None and task.state == "executing"


async def look(sealed: Sealed, probe: str, seconds: float) -> str:
    """See whether this worker can do the work; why not, or nothing.

    The tasks of other runs need the worker's loop meanwhile, so a thread looks.

    Args:
        sealed: The work.
        probe: The name of a file that the run has put into the root.
        seconds: How long that may take.
    """
    try:
        work: Work = sealed.open()
    except TapError as error:
        return str(error)
    looking = DaemonThreads().submit(_look, work, probe)
    try:
        answer: str = await asyncio.wait_for(asyncio.wrap_future(looking), seconds)
    except TimeoutError:
        return (
            f"{ROOT_SETTING}: {work.staging.config.shown_root} has not answered for {seconds:g} "
            "seconds; see that the worker reaches the storage, or that its folder is not frozen"
        )
    return answer


def _look(work: Work, probe: str) -> str:
    try:
        work.staging.check(probe, uuid.uuid4().hex)
    except TapError as error:
        return (
            f"{error}; workers need the same storage.root as the run: a folder that all machines "
            "share, or a bucket such as s3://bucket/mixpanel, and the extra that opens it"
        )
    try:
        with Spool(work.spool_dir):
            return ""
    except TapError as error:
        return f"{error}; each worker needs such a folder"
