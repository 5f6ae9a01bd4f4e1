"""The installed commands as processes, against a sandbox in this process."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final

from tap_mixpanel_parallel.sandbox import Effect, Sandbox
from tests.support.commands import BIN, PATIENCE, environment
from tests.support.projects import access_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tap_mixpanel_parallel.sandbox.effects import Source

TAP: Final = str(BIN / "tap-mixpanel-parallel")
TARGET: Final = str(BIN / "target-duckdb")

State = dict[str, Any]
Identity = tuple[str, str]


@dataclass(frozen=True)
class Body(Effect):
    """Another body, in place of the export's lines; `TIME` in it is that of their first."""

    name: ClassVar[str] = "body"
    body: bytes

    def lines(self, source: Source) -> Iterator[bytes]:
        """Give the body."""
        yield on_time(self.body, source)


def on_time(body: bytes, source: Source) -> bytes:
    """A body with the time of an export's first event for each `TIME`."""
    if b"TIME" not in body:
        return body
    first = json.loads(next(source()))
    return body.replace(b"TIME", b"%d" % first["properties"]["time"])


def body(lines: Iterable[bytes]) -> bytes:
    """The body of an export that consists of these lines."""
    return b"".join(line + b"\n" for line in lines)


def identities(lines: Iterable[bytes]) -> Counter[Identity]:
    """The events of an export, told apart by name and `$insert_id`."""
    events = [json.loads(line) for line in lines if line.strip()]
    return Counter((e["event"], str(e["properties"].get("$insert_id"))) for e in events)


@dataclass(frozen=True)
class Output:
    """What a run of the tap has written, and how it ended."""

    code: int
    text: bytes
    errors: str

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The Singer messages; every line is one."""
        assert not self.text or self.text.endswith(b"\n"), "the last line is half a line"
        return [json.loads(line) for line in self.text.split(b"\n")[:-1]]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records."""
        return [message["record"] for message in self.messages if message["type"] == "RECORD"]

    @property
    def identities(self) -> Counter[Identity]:
        """The events that were emitted, told apart as in `identities`."""
        return Counter((record["event"], str(record["insert_id"])) for record in self.records)

    @property
    def bookmark(self) -> State:
        """The last state's part for the stream."""
        states = [message for message in self.messages if message["type"] == "STATE"]
        bookmark: State = states[-1]["value"].get("bookmarks", {}).get("events", {})
        return bookmark

    @property
    def loaded(self) -> list[date]:
        """The days that the last state says are loaded."""
        return [
            first + timedelta(days=number)
            for first, last in (map(date.fromisoformat, r) for r in self.bookmark.get("loaded", []))
            for number in range((last - first).days + 1)
        ]

    @property
    def failures(self) -> list[State]:
        """The failed windows in the last state."""
        failures: list[State] = self.bookmark.get("partitions", [])
        return failures


class Lab:
    """A folder, a sandbox, and the settings of a tap that reads it."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        """Work in this folder with this sandbox."""
        self.folder = folder
        self.sandbox = sandbox
        self.spool = folder / "spool"
        self.spool.mkdir(exist_ok=True)
        self.database = folder / "loaded.duckdb"
        self.settings: State = {
            "region": "sandbox",
            **access_to(sandbox),
            "requests_per_second": 1000,
            "requests_per_hour": 1_000_000,
            "max_attempts": 1,
            "spool_dir": str(self.spool),
        }

    def tap(self, state: State | None = None) -> list[str]:
        """The tap's command line."""
        command = [TAP, "--config", self.write("tap.json", self.settings)]
        return command if state is None else [*command, "--state", self.write("state.json", state)]

    def target(self, **settings: Any) -> list[str]:
        """The loader's command line."""
        settings = {
            "filepath": str(self.database),
            "default_target_schema": "mixpanel",
            "temp_dir": str(self.folder),
        } | settings
        return [TARGET, "--config", self.write("target.json", settings)]

    def write(self, name: str, content: object) -> str:
        """Write a JSON file."""
        path = self.folder / name
        path.write_text(json.dumps(content))
        return str(path)

    def run(
        self, state: State | None = None, env: Mapping[str, str] | None = None, **settings: Any
    ) -> Output:
        """Run the tap to its end."""
        self.settings |= settings
        done = subprocess.run(
            self.tap(state),
            env=environment(env),
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        return Output(done.returncode, done.stdout, done.stderr.decode())

    @contextmanager
    def start(
        self, stdout: int | IO[bytes], env: Mapping[str, str] | None = None, **settings: Any
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start the tap; its errors go to `errors`."""
        self.settings |= settings
        with (self.folder / "stderr").open("wb") as errors:
            process = subprocess.Popen(
                self.tap(), env=environment(env), stdout=stdout, stderr=errors
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    @property
    def errors(self) -> str:
        """What the tap that was started has written to standard error."""
        return (self.folder / "stderr").read_text()

    @property
    def left_behind(self) -> list[str]:
        """What lies in the spool folder."""
        return sorted(path.name for path in self.spool.iterdir())


def wait_until(condition: Any, what: str) -> None:
    """Wait for something that must come true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.005)


def states_of(printed: bytes) -> list[State]:
    """The whole states that a loader has printed."""
    *lines, _half = printed.split(b"\n")
    return [json.loads(line) for line in lines]


def last_state(printed: bytes) -> State | None:
    """The last whole state that a loader has printed."""
    states = states_of(printed)
    return states[-1] if states else None
