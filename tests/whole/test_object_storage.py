"""Files in S3, from a real server over HTTP: the tap stores them, the loader takes them."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import fsspec
import pytest

from tap_mixpanel_parallel.exceptions import SpoolError
from tap_mixpanel_parallel.sandbox import Project, Sandbox
from tap_mixpanel_parallel.settings.batch import BatchConfig
from tap_mixpanel_parallel.write.roots import RemoteRoot
from tests.support.commands import BIN, environment
from tests.support.exact import digits
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.harness import Lab, Output, wait_until
from tests.support.s3 import BUCKET, KEY, SECRET, s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.s3 import S3

pytestmark = pytest.mark.slow

PROJECT: Final = Project(seed=3, events_per_day=40)
NOW: Final = datetime(2025, 3, 1, tzinfo=UTC)
FIRST, LAST = date(2025, 1, 1), date(2025, 1, 8)
ROOT: Final = f"s3://{BUCKET}/mixpanel"


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(server: S3) -> S3:
    server.empty()
    return server


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Sandbox(PROJECT, limits=None, as_of=lambda: NOW) as sandbox:
        lab = Lab(tmp_path, sandbox)
        lab.settings |= {
            "start_date": str(FIRST),
            "end_date": str(LAST),
            "parallel": True,
            "workers": 3,
            "window_days": 2,
            "properties_format": "string",
            **files("parquet"),
        }
        yield lab
    assert lab.left_behind == []


def files(form: str, root: str = ROOT, **storage: Any) -> dict[str, Any]:
    return {"batch_config": {"encoding": {"format": form}, "storage": {"root": root, **storage}}}


def load(lab: Lab, output: bytes, env: dict[str, str], **settings: Any) -> Output:
    command = [str(BIN / "target-duckdb-batch"), *lab.target(**settings)[1:3]]
    done = subprocess.run(
        command, input=output, env=environment(env), capture_output=True, check=False, timeout=90
    )
    return Output(done.returncode, done.stdout, done.stderr.decode())


def manifest(done: Output) -> list[str]:
    return [url for m in done.messages if m["type"] == "BATCH" for url in m["manifest"]]


def assert_silent(*texts: str) -> None:
    for text in texts:
        assert SECRET not in text
        assert "Traceback" not in text


@pytest.mark.parametrize(("by", "form"), [("environment", "parquet"), ("settings", "jsonl")])
def test_from_the_tap_to_the_table(lab: Lab, s3: S3, form: str, by: str) -> None:
    """What is committed is removed, and nothing shows the storage's secret."""
    env = s3.environment if by == "environment" else {"AWS_EC2_METADATA_DISABLED": "true"}
    params = {} if by == "environment" else {"params": s3.options}
    options = {} if by == "environment" else {"storage_options": s3.options}
    done = lab.run(env=env | {"TAP_MIXPANEL_PARALLEL_LOGLEVEL": "DEBUG"}, **files(form, **params))
    stored = s3.names()
    loader = load(lab, done.text, env, **options)

    assert (done.code, loader.code) == (0, 0), done.errors + loader.errors
    assert [url.removeprefix(f"s3://{BUCKET}/") for url in manifest(done)] == stored
    assert len(stored) >= 4
    lines = lines_of(PROJECT, FIRST, LAST, NOW)
    assert_same(loaded(lab.database, normal=digits), expected(lines, normal=digits))
    assert s3.names() == []
    assert_silent(done.text.decode(), done.errors, loader.text.decode(), loader.errors)
    assert KEY not in done.text.decode()


