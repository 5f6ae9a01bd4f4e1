"""A window's body as lines: wherever it is read in pieces, cut or damaged."""

from __future__ import annotations

import gzip
import json
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.convert.body import Block, read_blocks
from tap_mixpanel_parallel.exceptions import (
    IncompleteExportError,
    MalformedLineError,
    SpoolError,
    ThreadError,
)
from tests.support.bodies import (
    BODY,
    GZIP,
    LINES,
    assert_nothing_is_left,
    conversion,
    convert,
    download,
    line,
    messages,
    properties,
)


def refuse(_: threading.Thread) -> None:
    """As Python does where the system lets no thread start."""
    raise RuntimeError("can't start new thread")


def split(body: bytes, piece: int = 1 << 18, *, compressed: bool = False) -> list[bytes]:
    """The lines of a body that is read in pieces of this size."""
    with tempfile.TemporaryDirectory() as name:
        source = download(Path(name), body, compressed=compressed)
        return [each for block in read_blocks(source, piece=piece) for each in block.lines]


class TestLines:
    @pytest.mark.parametrize(
        "separator",
        ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"],
        ids=lambda separator: f"U+{ord(separator):04X}",
    )
    def test_they_end_at_line_feeds_alone(self, separator: str) -> None:
        text = line(1, f"a{separator}b")
        assert split(text + b"\n" + text + b"\n") == [text, text]

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

    @given(st.lists(st.sampled_from(["a", "é", "🎉", "\ud83d"]), max_size=12), st.integers(1, 9))
    def test_a_block_knows_whether_it_is_utf_8(self, texts: list[str], piece: int) -> None:
        """Also where a piece ends within a character."""
        body = "\n".join(texts).encode("utf-8", "surrogatepass") + b"\n"
        with tempfile.TemporaryDirectory() as name:
            for block in read_blocks(download(Path(name), body), piece=piece):
                assert block.is_utf8 is (b"\xed\xa0\xbd" not in block.lines)

    def test_a_line_longer_than_any_event(self, tmp_path: Path) -> None:
        def blocks(body: bytes) -> list[Block]:
            return list(read_blocks(download(tmp_path, body), piece=7, longest_line=200))

        long = line(1, "x" * 120)
        assert [each for block in blocks(long + b"\n") for each in block.lines] == [long]
        with pytest.raises(IncompleteExportError, match="a line of over 200 bytes is not an event"):
            blocks(BODY + line(1, "x" * 300) + b"\n")


@pytest.mark.timeout(60)
class TestGzip:
    """What is refused becomes no part and leaves nothing."""

    @staticmethod
    def refused(folder: Path, data: bytes) -> None:
        attempt = conversion(folder, data, compressed=True)
        with pytest.raises(IncompleteExportError, match="cut or damaged"):
            list(attempt)
        with pytest.raises(ValueError, match="not converted"):
            _ = attempt.part
        assert_nothing_is_left(folder)

    def test_cut_anywhere(self, tmp_path: Path) -> None:
        for size in range(1, len(GZIP)):
            self.refused(tmp_path, GZIP[:size])

    def test_damaged_anywhere(self, tmp_path: Path) -> None:
        """A flipped bit is noticed, or of no consequence: the header holds a time, for one."""
        whole = messages(convert(tmp_path, GZIP, compressed=True))
        unnoticed = 0
        for position in range(len(GZIP)):
            for flip in (0x01, 0x80, 0xFF):
                damaged = bytearray(GZIP)
                damaged[position] ^= flip
                attempt = conversion(tmp_path, bytes(damaged), compressed=True)
                try:
                    list(attempt)
                except IncompleteExportError:
                    assert_nothing_is_left(tmp_path)
                    continue
                unnoticed += 1
                assert messages(attempt.part) == whole
                attempt.part.discard()
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
        self.refused(tmp_path, data)

    @pytest.mark.parametrize(
        ("data", "events"),
        [(GZIP + GZIP, 40), (gzip.compress(b"") + GZIP, 20), (gzip.compress(b""), 0)],
        ids=["two members", "an empty one first", "nothing"],
    )
    def test_members(self, tmp_path: Path, data: bytes, events: int) -> None:
        assert convert(tmp_path, data, compressed=True).events == events

    def test_a_line_across_members(self, tmp_path: Path) -> None:
        data = gzip.compress(BODY[:100]) + gzip.compress(BODY[100:])
        assert convert(tmp_path, data, compressed=True).events == 20

    def test_gzip_that_nobody_announced(self, tmp_path: Path) -> None:
        with pytest.raises(MalformedLineError):
            convert(tmp_path, GZIP)


