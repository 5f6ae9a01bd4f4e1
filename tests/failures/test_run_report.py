"""The run report is written whatever happens, says what did, and never stands in the way."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_parallel import TapMixpanelParallel
from tap_mixpanel_parallel.cli import command_again
from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.report.page import run_report
from tap_mixpanel_parallel.sandbox import Fault, Project
from tap_mixpanel_parallel.settings.report_file import report_problem, write_report
from tests.failures.conftest import DAYS
from tests.support.commands import PATIENCE
from tests.support.expected import AS_OF, lines_of
from tests.support.gate import Gate
from tests.support.harness import wait_until
from tests.support.invocation import invoke

if TYPE_CHECKING:
    from tests.failures.conftest import LabMaker
    from tests.support.harness import Lab

PROJECT = Project(events_per_day=40)
SECRET = "s3cr3t-w0rd"
CONFIG = {
    "project_id": "1",
    "service_account_username": "bob",
    "service_account_secret": SECRET,
    "start_date": "2025-01-01",
    "end_date": "2025-01-10",
}
STATE = {
    "bookmarks": {
        "events": {
            "loaded": [["2025-01-01", "2025-01-20"]],
            "partitions": [
                {
                    "context": {"from_date": "2025-01-22", "to_date": "2025-01-23"},
                    "status": "failed",
                    "attempts": 5,
                    "error": "HTTP 500: <b>oops</b>",
                    "failed_at": "2025-02-01T02:03:04Z",
                }
            ],
            "unsettled": [["2025-01-18", "2025-01-20", "2025-01-21"]],
            "columns": [
                {
                    "name": "os",
                    "property": "$os",
                    "type": "string",
                    "chosen": True,
                    "days": [["2025-01-11", "2025-01-20"]],
                }
            ],
        }
    }
}


def text_of(path: Path) -> str:
    """The words of a report, without its markup."""
    page = path.read_text().partition("</style>")[2]
    return " ".join(unescape(re.sub("<[^>]+>", " ", page)).split())


def outcome_of(path: Path) -> str:
    found = re.search(r"<h1.*?<span>(.*?)</span></h1>", path.read_text())
    assert found is not None
    return unescape(found[1])


def test_a_run_that_succeeds(lab: Lab) -> None:
    path = lab.folder / "report.html"
    assert lab.run(report=str(path)).code == 0
    events = {day: len(lines_of(PROJECT, day, day)) for day in DAYS}
    assert (
        outcome_of(path)
        == f"All 4 windows are handed to the loader: {sum(events.values())} events."
    )
    page = path.read_text()
    for day, number in events.items():
        assert f'title="{day}: loaded, {number} events"' in page
    assert "service_account_secret set, not shown" in text_of(path)
    assert str(lab.settings["service_account_secret"]) not in page
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRGRP, "others may read it"
    assert [each.name for each in lab.folder.glob(".report*")] == []


def test_a_run_with_a_failed_window(make_lab: LabMaker) -> None:
    faults = [Fault.parse(f"status=503,days={DAYS[1]}")]
    lab = make_lab(PROJECT, faults=faults)
    path = lab.folder / "report.html"
    path.write_text("<!doctype html>yesterday's")
    assert lab.run(report=str(path)).code == 1
    text = text_of(path)
    assert outcome_of(path) == "1 of 4 windows failed."
    assert "1 day after 1 attempt, the last at" in text
    assert f'title="{DAYS[1]}: failed"' in path.read_text()
    again = f"tap-mixpanel-parallel --config {lab.folder}/tap.json"
    assert f"{again} --state <the saved state> | <your loader>" in text
    assert lab.run(report=str(path), on_failed_window="warn").code == 0
    assert 'class="warn"' in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "again"),
    [
        ("/bin/tap --state s.json", "tap --state s.json"),
        ("/bin/tap --state=s.json", "tap --state=s.json"),
        ("/bin/tap --config t.json", "tap --config t.json --state <the saved state>"),
        (
            "/lib/tap_mixpanel_parallel/__main__.py --state s.json",
            "python -m tap_mixpanel_parallel --state s.json",
        ),
    ],
)
def test_the_command_that_repairs(arguments: str, again: str) -> None:
    assert command_again(arguments.split(), {}) == f"{again} | <your loader>"


def test_meltano_is_named_where_it_is_meltano(make_lab: LabMaker) -> None:
    lab = make_lab(PROJECT, faults=[Fault.parse("status=503")])
    path = lab.folder / "report.html"
    env = {"MELTANO_EXTRACTOR_NAME": "tap-of-mine", "MELTANO_ENVIRONMENT": "prod"}
    assert lab.run(env=env, report=str(path)).code == 1
    assert "meltano --environment prod run tap-of-mine <your loader>" in text_of(path)
    assert outcome_of(path) == "No data was retrieved: all 4 windows failed."


def test_a_run_that_is_refused(make_lab: LabMaker) -> None:
    lab = make_lab(PROJECT, faults=[Fault.parse("status=401")])
    path = lab.folder / "report.html"
    assert lab.run(report=str(path)).code == 1
    assert outcome_of(path) == "The run ended with an error: 0 of 4 windows handed to the loader."
    assert "HTTP 401" in text_of(path)


def test_a_state_that_does_not_fit(lab: Lab) -> None:
    path = lab.folder / "report.html"
    state = {
        "bookmarks": {
            "events": {
                "loaded": [["2025-01-06", "2025-01-06"]],
                "unsettled": [],
                "selection": {"where": "true"},
            }
        }
    }
    assert lab.run(state, report=str(path)).code == 1
    assert outcome_of(path) == "The run ended with an error: no window was requested."
    assert "where is now not set" in text_of(path)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped(make_lab: LabMaker, signum: signal.Signals) -> None:
    with Gate(AS_OF) as gate:
        lab = make_lab(PROJECT, as_of=gate)
        path, out = lab.folder / "report.html", lab.folder / "stdout"
        with out.open("wb") as file, lab.start(file, report=str(path)) as tap:
            gate.wait_for(1)
            assert outcome_of(path) == "The run has begun and has not ended."
            gate.let_pass(1)
            wait_until(lambda: b'"loaded":[["' in out.read_bytes().replace(b" ", b""), "a state")
            gate.wait_for(2)
            tap.send_signal(signum)
            tap.wait(PATIENCE)
        gate.open()
        if signum == signal.SIGKILL:
            assert outcome_of(path) == "The run has begun and has not ended."
            for spool in lab.spool.iterdir():
                for each in spool.iterdir():
                    each.unlink()
                spool.rmdir()
        else:
            assert outcome_of(path) == "Stopped by SIGTERM: 1 of 4 windows handed to the loader."
            assert "under way as the run ended" in text_of(path)


def test_what_can_t_be_written_is_one_error_before_all_else(tmp_path: Path) -> None:
    config, state = tmp_path / "tap.json", tmp_path / "state.json"
    config.write_text(json.dumps(CONFIG))
    state.write_text("{}")
    os.mkfifo(tmp_path / "pipe")
    for given, problem in [
        (tmp_path / "no" / "report.html", "can't be written (No such file or directory)"),
        (state / "report.html", "can't be written (Not a directory)"),
        (tmp_path / ("y" * 300), "can't be written (File name too long)"),
        (tmp_path, "is not a file"),
        (tmp_path / "pipe", "is not a file"),
        (Path("/dev/null"), "is not a file"),
        (state, "exists and is not a report"),
    ]:
        found = invoke("--config", str(config), "--report", str(given))
        assert (found.code, found.output) == (1, "")
        [line] = [line for line in found.errors.splitlines() if "report: " in line]
        assert problem in line
    assert state.read_text() == "{}"
    assert {path.name for path in tmp_path.iterdir()} == {"tap.json", "state.json", "pipe"}
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.html", tmp_path / "link.html"
    link.symlink_to(target)
    assert report_problem(link) is None
    assert [*tmp_path.iterdir()] == [link], "to try leaves nothing"
    write_report(link, "<!doctype html>")
    assert link.is_symlink()
    assert target.read_text() == "<!doctype html>"


def test_a_report_that_can_t_be_written_at_the_end(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: object
) -> None:
    """The run has done its work: it ends as it would have."""
    path, real, calls = lab.folder / "report.html", write_report, []

    def full(path: Path, text: str | None) -> None:
        calls.append(path)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        real(path, text)

    monkeypatch.setattr(run_report, "write_report", full)
    result = TapMixpanelParallel(config=lab.settings | {"report": str(path)}).run()
    assert result.success
    assert "the run itself is not affected" in caplog.text


def test_a_report_that_can_t_be_written_at_the_begin(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    tap = TapMixpanelParallel(config=lab.settings | {"report": str(lab.folder / "r.html")})

    def full(path: Path, text: str | None) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_report, "write_report", full)
    with pytest.raises(TapError, match=r"report: .* can't be written \(No space left on device\)"):
        tap.run()
    assert not lab.sandbox.requests


def test_the_secret_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = CONFIG | {
        "where": f'properties["x"] == "{SECRET}"',
        "stream_maps": {"events": {"x": f"'{SECRET}'"}},
        "report": "report.html",
    }
    Path("tap.json").write_text(json.dumps(config))
    assert invoke("--config", "tap.json").code == 0
    assert SECRET not in Path("report.html").read_text()
    text = text_of(Path("report.html"))
    assert "stream_maps set, not shown" in text
    assert 'where properties["x"] == "***"' in text


def test_plan_and_test_write_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tap.json").write_text(json.dumps(CONFIG | {"report": "report.html"}))
    assert invoke("--config", "tap.json", "--plan").code == 0
    assert invoke("--config", "tap.json", "--test").code in {0, 1}
    assert not Path("report.html").exists()
    assert invoke("--config", "tap.json", "--report", "other.html").code == 0
    assert [path.name for path in tmp_path.glob("*.html")] == ["other.html"]


def test_the_status_of_a_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = json.dumps(STATE).encode()
    ended = invoke("--status", "--report", "status.html", stdin=state)
    assert ended.code == 0
    assert ended.output == invoke("--status", stdin=state).output
    path, summary = Path("status.html"), ended.output.splitlines()[0]
    assert outcome_of(path) == f"{summary}."
    text = text_of(path)
    assert "failed: 2 days 2025-01-22..2025-01-23" in text
    assert "missing: 1 day 2025-01-21" in text
    assert "--replay 2025-01-01..2025-01-10: os on 10 days" in text
    assert "HTTP 500: <b>oops</b>" in text
    assert 'title="2025-01-18: loaded, read again for late events"' in path.read_text()
    for words in ("loaded", "loaded, read again for late events", "failed", "missing"):
        assert words in ended.output
    Path("mine.json").write_text("{}")
    refused = invoke("--status", "--report", "mine.json", stdin=state)
    assert (refused.code, refused.output) == (1, "")
    assert "report: 'mine.json' exists and is not a report" in refused.errors
    assert invoke("--status", "--report", "empty.html", stdin=b'{"bookmarks": {}}').code == 0
    assert outcome_of(Path("empty.html")) == "Nothing is loaded, nothing has failed."