def test_a_large_file_is_uploaded_in_parts(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then an upload that is cut is an error, and leaves no part behind."""
    large = tmp_path / "large"
    root = RemoteRoot(BatchConfig("jsonl", ROOT, params=s3.options))
    root.open()
    in_parts = partial(root._files.put_file, chunksize=5 << 20)  # not 50 MB
    monkeypatch.setattr(root._files, "put_file", in_parts)
    large.write_bytes(bytes(11 << 20))
    root.put(large, "whole")
    assert [method for method, _ in s3.requests].count("PUT") == 3

    large.write_bytes(bytes(11 << 20))
    s3.cut = lambda method, path: method == "PUT" and "partNumber=2" in path
    with pytest.raises(SpoolError, match="cut can't be stored"):
        root.put(large, "cut")
    assert s3.names() == ["mixpanel/whole"]
    assert s3.uploads() == 0


def test_a_cut_upload_is_tried_again(lab: Lab, s3: S3) -> None:
    """Then a loader that the storage refuses says so, and takes nothing away."""
    cuts = iter([True, True])
    s3.cut = lambda method, path: method == "PUT" and "staged" not in path and next(cuts, False)
    done = lab.run(env=s3.environment)

    assert done.code == 0, done.errors
    assert len(s3.names()) == len(manifest(done))
    assert next(cuts, None) is None, "it was cut"

    with s3.guarded():
        loader = load(lab, done.text, s3.environment)
    assert loader.code == 1
    assert manifest(done)[0] in loader.errors
    assert "can't be read" in loader.errors
    assert_silent(loader.errors)
    assert len(s3.names()) == len(manifest(done))


def test_what_a_killed_run_left_is_removed(lab: Lab, s3: S3) -> None:
    """Files that no state counts as loaded, staged ones, and halves of uploads."""
    lost = lab.run(env=s3.environment)
    storage = fsspec.filesystem("s3", **s3.options)
    start = manifest(lost)[0].removeprefix("s3://").partition("-20")[0]
    storage.pipe_file(f"{start}-staged-abc.0000.parquet", b"half")
    storage.pipe_file(f"{BUCKET}/mixpanel/other", b"whole")
    bucket, key = f"{start}-staged-big".split("/", 1)
    storage.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
    storage.call_s3("create_multipart_upload", Bucket=bucket, Key="of-others")
    assert s3.uploads() == 2

    again = lab.run(env=s3.environment)

    kept = {f"s3://{BUCKET}/{name}" for name in s3.names()}
    assert kept == {*manifest(again), f"{ROOT}/other"}
    assert s3.uploads() == 1


@pytest.mark.parametrize(
    ("root", "guarded", "said"),
    [
        (f"s3://{BUCKET}-that-is-not-there/x", False, "bucket does not exist"),
        (ROOT, True, "PermissionError"),
    ],
)
def test_a_storage_that_can_not_be_used(
    lab: Lab, s3: S3, root: str, guarded: bool, said: str
) -> None:
    """One clear error before the first request, and no bucket is made."""
    if guarded:
        with s3.guarded():
            done = lab.run(env=s3.environment, **files("parquet", root))
    else:
        done = lab.run(env=s3.environment, **files("parquet", root))

    assert done.code == 1
    assert lab.sandbox.requests == []
    (error,) = [line for line in done.errors.splitlines() if "batch_config.storage.root" in line]
    assert f"{root}: can't be written to" in error
    assert said in error
    assert "correct the root" in error
    assert_silent(done.errors)
    assert not [path for method, path in s3.requests if method == "PUT" and path.count("/") == 1]


@pytest.mark.parametrize("what", ["as it begins", "an upload"])
def test_a_slow_store_keeps_no_run_that_is_to_stop(lab: Lab, s3: S3, what: str) -> None:
    seen: list[int] = []

    def slow(method: str, path: str) -> bool:
        if what == "as it begins" or (method == "PUT" and "staged" not in path):
            s3.delay = 60.0
            seen.append(len(s3.requests))
        return False

    s3.cut = slow
    with lab.start(subprocess.PIPE, env=s3.environment, processes=1) as tap:
        wait_until(lambda: seen and len(s3.requests) > seen[0], "it waits for the store")
        tap.send_signal(signal.SIGTERM)
        text, _ = tap.communicate(timeout=20)

    done = Output(tap.returncode, text, lab.errors)
    assert done.code == 128 + signal.SIGTERM
    assert manifest(done) in ([], manifest(done)[:1])
    assert_silent(done.errors)


def test_credentials_in_the_root_are_refused(lab: Lab) -> None:
    root = f"s3://{KEY}:{SECRET}@{BUCKET}/x"
    done = lab.run(**files("parquet", root))

    assert done.code == 1
    assert "storage.root: contains credentials" in done.errors
    assert_silent(done.errors)


def test_a_setting_that_is_nearly_json_is_not_quoted(lab: Lab, s3: S3) -> None:
    lab.settings |= {"batch_config": json.dumps(files("parquet", params=s3.options))[:-1]}
    done = lab.run()

    assert "batch_config: is not an object" in done.errors
    assert_silent(done.errors)
