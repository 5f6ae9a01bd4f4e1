"""The sandbox as a program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tap_mixpanel_parallel.sandbox import Fault
from tap_mixpanel_parallel.sandbox.__main__ import main
from tests.sandbox.served import BODY, RANGE


class TestCommandLine:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_serves_until_a_signal(self, tmp_path: Path, number: signal.Signals) -> None:
        port_file = tmp_path / "port"
        arguments = ["--port=0", f"--port-file={port_file}", "--events-per-day=120"]
        arguments += ["--as-of=2025-06-01T12:00", "--fault=status=500,times=1"]
        command = [sys.executable, "-m", "tap_mixpanel_parallel.sandbox", *arguments]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            said = dict(word.split("=", 1) for word in process.stdout.readline().split())
            assert port_file.read_text() in said["api_url"]
            auth = (said["service_account_username"], said["service_account_secret"])
            parameters = {"project_id": said["project_id"], **RANGE}
            responses = [
                requests.get(said["api_url"] + "/export", params=parameters, auth=auth, timeout=10)
                for _ in range(2)
            ]
            process.send_signal(number)
            assert process.wait(10) == 0
        assert [response.status_code for response in responses] == [500, 200]
        assert responses[1].content == BODY

    def test_help_has_examples_and_faults(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="0"):
            main(["--help"])
        text = capsys.readouterr().out
        for word in ("--events-per-day", "examples:", "terminated_early", "each_range"):
            assert word in text

    def test_every_fault_in_the_help_is_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--help"])
        described = capsys.readouterr().out.partition("faults, for --fault:")[2]
        examples = [line[4:] for line in described.splitlines() if line.startswith("    ")]
        for example in examples:
            Fault.parse(example.partition("  ")[0])
        assert len(examples) > 10

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--fault", "explode"], "argument --fault: unknown fault 'explode'"),
            (["--as-of", "soon"], "argument --as-of: "),
            (["--events-per-day", "-1"], "events_per_day must not be negative"),
            (["--timezone", "Mars/Olympus"], "No time zone found with key Mars/Olympus"),
            (["--bytes-per-second", "0"], "bytes_per_second must be positive"),
        ],
    )
    def test_errors(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["--port=0", *arguments])
        assert message in capsys.readouterr().err
