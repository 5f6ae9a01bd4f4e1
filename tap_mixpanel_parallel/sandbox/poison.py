"""Poison: valid events, of kinds seen in exports of Mixpanel, that often break software.

The lines are given byte for byte where a JSON encoder would change them.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEGABYTE = 1_000_000  # Mixpanel's largest event (its ingestion docs)

# The event's name, distinct_id, $insert_id and further properties, all as JSON text. With `None`
# the property is missing.
_TEXTS: tuple[tuple[str, str | None, str | None, str], ...] = (
    (r'"Poison: lone \ud83d in the name"', '"p1"', '"i1"', ""),
    (r'"Poison: lone \uDC00 in the name"', '"p1"', '"i2"', ""),
    (r'"Poison: lone surrogate in distinct_id"', r'"p\ud83d"', '"i3"', ""),
    (r'"Poison: lone surrogate in distinct_id"', r'"p\uDBFF"', '"i4"', ""),
    (r'"Poison: lone surrogate in $insert_id"', '"p1"', r'"i\udfff5"', ""),
    (r'"Poison: lone surrogate in $insert_id"', '"p1"', r'"i\uD83D5"', ""),
    (r'"Poison: lone surrogate in a property name"', '"p1"', '"i6"', r'"na\ud83dme":1,"\uDE00":2'),
    (r'"Poison: lone surrogate in a value"', '"p1"', '"i7"', r'"v":"a\ud83d","w":["\uD83Db"]'),
    (r'"Poison: surrogates in the wrong order"', '"p1"', '"i8"', r'"v":"\ude00\ud83d"'),
    (r'"Poison: two leading surrogates, then a pair"', '"p1"', '"i9"', r'"v":"\ud83d\ud83d\ude00"'),
    (
        r'"Poison: surrogate text after a backslash"',
        '"p1"',
        '"i10"',
        r'"v":"\\ud83d","w":"\\uD83D"',
    ),
    (
        r'"Poison: lone surrogate after an escaped backslash"',
        '"p1"',
        '"i11"',
        r'"v":"\\\ud83d","w":"\\\\ud83d","x":"\\\\\uD83D"',
    ),
    (
        r'"Poison: escaped pairs \ud83d\ude00 \uD83D\uDE00"',
        r'"\ud83d\ude00"',
        '"i12"',
        r'"\ud83c\udf89":"\uD83C\uDF89"',
    ),
    (r'"Poison: null \u0000 characters"', r'"p\u0000"', r'"i\u000013"', r'"v":"\u0000","\u0000":1'),
    (
        '"Poison: raw \u2028 and \u2029 and \u0085"',
        '"p\u2028"',
        '"i14"',
        '"v\u0085":"\u2028\u0085\u2029\x7f"',
    ),
    (
        r'"Poison: escaped line ends"',
        r'"p\n1"',
        '"i15"',
        r'"v":"a\r\nb\nc\rd\u2028e\u0085f\u000ag"',
    ),
    (r'"Poison: control characters"', '"p1"', '"i16"', r'"v":"\u001f\u0001\b\f\t\"\/\\"'),
    (r'"Poison: noncharacters"', '"p1"', '"i17"', '"v":"\ufffe\uffff\U0010ffff\ufeff"'),
    ('"Poison: empty distinct_id"', '""', '"i20"', ""),
    ('"Poison: no distinct_id"', None, '"i21"', ""),
    ('"Poison: null distinct_id"', "null", '"i22"', ""),
    ('"Poison: integer distinct_id"', "12345", '"i23"', ""),
    ('"Poison: float distinct_id"', "12345.50", '"i24"', ""),
    ('"Poison: 30 digits distinct_id"', "123456789012345678901234567890", '"i25"', ""),
    ('"Poison: boolean distinct_id"', "true", '"i26"', ""),
    ('"Poison: no $insert_id"', '"p1"', None, ""),
    ('"Poison: empty $insert_id"', '"p1"', '""', ""),
    ('"Poison: null $insert_id"', '"p1"', "null", ""),
    ('"Poison: numeric $insert_id"', '"p1"', "987654321", ""),
    ('"Poison: 30 digits $insert_id"', '"p1"', "987654321098765432109876543210", ""),
    ('"Poison: repeated $insert_id"', '"p1"', '"repeated"', '"n":1'),
    ('"Poison: repeated $insert_id"', '"p2"', '"repeated"', '"n":2'),
    ('"Poison: nothing to tell it by"', None, None, ""),
    (
        '"Poison: numbers"',
        '"p1"',
        '"i30"',
        (
            '"a":9223372036854775808,"b":-9223372036854775809,"c":18446744073709551616,'
            '"d":123456789012345678901234567890,"e":0.1234567890123456789012345678901,'
            '"f":1E5,"g":1e-7,"h":-0.0,"i":-0,"j":1.10,"k":1.0,"l":1e+2,'
            '"m":1.7976931348623157e308,"n":5e-324,"o":9007199254740993'
        ),
    ),
    (
        '"Poison: repeated property names"',
        '"p1"',
        '"i31"',
        '"a":1,"a":2,"b":{"c":1,"c":[2]},"a":"3"',
    ),
    ('"Poison: empty property name"', '"p1"', '"i32"', '"":"nameless","a":{"":{"":1}}'),
    (
        '"Poison: names that mean something"',
        '"p1"',
        '"i33"',
        (
            '"event":"x","properties":{"time":1,"distinct_id":"y"},"$time":2,"$distinct_id":"z",'
            '"insert_id":"i","type":"RECORD","stream":"events","__proto__":{},"event_id":"e"'
        ),
    ),
    (
        '"Poison: names that differ in case"',
        '"p1"',
        '"i34"',
        '"Plan":1,"plan":2,"PLAN":3,"Time":4,"Distinct_ID":5,"$INSERT_ID":6,"Event":7',
    ),
    (
        '"Poison: odd names"',
        '"p1"',
        '"i35"',
        r'"a.b":1,"a b":2,"$":3,"🎉":4," ":5,"a\"b":6,"a\\b":7,"a/b":8',
    ),
    ('""', '"p1"', '"i36"', ""),
    (
        '"Poison: literals as text"',
        '"p1"',
        '"i37"',
        '"a":"null","b":"true","c":"NaN","d":"{}","e":"[]"',
    ),
    ('"Poison: empty containers"', '"p1"', '"i38"', '"a":{},"b":[],"c":[[],{}],"d":null,"e":false'),
    (
        '"Poison: terminated early"',
        '"p1"',
        '"i39"',
        r'"v":"terminated early","w":"\nterminated early\n"',
    ),
    ('"Poison: an error"', '"p1"', '"i40"', '"error":"not an error"'),
    (
        '"$identify"',
        '"p1"',
        '"i41"',
        (
            '"$identified_id":"p1","$anon_id":"$device:a","$device_id":"a","$user_id":"p1",'
            '"$mp_api_endpoint":"api.mixpanel.com","$mp_api_timestamp_ms":1736294400000,'
            '"$mp_event_size":321,"$import":true'
        ),
    ),
    ('"$create_alias"', '"p1"', '"i42"', '"alias":"p2"'),
    ('"$merge"', None, '"i43"', '"$distinct_ids":["p1","$device:a"]'),
)


def poisoned_lines(day: date, *, time_in_ms: bool = True) -> Iterator[bytes]:
    """Give the poisoned lines of a day, without line ends.

    The `time` of each is within the first second of the day. On the first day of a month there are
    a few more: their `time` is far from that day, and one line is 1 MB long.
    """
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    processed = f"{start}999"

    def stamp(number: int) -> str:
        return f"{start}{number:03d}" if time_in_ms else str(start)

    for number, (name, distinct_id, insert_id, more) in enumerate(_TEXTS):
        properties = [f'"time":{stamp(number)}']
        if distinct_id is not None:
            properties.append(f'"distinct_id":{distinct_id}')
        if insert_id is not None:
            properties.append(f'"$insert_id":{insert_id}')
        properties.append(f'"mp_processing_time_ms":{processed}')
        if more:
            properties.append(more)
        yield f'{{"event":{name},"properties":{{{",".join(properties)}}}}}'.encode()
    for line in _odd_times(day, stamp(500)):
        yield line.encode()
    for line in _odd_shapes(stamp(600), processed):
        yield line.encode()
    if day.day == 1:
        tail = f'"time":{stamp(700)},"distinct_id":"p1","$insert_id":"i70"}}}}'
        head = '{"event":"Poison: one megabyte","properties":{"v":"'
        filler = "0123456789 abcdef 東京 "
        room = _MEGABYTE - len(head) - len(tail) - len('",')
        times, rest = divmod(room, len(filler.encode()))
        yield f'{head}{filler * times}{"." * rest}",{tail}'.encode()


def _odd_times(day: date, usual: str) -> Iterator[str]:
    """Give events whose `time` is not the usual whole number."""
    odd = (
        (f'"{day}T10:00:00.123"', "as ISO text"),
        (f'"{day}T10:00:00"', "as ISO text without a fraction"),
        (f'"{day}T10:00:00.123Z"', "as ISO text with Z"),
        (f'"{day}T10:00:00.123456+00:00"', "as ISO text with an offset"),
        (f"{usual}.0", "as a float"),
        (f"{usual}.75", "as a float with a fraction"),
        (f'"{usual}"', "as digits in text"),
    )
    far = (
        ("-86400001", "before 1970"),
        ("0", "is zero"),
        ("31536000000", "in 1971"),
        ("253402300799999", "in the year 9999"),
    )
    for number, (time, what) in enumerate(odd + far if day.day == 1 else odd):
        yield (
            f'{{"event":"Poison: time {what}","properties":{{"time":{time},"distinct_id":"p1",'
            f'"$insert_id":"i5{number:02d}"}}}}'
        )


def _odd_shapes(time: str, processed: str) -> Iterator[str]:
    """Give events whose JSON has an unusual layout."""
    usual = f'"time":{time},"distinct_id":"p1"'
    yield (
        f' {{ "event" : "Poison: blanks" ,\t"properties" : {{ "time" : {time} , "distinct_id" :'
        f' "p1" , "$insert_id" : "i60" , "a" : [ 1 , {{ }} ] }} }} '
    )
    yield f'{{"properties":{{{usual},"$insert_id":"i61"}},"event":"Poison: properties first"}}'
    yield (
        f'{{"dataset":"$mixpanel","event":"Poison: another top-level key","properties":'
        f'{{{usual},"$insert_id":"i62"}},"error":null,"labels":["a"]}}'
    )
    yield (
        f'{{"event":"Poison: keys at the end","properties":{{"z":1,"mp_processing_time_ms":'
        f'{processed},"$insert_id":"i63","distinct_id":"p1","time":{time}}}}}'
    )
    yield (
        f'{{"\\u0065vent":"Poison: escaped keys","properties":{{"\\u0074ime":{time},'
        f'"distinct\\u005fid":"p1","\\u0024insert_id":"i64"}}}}'
    )
    nested = '{"a":[' * 50 + "1" + "]}" * 50
    yield (
        f'{{"event":"Poison: a hundred levels","properties":{{{usual},"$insert_id":"i65",'
        f'"v":{nested}}}}}'
    )
    many = ",".join(f'"property {number}":{number}' for number in range(2000))
    yield (
        f'{{"event":"Poison: two thousand properties","properties":{{{usual},'
        f'"$insert_id":"i66",{many}}}}}'
    )
