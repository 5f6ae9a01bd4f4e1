"""A window's body in, its messages out: all of them or an error."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
import threading
import tracemalloc
from datetime import UTC, datetime
from hashlib import md5
from io import FileIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.convert import conversion as messages
from tap_mixpanel_parallel.convert.conversion import Prepared, fast_encoder, prepare, read_blocks
from tap_mixpanel_parallel.convert.records import EventReader, EventRecord
from tap_mixpanel_parallel.exceptions import (
    IncompleteExportError,
    MalformedLineError,
    SpoolError,
    TerminatedError,
    ThreadError,
    quote_line,
)
from tap_mixpanel_parallel.fetch.client import Download
from tap_mixpanel_parallel.wording import printable
from tests.support.strategies import FRAGMENTS

NOW = datetime(2025, 2, 1, tzinfo=UTC)
EXTRACTED = "2025-02-01T00:00:00+00:00"
LONE = re.compile("[\ud800-\udfff]")
FULL = Path("/dev/full")


def line(number: int = 0, text: str = "x") -> bytes:
    """An event's line; `text` stands in it as it is, escapes and all."""
    return (
        f'{{"event":"E","properties":{{"time":{number},"$insert_id":"i{number}","text":"{text}"}}}}'
    ).encode("utf-8", "surrogatepass")


LINES = [line(n, f"text {n} é🎉") for n in range(20)]
BODY = b"".join(each + b"\n" for each in LINES)
GZIP = gzip.compress(BODY, mtime=0)


def refuse(_: threading.Thread) -> None:
    """As Python does where the system lets no thread start."""
    raise RuntimeError("can't start new thread")


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read small pieces."""
    monkeypatch.setattr(messages, "_PIECE", 7)


def download(folder: Path, body: bytes, *, compressed: bool = False) -> Download:
    path = folder / "window.body"
    path.write_bytes(body)
    return Download(path, compressed, len(body), NOW)


def turn(folder: Path, body: bytes, *, compressed: bool = False, **options: Any) -> Prepared:
    arguments = {
        "reader": EventReader(ZoneInfo("UTC")),
        "encode": fast_encoder("events", EXTRACTED),
    }
    source = download(folder, body, compressed=compressed)
    return prepare(source, folder / "window.messages", **(arguments | options))


def written(prepared: Prepared) -> list[dict[str, Any]]:
    text = prepared.path.read_bytes()
    assert text == b"" or text.endswith(b"\n")
    return [json.loads(message) for message in text.splitlines()]


def properties(prepared: Prepared) -> list[dict[str, Any]]:
    return [message["record"]["properties"] for message in written(prepared)]


def split(body: bytes, piece: int = 1 << 18, *, compressed: bool = False) -> list[bytes]:
    """The lines of a body that is read in pieces of this size."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "_PIECE", piece)
        source = download(Path(name), body, compressed=compressed)
        return [each for block in read_blocks(source) for each in block.lines]


class TestMessages:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_all_lines(self, tmp_path: Path, compressed: bool) -> None:
        prepared = turn(tmp_path, GZIP if compressed else BODY, compressed=compressed)
        assert (prepared.events, prepared.malformed) == (20, None)
        found = written(prepared)
        assert [message["record"]["properties"]["time"] for message in found] == list(range(20))

    def test_a_message_is_what_it_should_be(self, tmp_path: Path) -> None:
        body = b'{ "time":1.0 ,"$insert_id":"i", "n":1.50}'
        prepared = turn(tmp_path, b'{"event":"E","properties":%b}\n' % body)
        key = md5(b"E\x1f\x1f1\x1fi", usedforsecurity=False).hexdigest().encode()
        assert prepared.path.read_bytes() == (
            b'{"type":"RECORD","stream":"events","record":{"event_id":"%b","event":"E",'
            b'"time":"1970-01-01T00:00:00.001Z","distinct_id":null,"insert_id":"i",'
            b'"processed_at":null,"properties":%b},'
            b'"time_extracted":"2025-02-01T00:00:00+00:00"}\n'
        ) % (key, body)

    def test_properties_as_text(self, tmp_path: Path) -> None:
        reader = EventReader(ZoneInfo("UTC"), properties_as_text=True)
        [text] = properties(turn(tmp_path, line(1, "é\\n") + b"\n", reader=reader))
        assert text == '{"time":1,"$insert_id":"i1","text":"é\\n"}'

    @pytest.mark.parametrize("body", [b"", b"\n", b"\n\n \n\t\r\n", b" "])
    def test_no_events(self, tmp_path: Path, body: bytes) -> None:
        assert turn(tmp_path, body).events == 0
        assert turn(tmp_path, gzip.compress(body), compressed=True).events == 0

    @pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
    def test_the_last_line_end_may_be_missing(self, tmp_path: Path, end: bytes) -> None:
        assert turn(tmp_path, BODY[:-1] + end).events == 20

    def test_blank_lines_count_for_the_line_number(self, tmp_path: Path) -> None:
        with pytest.raises(MalformedLineError) as caught:
            turn(tmp_path, b"\n" + LINES[0] + b"\n\r\nx\n" + BODY)
        assert caught.value.line_number == 4

    def test_check_ends_the_work(self, tmp_path: Path) -> None:
        def check() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            turn(tmp_path, BODY, check=check)


