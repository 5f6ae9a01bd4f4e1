"""Where little can be written to, as in a container: no root, a read-only home and project."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import date
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.commands import BIN, ROOT, run
from tests.support.expected import assert_same, expected, lines_of, loaded
from tests.support.meltano import tap_environment
from tests.support.projects import AS_OF, MAIN, access_to, sandbox_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

FIRST, LAST = date(2025, 1, 1), date(2025, 1, 5)
DAYS = {"start_date": str(FIRST), "end_date": str(LAST)}
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
# Root that has lost its capabilities is bound by permissions, as any user is.
UNPRIVILEGED: Final = (
    ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
)
if UNPRIVILEGED and not shutil.which("setpriv"):
    pytest.skip("root needs setpriv to lose its privileges", allow_module_level=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that is nobody's to write to: a home, and a working folder."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def unwritable(folder: Path, but: Path | None = None) -> None:
    for path in (folder, *folder.rglob("*")):
        if path != but and not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    done = run(*UNPRIVILEGED, "touch", str(folder / "new"), cwd=folder)
    assert done.returncode != 0, "the test tests nothing"


def test_a_pipe(tmp_path: Path, read_only: Path) -> None:
    with sandbox_of(MAIN, "1234") as sandbox:
        tap = access_to(sandbox) | DAYS
        (read_only / "tap.json").write_text(json.dumps(tap))
        data = tmp_path / "data"
        data.mkdir()
        target = {"filepath": f"{data}/w.duckdb", "default_target_schema": "mixpanel"}
        (read_only / "target.json").write_text(json.dumps(target))
        unwritable(read_only)
        done = run(
            *(*UNPRIVILEGED, "bash", "-c"),
            "set -o pipefail; tap-mixpanel-parallel --config tap.json"
            " | target-duckdb-batch --config target.json",
            cwd=read_only,
            settings={
                "HOME": str(read_only),
                "XDG_CACHE_HOME": str(read_only),
                "TMPDIR": str(data),
            },
        )

    assert done.returncode == 0, done.stderr
    assert_same(loaded(data / "w.duckdb"), expected(lines_of(MAIN, FIRST, LAST, AS_OF)))
    assert [path.name for path in data.iterdir()] == ["w.duckdb"]


def test_meltano_as_in_the_image(tmp_path: Path, read_only: Path) -> None:
    """The variables, the command and the places to write to are those of the Dockerfile."""
    (variables,) = re.findall(r"^ENV ((?:.*\\\n)*.*)", DOCKERFILE, re.MULTILINE)
    (command,) = re.findall("^CMD (.*)", DOCKERFILE, re.MULTILINE)
    (entry,) = re.findall("^ENTRYPOINT (.*)", DOCKERFILE, re.MULTILINE)
    (written,) = re.findall("^VOLUME (.*)", DOCKERFILE, re.MULTILINE)
    places = {"/project": str(read_only)}
    for place in json.loads(written):
        if not place.startswith("/project/"):
            places[place] = str(tmp_path / place.strip("/"))
            (tmp_path / place.strip("/")).mkdir()
    assert json.loads(written)[-1] == "/project/.meltano/run"

    manifest = (ROOT / "meltano.yml").read_text()
    manifest = re.sub(r"^ *pip_url: .*\n", "", manifest, flags=re.MULTILINE)
    manifest = re.sub(r"(executable: )(\S+)", rf"\g<1>{BIN}/\g<2>", manifest)
    (read_only / "meltano.yml").write_text(manifest)
    installed = run("meltano", "install", cwd=read_only)  # makes what the image has
    assert installed.returncode == 0, installed.stdout + installed.stderr
    for folder in ("run", "extractors/tap-mixpanel-parallel", "loaders/target-duckdb"):
        (read_only / ".meltano" / folder).mkdir(parents=True, exist_ok=True)
    unwritable(read_only, but=read_only / ".meltano" / "run")
    settings = dict(each.split("=", 1) for each in variables.replace("\\\n", "").split())
    anywhere = re.compile("|".join(rf"{place}\b" for place in places))
    for name, text in settings.items():
        settings[name] = anywhere.sub(lambda match: places[match[0]], text)
    home = {"HOME": str(read_only), "XDG_CACHE_HOME": str(read_only)}
    with sandbox_of(MAIN, "1234") as sandbox:
        settings |= tap_environment(sandbox, **DAYS, **access_to(sandbox), region="us")
        done = run(
            *(*UNPRIVILEGED, *json.loads(entry), *json.loads(command)),
            cwd=read_only,
            settings=settings | home,
        )

    assert done.returncode == 0, done.stdout + done.stderr
    database = tmp_path / "data" / "warehouse.duckdb"
    assert_same(loaded(database), expected(lines_of(MAIN, FIRST, LAST, AS_OF)))
