"""Singer messages on standard output, and a stream's lines and states among them."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.singerlib.encoding.simple import StateMessage

from tap_mixpanel_parallel.exceptions import OutputError, ReaderGoneError, TerminatedError
from tap_mixpanel_parallel.messages import MessageWriter, StreamSink
from tap_mixpanel_parallel.plan.bookmark import to_bookmark
from tap_mixpanel_parallel.plan.state import ExportState
from tap_mixpanel_parallel.plan.windows import Window
from tests.support.pipe import Pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux sizes a pipe")

SIGTERM = int(signal.SIGTERM)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that is standard output."""
    with Pipe() as pipe:
        yield pipe


@pytest.fixture
def writer(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> Iterator[MessageWriter]:
    """A writer that has begun to write into the pipe."""
    writer = MessageWriter()
    with os.fdopen(os.dup(pipe.writer), "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        writer.write_lines(b"")
        yield writer


class TestMessages:
    STATE = StateMessage(value={"bookmarks": {"events": {"name": "東京"}}})

    def test_standard_output_without_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        writer = MessageWriter()
        writer.write_message(self.STATE)
        writer.write_lines(b'{"type":"RECORD"}\n')
        assert writer.write_some_lines(b'left\n{"type":"BATCH"}\n', len(b"left\n")) == 22
        writer.check()
        writer.write_last(self.STATE)
        state, record, batch = out.getvalue().splitlines()
        assert json.loads(state) == {"type": "STATE", "value": self.STATE.value}
        assert json.loads(record) == {"type": "RECORD"}
        assert json.loads(batch) == {"type": "BATCH"}

    def test_no_standard_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", None)
        with pytest.raises(OutputError, match="standard output is closed"):
            MessageWriter().write_message(self.STATE)

    @pytest.mark.parametrize("begun", [True, False])
    def test_into_a_pipe(self, pipe: Pipe, monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
        writer = MessageWriter()
        with os.fdopen(os.dup(pipe.writer), "w") as out:
            monkeypatch.setattr(sys, "stdout", out)
            if begun:
                writer.write_message(self.STATE)
                assert json.loads(pipe.read())["value"] == self.STATE.value
            writer.stop(SIGTERM)
            assert writer.stop_signal == SIGTERM
            for write in (writer.write_lines, writer.write_some_lines):
                with pytest.raises(TerminatedError):
                    write(b"x\n")
            with pytest.raises(TerminatedError):
                writer.check()
            writer.write_last(self.STATE)
            assert pipe.read() == writer.line(self.STATE)

    def test_some_lines_into_a_pipe(self, pipe: Pipe, writer: MessageWriter) -> None:
        lines = b"%b\n" % (b"x" * 999) * 100
        assert writer.write_some_lines(lines, 3000) == 19_000
        assert pipe.read() == lines[3000:19_000]

    def test_check_before_anything_is_written(self) -> None:
        MessageWriter().check()


class TestStreamSink:
    STATE = ExportState(loaded=(Window(date(2025, 1, 1), date(2025, 1, 3)),))

    @pytest.fixture
    def kept(self) -> dict[str, Any]:
        """The tap's state."""
        return {"bookmarks": {"others": {"x": 1}}, "y": 2}

    @pytest.fixture
    def sink(self, writer: MessageWriter, kept: dict[str, Any]) -> StreamSink:
        return StreamSink(writer, kept, "events")

    @property
    def whole(self) -> dict[str, Any]:
        """What the tap's state is with the stream's."""
        bookmarks = {"others": {"x": 1}, "events": to_bookmark(self.STATE)}
        return {"bookmarks": bookmarks, "y": 2}

    def test_a_state_is_kept_without_a_message(
        self, pipe: Pipe, sink: StreamSink, kept: dict[str, Any]
    ) -> None:
        sink.keep(self.STATE)
        assert kept == self.whole
        assert pipe.read() == b""

    def test_a_state_is_kept_where_there_was_none(self, writer: MessageWriter) -> None:
        kept: dict[str, Any] = {}
        StreamSink(writer, kept, "events").keep(self.STATE)
        assert kept == {"bookmarks": {"events": to_bookmark(self.STATE)}}

    def test_lines_and_states_leave_in_their_order(
        self, pipe: Pipe, sink: StreamSink, kept: dict[str, Any]
    ) -> None:
        sink.write(b"a\n")
        sink.write_state(self.STATE)
        assert sink.write_some(b"x\nb\n", 2) == 4
        sink.check()
        first, state, last = pipe.read().splitlines()
        assert (first, last) == (b"a", b"b")
        assert json.loads(state) == {"type": "STATE", "value": self.whole}
        assert kept == self.whole

    def test_the_last_state_leaves_though_a_signal_asks_to_stop(
        self, pipe: Pipe, writer: MessageWriter, sink: StreamSink
    ) -> None:
        sink.write_state(self.STATE)
        state = pipe.read()
        writer.stop(SIGTERM)
        for stopped in (
            sink.check,
            lambda: sink.write(b"x\n"),
            lambda: sink.write_some(b"x\n", 0),
            lambda: sink.write_state(self.STATE),
        ):
            with pytest.raises(TerminatedError):
                stopped()
        sink.write_last_state()
        assert pipe.read() == state

    def test_a_last_state_that_nobody_reads(
        self, pipe: Pipe, writer: MessageWriter, sink: StreamSink
    ) -> None:
        sink.write(b"a\n")
        os.close(pipe.reader)
        with pytest.raises(ReaderGoneError):
            sink.write(b"x\n")
        writer.stop(SIGTERM)
        sink.write_last_state()
