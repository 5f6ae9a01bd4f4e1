"""A window's body in, a part out: all of the window or an error."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import tempfile
import tracemalloc
from datetime import date
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mixpanel_parallel.convert import conversion as conversion_module
from tap_mixpanel_parallel.convert.body import PIECE
from tap_mixpanel_parallel.convert.files import Messages
from tap_mixpanel_parallel.exceptions import (
    IncompleteExportError,
    MalformedLineError,
    MemoryShortError,
    SpoolError,
    TerminatedError,
    quote_line,
)
from tap_mixpanel_parallel.fetch import spool as spool_module
from tap_mixpanel_parallel.plan.windows import Window
from tap_mixpanel_parallel.wording import printable
from tests.support.bodies import (
    BODY,
    DAY,
    GZIP,
    LINES,
    assert_nothing_is_left,
    conversion,
    convert,
    files_of_at_most,
    line,
    messages,
    properties,
)
from tests.support.strategies import FRAGMENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tap_mixpanel_parallel.convert.conversion import Conversion
    from tap_mixpanel_parallel.convert.records import EventRecord

LONE = re.compile("[\ud800-\udfff]")


class TestPart:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_all_lines(self, tmp_path: Path, compressed: bool) -> None:
        part = convert(tmp_path, GZIP if compressed else BODY, compressed=compressed)
        assert (part.window, part.events, part.malformed, part.strays) == (DAY, 20, None, 0)
        assert [found["time"] for found in properties(part)] == list(range(20))

    @pytest.mark.parametrize("body", [b"", b"\n", b"\n\n \n\t\r\n", b" "])
    def test_no_events(self, tmp_path: Path, body: bytes) -> None:
        assert convert(tmp_path, body).events == 0
        assert convert(tmp_path, gzip.compress(body), compressed=True).events == 0

    @pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
    def test_the_last_line_end_may_be_missing(self, tmp_path: Path, end: bytes) -> None:
        assert convert(tmp_path, BODY[:-1] + end).events == 20

    def test_blank_lines_count_for_the_line_number(self, tmp_path: Path) -> None:
        with pytest.raises(MalformedLineError) as caught:
            convert(tmp_path, b"\n" + LINES[0] + b"\n\r\nx\n" + BODY)
        assert caught.value.line_number == 4

    @pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
    def test_other_separators_stay(self, tmp_path: Path, separator: str) -> None:
        [found] = properties(convert(tmp_path, line(1, f"a{separator}b") + b"\n"))
        assert found["text"] == f"a{separator}b"

    def test_windows_line_ends(self, tmp_path: Path) -> None:
        assert convert(tmp_path, BODY.replace(b"\n", b"\r\n")).events == 20

    def test_strays_are_counted(self, tmp_path: Path) -> None:
        day_after = line(86_400_000) + b"\n"
        assert convert(tmp_path, BODY + day_after).strays == 1
        assert convert(tmp_path, BODY + day_after * 2, deduplicate=True).strays == 2

    @pytest.mark.parametrize("deduplicate", [False, True])
    def test_the_body_of_another_window(self, tmp_path: Path, deduplicate: bool) -> None:
        other = Window(date(2025, 1, 1), date(2025, 1, 1))
        with pytest.raises(IncompleteExportError, match="belongs to another request: none of its"):
            convert(tmp_path, BODY * 2, window=other, deduplicate=deduplicate)
        assert_nothing_is_left(tmp_path)

    def test_discarded(self, tmp_path: Path) -> None:
        convert(tmp_path, b"x\n" + BODY, tolerate_malformed=True).discard()
        convert(tmp_path, BODY).discard()
        assert_nothing_is_left(tmp_path)


class TestAbandoned:
    """Whoever stops in the midst gets no part, and finds nothing left."""

    FORMS = pytest.mark.parametrize(
        "options",
        [{}, {"deduplicate": True}, {"tolerate_malformed": True}],
        ids=lambda options: next(iter(options), "plain"),
    )

    @staticmethod
    def begun(folder: Path, body: bytes, options: dict[str, bool]) -> Conversion:
        return conversion(folder, gzip.compress(body), compressed=True, piece=1000, **options)

    @FORMS
    def test_at_every_step(self, tmp_path: Path, options: dict[str, bool]) -> None:
        body = b"x\n" * ("tolerate_malformed" in options) + BODY * 4
        steps = len(list(self.begun(tmp_path, body, options)))
        assert steps > 5
        for step in range(steps + 1):
            begun = self.begun(tmp_path, body, options)
            work = iter(begun)
            for _ in range(step):
                next(work)
            work.close()
            with pytest.raises(ValueError, match=f"{DAY} is not converted yet"):
                _ = begun.part
            if step:  # before the first step, nothing is begun
                assert_nothing_is_left(tmp_path)

    @FORMS
    def test_by_an_error_of_whoever_drives_it(
        self, tmp_path: Path, options: dict[str, bool]
    ) -> None:
        def drive() -> None:
            for step, _ in enumerate(self.begun(tmp_path, BODY * 1000, options)):
                if step == 5:
                    raise TerminatedError(15)

        with pytest.raises(TerminatedError):
            drive()
        assert_nothing_is_left(tmp_path)

    @pytest.mark.parametrize(
        ("error", "becomes"),
        [(KeyboardInterrupt, KeyboardInterrupt), (pa.ArrowMemoryError, MemoryShortError)],
    )
    def test_by_an_error_of_the_encoder(
        self, tmp_path: Path, error: type[BaseException], becomes: type[BaseException]
    ) -> None:
        def encode(_: list[EventRecord]) -> bytes:
            raise error

        with pytest.raises(becomes):
            convert(tmp_path, GZIP, compressed=True, form=Messages(encode))
        assert_nothing_is_left(tmp_path)


class TestSurrogates:
    @given(FRAGMENTS)
    def test_only_lone_ones_are_changed(self, text: str) -> None:
        original = line(1, text)
        expected = json.loads(original.decode("utf-8", "surrogatepass"))["properties"]["text"]
        with tempfile.TemporaryDirectory() as name:
            part = convert(Path(name), LINES[0] + b"\n" + original + b"\n")
            message = part.path.read_bytes().split(b"\n")[1]
        found = json.loads(message)["record"]["properties"]["text"]
        assert found == LONE.sub("\ufffd", expected)
        if LONE.search(expected) is None:
            assert text.encode() in message

    def test_in_every_place(self, tmp_path: Path) -> None:
        body = (
            rb'{"event":"\ud83d","properties":{"time":1,"distinct_id":"\ud83d",'
            rb'"$insert_id":"\ud83d","\ud83d":["\ud83d"]}}'
        )
        [message] = messages(convert(tmp_path, body + b"\n"))
        record = message["record"]
        ids = [record[name] for name in ("event", "distinct_id", "insert_id")]
        assert ids == ["\ufffd"] * 3
        assert record["properties"]["\ufffd"] == ["\ufffd"]


KINDS: dict[str, Callable[[int], bytes]] = {
    "event": lambda n: line(n, "é"),
    "lone surrogate": lambda n: line(n, "\\ud83d"),
    "encoded surrogate": lambda n: line(n, "\ud83d"),
    "blank": lambda _: b" \t",
    "not UTF-8": lambda n: line(n, "x") + b"\xff",
    "no event": lambda n: b'{"event":"E","properties":{"n":%d}}' % n,
    "no JSON": lambda n: line(n)[:-3],
}
MALFORMED = {"not UTF-8", "no event", "no JSON"}


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
    @pytest.mark.parametrize("piece", [PIECE, 200])
    def test_it_fails_the_window(
        self, tmp_path: Path, odd: bytes, position: int, piece: int
    ) -> None:
        body = b"\n".join([*LINES[:position], odd, *LINES[position:]]) + b"\n"
        with pytest.raises(MalformedLineError) as caught:
            convert(tmp_path, body, piece=piece)
        assert caught.value.line_number == position + 1
        assert str(caught.value).endswith(printable(quote_line(odd)))

    @pytest.mark.parametrize("odd", [b"x", line(1, "caf\\u00e9").replace(b"\\u00e9", b"\xe9")])
    def test_tolerated(self, tmp_path: Path, odd: bytes) -> None:
        body = b"\n".join([b"y", *LINES[:10], odd, *LINES[10:]]) + b"\n"
        part = convert(tmp_path, body, tolerate_malformed=True)
        assert part.events == 20
        assert part.malformed
        assert part.malformed.first.line_number == 1
        assert part.malformed.path.read_bytes() == b"y\n" + odd + b"\n"
        assert [found["time"] for found in properties(part)] == list(range(20))

    @given(st.lists(st.sampled_from([*KINDS]), max_size=12), st.integers(20, 300))
    def test_each_line_is_an_event_or_kept_or_blank(self, kinds: list[str], piece: int) -> None:
        """Whatever is next to it, wherever a piece ends."""
        kinds.append("event")
        lines = [KINDS[kind](n) for n, kind in enumerate(kinds)]
        kept = [each for each, kind in zip(lines, kinds, strict=True) if kind in MALFORMED]
        times = [n for n, kind in enumerate(kinds) if kind not in {*MALFORMED, "blank"}]
        with tempfile.TemporaryDirectory() as name:
            part = convert(
                Path(name), b"\n".join(lines) + b"\n", piece=piece, tolerate_malformed=True
            )
            assert [found["time"] for found in properties(part)] == times
            assert part.events == len(times)
            assert (part.malformed is not None) is bool(kept)
            if part.malformed is not None:
                assert part.malformed.path.read_bytes() == b"".join(each + b"\n" for each in kept)
                assert part.malformed.first.line_number == lines.index(kept[0]) + 1

    @pytest.mark.parametrize("end", [b"", b"\n", b"\n\n \n"])
    @pytest.mark.parametrize("last", [b"x", line(1)[:-20], b"</html>", b'{"errors":["x"]}'])
    def test_the_last_line_is_never_tolerated(
        self, tmp_path: Path, last: bytes, end: bytes
    ) -> None:
        """With it, the export may have ended early."""
        with pytest.raises(MalformedLineError, match="line 22 is no"):
            convert(tmp_path, b"y\n" + BODY + last + end, tolerate_malformed=True)

    def test_lines_that_are_not_utf_8_leave_their_neighbours_alone(self, tmp_path: Path) -> None:
        body = LINES[0] + b"\n" + line(1, "x") + b"\xff\n" + line(2, "\ud83d") + b"\n"
        part = convert(tmp_path, body, tolerate_malformed=True)
        assert [found["text"] for found in properties(part)] == ["text 0 é🎉", "\ufffd"]
        assert part.malformed
        assert part.malformed.count == 1
        assert "not UTF-8" in str(part.malformed.first)

    @pytest.mark.parametrize("tolerant", [False, True])
    @pytest.mark.parametrize("size", [1, 5, len(LINES[-1]) // 2, len(LINES[-1]) - 1])
    def test_a_half_line_at_the_end(self, tmp_path: Path, tolerant: bool, size: int) -> None:
        body = BODY[: -len(LINES[-1]) - 1] + LINES[-1][:size]
        with pytest.raises(MalformedLineError):
            convert(tmp_path, body, tolerate_malformed=tolerant)

    @pytest.mark.parametrize("tolerant", [False, True])
    @pytest.mark.parametrize("end", [b"terminated early", b"terminated early\n", b'{"error":1}\n'])
    def test_an_aborted_export(self, tmp_path: Path, tolerant: bool, end: bytes) -> None:
        for body in (end, BODY + end):
            with pytest.raises(IncompleteExportError, match="Mixpanel ended the export"):
                convert(tmp_path, body, tolerate_malformed=tolerant)

    @pytest.mark.parametrize("body", [b"x\n", b"x\ny\n\n", b"<html>\n</html>\n"])
    def test_nothing_but_malformed_lines(self, tmp_path: Path, body: bytes) -> None:
        with pytest.raises(MalformedLineError, match=r"line \d is no"):
            convert(tmp_path, body, tolerate_malformed=True)

    def test_they_are_the_same_in_any_order(self, tmp_path: Path) -> None:
        found = [
            convert(tmp_path, bad + BODY, tolerate_malformed=True).malformed
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
            part = convert(tmp_path, bad + BODY, tolerate_malformed=True, deduplicate=deduplicate)
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert part.malformed
        assert (part.events, part.malformed.count) == (20, 20_000)
        assert part.malformed.path.read_bytes() == bad
        assert part.malformed.first.__traceback__ is None
        assert part.malformed.first.__context__ is None
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
        part = convert(tmp_path, body, deduplicate=True, tolerate_malformed=tolerant)
        assert (part.events, part.duplicates) == (4, 3)
        assert [found["note"] for found in properties(part)] == [
            "late",
            "only",
            "known",
            "second",
        ]
        kept = convert(tmp_path, body)
        assert (kept.events, kept.duplicates) == (7, 3)

    def test_across_pieces(self, tmp_path: Path) -> None:
        body = BODY + LINES[3] + b"\n" + LINES[3] + b"\n"
        part = convert(tmp_path, body, deduplicate=True, piece=7)
        assert sorted(found["time"] for found in properties(part)) == list(range(20))

    def test_events_without_insert_id_are_none(self, tmp_path: Path) -> None:
        body = b'{"event":"E","properties":{"time":1}}\n' * 3
        assert convert(tmp_path, body, deduplicate=True).events == 3

    def test_a_malformed_line_fails_the_window(self, tmp_path: Path) -> None:
        with pytest.raises(MalformedLineError, match="line 21 is no"):
            convert(tmp_path, BODY + b"x\n", deduplicate=True)

    def test_the_body_is_read_twice_alike(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Or it is refused: a line more or less has others left out."""
        find, body = conversion_module.find_replaced, BODY + LINES[3] + b"\n"

        def find_and_change(read: Any) -> Any:
            replaced = yield from find(read)
            (tmp_path / "window.body").write_bytes(body + LINES[4] + b"\n")
            return replaced

        monkeypatch.setattr(conversion_module, "find_replaced", find_and_change)
        with pytest.raises(IncompleteExportError, match="could not be read twice alike"):
            convert(tmp_path, body, deduplicate=True)
        assert_nothing_is_left(tmp_path)


