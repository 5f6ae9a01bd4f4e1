"""Singer messages on standard output, by the SDK's own writer or as lines that are messages."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from singer_sdk.helpers._batch import BaseBatchFileEncoding, SDKBatchMessage
from singer_sdk.singerlib.encoding import SimpleSingerWriter
from singer_sdk.singerlib.encoding.simple import StateMessage

from tap_mixpanel_parallel.exceptions import OutputError, ReaderGoneError
from tap_mixpanel_parallel.plan.bookmark import read_state, to_bookmark
from tap_mixpanel_parallel.write.stdout import LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from singer_sdk.helpers.types import TapState
    from singer_sdk.singerlib.encoding.simple import Message

    from tap_mixpanel_parallel.fetch.rate_limit import RateLimit
    from tap_mixpanel_parallel.plan.state import ExportState
    from tap_mixpanel_parallel.settings.batch import BatchConfig


class MessageWriter(SimpleSingerWriter):
    """Writes Singer messages to standard output, singly or as lines.

    Attributes:
        stop_signal: The signal that asked to stop; None if none did.
    """

    def __init__(self) -> None:
        """Write to whatever standard output is by the first message."""
        super().__init__()
        self._writer: LineWriter | None = None
        self.stop_signal: int | None = None

    def line(self, message: Message) -> bytes:
        """A message as a line."""
        return f"{self.format_message(message)}\n".encode()

    def announcer(self, stream: str, config: BatchConfig) -> Callable[[Sequence[str]], bytes]:
        """Makes the BATCH message of a stream's files, as a line."""
        encoding = BaseBatchFileEncoding(config.format, config.compression)
        return lambda urls: self.line(SDKBatchMessage(stream, encoding, list(urls)))

    def write_message(self, message: Message) -> None:
        """Write one message."""
        self.write_lines(self.line(message))

    def write_lines(self, lines: bytes) -> None:
        """Write messages that are lines already."""
        if (writer := self._line_writer()) is not None:
            writer.write(lines)
        else:
            sys.stdout.write(lines.decode())

    def write_some_lines(self, lines: bytes, start: int = 0) -> int:
        """Write what is taken without waiting (see `LineWriter.write_some`)."""
        if (writer := self._line_writer()) is not None:
            return writer.write_some(lines, start)
        self.write_lines(lines[start:])
        return len(lines)

    def write_last(self, message: Message) -> None:
        """Write a message after a signal asked to stop (see `LineWriter.write_last`)."""
        if (writer := self._line_writer()) is not None:
            writer.write_last(self.line(message))

    def stop(self, signum: int) -> None:
        """Stop at the next line end, since this signal asks to."""
        self.stop_signal = signum
        if self._writer is not None:
            self._writer.stop_signal = signum

    def check(self) -> None:
        """Notice a signal to stop, or that nobody reads any more.

        Raises:
            TerminatedError: If a signal asks to stop.
            ReaderGoneError: If nobody reads.
        """
        if self._writer is not None:
            self._writer.check()

    def _line_writer(self) -> LineWriter | None:
        """None where standard output has no file, as inside a test runner.

        Raises:
            OutputError: If the process has no standard output.
        """
        if sys.stdout is None:
            raise OutputError("standard output is closed; give the messages a reader, or a file")
        if self._writer is None:
            try:
                self._writer = LineWriter(sys.stdout.fileno())
            except (OSError, ValueError):
                return None
            self._writer.stop_signal = self.stop_signal
        return self._writer


class StreamSink:
    """Passes one stream's lines and states on to standard output."""

    def __init__(
        self,
        writer: MessageWriter,
        state: TapState,
        stream: str,
        limit: RateLimit | None = None,
    ) -> None:
        """Write a stream's messages.

        Args:
            writer: Standard output.
            state: The tap's Singer state, which it keeps up to date.
            stream: The stream's name.
            limit: Counts the requests, which each state tells of.
        """
        self._limit = limit
        self._writer = writer
        self._state = state
        self._stream = stream
        self.write = writer.write_lines
        self.write_some = writer.write_some_lines
        self.check = writer.check

    def keep(self, state: ExportState) -> None:
        """Have the tap's state say this of the stream."""
        if self._limit is not None and state.requests is not None:
            requests = replace(state.requests, started=self._limit.minutes)
            state = replace(state, requests=requests)
        self._state.setdefault("bookmarks", {})[self._stream] = to_bookmark(state)

    def write_state(self, state: ExportState) -> None:
        """Pass on a STATE: what was written before is what it says."""
        self.keep(state)
        # Not through the SDK's state writer: it keeps a state that repeats to itself.
        self._writer.write_message(StateMessage(value=self._state))

    def write_last_state(self) -> None:
        """Pass the state on once more, though a signal asks to stop."""
        if self._limit is not None:  # requests may have started since the state was kept
            self.keep(read_state(self._state, self._stream))
        with suppress(OutputError, ReaderGoneError):  # the reader may have got the signal too
            self._writer.write_last(StateMessage(value=self._state))