class TestLines:
    @pytest.mark.parametrize(
        "separator",
        ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"],
        ids=lambda separator: f"U+{ord(separator):04X}",
    )
    def test_they_end_at_line_feeds_alone(self, separator: str) -> None:
        text = line(1, f"a{separator}b")
        assert split(text + b"\n" + text + b"\n") == [text, text]

    @pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
    def test_other_separators_stay(self, tmp_path: Path, separator: str) -> None:
        [found] = properties(turn(tmp_path, line(1, f"a{separator}b") + b"\n"))
        assert found["text"] == f"a{separator}b"

    def test_windows_line_ends(self, tmp_path: Path) -> None:
        assert turn(tmp_path, BODY.replace(b"\n", b"\r\n")).events == 20

    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("piece", range(1, 51))
    def test_pieces_of_any_size(self, piece: int, compressed: bool) -> None:
        lines = [
            line(1, "東京 🎉 \\ud83d\\ude00"),
            line(2, r"\ud83d\ude00\ud83d\ude00\\ud83d"),
            b"",
            line(3, "\u2028\ud83d\ude00"),
        ]
        body = b"\n".join(lines) + b"\n"
        data = gzip.compress(body) if compressed else body
        assert split(data, piece, compressed=compressed) == lines

    @given(
        st.lists(st.text("aé🎉\u2028\r\ud83d\ude00\\u", max_size=8), max_size=8),
        st.integers(1, 50),
        st.booleans(),
    )
    def test_pieces_make_no_difference(self, texts: list[str], piece: int, ended: bool) -> None:
        body = "\n".join(texts).encode("utf-8", "surrogatepass") + b"\n" * ended
        expected = body.removesuffix(b"\n").split(b"\n") if body else []
        assert split(body) == split(body, piece) == expected
        assert split(gzip.compress(body), piece, compressed=True) == expected

    @pytest.mark.usefixtures("pieces")
    def test_a_line_longer_than_any_event(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(messages, "_LONGEST_LINE", 200)
        assert turn(tmp_path, line(1, "x" * 120) + b"\n").events == 1
        with pytest.raises(IncompleteExportError, match="a line of over 200 bytes is no event"):
            turn(tmp_path, BODY + line(1, "x" * 300) + b"\n")


class TestSurrogates:
    @given(FRAGMENTS)
    def test_only_lone_ones_are_changed(self, text: str) -> None:
        original = line(1, text)
        expected = json.loads(original.decode("utf-8", "surrogatepass"))["properties"]["text"]
        with tempfile.TemporaryDirectory() as name:
            prepared = turn(Path(name), LINES[0] + b"\n" + original + b"\n")
            message = prepared.path.read_bytes().split(b"\n")[1]
        found = json.loads(message)["record"]["properties"]["text"]
        assert found == LONE.sub("\ufffd", expected)
        if LONE.search(expected) is None:
            assert text.encode() in message

    def test_in_every_place(self, tmp_path: Path) -> None:
        body = (
            rb'{"event":"\ud83d","properties":{"time":1,"distinct_id":"\ud83d",'
            rb'"$insert_id":"\ud83d","\ud83d":["\ud83d"]}}'
        )
        [message] = written(turn(tmp_path, body + b"\n"))
        record = message["record"]
        ids = [record[name] for name in ("event", "distinct_id", "insert_id")]
        assert ids == ["\ufffd"] * 3
        assert record["properties"]["\ufffd"] == ["\ufffd"]


class TestGzip:
    def test_cut_anywhere(self, tmp_path: Path) -> None:
        for size in range(1, len(GZIP)):
            with pytest.raises(IncompleteExportError, match="cut or damaged"):
                turn(tmp_path, GZIP[:size], compressed=True)

    def test_damaged_anywhere(self, tmp_path: Path) -> None:
        """A flipped bit is noticed, or of no consequence: the header holds a time, for one."""
        whole = written(turn(tmp_path, GZIP, compressed=True))
        unnoticed = 0
        for position in range(len(GZIP)):
            for flip in (0x01, 0x80, 0xFF):
                damaged = bytearray(GZIP)
                damaged[position] ^= flip
                try:
                    prepared = turn(tmp_path, bytes(damaged), compressed=True)
                except IncompleteExportError:
                    continue
                unnoticed += 1
                assert written(prepared) == whole
        assert unnoticed < 30

    @pytest.mark.parametrize(
        "data",
        [
            GZIP[:-8] + bytes(4) + GZIP[-4:],
            GZIP[:-4] + bytes(4),
            GZIP + b"garbage",
            GZIP + GZIP[:5],
            GZIP + GZIP[:-1],
            BODY,
            b"\x1f",
        ],
        ids=["checksum", "length", "garbage", "begun", "second cut", "no gzip", "one byte"],
    )
    def test_wrong_ends(self, tmp_path: Path, data: bytes) -> None:
        with pytest.raises(IncompleteExportError, match="cut or damaged"):
            turn(tmp_path, data, compressed=True)

    @pytest.mark.parametrize(
        ("data", "events"),
        [(GZIP + GZIP, 40), (gzip.compress(b"") + GZIP, 20), (gzip.compress(b""), 0)],
        ids=["two members", "an empty one first", "nothing"],
    )
    def test_members(self, tmp_path: Path, data: bytes, events: int) -> None:
        assert turn(tmp_path, data, compressed=True).events == events

    def test_a_line_across_members(self, tmp_path: Path) -> None:
        data = gzip.compress(BODY[:100]) + gzip.compress(BODY[100:])
        assert turn(tmp_path, data, compressed=True).events == 20

    def test_gzip_that_nobody_announced(self, tmp_path: Path) -> None:
        with pytest.raises(MalformedLineError):
            turn(tmp_path, GZIP)


def test_a_disk_that_takes_little_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reluctant(FileIO):
        def write(self, data: Any) -> int:
            return super().write(memoryview(data)[:100])

    whole = turn(tmp_path, BODY).path.read_bytes()
    monkeypatch.setattr(messages, "FileIO", Reluctant)
    assert turn(tmp_path, BODY).path.read_bytes() == whole


class TestAhead:
    """Pieces are decompressed ahead by a thread, which ends with the reading."""

    @pytest.fixture(autouse=True)
    def _small_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(messages, "_PIECE", 1000)

    @staticmethod
    def threads() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("decompress")]

    def test_all_of_it_arrives_in_order(self, tmp_path: Path) -> None:
        lines = b"".join(line(n, f"text {n}") + b"\n" for n in range(2000))
        prepared = turn(tmp_path, gzip.compress(lines), compressed=True)
        assert [p["$insert_id"] for p in properties(prepared)] == [
            json.loads(each)["properties"]["$insert_id"] for each in lines.splitlines()
        ]
        assert self.threads() == []

    @pytest.mark.parametrize("bad", ["first", "last", "cut"])
    def test_what_is_wrong_ends_it(self, tmp_path: Path, bad: str) -> None:
        body = BODY * 100
        body = {"first": b"bad\n" + body, "last": body + b"bad\n", "cut": body}[bad]
        compressed = gzip.compress(body)
        expected = IncompleteExportError if bad == "cut" else MalformedLineError
        with pytest.raises(expected):
            turn(tmp_path, compressed[: -9 if bad == "cut" else None], compressed=True)
        assert self.threads() == []

    @pytest.mark.parametrize("piece", [700, 3000])
    def test_what_comes_before_damage_is_read_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
    ) -> None:
        """It may tell why: Mixpanel writes an error into the export, and ends."""
        monkeypatch.setattr(messages, "_PIECE", piece)
        body = BODY + b'{"error":"query timed out"}\n' + BODY * 10
        with pytest.raises(IncompleteExportError, match=r"ended the export with an error.*timed"):
            turn(tmp_path, gzip.compress(body)[:-9], compressed=True)

    def test_no_further_thread_can_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ThreadError, match="can't start new thread; lower workers, or raise"):
            turn(tmp_path, GZIP, compressed=True)

    def test_whoever_stops_in_the_midst_leaves_no_thread(self, tmp_path: Path) -> None:
        checks = 0

        def stop() -> None:
            nonlocal checks
            checks += 1
            if checks == 5:
                raise TerminatedError(15)

        with pytest.raises(TerminatedError):
            turn(tmp_path, gzip.compress(BODY * 1000), compressed=True, check=stop)
        assert self.threads() == []


