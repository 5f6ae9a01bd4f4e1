"""Windows on a Dask cluster of separate processes, with faults, poison and real kills."""

from __future__ import annotations

import json
import operator
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, cast

import fsspec
import pytest
from distributed import Client

from tap_mixpanel_parallel.machines import cluster as tap
from tap_mixpanel_parallel.machines.cluster import ClusterError
from tap_mixpanel_parallel.machines.sealed import Sealed
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox
from tap_mixpanel_parallel.settings.machines import Machines
from tests.support.certificates import certificates
from tests.support.cluster import cluster_in
from tests.support.commands import PATIENCE
from tests.support.expected import lines_of
from tests.support.files import batch_config, events_in, events_of
from tests.support.gate import Gate
from tests.support.harness import Body, Lab, Output, body, identities, wait_until
from tests.support.poison import DAY, POISON
from tests.support.s3 import BUCKET, SECRET, s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_mixpanel_parallel.machines.task import Work
    from tests.support.cluster import Cluster
    from tests.support.harness import Identity

pytestmark = pytest.mark.slow

PROJECT: Final = Project(seed=3, events_per_day=40)
NOW: Final = datetime(2025, 3, 1, tzinfo=UTC)
FIRST, LAST = date(2025, 1, 1), date(2025, 1, 8)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def workers(cluster: Cluster) -> Cluster:
    """Two workers, whatever the test before has killed."""
    cluster.replenish(2)
    return cluster


@pytest.fixture(scope="module")
def strict_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("strict")
    files = certificates(folder)
    options = ["--tls-ca-file", files["ca_file"], "--tls-cert", files["cert_file"]]
    options += ["--tls-key", files["key_file"]]
    env = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with cluster_in(folder, env=env, options=options, scheme="tls") as cluster:
        yield cluster


@pytest.fixture
def strict(lab: Lab, strict_cluster: Cluster) -> Cluster:
    """A cluster that runs no task again, and speaks TLS only; the lab's tap uses it."""
    strict_cluster.replenish(2)
    address = json.loads(strict_cluster.file.read_text())["address"]
    assert address.startswith("tls://")
    folder = strict_cluster.folder
    tls = {"ca_file": "tap.pem", "cert_file": "tap.pem", "key_file": "tap.key"}
    lab.settings |= {
        "dask_scheduler": address,
        "dask_tls": {name: str(folder / file) for name, file in tls.items()},
    }
    return strict_cluster


@pytest.fixture
def lab(tmp_path: Path, workers: Cluster) -> Iterator[Lab]:
    with Sandbox(PROJECT, limits=None, as_of=lambda: NOW) as sandbox:
        lab = Lab(tmp_path, sandbox)
        lab.settings |= batch_config("parquet", tmp_path / "root")
        lab.settings |= {
            "executor": "dask",
            "dask_scheduler": str(workers.file),
            "start_date": str(FIRST),
            "end_date": str(LAST),
            "parallel": True,
            "workers": 4,
            "window_days": 1,
            "properties_format": "string",
        }
        yield lab


def names(lab: Lab) -> list[str]:
    return sorted(path.name for path in (lab.folder / "root").iterdir())


def announced(done: Output) -> list[str]:
    urls = [url for m in done.messages if m["type"] == "BATCH" for url in m["manifest"]]
    return sorted(url.rpartition("/")[2] for url in urls)


def ended(tap: subprocess.Popen[bytes], lab: Lab) -> Output:
    text, _ = tap.communicate(timeout=PATIENCE)
    return Output(tap.returncode, text, lab.errors)


def loaded(done: Output) -> Counter[Identity]:
    return Counter((e["event"], str(e["insert_id"])) for e in events_of(done.messages))


LOST: Final = "the worker that fetched the window is lost: it has died, or was stopped"
EVERYTHING: Final = identities(lines_of(PROJECT, FIRST, LAST, NOW))