class TestAhead:
    """Pieces are decompressed ahead by a thread, which ends with the reading."""

    PIECE = 1000

    def test_all_of_it_arrives_in_order(self, tmp_path: Path) -> None:
        lines = [line(n, f"text {n}") for n in range(2000)]
        part = convert(
            tmp_path, gzip.compress(b"\n".join(lines)), compressed=True, piece=self.PIECE
        )
        assert [found["time"] for found in properties(part)] == list(range(2000))
        part.discard()
        assert_nothing_is_left(tmp_path)

    @pytest.mark.parametrize("bad", ["first", "last", "cut"])
    def test_what_is_wrong_ends_it(self, tmp_path: Path, bad: str) -> None:
        body = BODY * 100
        body = {"first": b"bad\n" + body, "last": body + b"bad\n", "cut": body}[bad]
        compressed = gzip.compress(body)
        expected = IncompleteExportError if bad == "cut" else MalformedLineError
        with pytest.raises(expected):
            convert(
                tmp_path,
                compressed[: -9 if bad == "cut" else None],
                compressed=True,
                piece=self.PIECE,
            )
        assert_nothing_is_left(tmp_path)

    @pytest.mark.parametrize("piece", [700, 3000])
    def test_what_comes_before_damage_is_read_first(self, tmp_path: Path, piece: int) -> None:
        """It may tell why: Mixpanel writes an error into the export, and ends."""
        body = BODY + b'{"error":"query timed out"}\n' + BODY * 10
        with pytest.raises(IncompleteExportError, match=r"ended the export with an error.*timed"):
            convert(tmp_path, gzip.compress(body)[:-9], compressed=True, piece=piece)

    @given(st.integers(500, 5000), st.integers(1, 8))
    def test_what_comes_before_damage_is_read_once(self, piece: int, missing: int) -> None:
        lines = [line(n) for n in range(600)]
        body = gzip.compress(b"\n".join(lines) + b"\n", mtime=0)[:-missing]
        found: list[bytes] = []
        with tempfile.TemporaryDirectory() as name:
            blocks = read_blocks(download(Path(name), body, compressed=True), piece=piece)
            with suppress(IncompleteExportError):
                for block in blocks:
                    found += block.lines
        assert len(found) > 100
        assert found == lines[: len(found)]

    @pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
    def test_no_further_thread_can_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ThreadError, match="can't start new thread; lower workers, or raise"):
            convert(tmp_path, GZIP, compressed=True)

    def test_whoever_stops_in_the_midst_leaves_no_thread(self, tmp_path: Path) -> None:
        source = download(tmp_path, gzip.compress(BODY * 1000), compressed=True)
        blocks = read_blocks(source, piece=self.PIECE)
        next(blocks)
        blocks.close()
        assert_nothing_is_left(tmp_path)


def test_a_body_that_went_away(tmp_path: Path) -> None:
    source = download(tmp_path, BODY)
    source.path.unlink()
    with pytest.raises(SpoolError, match="No such file"):
        list(read_blocks(source))


def test_the_lines_are_those_of_json(tmp_path: Path) -> None:
    assert [json.loads(each)["properties"]["time"] for each in split(BODY)] == list(range(20))
    assert split(BODY) == LINES
