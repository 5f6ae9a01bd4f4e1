"""Legal events that crash loaders: each goes through target-duckdb, and comes back as sent."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import date
from typing import TYPE_CHECKING, Final

import pytest

from tap_mixpanel_parallel.sandbox import Fault, Project, Sandbox, Status, poisoned_lines
from tests.support.expected import Table, assert_same, expected, loaded
from tests.support.harness import AS_OF, PATIENCE, Body, Lab, environment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DAY: Final = date(2025, 2, 1)


def _event(name: str, insert_id: str, more: bytes, time: bytes = b"1738368000123") -> bytes:
    return b'{"event":"%s","properties":{"time":%s,"distinct_id":"p2","$insert_id":"%s"%s}}' % (
        name.encode(),
        time,
        insert_id.encode(),
        more and b"," + more,
    )


MORE: Final = {
    "encoded lone surrogates": _event(
        "x", "m1", b'"a\xed\xa0\xbd":"\xed\xb8\x80","b":"\xed\xa0\xbd\xed\xb8\x80"'
    ),
    "both forms in one line": _event("x", "m2", rb'"a":"\ud83d","b":"%s"' % b"\xed\xa0\xbd"),
    "UTF-8 of four bytes": _event("x", "m3", '"v":"𐍈 🎉 \U0010ffff"'.encode()),
    "what Latin-1 would spoil": _event("東京 München", "m4", '"ключ":"значение"'.encode()),
    "time after 9999": _event("x", "m5", b"", b"253402300800000"),
    "time far after 9999": _event("x", "m6", b"", b"99999999999999999"),
    "time before year 1": _event("x", "m7", b"", b"-62135596800001"),
    "time with an exponent": _event("x", "m8", b"", b"1.738368000123e12"),
    "time with a fraction before 1970": _event("x", "m9", b"", b"-0.5"),
    "time as ISO text with a zone": _event("x", "m10", b"", b'"2025-02-01T02:00:00+02:00"'),
    "time as a date": _event("x", "m11", b"", b'"2025-02-01"'),
    "time with ISO blanks": _event("x", "m12", b"", b'"2025-02-01 03:04:05.678901"'),
    "$insert_id that occurs twice in an event": _event("x", "m13", b'"$insert_id":"m13b"'),
    "distinct_id that occurs twice in an event": _event("x", "m14", b'"distinct_id":"p3"'),
    "time that occurs twice in an event": _event("x", "m15", b'"time":1738368000999'),
    "an id from before a merge": _event("x", "m16", b'"$distinct_id_before_identity":"d"'),
    "an empty id from before a merge": _event("x", "m17", b'"$distinct_id_before_identity":""'),
    "a null id from before a merge": _event("x", "m18", b'"$distinct_id_before_identity":null'),
    "a number's id from before a merge": _event("x", "m19", b'"$distinct_id_before_identity":7'),
    "an insert id with U+001F": _event("x", r"m\u001f20", b""),
    "a quote and a comma": _event('\\"a\\",b', "m21", b'"a\\",\\"b":"\\",\\"\\r\\n\\""'),
    "what a spreadsheet runs": _event("=1+1", "m22", b'"v":"=cmd|","w":"@SUM(A1)"'),
    "a backslash at the end": _event("x\\\\", "m23\\\\", b'"v\\\\":"\\\\"'),
    "processed before 1970": _event("x", "m24", b'"mp_processing_time_ms":-1'),
    "processed at no time": _event("x", "m25", b'"mp_processing_time_ms":"soon"'),
    "a name of blanks": _event("  ", "m26", b""),
    "a long number": _event("x", "m27", b'"v":0.%s1,"w":%s' % (b"0" * 200, b"9" * 400)),
    "megabyte": _event("x", "m28", b'"v":"%s"' % (b"0123456789abcdef" * 62_000)),
    "escapes only": _event("x", "m29", b'"v":"%s"' % (rb"\u0041" * 20_000)),
    "a hundred lists": _event("x", "m30", b'"v":%s%s' % (b"[" * 100, b"]" * 100)),
    "an event's name among the properties": _event("x", "m31", b'"event":"y","properties":"z"'),
}
DIGITS: Final = "Poison: time as digits in text"


def _name(line: bytes) -> str:
    return str(json.loads(line)["event"]).encode("ascii", "replace").decode()


SANDBOX: Final = {
    f"{_name(line)} ({number})": line for number, line in enumerate(poisoned_lines(DAY))
}
POISON: Final = SANDBOX | MORE
SANE: Final = {name: line for name, line in POISON.items() if not name.startswith(DIGITS)}
FORMATS: Final = ("object", "string")


def pipe(folder: Path, body: Body | Status, properties_format: str) -> Table:
    """Load a body through both commands, and give the table."""
    with Sandbox(Project(), limits=None, as_of=lambda: AS_OF, faults=[Fault(body)]) as sandbox:
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
    return loaded(lab.database, as_text=properties_format == "string")


def body(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


@pytest.fixture(scope="module", params=FORMATS)
def table(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Table, bool]:
    """All of the poison, loaded, and whether `properties` went as text."""
    folder = tmp_path_factory.mktemp(request.param)
    return pipe(folder, Body(body(SANE.values())), request.param), request.param == "string"


@pytest.mark.slow
class TestPoison:
    """What comes back."""

    @pytest.mark.parametrize("name", SANE)
    def test_it_comes_back(self, table: tuple[Table, bool], name: str) -> None:
        rows, as_text = table

        missing = expected([SANE[name]], as_text=as_text) - rows

        assert not missing

    def test_nothing_else_comes_back(self, table: tuple[Table, bool]) -> None:
        rows, as_text = table

        assert_same(rows, expected(SANE.values(), as_text=as_text))


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
