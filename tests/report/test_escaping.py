"""Nothing from outside reaches a person's terminal or log as a command: over every exit."""

from __future__ import annotations

import io
import json
import logging
import unicodedata
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tap_mixpanel_parallel.cli import log_set_up
from tap_mixpanel_parallel.exceptions import MalformedLineError, TapError, TransportError
from tap_mixpanel_parallel.fetch.events import Retrying
from tap_mixpanel_parallel.fetch.redaction import Redactor
from tap_mixpanel_parallel.plan.bookmark import read_state
from tap_mixpanel_parallel.plan.status import Status as StateStatus
from tap_mixpanel_parallel.report import display
from tap_mixpanel_parallel.report.log import LogLines
from tap_mixpanel_parallel.report.observers import LeftOut
from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox, Status
from tap_mixpanel_parallel.sandbox.effects import Line
from tap_mixpanel_parallel.wording import printable, shown
from tests.report import events
from tests.report.events import Counting
from tests.support.commands import run as run_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMANDS: Final = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Controls, format characters (bidirectional marks among them), surrogates, line ends."""
EVIL: Final = (
    "\x1b]0;x\x07\x1b[2J\b\r\n2025 | ERROR | no\x00\u202e\u2066\u200b\ufeff\u2028\x9b31m\ud800"
)
FOREIGN: Final = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=sorted(COMMANDS)),
        st.sampled_from("\x1b\x07\x08\x00\n\r\u202e\u2067\u200f\u2028\x85\U000e0001"),
    )
)


def commands(text: str) -> list[str]:
    """What of a text a terminal or a log might take for a command."""
    return [char for char in text if unicodedata.category(char) in COMMANDS]


@given(text=FOREIGN)
@example(text=EVIL)
def test_printable(text: str) -> None:
    escaped = printable(text)
    assert commands(escaped) == []
    assert printable(escaped) == escaped
    kept = iter(escaped)
    assert all(char in kept for char in text if char.isprintable()), "in their order"


@given(text=FOREIGN)
@example(text=EVIL)
def test_an_error(text: str) -> None:
    assert commands(str(TapError(f"state: {text}"))) == []
    line = text.encode("utf-8", "surrogatepass")
    assert commands(str(MalformedLineError(7, line, f"event is {text}"))) == []
    assert commands(shown(text) + shown([{text: text}])) == []


@given(text=FOREIGN)
@example(text=EVIL)
def test_the_status_of_an_old_state(text: str) -> None:
    failure = {
        "context": {"from_date": "2025-01-01", "to_date": "2025-01-01"},
        "status": "failed",
        "error": text,
        "failed_at": text,
    }
    known = {"loaded": [], "partitions": [failure], "unsettled": [], "selection": None}
    state = {"bookmarks": {"events": {text: text} | known | {"stored": None}}}
    status = StateStatus.of(read_state(state, "events"))
    assert commands(status.to_text().replace("\n", "")) == []
    assert len(status.to_text().splitlines()) == 5
    assert commands(json.dumps(status.to_json())) == []


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the command line's log writes, with nothing else in it."""
    root, written = logging.getLogger(), io.StringIO()
    before = list(root.handlers)
    root.handlers = [logging.StreamHandler(written)]
    with log_set_up((), {}):
        pass
    yield written
    root.handlers = before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=FOREIGN)
@example(text=EVIL)
def test_the_log(log: io.StringIO, text: str) -> None:
    """Also of what others log, and of messages that hold percent signs."""
    for write in (logging.warning, logging.getLogger("urllib3.connectionpool").warning):
        log.truncate(0)
        log.seek(0)
        write("100%% is %s, %d", text, 7)
        write(text)
        assert commands(log.getvalue().replace("\n", "")) == []
        assert "100% is " in log.getvalue()


@given(text=FOREIGN)
@example(text=EVIL)
def test_the_live_display(text: str) -> None:
    """Whatever a line of it is made of."""
    console = Console(file=io.StringIO(), width=200, color_system=None, force_terminal=True)
    with console.capture() as capture:
        console.print(display._line(text))
    assert commands(capture.get().replace("\n", "")) == []


def test_a_run(tmp_path: Path) -> None:
    """A server's answers, a line of an export, a setting and a name of one, through it all."""
    evil = EVIL.replace("\ud800", "")
    with Sandbox(Project(events_per_day=3), limits=None, as_of=as_of) as sandbox:
        sandbox.faults = [
            Fault(effect, days=(date(2025, 1, number), date(2025, 1, number)))
            for number, effect in enumerate(
                [
                    Status(500, json.dumps({"error": evil}).encode()),
                    Status(503, evil.encode()),
                    Line(f"{{{evil}".replace("\n", "").encode()),
                    Line(json.dumps({"event": evil, "properties": 1}).encode()),
                ],
                start=1,
            )
        ]
        config = {
            "region": "sandbox",
            "api_url": sandbox.url,
            "start_date": "2025-01-01",
            "end_date": "2025-01-05",
            "window_days": 1,
            "max_attempts": 2,
            "requests_per_second": 1000,
            evil: 1,
        }
        (tmp_path / "tap.json").write_text(json.dumps(config))
        done = run_command("tap-mixpanel-parallel", "--config", "tap.json", cwd=tmp_path)

    assert done.returncode == 1
    assert commands(done.stderr.replace("\n", "")) == []
    assert commands(done.stdout.replace("\n", "")) == []
    assert "\n2025 | ERROR" not in done.stderr, "a line of a log that nobody has written"
    state = json.loads(done.stdout.splitlines()[-1])["value"]
    failed = state["bookmarks"]["events"]["partitions"]
    assert failed
    for failure in failed:
        assert commands(failure["error"]) == []
        assert "1b]0;x" in failure["error"]


def as_of() -> datetime:
    return datetime(2025, 3, 1, tzinfo=UTC)


def test_the_lines_of_a_run(tmp_path: Path) -> None:
    """Each event has a line of its own, and what failed one in the table, whatever is in them."""
    written = io.StringIO()
    logger = logging.getLogger("test_the_lines_of_a_run")
    logger.setLevel(logging.WARNING)
    logger.addHandler(logging.StreamHandler(written))
    run, reason = Counting(tmp_path), Redactor(None).reason
    log = LogLines(logger, run.progress, events.settings(), reason, quiet=False)
    for error in (TapError(EVIL), TransportError(EVIL), ValueError(EVIL)):
        said = reason(error)
        for event in (
            Retrying(events.window(1), 1, error, 1.0),
            LeftOut(events.body(1), events.window(2), said),
            events.failed(1, reason=said),
        ):
            run.progress(event)
            log(event)
    log.sum_up()
    assert commands(written.getvalue().replace("\n", "")) == []
    assert len(written.getvalue().splitlines()) == 3 * 3 + 2 + 3 + 1
