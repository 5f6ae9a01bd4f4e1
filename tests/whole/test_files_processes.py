"""Processes that convert: their deaths are failed attempts, and none outlives a run."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tap_mixpanel_parallel.convert.columns import COLUMNS, NAMES, all_columns
from tap_mixpanel_parallel.convert.files import Files
from tap_mixpanel_parallel.convert.jsonl import JsonLinesFile
from tap_mixpanel_parallel.convert.parquet import ParquetFile
from tap_mixpanel_parallel.convert.processes import Prepared, ProcessDiedError, Processes
from tap_mixpanel_parallel.exceptions import (
    MalformedLineError,
    RateLimitError,
    SpoolError,
    TapError,
)
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox, Shaping
from tap_mixpanel_parallel.settings.property_columns import PropertyColumn
from tests.support.bodies import BODY, LINES, conversion, line, messages
from tests.support.commands import PATIENCE, environment, run
from tests.support.expected import lines_of
from tests.support.files import batch_config, events_of
from tests.support.harness import Body, Lab, Output, body, identities, wait_until
from tests.support.pipeline import CollectingTap
from tests.support.processes import workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mixpanel_parallel.settings.property_columns import ColumnType
    from tests.support.harness import Identity

PROJECT: Final = Project(seed=3, events_per_day=40)
NOW: Final = datetime(2025, 3, 1, tzinfo=UTC)
LINUX: Final = pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")

FIRST, LAST = date(2025, 1, 1), date(2025, 1, 8)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Sandbox(PROJECT, limits=None, as_of=lambda: NOW) as sandbox:
        lab = Lab(tmp_path, sandbox)
        lab.settings |= batch_config("parquet", tmp_path / "root")
        lab.settings |= {
            "start_date": str(FIRST),
            "end_date": str(LAST),
            "parallel": True,
            "workers": 4,
            "window_days": 1,
            "processes": 2,
            "properties_format": "string",
        }
        yield lab


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def loaded_identities(done: Output) -> Counter[Identity]:
    return Counter((e["event"], str(e["insert_id"])) for e in events_of(done.messages))


def rows_as_messages(folder: Path) -> Files:
    """A form that can be pickled, which a function is not."""
    begin = partial(JsonLinesFile, COLUMNS, NAMES, properties_as_text=False)
    return Files(begin, folder, "spool_dir", 1000)


class TestProcesses:
    """In one process and in another, the same comes out."""

    def test_a_part(self, tmp_path: Path) -> None:
        here = conversion(tmp_path, BODY)
        list(here)
        wanted = [message["record"] for message in messages(here.part)]
        again = conversion(tmp_path, BODY)
        with Processes(1) as processes:
            done = processes.convert(
                again._window, again._download, again._options, rows_as_messages(tmp_path)
            )

        assert done.part.events == here.part.events
        assert [
            json.loads(row) for row in gzip.decompress(done.part.files[0].read_bytes()).splitlines()
        ] == wanted
        assert not again._download.path.exists()

    def test_an_error(self, tmp_path: Path) -> None:
        bad = conversion(tmp_path, LINES[0] + b"\nbad\n" + LINES[1] + b"\n")
        with Processes(1) as processes, pytest.raises(MalformedLineError) as caught:
            processes.convert(bad._window, bad._download, bad._options, rows_as_messages(tmp_path))

        assert caught.value.line_number == 2
        assert "line 2 is not an event" in str(caught.value)

    def test_a_process_whose_run_is_gone_ends_without_a_word(self, tmp_path: Path) -> None:
        """The run takes no result any more, and has not closed the other pipe yet."""
        task = conversion(tmp_path, BODY)
        with subprocess.Popen(
            (sys.executable, "-c", "from tap_mixpanel_parallel.convert.worker import main; main()"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            form = rows_as_messages(tmp_path)
            pickle.dump((task._window, task._download, task._options, form), process.stdin)
            process.stdin.flush()
            said = process.stderr.read()

        assert (process.returncode, said) == (0, b"")

    @LINUX
    def test_one_that_has_died_is_replaced(self, tmp_path: Path) -> None:
        def task() -> tuple[Any, ...]:
            new = conversion(tmp_path, BODY)
            form = rows_as_messages(tmp_path)
            return new._window, new._download, new._options, form

        with Processes(1) as processes:
            whole = processes.convert(*task()).part
            (first,) = workers_of(os.getpid())
            os.kill(first, signal.SIGKILL)
            with pytest.raises(ProcessDiedError, match="was ended by signal 9"):
                processes.convert(*task())
            assert processes.convert(*task()).part.events == whole.events
            (second,) = workers_of(os.getpid())
            assert second != first

    @LINUX
    def test_none_is_started_once_all_have_ended(self, tmp_path: Path) -> None:
        """By a window that still waited for one as the run ended."""
        body = b"".join(line(number) + b"\n" for number in range(200_000))

        def convert(processes: Processes, name: str) -> Prepared:
            (tmp_path / name).mkdir()
            new = conversion(tmp_path / name, body)
            form = rows_as_messages(tmp_path / name)
            return processes.convert(new._window, new._download, new._options, form)

        with ThreadPoolExecutor(2) as threads:
            with Processes(1) as processes:
                waiting = [threads.submit(convert, processes, name) for name in ("a", "b")]
                wait_until(lambda: workers_of(os.getpid()), "a process converts")
            errors = [each.exception(PATIENCE) for each in waiting]

        assert [type(error) for error in errors] == [ProcessDiedError, ProcessDiedError]
        assert workers_of(os.getpid()) == []

    @pytest.mark.parametrize(
        "error",
        [
            TapError("a\nb"),
            SpoolError("full"),
            RateLimitError("slow", 3.0),
            MalformedLineError(7, b"x" * 500, "why"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_an_error_can_be_pickled(self, error: TapError) -> None:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301

        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))


@pytest.mark.slow
@LINUX
class TestWhole:
    """The tap with processes of its own."""

    def test_a_process_that_dies_is_a_failed_attempt(self, lab: Lab) -> None:
        lab.sandbox.shaping = Shaping(first_byte_seconds=0.2)
        killed: list[int] = []
        with lab.start(subprocess.PIPE, max_attempts=3) as tap:
            wait_until(lambda: workers_of(tap.pid), "a process converts")
            for pid in workers_of(tap.pid):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            assert tap.stdout is not None
            text = tap.stdout.read()
            tap.wait(PATIENCE)

        done = Output(tap.returncode, text, lab.errors)
        assert killed
        assert done.code == 0, done.errors
        assert loaded_identities(done) == identities(lines_of(PROJECT, FIRST, LAST, NOW))
        assert "Traceback" not in done.errors

    def test_if_all_die_the_window_fails_in_plain_words(self, lab: Lab, tmp_path: Path) -> None:
        """A limit of memory that no conversion fits into."""
        (tmp_path / "sitecustomize.py").write_text(
            "import os, signal, sys\n"
            "if 'convert.worker' in ' '.join(sys.orig_argv): os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = lab.run(env={"PYTHONPATH": str(tmp_path)}, parallel=True)

        assert done.code == 1
        assert len(done.failures) == 1
        assert done.failures[0]["error"] == (
            "the process that converted the window was ended by signal 9; if the machine has too "
            "little memory, lower processes"
        )
        assert "Traceback" not in done.errors

    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
    def test_an_interrupted_run_leaves_none_behind(self, lab: Lab, signum: signal.Signals) -> None:
        big = [
            b'{"event":"A","properties":{"time":TIME,"$insert_id":"%d","v":"%s"}}' % (n, b"x" * 99)
            for n in range(300_000)
        ]
        lab.sandbox.faults = [Fault(Body(body(big)))]
        with lab.start(subprocess.PIPE) as tap:
            wait_until(lambda: workers_of(tap.pid), "a process converts")
            time.sleep(0.5)
            workers = workers_of(tap.pid)
            tap.send_signal(signum)
            sent = time.monotonic()
            tap.wait(PATIENCE)
            took = time.monotonic() - sent
            wait_until(lambda: not any(map(is_alive, workers)), "no process is left")

        assert workers
        assert took < 2
        assert "Traceback" not in lab.errors
        lab.sandbox.faults = []
        done = lab.run()
        assert done.code == 0
        assert {path.suffix for path in (lab.folder / "root").iterdir()} == {".parquet"}
        assert lab.left_behind == []

    @pytest.mark.parametrize(
        ("count", "text", "kinds"),
        [
            (1_000_000, "x" * 150, ()),
            (300, "x" * 900_000, ()),
            (1_000, "x" * 60_000 + "\U0001f389", ("string", "json", "string", "json", "integer")),
        ],
        ids=["many", "long", "long, with columns"],
    )
    def test_each_takes_little_memory(
        self, tmp_path: Path, count: int, text: str, kinds: tuple[ColumnType, ...]
    ) -> None:
        """However large the window, and an event: all of it is never held at once."""
        lines = b"".join(line(n, text) + b"\n" for n in range(count))
        chosen = tuple(PropertyColumn("text", f"c{n}", kind) for n, kind in enumerate(kinds))
        whole = conversion(tmp_path, lines, columns=chosen)
        columns = all_columns(chosen)
        begin = partial(ParquetFile, columns, [column.name for column in columns])
        with Processes(1) as processes:
            done = processes.convert(
                whole._window,
                whole._download,
                whole._options,
                Files(begin, tmp_path, "spool_dir", 1_000_000),
            )
            (pid,) = workers_of(os.getpid())
            (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())

        assert done.part.events == count
        assert int(peak) < 200_000

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_there_are_as_many_as_the_setting_says(self, lab: Lab, count: int) -> None:
        """One is the run's own. Each of the others has a window, as windows take turns."""
        seen: list[int] = []
        config = lab.settings | {"processes": count}
        tap = CollectingTap(
            config=config, on_batch_complete=lambda _: seen.append(len(workers_of(os.getpid())))
        )
        assert tap.run().success
        assert seen[-1] == (0 if count == 1 else count)

    def test_a_program_without_a_guard(self, lab: Lab) -> None:
        """Its code must not run once more in the processes."""
        (lab.folder / "program.py").write_text(
            "import json\n"
            "from tap_mixpanel_parallel import TapMixpanelParallel\n"
            f"tap = TapMixpanelParallel(config=json.load(open({lab.tap()[2]!r})))\n"
            "assert tap.run().success\n"
        )
        done = run(sys.executable, "program.py", cwd=lab.folder)

        assert done.returncode == 0, done.stderr
        assert len(lab.sandbox.requests) == 8

    def test_the_folder_in_which_it_runs_does_not_matter(self, lab: Lab) -> None:
        """A module there that is named like one of Python's."""
        (lab.folder / "queue.py").write_text("raise SystemExit('the wrong one')\n")
        done = subprocess.run(
            lab.tap(), cwd=lab.folder, env=environment(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
