"""What a run sees before its first request, and later: a cluster that can't do the work, or can."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.fetch.events import Progressed
from tap_mixpanel_parallel.machines import checks, connect, sealed
from tap_mixpanel_parallel.machines import cluster as tap
from tap_mixpanel_parallel.machines.checks import problems, within
from tap_mixpanel_parallel.machines.claim import Claim, LostError
from tap_mixpanel_parallel.machines.connect import ClusterError
from tap_mixpanel_parallel.machines.sealed import PACKAGES, Sealed
from tap_mixpanel_parallel.machines.task import Work
from tap_mixpanel_parallel.settings.batch import BatchConfig
from tap_mixpanel_parallel.settings.machines import Machines
from tap_mixpanel_parallel.write.staging import Staging
from tests.machines.conftest import NOW, job_of, joined, names
from tests.support.cluster import cluster_in
from tests.support.commands import PATIENCE
from tests.support.gate import Gate
from tests.support.harness import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.fetch.events import FetchEvent
    from tests.support.cluster import Cluster
    from tests.support.harness import Lab

pytestmark = pytest.mark.slow

NO_WORK: Final = cast("Work", None)


class TestRefused:
    """One clear error before the first request."""

    def refused(self, lab: Lab, **settings: Any) -> str:
        done = lab.run(**settings)
        assert done.code == 1
        assert lab.sandbox.requests == []
        assert "Traceback" not in done.errors
        (error,) = [line for line in done.errors.splitlines() if "| ERROR" in line]
        return error

    def test_a_worker_with_other_versions(self, lab: Lab, cluster: Cluster, tmp_path: Path) -> None:
        """Each that matters is found, and the first is told of."""
        (tmp_path / "sitecustomize.py").write_text(
            "import importlib.metadata as m, platform as p\n"
            "old = m.version\n"
            f"m.version = lambda name: '0.1' if name in {PACKAGES} else old(name)\n"
            "p.python_version_tuple = lambda: ('3', '9', '1')\n"
        )
        with another(cluster, tmp_path):
            error = self.refused(lab)
            with cluster.connected() as client:
                found = "; ".join(problems(client, NO_WORK, "probe"))
        assert "has 3.9 of Python, and the run has" in error
        for name in ("3.9 of Python", *(f"0.1 of {package}" for package in PACKAGES)):
            assert f"has {name}, and the run has" in found

    def test_a_root_that_workers_do_not_see(
        self, lab: Lab, cluster: Cluster, tmp_path: Path
    ) -> None:
        """As with a folder of another machine: the worker's processes have a root of their own."""
        (tmp_path / "sitecustomize.py").write_text(
            "import pathlib\n"
            "there = pathlib.Path.iterdir\n"
            "pathlib.Path.iterdir = lambda p: iter(()) if p.name == 'root' else there(p)\n"
        )
        with another(cluster, tmp_path):
            error = self.refused(lab)
        assert "a file that the run has put there is missing" in error
        assert "s3://bucket/mixpanel" in error
        assert names(lab) == []

    def test_a_worker_without_the_extras(self, lab: Lab, cluster: Cluster, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pyarrow'] = None\n")
        with another(cluster, tmp_path):
            error = self.refused(lab)
        assert "needs more than is installed there" in error
        assert "pyarrow" in error
        assert "such as tap-mixpanel-parallel[dask,files,s3] (see docs/failures.md" in error
        assert "storage.root" not in error


@contextmanager
def another(cluster: Cluster, path: Path) -> Iterator[None]:
    """One worker more, which has modules of its own."""
    name = f"another-{path.name}"
    cluster.add_worker(name, env={"PYTHONPATH": str(path)})
    cluster.wait_for(name)
    try:
        yield
    finally:
        cluster.kill(name)
        cluster.wait_for_end(name)


@pytest.mark.parametrize("listens", [False, True])
def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, listens: bool) -> None:
    """Nobody listens, or somebody who says nothing: a frozen scheduler, or something else."""
    monkeypatch.setattr(connect, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1] if listens else 1}"
        run = tap.Cluster(Machines(address), NO_WORK, "probe")
        with pytest.raises(ClusterError, match=f"^dask_scheduler: {address} does not answer"), run:
            pass


