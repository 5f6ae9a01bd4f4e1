"""A cluster that others use too, and whose workers freeze, or lose their disk or their way."""

from __future__ import annotations

import operator
import os
import shutil
import signal
import subprocess
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_parallel.exceptions import SpoolError, TransportError
from tap_mixpanel_parallel.fetch.threads import DaemonThreads
from tap_mixpanel_parallel.machines import cluster as tap
from tap_mixpanel_parallel.machines.claim import LostError
from tap_mixpanel_parallel.machines.connect import ClusterError
from tap_mixpanel_parallel.write.staging import Staging
from tests.machines.conftest import FIRST, NOW, job_of, joined
from tests.support.commands import PATIENCE
from tests.support.gate import Gate
from tests.support.harness import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Part
    from tests.support.cluster import Cluster
    from tests.support.harness import Lab

pytestmark = pytest.mark.slow

SECOND = FIRST + timedelta(days=1)


def test_a_task_is_counted_when_it_gets_a_thread(
    lab: Lab, workers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long others take the threads: until then the limits let no other start."""
    monkeypatch.setattr(tap, "_WATCH_SECONDS", 0.05)
    begun: list[None] = []
    jobs = [job_of(lab), job_of(lab, SECOND)]
    with workers.held() as let_go, joined(lab, workers) as cluster:
        cluster.watch(lambda _: None, lambda: begun.append(None))
        submitting = DaemonThreads().submit(lambda: [cluster.submit(job) for job in jobs])
        wait_until(lambda: cluster._under_way, "a task waits for a thread")
        time.sleep(0.3)  # longer than it waits before it looks up
        assert len(cluster._under_way) == 1
        assert not begun
        let_go()
        for done in submitting.result(PATIENCE):
            assert done.result(PATIENCE).part.events
    assert len(begun) == 2


def test_a_task_without_a_thread_ends_with_the_cluster(lab: Lab, workers: Cluster) -> None:
    with workers.held(), joined(lab, workers) as cluster:
        submitting = DaemonThreads().submit(cluster.submit, job_of(lab))
        wait_until(lambda: cluster._under_way, "a task waits for a thread")
        cluster._fail(ClusterError("the scheduler is gone"))
        with pytest.raises(ClusterError, match="is gone"):
            submitting.result(PATIENCE)


def test_a_run_without_a_thread_can_be_stopped(lab: Lab, workers: Cluster) -> None:
    """What waits for one does not begin later."""
    with workers.held() as let_go:
        taken = workers.tasks
        with lab.start(subprocess.PIPE) as run:
            wait_until(lambda: workers.tasks > taken, "a task waits for a thread")
            run.send_signal(signal.SIGTERM)
            run.communicate(timeout=PATIENCE)
        let_go()
    wait_until(lambda: workers.tasks == 0, "nothing waits any more")
    assert run.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in lab.errors
    assert lab.sandbox.requests == []
    assert lab.left_behind == []


def test_what_takes_long_keeps_no_other_and_no_process(
    lab: Lab, workers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of a window come from a bucket; Python waits for threads that are not daemons."""
    slow, daemons = threading.Event(), []

    def take(self: Staging, part: Part, name: str, path: Path) -> Part:
        daemons.append(threading.current_thread().daemon)
        if part.window.first == FIRST:
            slow.wait(PATIENCE)
        return there(self, part, name, path)

    there = Staging.take
    monkeypatch.setattr(Staging, "take", take)
    with joined(lab, workers) as cluster:
        first = cluster.submit(job_of(lab))
        wait_until(lambda: daemons, "the first is being taken")
        second = cluster.submit(job_of(lab, SECOND))
        assert second.result(PATIENCE).part.window.first == SECOND
        assert not first.done()
        slow.set()
        assert first.result(PATIENCE).part.window.first == FIRST
    assert daemons == [True, True]


def test_a_worker_that_freezes_with_what_it_has_made(
    lab: Lab, workers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a failed attempt: the scheduler is there."""
    pid = workers.pids[0]
    with joined(lab, workers) as cluster:
        task = cluster._client.submit(operator.neg, 1, workers=[workers.workers[0]], pure=False)
        wait_until(task.done, "it is made")
        monkeypatch.setattr(tap, "_WORKER_SECONDS", 0.5)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(LostError):
                cluster._taken(task, job_of(lab), task.key)
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_scheduler_that_does_not_answer_a_task(lab: Lab, workers: Cluster) -> None:
    """It is a failed attempt, and nobody is asked to report it."""
    with Gate(NOW) as gate, joined(lab, workers) as cluster:
        lab.sandbox._as_of = gate
        done = cluster.submit(job_of(lab))
        gate.wait_for(1)
        ((claim, _),) = cluster._under_way.values()
        for _ in range(2):  # both ends let go of it, so it is forgotten
            claim.close()
        wait_until(lambda: is_forgotten(claim), "the scheduler has no such claim any more")
        gate.open()
        error = done.exception(PATIENCE)
    assert type(error) is LostError
    assert str(error) in {
        f"worker {name}: the scheduler does not answer it (KeyError)" for name in workers.workers
    }


def is_forgotten(claim: Any) -> bool:
    try:
        claim._queue.qsize()
    except KeyError:
        return True
    return False


def test_an_error_of_a_machine_names_it(lab: Lab, workers: Cluster) -> None:
    """Its way to Mixpanel, its disk; and it stays what it is."""
    job, lost = job_of(lab), job_of(lab, url="http://127.0.0.1:1")
    with joined(lab, workers) as cluster:
        no_way = cluster.submit(lost).exception(PATIENCE)
        shutil.rmtree(lab.spool)
        no_disk = cluster.submit(job).exception(PATIENCE)
    assert isinstance(no_way, TransportError)
    assert isinstance(no_disk, SpoolError)
    for error, said in ((no_way, "127.0.0.1:1: "), (no_disk, f"spool_dir: {lab.spool} can't be")):
        assert str(error).startswith(tuple(f"worker {name}: {said}" for name in workers.workers))
