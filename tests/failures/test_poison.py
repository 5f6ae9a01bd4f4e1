"""Legal events that crash loaders: each goes through target-duckdb, and comes back as sent."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox, Status
from tests.support.commands import PATIENCE, environment
from tests.support.exact import digits, doubles
from tests.support.expected import AS_OF, Normal, Table, assert_same, expected, loaded
from tests.support.harness import Body, Lab, body
from tests.support.poison import DAY, DIGITS, POISON, SANE

if TYPE_CHECKING:
    from pathlib import Path

NORMAL: Final[dict[str, Normal]] = {"object": doubles, "string": digits}


def pipe(folder: Path, answer: Body | Status, properties_format: str) -> Table:
    """Load an answer through both commands, and give the table."""
    with Sandbox(Project(), limits=None, as_of=lambda: AS_OF, faults=[Fault(answer)]) as sandbox:
        lab = Lab(folder, sandbox)
        lab.settings |= {
            "start_date": str(DAY),
            "end_date": str(DAY),
            "properties_format": properties_format,
        }
        with lab.start(subprocess.PIPE) as tap:
            target = subprocess.run(
                lab.target(),
                stdin=tap.stdout,
                env=environment(),
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
            tap.wait(PATIENCE)
    assert target.returncode == 0, target.stderr.decode()
    assert tap.returncode == 0, lab.errors
    return loaded(lab.database, normal=NORMAL[properties_format])


@pytest.fixture(scope="module", params=NORMAL)
def table(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Table, Normal]:
    """All of the poison, loaded, and what the loader makes of `properties`."""
    folder = tmp_path_factory.mktemp(request.param)
    return pipe(folder, Body(body(SANE.values())), request.param), NORMAL[request.param]


@pytest.mark.slow
class TestPoison:
    """What comes back."""

    @pytest.mark.parametrize("name", SANE)
    def test_it_comes_back(self, table: tuple[Table, Normal], name: str) -> None:
        rows, normal = table

        missing = expected([SANE[name]], normal=normal) - rows

        assert not missing

    def test_nothing_else_comes_back(self, table: tuple[Table, Normal]) -> None:
        rows, normal = table

        assert_same(rows, expected(SANE.values(), normal=normal))


@pytest.mark.slow
def test_time_as_digits_in_text(tmp_path: Path) -> None:
    digits = [line for name, line in POISON.items() if name.startswith(DIGITS)]
    # As ISO text without separators, this one is a day of the year 1736.
    misleading = re.sub(rb'"\d{13}"', b'"1736121600500"', digits[0])

    rows = pipe(tmp_path, Body(body([misleading, *digits])), "object")

    assert_same(rows, expected([misleading, *digits]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "content_type", ["text/plain; charset=iso-8859-1", "application/json; charset=utf-16", "a/b"]
)
def test_the_charset_is_utf_8_whatever_the_answer_says(tmp_path: Path, content_type: str) -> None:
    lines = [POISON["what Latin-1 would spoil"], POISON["UTF-8 of four bytes"]]

    rows = pipe(tmp_path, Status(200, body(lines), content_type), "object")

    assert_same(rows, expected(lines))
