"""Singer messages from lines of bytes."""

from __future__ import annotations

import json
import sys
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec
from singer_sdk.io_base import GenericSingerReader

from target_duckdb_batch.errors import InputError
from target_duckdb_batch.interrupt import Interrupt
from target_duckdb_batch.records import repaired

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

_QUOTED: Final = 200  # characters of a line in an error


class _Line(msgspec.Struct):
    type: str
    stream: str | None = None
    record: msgspec.Raw = msgspec.Raw()
    version: int | None = None
    time_extracted: str | None = None


_LINE: Final = msgspec.json.Decoder(_Line)


class MessageReader(GenericSingerReader[bytes]):
    """Reads messages. The `record` of a RECORD message stays JSON text.

    Attributes:
        interrupt: Ends the reading.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interrupt = Interrupt()
        self._number = 0

    @property
    def default_input(self) -> IO[bytes]:
        """Standard input."""
        return sys.stdin.buffer

    def process_lines(
        self,
        file_input: IO[bytes] | None,
        callbacks: dict[str, Callable[[dict[str, Any]], None]],
    ) -> Counter[str]:
        """Give each message to the callback of its type.

        Raises:
            TerminatedError: If a signal asked to end.
        """
        lines = self.interrupt.lines(file_input or self.default_input)
        return super().process_lines(lines, callbacks)  # type: ignore[arg-type]

    def deserialize_json(self, line: bytes | str) -> dict[str, Any]:
        """Read a message.

        Raises:
            InputError: If the line is not one.
        """
        self._number += 1
        data = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line
        try:
            return _message(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        except RecursionError as error:
            raise self._error(data, error) from None
        try:
            return _message(repaired(data))
        except (ValueError, RecursionError) as error:
            raise self._error(data, error) from None

    def _process_unknown_message(self, message_dict: dict[str, Any]) -> None:
        raise InputError(
            f"line {self._number} of the input is not a Singer message: there is no type "
            f"{message_dict['type']!r}"
        )

    def _error(self, line: bytes, error: Exception) -> InputError:
        hint = "" if line.endswith(b"\n") else "; its end is missing: was the tap killed?"
        reason = error if line.strip() else "it is empty"
        return InputError(
            f"line {self._number} of the input is not a Singer message: {reason}{hint}: "
            f"{line[:_QUOTED].decode('utf-8', 'replace')!r}"
        )


def _message(data: bytes) -> dict[str, Any]:
    line = _LINE.decode(data)
    if line.type != "RECORD":
        message: dict[str, Any] = json.loads(data)
        return message
    message = {"type": line.type, "record": line.record} if line.record else {"type": line.type}
    optional = {
        "stream": line.stream,
        "version": line.version,
        "time_extracted": line.time_extracted,
    }
    return message | {name: value for name, value in optional.items() if value is not None}
