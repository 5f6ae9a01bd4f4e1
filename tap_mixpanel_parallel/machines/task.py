"""What a worker does: one attempt at one window, from the request to the stored files."""

from __future__ import annotations

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
from tap_mixpanel_parallel.exceptions import TapError, UnknownError, drop_frames
from tap_mixpanel_parallel.fetch.client import download
from tap_mixpanel_parallel.fetch.connection import Connections
from tap_mixpanel_parallel.fetch.job import Download
from tap_mixpanel_parallel.fetch.redaction import Redactor
from tap_mixpanel_parallel.fetch.spool import Spool
from tap_mixpanel_parallel.machines.claim import Claim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mixpanel_parallel.convert.conversion import ConversionOptions
    from tap_mixpanel_parallel.convert.files import Files
    from tap_mixpanel_parallel.fetch.job import Job
    from tap_mixpanel_parallel.machines.sealed import Sealed
    from tap_mixpanel_parallel.write.staging import Staging

_TELL_SECONDS: Final = 1.0


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
    claim: Claim | None = None
    redact = Redactor(None)
    try:
        job, work = sealed.open()
        redact = Redactor(job.query.credentials)
        claim = Claim(name)
        claim.take()
        return _make(job, work, claim, name, topic)
    except TapError as error:
        drop_frames(error)
        error.args = (redact.reason(error),)
        return error
    except Exception as error:  # noqa: BLE001 - the run ends with it
        return UnknownError(f"worker {worker.name}", ValueError(redact.reason(error)))
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


def look(sealed: Sealed, probe: str) -> str:
    """See whether this worker can do the work; why not, or nothing.

    Args:
        sealed: The work.
        probe: The name of a file that the run has put into the root.
    """
    try:
        work: Work = sealed.open()
        work.staging.check(probe, uuid.uuid4().hex)
        with Spool(work.spool_dir):
            pass
    except TapError as error:
        return str(error)
    return ""
