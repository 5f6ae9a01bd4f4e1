"""A request to end, between two messages."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from target_duckdb_batch.errors import TerminatedError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Interrupt:
    """Ends the input: at once while it is waited for, otherwise after the current message.

    Attributes:
        signum: The signal that asked for it; None if none did.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._is_waiting = False

    def request(self, signum: int) -> None:
        """Ask for the end; safe in a signal handler.

        Raises:
            TerminatedError: If nothing is under way.
        """
        self.signum = signum
        if self._is_waiting:
            self._is_waiting = False
            raise TerminatedError(signum)

    def lines(self, file: IO[bytes]) -> Iterator[bytes]:
        """The lines of a file.

        Raises:
            TerminatedError: If the end was asked for.
        """
        while True:
            self._is_waiting = True
            if self.signum is not None:
                self._is_waiting = False
                raise TerminatedError(self.signum)
            line = file.readline()
            self._is_waiting = False
            if not line:
                return
            yield line
