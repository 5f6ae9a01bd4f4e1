"""A line that stays bad: the window fails and says which, or the line goes to quarantine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from tap_mixpanel_parallel.sandbox import Effect, Fault, HalfLine, Line, Status, TerminatedEarly
from tests.failures.conftest import DAYS
from tests.support.expected import lines_of
from tests.support.harness import Body, Lab, Output, identities

if TYPE_CHECKING:
    from pathlib import Path

BAD: Final = b'{"event": 1, "properties": {"time": 1, "v": "%s"}}' % ("é" * 300).encode()
EVENT: Final = b'{"event":"A","properties":{"time":1,"$insert_id":"i"}}'


def quarantined(lab: Lab) -> list[Path]:
    return sorted(lab.spool.glob("*quarantine*"))


def run(lab: Lab, *faults: Fault, attempts: int = 1) -> Output:
    lab.sandbox.faults = faults
    return lab.run(on_malformed_line="quarantine", max_attempts=attempts)


def hit(effect: Effect, times: int | None = None) -> Fault:
    """The effect on the second day."""
    return Fault(effect, days=(DAYS[1], DAYS[1]), times=times)


def test_by_default_the_window_fails_and_names_the_line(lab: Lab) -> None:
    lab.sandbox.faults = [hit(Line(BAD, after_lines=6))]

    output = lab.run(max_attempts=2)

    [failure] = output.failures
    assert output.code == 1
    assert failure["attempts"] == 2
    assert failure["error"].startswith("line 7 is not an event (")
    assert BAD.decode()[:90] in failure["error"]
    assert failure["error"] in output.errors
    assert output.loaded == [DAYS[0], *DAYS[2:]]
    assert not quarantined(lab)


def test_two_hundred_characters_are_quoted(lab: Lab) -> None:
    lab.sandbox.faults = [hit(Line(BAD))]

    [failure] = lab.run().failures

    assert failure["error"].endswith(f": {BAD.decode()[:200]}")


@pytest.mark.parametrize("attempts", [1, 2])
def test_in_quarantine_the_rest_is_loaded(lab: Lab, attempts: int) -> None:
    lines = [BAD, b"99", b"\xff\xfe\x00", b"[" * 5000]
    whole = lines_of(lab.sandbox.project, DAYS[1], DAYS[1])
    body = b"".join(line + b"\n" for line in [*lines[:2], *whole, *lines[2:], EVENT])

    output = run(lab, hit(Body(body)), attempts=attempts)

    [path] = quarantined(lab)
    assert output.code == 0, output.errors
    assert output.loaded == list(DAYS)
    assert path.read_bytes() == b"".join(line + b"\n" for line in lines)
    assert str(path) in output.errors
    assert "4 lines quarantined" in output.errors.splitlines()[-1]
    everything = identities([*lines_of(lab.sandbox.project, DAYS[0], DAYS[-1]), EVENT])
    assert output.identities == everything


def test_a_line_is_quarantined_byte_for_byte(lab: Lab) -> None:
    line = rb'{"event": 1, "v": "\ud83d", "w": "%s"}' % b"\xed\xa0\xbd"

    output = run(lab, hit(Line(line)))

    assert output.code == 0, output.errors
    assert quarantined(lab)[0].read_bytes() == line + b"\n"


def test_a_line_that_is_bad_once_is_not_quarantined(lab: Lab) -> None:
    output = run(lab, hit(Line(BAD), times=1), attempts=2)

    assert output.code == 0, output.errors
    assert not quarantined(lab)
    assert output.identities == identities(lines_of(lab.sandbox.project, DAYS[0], DAYS[-1]))


def test_a_line_that_is_bad_in_the_last_attempt_only_is_not_quarantined(lab: Lab) -> None:
    output = run(lab, hit(Status(500), times=1), hit(Line(BAD)), attempts=2)

    assert output.code == 1
    assert not quarantined(lab)
    assert output.loaded == [DAYS[0], *DAYS[2:]]


@pytest.mark.parametrize(
    "effect",
    [
        pytest.param(HalfLine(), id="half a line"),
        pytest.param(TerminatedEarly(), id="terminated early"),
        pytest.param(TerminatedEarly(b'{"error": "query failed"}'), id="an error"),
        pytest.param(Line(b'{"error": "query failed"}', after_lines=0), id="an error first"),
        pytest.param(Body(b"<html>\n<body>busy</body>\n</html>\n"), id="an HTML page"),
        pytest.param(Body(EVENT + b'\n{"event":"A","prop\n'), id="half a line that ends"),
        pytest.param(Body(EVENT + b"\n<html>502</html>\n"), id="an HTML page after rows"),
        pytest.param(Body(EVENT + b'\n{"event":"A"\nExport terminated early.\n'), id="a period"),
        *(
            pytest.param(
                Body(EVENT + b'\n{"event":"A","pr%s\n' % end), id=f"within a line: {end!r}"
            )
            for end in (
                b"terminated early",
                b" export terminated early ",
                b'{"error": "query failed"}',
            )
        ),
    ],
)
def test_an_export_that_ended_early_is_never_loaded(lab: Lab, effect: Effect) -> None:
    output = run(lab, hit(effect))

    assert output.code == 1
    assert output.loaded == [DAYS[0], *DAYS[2:]]
    assert not quarantined(lab)


def test_the_state_stays_small_whatever_the_line(lab: Lab) -> None:
    output = run(lab, hit(Body(b"x" * 1_000_000)))

    assert len(json.dumps(output.messages[-1])) < 2000