class TestMalformed:
    @pytest.mark.parametrize(
        "odd",
        [
            b"x",
            b"{}",
            b'{"event":',
            line(1, "\x07"),
            line(1, "caf") + b"\xe9",
            line(1)[:-2] + b"\xff}}",
        ],
    )
    @pytest.mark.parametrize("position", [0, 10, 20])
    def test_it_fails_the_window(self, tmp_path: Path, odd: bytes, position: int) -> None:
        body = b"\n".join([*LINES[:position], odd, *LINES[position:]]) + b"\n"
        with pytest.raises(MalformedLineError) as caught:
            turn(tmp_path, body)
        assert caught.value.line_number == position + 1
        assert str(caught.value).endswith(printable(quote_line(odd)))

    @pytest.mark.parametrize("odd", [b"x", line(1, "caf\\u00e9").replace(b"\\u00e9", b"\xe9")])
    def test_tolerated(self, tmp_path: Path, odd: bytes) -> None:
        body = b"\n".join([b"y", *LINES[:10], odd, *LINES[10:]]) + b"\n"
        prepared = turn(tmp_path, body, tolerant=True)
        assert prepared.events == 20
        assert prepared.malformed
        assert prepared.malformed.first.line_number == 1
        assert prepared.malformed.path.read_bytes() == b"y\n" + odd + b"\n"
        assert [found["time"] for found in properties(prepared)] == list(range(20))

    @pytest.mark.parametrize("end", [b"", b"\n", b"\n\n \n"])
    @pytest.mark.parametrize("last", [b"x", line(1)[:-20], b"</html>", b'{"errors":["x"]}'])
    def test_the_last_line_is_never_tolerated(
        self, tmp_path: Path, last: bytes, end: bytes
    ) -> None:
        """With it, the export may have ended early."""
        with pytest.raises(MalformedLineError, match="line 22 is no event"):
            turn(tmp_path, b"y\n" + BODY + last + end, tolerant=True)

    def test_lines_that_are_not_utf_8_leave_their_neighbours_alone(self, tmp_path: Path) -> None:
        body = LINES[0] + b"\n" + line(1, "x") + b"\xff\n" + line(2, "\ud83d") + b"\n"
        prepared = turn(tmp_path, body, tolerant=True)
        assert [found["text"] for found in properties(prepared)] == ["text 0 é🎉", "\ufffd"]
        assert prepared.left_out == 1
        assert prepared.malformed
        assert "not UTF-8" in str(prepared.malformed.first)

    @pytest.mark.parametrize("tolerant", [False, True])
    @pytest.mark.parametrize("size", [1, 5, len(LINES[-1]) // 2, len(LINES[-1]) - 1])
    def test_a_half_line_at_the_end(self, tmp_path: Path, tolerant: bool, size: int) -> None:
        body = BODY[: -len(LINES[-1]) - 1] + LINES[-1][:size]
        with pytest.raises(MalformedLineError):
            turn(tmp_path, body, tolerant=tolerant)

    @pytest.mark.parametrize("tolerant", [False, True])
    @pytest.mark.parametrize("end", [b"terminated early", b"terminated early\n", b'{"error":1}\n'])
    def test_an_aborted_export(self, tmp_path: Path, tolerant: bool, end: bytes) -> None:
        for body in (end, BODY + end):
            with pytest.raises(IncompleteExportError, match="Mixpanel ended the export"):
                turn(tmp_path, body, tolerant=tolerant)

    @pytest.mark.parametrize("body", [b"x\n", b"x\ny\n\n", b"<html>\n</html>\n"])
    def test_nothing_but_malformed_lines(self, tmp_path: Path, body: bytes) -> None:
        with pytest.raises(MalformedLineError, match=r"line \d is no event"):
            turn(tmp_path, body, tolerant=True)

    def test_they_are_the_same_in_any_order(self, tmp_path: Path) -> None:
        found = [
            turn(tmp_path, bad + BODY, tolerant=True).malformed
            for bad in (b"x\ny\ny\n", b"y\nx\ny\n", b"x\ny\n", b"x\nz\ny\n")
        ]
        one, other, fewer, more = (each.digest for each in found if each)
        assert one == other
        assert len({one, fewer, more}) == 3

    @pytest.mark.parametrize("deduplicate", [False, True])
    def test_many(self, tmp_path: Path, deduplicate: bool) -> None:
        """In memory there is only why the first is none, without its frames."""
        bad = b"9\n" * 20_000
        tracemalloc.start()
        try:
            prepared = turn(tmp_path, bad + BODY, tolerant=True, deduplicate=deduplicate)
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert (prepared.events, prepared.left_out) == (20, 20_000)
        assert prepared.malformed
        assert prepared.malformed.path.read_bytes() == bad
        assert prepared.malformed.first.__traceback__ is None
        assert prepared.malformed.first.__context__ is None
        assert held < 100_000


class TestDuplicates:
    @staticmethod
    def event(insert_id: str, processed: int | None, note: str = "") -> bytes:
        properties = {"time": 1, "$insert_id": insert_id, "note": note}
        if processed is not None:
            properties["mp_processing_time_ms"] = processed
        return json.dumps({"event": "E", "properties": properties}).encode()

    @pytest.mark.parametrize("tolerant", [False, True])
    def test_the_latest_ingested_stays(self, tmp_path: Path, tolerant: bool) -> None:
        lines = [
            self.event("a", 5, "late"),
            self.event("b", 1, "only"),
            self.event("a", 4, "early"),
            self.event("c", None, "unknown"),
            self.event("c", 1, "known"),
            self.event("d", 1, "first"),
            self.event("d", 1, "second"),
        ]
        body = b"\n".join(lines) + b"\n"
        prepared = turn(tmp_path, body, deduplicate=True, tolerant=tolerant)
        assert prepared.events == 4
        assert [found["note"] for found in properties(prepared)] == [
            "late",
            "only",
            "known",
            "second",
        ]
        assert turn(tmp_path, body).events == 7

    @pytest.mark.usefixtures("pieces")
    def test_across_pieces(self, tmp_path: Path) -> None:
        body = BODY + LINES[3] + b"\n" + LINES[3] + b"\n"
        prepared = turn(tmp_path, body, deduplicate=True)
        assert sorted(found["time"] for found in properties(prepared)) == list(range(20))

    def test_events_without_insert_id_are_none(self, tmp_path: Path) -> None:
        body = b'{"event":"E","properties":{"time":1}}\n' * 3
        assert turn(tmp_path, body, deduplicate=True).events == 3

    def test_a_malformed_line_fails_the_window(self, tmp_path: Path) -> None:
        with pytest.raises(MalformedLineError, match="line 21 is no event"):
            turn(tmp_path, BODY + b"x\n", deduplicate=True)


class TestDisk:
    @pytest.mark.skipif(not FULL.exists(), reason="this system has no disk that is always full")
    def test_full(self, tmp_path: Path) -> None:
        with pytest.raises(SpoolError, match=r"spool_dir: /dev can't be written \(No space left"):
            prepare(
                download(tmp_path, BODY),
                FULL,
                reader=EventReader(ZoneInfo("UTC")),
                encode=fast_encoder("events", EXTRACTED),
            )

    def test_a_folder_that_went_away(self, tmp_path: Path) -> None:
        with pytest.raises(SpoolError, match="can't be written"):
            prepare(
                download(tmp_path, BODY),
                tmp_path / "missing" / "window.messages",
                reader=EventReader(ZoneInfo("UTC")),
                encode=fast_encoder("events", EXTRACTED),
            )

    @pytest.mark.usefixtures("pieces")
    def test_little_is_held_at_once(self, tmp_path: Path) -> None:
        sizes: list[int] = []

        def encode(records: list[EventRecord]) -> bytes:
            sizes.append(len(records))
            return b""

        assert turn(tmp_path, BODY, encode=encode).events == 20
        assert max(sizes) == 1