def test_faults(lab: Lab) -> None:
    """Each window comes whole, however its requests go; no file is left that no message names."""
    lab.sandbox.faults = [
        Fault.parse(text)
        for text in (
            "status=503,times=1",
            "cut,clean,days=2025-01-03,times=1",
            "reset,days=2025-01-05,times=1",
        )
    ]
    done = lab.run(max_attempts=4)

    assert done.code == 0, done.errors
    assert loaded(done) == EVERYTHING
    assert names(lab) == announced(done)
    assert len(announced(done)) == 8
    assert lab.left_behind == []
    assert len(lab.sandbox.requests) >= 10
    assert lab.sandbox.max_concurrent <= 4
    assert "Traceback" not in done.errors


def test_workers_that_die_are_failed_attempts(lab: Lab, workers: Cluster) -> None:
    """Their windows are requested again once, by the run, and not by Dask as well."""
    with Gate(NOW) as gate:
        lab.sandbox._as_of = gate
        with lab.start(subprocess.PIPE, max_attempts=3) as tap:
            gate.wait_for(4)
            for name in workers.workers:
                workers.kill(name)
            workers.add_worker("worker-again-1")
            workers.add_worker("worker-again-2")
            gate.open()
            done = ended(tap, lab)

    assert done.code == 0, done.errors
    assert loaded(done) == EVERYTHING
    assert names(lab) == announced(done)
    assert done.errors.count(f"failed: {LOST}") == 4
    assert gate.arrived == 8 + 4


def test_without_another_attempt_the_window_fails(lab: Lab, strict: Cluster) -> None:
    """Also where the scheduler runs no task again; the others come, by TLS."""
    with Gate(NOW) as gate:
        lab.sandbox._as_of = gate
        with lab.start(subprocess.PIPE, max_attempts=1) as tap:
            gate.wait_for(4)
            strict.kill(strict.workers[0])
            gate.open()
            done = ended(tap, lab)

    assert done.code == 1
    assert {failure["error"] for failure in done.failures} == {LOST}
    assert len(done.failures) == 8 - len(announced(done)) == 2
    assert gate.arrived == 8
    assert names(lab) == announced(done)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_ends_leaves_tasks_that_do_no_harm(
    lab: Lab, workers: Cluster, signum: signal.Signals
) -> None:
    with Gate(NOW) as gate:
        lab.sandbox._as_of = gate
        with lab.start(subprocess.PIPE) as tap:
            gate.let_pass(2)
            gate.wait_for(5)
            tap.send_signal(signum)
            stopped = ended(tap, lab)
        assert stopped.code == (128 + signum if signum == signal.SIGTERM else -signum)
        assert "Traceback" not in stopped.errors
        states = [m["value"] for m in stopped.messages if m["type"] == "STATE"]
        before, arrived = loaded(stopped), gate.arrived
        gate.open()
        if signum == signal.SIGKILL:
            # Nobody tells the tasks that were under way, so they store, for the next to remove.
            left = arrived - len(announced(stopped))
            wait_until(lambda: str(names(lab)).count("staged") >= left, "they have stored")
        done = lab.run(states[-1] if states else None)

    assert done.code == 0, done.errors
    assert before + loaded(done) == EVERYTHING
    assert gate.arrived - arrived == len(announced(done))
    assert {*names(lab)} == {*announced(stopped), *announced(done)}


PAGES: Final = (
    "/info/main/workers.html",
    "/info/logs.html",
    "/json/identity.json",
    "/metrics",
    "/status",
)


