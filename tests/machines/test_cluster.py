"""Windows on a Dask cluster of separate processes, with faults, poison and real kills."""

from __future__ import annotations

import base64
import json
import operator
import re
import shlex
import signal
import subprocess
from collections import Counter
from datetime import UTC, date, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import fsspec
import pytest
import yaml  # type: ignore[import-untyped]

from tap_mixpanel_parallel.fetch.spool import Spool
from tap_mixpanel_parallel.machines.sealed import Sealed
from tap_mixpanel_parallel.sandbox import Fault, Project
from tests.machines.conftest import FIRST, LAST, NOW, PROJECT, names
from tests.support.cluster import page
from tests.support.commands import BIN, PATIENCE, ROOT, environment
from tests.support.exact import digits
from tests.support.expected import assert_same, expected, lines_of
from tests.support.expected import loaded as loaded_into
from tests.support.files import events_in, events_of
from tests.support.gate import Gate
from tests.support.harness import Body, Lab, Output, body, identities, wait_until
from tests.support.poison import DAY, POISON
from tests.support.s3 import BUCKET, SECRET, s3_server

if TYPE_CHECKING:
    from pathlib import Path

    import click

    from tests.support.cluster import Cluster
    from tests.support.harness import Identity

pytestmark = pytest.mark.slow


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


def test_limits_hold_across_the_cluster(lab: Lab) -> None:
    """In a second and in an hour, and a refused window goes first, when Mixpanel says."""
    lab.sandbox.faults = [Fault.parse("status=429,retry_after=2,times=1")]
    limits = {"requests_per_second": 1, "requests_per_hour": 5, "on_hourly_limit": "fail"}
    done = lab.run(**limits, max_attempts=2)

    assert done.code == 1, done.errors
    assert "Traceback" not in done.errors
    requests = sorted(lab.sandbox.requests, key=lambda request: request.started)
    starts = [request.started for request in requests]
    assert [request.status for request in requests].count(429) == 1
    assert len(starts) == 5
    assert starts[-1] - starts[0] > 3, "4, but for how long the first was on its way"
    first, again = (request for request in requests if request.from_date == requests[0].from_date)
    assert again.started - first.ended > 1.9
    assert len(done.loaded) == len(announced(done)) == 4
    assert names(lab) == announced(done)


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
            gate.wait_for(6)  # four are under way, so no other starts
            tap.send_signal(signum)
            stopped = ended(tap, lab)
        assert stopped.code == (128 + signum if signum == signal.SIGTERM else -signum)
        assert "Traceback" not in stopped.errors
        states = [m["value"] for m in stopped.messages if m["type"] == "STATE"]
        before, arrived = loaded(stopped), gate.arrived
        # Nothing has come yet: Mixpanel would take the next run's requests for too many.
        wait_until(lambda: nothing_waits(lab), "the workers have broken their requests off")
        gate.open()
        done = lab.run(states[-1] if states else None)

    assert done.code == 0, done.errors
    assert before + loaded(done) == EVERYTHING
    assert gate.arrived - arrived == len(announced(done))
    assert {*names(lab)} == {*announced(stopped), *announced(done)}


def nothing_waits(lab: Lab) -> bool:
    """Whether no window is under way: each attempt has a folder of its own."""
    with Spool(lab.spool):  # sweeps that of a run that was killed
        pass
    return lab.left_behind == []


PAGES: Final = (
    "/info/main/workers.html",
    "/info/main/logs.html",
    "/info/main/exceptions.html",
    "/json/counts.json",
    "/json/identity.json",
    "/metrics",
    "/status",
)
OF_A_WORKER: Final = ("worker", "logs", "call-stacks")
OF_A_TASK: Final = ("task", "call-stack")


