"""Files in S3, from a real server over HTTP: the tap stores them, the loader takes them."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import fsspec
import pytest
from s3fs import S3FileSystem

from tap_mixpanel_parallel.exceptions import SpoolError
from tap_mixpanel_parallel.sandbox import Project, Sandbox
from tap_mixpanel_parallel.settings.batch import BatchConfig
from tap_mixpanel_parallel.write import roots
from tap_mixpanel_parallel.write.roots import RemoteRoot
from tap_mixpanel_parallel.write.storage import Storage
from target_duckdb_batch.errors import ManifestError
from tests.support.commands import BIN, environment
from tests.support.exact import digits
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.harness import Lab, Output, wait_until
from tests.support.s3 import BUCKET, KEY, SECRET, s3_server
from tests.target_duckdb_batch.harness import EVENTS, batch, event, write_lines, write_parquet
from tests.target_duckdb_batch.harness import Lab as Loader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


def once(s3: S3) -> dict[str, Any]:
    """What opens the storage, so that a request that fails is not made again."""
    return s3.options | {"config_kwargs": {"retries": {"total_max_attempts": 1}}}


@pytest.fixture
def root(s3: S3, monkeypatch: pytest.MonkeyPatch) -> RemoteRoot:
    """A root where nothing is tried again."""
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    root = RemoteRoot(BatchConfig("jsonl", ROOT, params=once(s3)))
    root.open()
    return root


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Parts of so many bytes, which S3 would not take, and ten at most."""
    assert roots._PART >= 5 << 20
    assert roots._PART * roots._PARTS_AT_ONCE <= 32 << 20
    monkeypatch.setattr(roots, "_PART", 1000)
    monkeypatch.setattr(roots, "_MOST_PARTS", 10)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    return 1000


@pytest.mark.parametrize(("size", "parts", "largest"), [(9_500, 10, 1000), (15_001, 10, 1501)])
def test_a_large_file_is_uploaded_in_parts(
    s3: S3,
    root: RemoteRoot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_parts: int,
    size: int,
    parts: int,
    largest: int,
) -> None:
    """Few of them are in memory at once, and as it is read again, none waits for the others."""
    large, copy = tmp_path / "large", tmp_path / "copy"
    call, held = root._files._call_s3, [0]

    async def counting(method: str, *args: Any, **kwargs: Any) -> Any:
        length = len(kwargs.get("Body", b""))
        held.append(held[-1] + length)
        try:
            return await call(method, *args, **kwargs)
        finally:
            held.append(held[-1] - length)

    monkeypatch.setattr(root._files, "_call_s3", counting)
    large.write_bytes(bytes(size))
    root.put(large, "whole")
    assert [method for method, _ in s3.requests].count("PUT") == parts
    assert max(held) == roots._PARTS_AT_ONCE * largest

    monkeypatch.setattr(root._files, "default_block_size", small_parts)
    root.get("whole", copy)
    assert [method for method, _ in s3.requests].count("GET") == 1
    assert copy.read_bytes() == bytes(size)


@pytest.mark.usefixtures("small_parts")
def test_an_upload_in_parts_that_is_cut(s3: S3, root: RemoteRoot, tmp_path: Path) -> None:
    """It is an error, and leaves no part behind."""
    large = tmp_path / "large"
    large.write_bytes(bytes(9_500))
    s3.cut = lambda method, path: method == "PUT" and "partNumber=2" in path
    with pytest.raises(SpoolError, match="cut can't be stored"):
        root.put(large, "cut")
    assert s3.names() == []
    assert s3.uploads() == []


def test_halves_of_uploads_end_with_the_run(s3: S3, tmp_path: Path) -> None:
    """All of its own, though they are more than a page; none of others."""
    config = BatchConfig("jsonl", ROOT, params=s3.options)
    with Storage(config, "me", None, lambda _: b"") as storage:
        storage.begin(NOW, tmp_path)
        others = ["mixpanel/events-another-staged-0", "of-others"]
        own = [f"mixpanel/{storage.staging.start}{number}" for number in range(5)]
        files = fsspec.filesystem("s3", **s3.options)
        for key in (*others, *own):
            files.call_s3("create_multipart_upload", Bucket=BUCKET, Key=key)
        assert len(s3.uploads()) == 7
        storage.remove_staged()
    assert [key for key, _ in s3.uploads()] == others


@pytest.mark.parametrize(("form", "write"), [("jsonl", write_lines), ("parquet", write_parquet)])
def test_a_storage_that_breaks_while_the_loader_reads(
    s3: S3, root: RemoteRoot, tmp_path: Path, form: str, write: Callable[..., Path]
) -> None:
    """One clear error; nothing is loaded, and nothing removed."""
    root.put(write(tmp_path / "made", [event(1)]), "file")
    loader = Loader(tmp_path)
    messages = EVENTS, batch([f"{ROOT}/file"], form)

    s3.cut = lambda method, _: method == "GET"
    with pytest.raises(ManifestError, match=r"stream events: .*/file can't be read: .*Run the tap"):
        loader.load(*messages, storage_options=once(s3))
    assert loader.rows() == []

    s3.cut = lambda *_: False
    loader.load(*messages, storage_options=once(s3))
    assert len(loader.rows()) == 1


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
    assert len(s3.uploads()) == 2

    again = lab.run(env=s3.environment)

    kept = {f"s3://{BUCKET}/{name}" for name in s3.names()}
    assert kept == {*manifest(again), f"{ROOT}/other"}
    assert [key for key, _ in s3.uploads()] == ["of-others"]


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