def test_credentials_show_nowhere(lab: Lab, workers: Cluster, tmp_path: Path) -> None:
    """Not in keys, in logs or on pages; not while tasks run, and not when they fail."""
    port = json.loads(workers.file.read_text())["services"]["dashboard"]
    storage = {"key": "AKIAOFTHESTORAGE", "secret": "the-secret-of-the-storage"}
    files = lab.settings["batch_config"]["storage"] | {"params": storage}
    lab.settings["batch_config"] |= {"storage": files}
    with Gate(NOW) as gate:
        lab.sandbox._as_of = gate
        lab.sandbox.faults = [Fault.parse("status=400,days=2025-01-08"), Fault.parse("half_line")]
        with lab.start(subprocess.PIPE, max_attempts=1) as tap:
            gate.wait_for(4)
            seen = [page(f"http://127.0.0.1:{port}{path}") for path in PAGES]
            seen.append(state_of(workers, tmp_path / "dump"))
            keys = re.findall("window-[0-9a-f]{32}", seen[-1])
            for key in keys[:2]:
                seen += [
                    page(f"http://127.0.0.1:{port}/info/{p}/{key}.html")
                    for p in ("task", "call-stack")
                ]
            gate.open()
            done = ended(tap, lab)

    with Client(scheduler_file=str(workers.file), set_as_default=False) as client:
        # A worker logs what fails; older ones with its arguments.
        failing = client.submit(operator.neg, Sealed(tuple(lab.settings.items())))
        assert isinstance(failing.exception(), TypeError)
    wait_until(lambda: "Compute Failed" in workers.logs, "a worker has logged it")
    assert repr(Sealed(tuple(lab.settings.items()))) == "<sealed>"
    assert done.code == 1
    assert keys
    everything = "".join([*seen, workers.logs, done.errors, done.text.decode()])
    for name in ("service_account_secret", "service_account_username"):
        assert lab.settings[name] not in everything
    for text in storage.values():
        assert text not in everything
    assert "Traceback" not in done.errors


def page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - this machine's
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


def state_of(cluster: Cluster, path: Path) -> str:
    """All that the scheduler and its workers tell of what they do."""
    with Client(scheduler_file=str(cluster.file), set_as_default=False) as client:
        client.dump_cluster_state(str(path), format="yaml")
        told = (client.call_stack(), client.processing(), client.get_events(), client.story())
    return path.with_suffix(".yaml").read_text() + repr(told)


def test_a_scheduler_that_goes_away_ends_the_run(lab: Lab, strict: Cluster) -> None:
    with Gate(NOW) as gate:
        lab.sandbox._as_of = gate
        with lab.start(subprocess.PIPE) as tap:
            gate.let_pass(2)
            gate.wait_for(6)
            strict.scheduler.kill()
            done = ended(tap, lab)

    assert done.code == 1
    assert "dask_scheduler: the connection to" in done.errors
    assert "Traceback" not in done.errors
    assert len(done.loaded) == len(announced(done)) == 2
    assert {name for name in names(lab) if "staged" not in name} == {*announced(done)}


def test_poison_and_quarantine_with_a_bucket(lab: Lab, workers: Cluster, tmp_path: Path) -> None:
    """Workers store there; the run gives names, and takes lines that are not events from there."""
    bad = b"half a li"
    lab.sandbox.faults = [Fault(Body(bad + b"\n" + body(POISON.values())))]
    days = {"start_date": str(DAY), "end_date": str(DAY), "on_malformed_line": "quarantine"}
    here = lab.run(**days, executor="local")
    events = events_of(here.messages)
    (kept,) = lab.spool.glob("*quarantine*")
    kept.unlink()
    with s3_server() as s3:
        storage = {"root": f"s3://{BUCKET}/x", "params": s3.options}
        files = {"encoding": {"format": "jsonl"}, "storage": storage}
        done = lab.run(batch_config=files, executor="dask")

        assert (here.code, done.code) == (0, 0), done.errors
        (name,) = s3.names()
        copy = tmp_path / f"copy-{name.rpartition('/')[2]}"
        fsspec.filesystem("s3", **s3.options).get_file(f"{BUCKET}/{name}", str(copy))
    assert [f"x/{name}" for name in announced(done)] == [name]
    assert events_in(copy) == events
    assert len(events) == len(POISON)
    assert kept.read_bytes() == bad + b"\n"
    assert SECRET not in workers.logs + done.errors + done.text.decode()


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
        (tmp_path / "sitecustomize.py").write_text(
            "import importlib.metadata as m\n"
            "old = m.version\n"
            "m.version = lambda name: '0.1' if name == 'msgspec' else old(name)\n"
        )
        with another(cluster, tmp_path):
            error = self.refused(lab)
        assert "has 0.1 of msgspec, and the run has" in error

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


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tap_mixpanel_parallel.machines.cluster._ANSWER_SECONDS", 0.2)
    machines, work = Machines("tcp://127.0.0.1:1"), cast("Work", None)
    with (
        pytest.raises(ClusterError, match=r"^dask_scheduler: tcp://127\.0\.0\.1:1 does not answer"),
        tap.Cluster(machines, work, "probe"),
    ):
        pass