def test_a_cluster_without_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At first, and later: a run waits for some for a while, and says so as it ends."""
    monkeypatch.setattr(tap, "_WORKER_SECONDS", 1.0)
    monkeypatch.setattr(tap, "_WATCH_SECONDS", 0.1)
    with cluster_in(tmp_path, workers=0) as empty:
        run = tap.Cluster(Machines(str(empty.file)), NO_WORK, "probe")
        with pytest.raises(ClusterError, match="has no worker for 1 seconds; start some"), run:
            pass
        run = tap.Cluster(Machines(str(empty.file)), NO_WORK, "probe")
        with empty.connected() as client:
            run._client = client
            run._watch()
        with pytest.raises(ClusterError, match="has had no worker for 1 seconds, so the run ends"):
            run.slots()


def test_storage_that_does_not_answer_a_worker(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named. The worker's own loop goes on: the tasks of other runs need it."""
    monkeypatch.setattr(checks, "_LOOK_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, cluster.connected() as client:
        root = f"http://127.0.0.1:{silent.getsockname()[1]}/root"
        staging = Staging(BatchConfig("jsonl", root), "staged-")
        work = Work(cast("Any", None), cast("Any", None), staging, None)
        found = within(lambda: [*problems(client, work, "probe")], PATIENCE)
    assert len(found) == len(cluster.workers)
    for problem in found:
        assert f"batch_config.storage.root: {root} has not answered for 0.5 seconds" in problem


def test_a_run_that_waits_for_a_worker_can_be_stopped(lab: Lab, tmp_path: Path) -> None:
    with cluster_in(tmp_path / "empty", workers=0) as empty:
        with lab.start(subprocess.PIPE, dask_scheduler=str(empty.file)) as run:
            wait_until(lambda: "events leave as files" in lab.errors, "it is about to connect")
            run.send_signal(signal.SIGTERM)
            run.communicate(timeout=20)
        assert run.returncode == 128 + signal.SIGTERM
        assert "Traceback" not in lab.errors
        assert names(lab) == []


def test_a_worker_that_comes_later_with_other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens nothing."""
    there = Sealed("work")
    monkeypatch.setattr(sealed, "version", lambda _: "0.1")
    with pytest.raises(TapError, match=r"it has tap-mixpanel-parallel 0\.1, and the run has"):
        there.open()


class TestClaim:
    """What Dask runs again is to do nothing."""

    @pytest.fixture
    def ends(self, cluster: Cluster) -> Iterator[tuple[Claim, Claim, Claim]]:
        """The run's end of a claim, that of its task, and that of its task run again."""
        with cluster.connected() as run, cluster.connected() as task, cluster.connected() as again:
            name = f"window-{time.monotonic_ns()}"
            claims = [Claim(name, client) for client in (run, task, again)]
            claims[0].give()
            yield claims[0], claims[1], claims[2]
            for claim in claims:
                claim.close()

    def test_an_attempt_is_made_and_stored(self, ends: tuple[Claim, Claim, Claim]) -> None:
        _, task, _ = ends
        task.take()
        task.take_to_store()

    def test_once(self, ends: tuple[Claim, Claim, Claim]) -> None:
        """Nor does who began it store, if Dask believes it to be dead: the run tries again."""
        _, task, again = ends
        task.take()
        with pytest.raises(LostError):
            again.take()
        with pytest.raises(LostError):
            task.take_to_store()

    def test_by_one_of_many(self, ends: tuple[Claim, Claim, Claim]) -> None:
        _, *tasks = ends
        taken = []

        def take(claim: Claim) -> None:
            try:
                claim.take()
            except LostError:
                return
            taken.append(claim)

        threads = [threading.Thread(target=take, args=(claim,)) for claim in tasks * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1

    @pytest.mark.parametrize("begun", [False, True])
    def test_not_when_the_run_has_given_it_up(
        self, ends: tuple[Claim, Claim, Claim], begun: bool
    ) -> None:
        run, task, _ = ends
        if begun:
            task.take()
        run.withdraw()
        with pytest.raises(LostError):
            (task.take_to_store if begun else task.take)()


def test_a_task_tells_who_has_begun_it(lab: Lab, workers: Cluster) -> None:
    """The limits count it then; what comes back has no file of the worker's disk."""
    told: list[FetchEvent] = []
    begun: list[int] = []
    with Gate(NOW) as gate, joined(lab, workers) as cluster:
        lab.sandbox._as_of = gate
        cluster.watch(told.append, lambda: begun.append(gate.arrived))
        job = job_of(lab)
        done = cluster.submit(job)
        assert len(begun) == 1
        assert not done.done()
        wait_until(lambda: told, "the task has told of itself")
        gate.open()
        prepared = done.result(PATIENCE)
    (by,) = {(event.window, event.worker) for event in told if isinstance(event, Progressed)}
    assert by[0] == job.window
    assert by[1] in workers.workers
    assert names(lab) == sorted(["probe", *prepared.part.staged])
    assert prepared.part.events == sum(prepared.part.by_day.values()) > 0
    assert prepared.part.files == ()
