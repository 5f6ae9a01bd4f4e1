"""Legal events that crash loaders: those of the sandbox, and more."""

from __future__ import annotations

import json
from datetime import date
from typing import Final

from tap_mixpanel_parallel.sandbox import poisoned_lines

DAY: Final = date(2025, 2, 1)


def _event(name: str, insert_id: str, more: bytes, time: bytes = b"1738368000123") -> bytes:
    return b'{"event":"%s","properties":{"time":%s,"distinct_id":"p2","$insert_id":"%s"%s}}' % (
        name.encode(),
        time,
        insert_id.encode(),
        more and b"," + more,
    )


_MORE: Final = {
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


_SANDBOX: Final = {
    f"{_name(line)} ({number})": line for number, line in enumerate(poisoned_lines(DAY))
}
POISON: Final = _SANDBOX | _MORE
SANE: Final = {name: line for name, line in POISON.items() if not name.startswith(DIGITS)}