class TestDisk:
    @pytest.mark.parametrize(
        "body", [b"x\n" + BODY, b"x" * 3_000 + b"\n" + LINES[0] + b"\n"], ids=["lines", "malformed"]
    )
    def test_full(self, tmp_path: Path, body: bytes) -> None:
        attempt = conversion(tmp_path, body, tolerate_malformed=True)
        with (
            files_of_at_most(2_000),
            pytest.raises(SpoolError, match=r"spool_dir: .* can't be written \(File too large"),
        ):
            list(attempt)
        assert_nothing_is_left(tmp_path)

    @pytest.mark.parametrize("name", ["window.lines", "window.malformed"])
    def test_something_of_its_name(self, tmp_path: Path, name: str) -> None:
        attempt = conversion(tmp_path, b"x\n" + BODY, tolerate_malformed=True)
        (tmp_path / "precious").write_text("kept")
        (tmp_path / name).symlink_to("precious")
        with pytest.raises(SpoolError, match=r"can't be written \(File exists"):
            list(attempt)
        assert (tmp_path / "precious").read_text() == "kept"

    def test_full_as_the_file_is_closed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some file systems of a network tell only then."""

        class Late(FileIO):
            def close(self) -> None:
                was_open = not self.closed
                super().close()
                if was_open:
                    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        monkeypatch.setattr(spool_module, "FileIO", Late)
        with pytest.raises(SpoolError, match="free some space there"):
            convert(tmp_path, BODY)
        assert_nothing_is_left(tmp_path)

    def test_a_disk_that_takes_little_at_a_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Reluctant(FileIO):
            def write(self, data: Any) -> int:
                return super().write(memoryview(data)[:100])

        whole = convert(tmp_path, BODY).path.read_bytes()
        monkeypatch.setattr(spool_module, "FileIO", Reluctant)
        assert convert(tmp_path, BODY).path.read_bytes() == whole

    @pytest.mark.parametrize("deduplicate", [False, True])
    def test_a_folder_that_went_away(self, tmp_path: Path, deduplicate: bool) -> None:
        folder = tmp_path / "spool"
        folder.mkdir()
        attempt = conversion(folder, BODY, deduplicate=deduplicate)
        folder.rename(tmp_path / "moved")
        with pytest.raises(SpoolError, match="can't be written"):
            list(attempt)

    def test_a_folder_that_is_none(self, tmp_path: Path) -> None:
        folder = tmp_path / "spool"
        folder.mkdir()
        attempt = conversion(folder, BODY)
        folder.rename(tmp_path / "moved")
        folder.touch()
        with pytest.raises(SpoolError, match="can't be written"):
            list(attempt)

    def test_little_is_held_at_once(self, tmp_path: Path) -> None:
        sizes: list[int] = []

        def encode(records: list[EventRecord]) -> bytes:
            sizes.append(len(records))
            return b""

        assert convert(tmp_path, BODY, form=Messages(encode), piece=7).events == 20
        assert max(sizes) == 1
