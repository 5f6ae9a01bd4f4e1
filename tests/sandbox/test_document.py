"""What `docs/sandbox.md` says about the sandbox, held to the sandbox."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields

import pytest

from tap_mixpanel_parallel.sandbox import Fault, Limits, Project, Sandbox, Shaping
from tap_mixpanel_parallel.sandbox.__main__ import command_line
from tap_mixpanel_parallel.sandbox.faults import KINDS
from tests.sandbox.page import PAGE, table
from tests.sandbox.served import error, get


def code(text: str) -> list[str]:
    return re.findall(r"`(.*?)`", text)


def block(name: str) -> str:
    return PAGE.split(f"<!-- {name} -->\n")[1].split("```")[1].partition("\n")[2]


class TestFaults:
    ROWS = re.findall(r"^\| `(\w+)` \| (.*?) ?\|(?:.* \|)? `(.*)` \|$", PAGE, re.MULTILINE)

    def test_the_page_has_all_faults_with_all_options(self) -> None:
        described = {name: code(options) for name, options, _ in self.ROWS if name in KINDS}
        assert described == {
            name: [option.name for option in fields(kind)] for name, kind in KINDS.items()
        }

    def test_the_page_has_all_options_that_select(self) -> None:
        described = [name for name, *_ in self.ROWS if name not in KINDS]
        assert described == [option.name for option in fields(Fault)[1:]]

    @pytest.mark.parametrize(("name", "options", "example"), ROWS)
    def test_examples(self, name: str, options: str, example: str) -> None:
        fault = Fault.parse(example)
        if name in KINDS:
            assert type(fault.effect) is KINDS[name]
        else:
            assert getattr(fault, name) != Fault.__dataclass_fields__[name].default, options

    def test_errors_as_status(self, sandbox: Sandbox) -> None:
        texts = block("errors").splitlines()
        sandbox.faults = [Fault.parse(f"{text},times=1") for text in texts]
        found = [get(sandbox) for _ in texts]
        assert [response.status_code for response in found] == [402, 400]
        assert "invalid project id for cluster" in error(found[1])


class TestOptions:
    ROWS = table("option | in Python")

    def test_all_of_the_program(self) -> None:
        described = {name: row[2] for row in self.ROWS for name in code(row[0])}
        actions = {
            option: action.default
            for action in command_line()._actions
            for option in action.option_strings
            if option.startswith("--") and option != "--help"
        }
        assert described.keys() == actions.keys()
        words: dict[str, object] = {"off": False, "no limit": None, "none": [], "": None}
        for name, default in actions.items():
            said = described[name].split(";")[0]
            if name in ("--verbose", "--as-of"):
                continue
            assert words.get(said, said) == default or said == str(default), name

    def test_all_of_python(self) -> None:
        described = {name for row in self.ROWS for name in code(row[1])} - {"limits=None"}
        groups = (Project, Shaping, Limits)
        real = {f"{group.__name__}({f.name})" for group in groups for f in fields(group)}
        real |= set(inspect.signature(Sandbox).parameters)
        assert described == real


def test_the_command_is_valid() -> None:
    options = command_line().parse_args(block("start").split()[3:])
    assert (options.events_per_day, len(options.fault)) == (20_000, 1)


def test_the_python_example(capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("python"), {})  # noqa: S102 - it is the page's
    first, second, requested = capsys.readouterr().out.splitlines()
    assert (first, second) == ("503", "200")
    assert requested.startswith("[(503, 0), (200, ")
