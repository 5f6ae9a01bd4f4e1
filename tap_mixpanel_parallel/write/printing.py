"""Standard output for reports: all that is printed reaches it, or the command fails."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from io import BufferedWriter, FileIO, TextIOWrapper
from select import select
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.exceptions import OutputError, ReaderGoneError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer


class _Output(FileIO):
    """A file whose first error is told to a person, and which takes no more after that.

    So what is still buffered does not fail once more while the interpreter shuts down.
    """

    _has_failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of the data, and say how much."""
        try:
            while not self._has_failed:
                if (size := super().write(data)) is not None:
                    return size
                select([], [self], [])  # whoever made the descriptor does not let it wait
        except BrokenPipeError:
            self._has_failed = True
            raise ReaderGoneError("the reader of the pipe is gone") from None
        except OSError as error:
            self._has_failed = True
            raise OutputError(f"standard output can't be written: {error.strerror}") from None
        return memoryview(data).nbytes


@contextmanager
def whole_output() -> Iterator[None]:
    """Have what is printed reach standard output, to its last byte.

    Characters that its encoding lacks are printed as escapes.

    Raises:
        OutputError: If it can't be written, or the process has none.
        ReaderGoneError: If nobody reads it any more.
    """
    given = sys.stdout
    if given is None:
        raise OutputError("standard output is closed; give it a reader, or a file")
    output = TextIOWrapper(
        BufferedWriter(_Output(given.fileno(), "w", closefd=False)),
        encoding=given.encoding,
        errors="backslashreplace",
        line_buffering=bool(given.line_buffering),
    )
    sys.stdout = output
    try:
        yield
    finally:
        output.flush()
        sys.stdout = given
