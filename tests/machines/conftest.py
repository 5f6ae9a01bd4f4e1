"""A cluster of separate processes, and a tap whose windows it makes."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

import pytest

from tap_mixpanel_parallel.convert.columns import COLUMNS, NAMES
from tap_mixpanel_parallel.convert.conversion import ConversionOptions
from tap_mixpanel_parallel.convert.files import Files
from tap_mixpanel_parallel.fetch.job import Job, Query
from tap_mixpanel_parallel.forms import file_factory
from tap_mixpanel_parallel.machines import cluster as machines
from tap_mixpanel_parallel.machines.task import Work
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.sandbox import Project, Sandbox
from tap_mixpanel_parallel.settings.machines import Machines
from tap_mixpanel_parallel.settings.settings import Settings
from tap_mixpanel_parallel.write.staging import Staging
from tests.support.certificates import certificates
from tests.support.cluster import cluster_in
from tests.support.files import batch_config
from tests.support.harness import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cluster import Cluster

PROJECT: Final = Project(seed=3, events_per_day=40)
NOW: Final = datetime(2025, 3, 1, tzinfo=UTC)
FIRST, LAST = date(2025, 1, 1), date(2025, 1, 8)


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def workers(cluster: Cluster) -> Cluster:
    """Two workers, whatever the test before has killed."""
    cluster.replenish(2)
    return cluster


@pytest.fixture(scope="package")
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
    """The names of the files in the root."""
    return sorted(path.name for path in (lab.folder / "root").iterdir())


@contextmanager
def joined(lab: Lab, cluster: Cluster) -> Iterator[machines.Cluster]:
    """The cluster as a run in this process has it, once it has checked the workers."""
    settings = settings_of(lab)
    assert settings.batch_config is not None
    form = Files(file_factory("jsonl", COLUMNS, NAMES, as_text=True), lab.folder, "spool_dir", 1000)
    staging = Staging(settings.batch_config, "staged-")
    work = Work(ConversionOptions.of(settings), form, staging, lab.spool)
    (lab.folder / "root").mkdir()
    (lab.folder / "root" / "probe").touch()
    with machines.Cluster(Machines(str(cluster.file)), work, "probe") as run:
        yield run


def job_of(lab: Lab, day: date = FIRST, url: str | None = None) -> Job:
    """An attempt at a day."""
    credentials = settings_of(lab).credentials
    assert credentials is not None
    query = Query(url or lab.sandbox.url, credentials, trust_env=False)
    return Job(Window(day, day), query, lab.folder / f"{day}.body")


def settings_of(lab: Lab) -> Settings:
    """The settings of the lab's tap."""
    return Settings.from_config(lab.settings, today=lambda _: NOW.date())