def test_credentials_show_nowhere(lab: Lab, workers: Cluster, tmp_path: Path) -> None:
    """Not in keys, in logs or on pages; not while tasks run, and not when they fail."""
    storage = {"key": "AKIAOFTHESTORAGE", "secret": "the-secret-of-the-storage"}
    files = lab.settings["batch_config"]["storage"] | {"params": storage}
    lab.settings["batch_config"] |= {"storage": files}
    with Gate(NOW) as gate:
        lab.sandbox._as_of = gate
        lab.sandbox.faults = [Fault.parse("status=400,days=2025-01-08"), Fault.parse("half_line")]
        with lab.start(subprocess.PIPE, max_attempts=1) as tap:
            gate.wait_for(4)
            seen = pages_of(workers)
            seen.append(state_of(workers, tmp_path / "dump"))
            gate.open()
            done = ended(tap, lab)

    with workers.connected() as client:
        # A worker logs what fails; older ones with its arguments.
        failing = client.submit(operator.neg, Sealed(tuple(lab.settings.items())))
        assert isinstance(failing.exception(), TypeError)
    wait_until(lambda: "Compute Failed" in workers.logs, "a worker has logged it")
    assert repr(Sealed(tuple(lab.settings.items()))) == "<sealed>"
    assert done.code == 1
    everything = "".join([*seen, workers.logs, done.errors, done.text.decode()])
    assert re.search("window-[0-9a-f]{32}", everything)
    username, secret = (lab.settings[f"service_account_{x}"] for x in ("username", "secret"))
    basic = base64.b64encode(f"{username}:{secret}".encode()).decode()
    for text in (username, secret, basic, *storage.values()):
        assert text not in everything
    assert "Traceback" not in done.errors


def pages_of(cluster: Cluster) -> list[str]:
    """All pages of the scheduler that tell of tasks, and all of the workers' own."""
    with cluster.connected() as client:
        keys = client.processing()
        of_workers = client.scheduler_info()["workers"]
    assert sum(map(len, keys.values())) >= 4
    paths = [
        *PAGES,
        *(f"/info/{p}/{quote(w, '')}.html" for w in keys for p in OF_A_WORKER),
        *(f"/info/{p}/{key}.html" for w in keys for key in keys[w] for p in OF_A_TASK),
    ]
    pages = [page(cluster.port, path) for path in paths]
    for worker in of_workers.values():
        port = worker["services"]["dashboard"]
        own = json.loads(page(port, "/sitemap.json"))["paths"]
        pages += [page(port, path) for path in own if path.count("/") == 1]
    return pages


def state_of(cluster: Cluster, path: Path) -> str:
    """All that the scheduler and its workers tell of what they do."""
    with cluster.connected() as client:
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


def test_the_compose_file_without_its_containers(cluster: Cluster, tmp_path: Path) -> None:
    """Its run loads the week, with its settings; its cluster has the options that there are."""
    services = yaml.safe_load((ROOT / "demo/compose.yaml").read_text())["services"]
    cluster.replenish(2)
    address = json.loads(cluster.file.read_text())["address"]
    with s3_server() as s3:
        here = {"tcp://127.0.0.1:8786": address, "http://minio:9000": s3.url, "/output": tmp_path}
        settings = services["load"]["environment"]
        for there, name in here.items():
            assert there in str(settings)
            settings = {key: text.replace(there, str(name)) for key, text in settings.items()}
        done = subprocess.run(
            shlex.split(services["load"]["command"]),
            env=environment(settings | {"TARGET_DUCKDB_BATCH_DEFAULT_TARGET_SCHEMA": "mixpanel"}),
            stderr=subprocess.PIPE,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert s3.names() == [], "what is committed is removed"
    lines = lines_of(Project(), date(2025, 1, 1), date(2025, 1, 7), datetime.now(UTC))
    table = loaded_into(tmp_path / "machines.duckdb", normal=digits)
    assert_same(table, expected(lines, normal=digits))
    for name in ("scheduler", "worker-1", "worker-2"):
        program, kind, *options = shlex.split(services[name]["command"])
        assert (BIN / program).exists()
        command_of(kind).make_context(kind, options)


def command_of(kind: str) -> click.Command:
    command: click.Command = import_module(f"distributed.cli.dask_{kind}").main
    return command
