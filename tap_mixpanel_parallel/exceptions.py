"""Everything that can go wrong, as a small hierarchy.

`AttemptError` is worth another try, except `LastAttemptError`; no other error is. The text of each
is what a person reads, in one line: it says what happened and what to do, and never holds a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from tap_mixpanel_parallel.wording import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tap_mixpanel_parallel.report.results import ParallelFetchResult

_QUOTED: Final = 200
"""Characters of a line; each takes four bytes at most."""


class TapError(Exception):
    """Base of all errors of this tap.

    Attributes:
        read_on: The part of the documents that says more.
    """

    read_on = "docs/failures.md#settings-and-files"

    def __init__(self, message: str) -> None:
        """Keep the message; what it quotes from outside is escaped."""
        super().__init__(printable(message))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message, and not the arguments that it was made of."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[TapError], args: tuple[str, ...], values: dict[str, Any]) -> TapError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(values)
    return error


class SettingsError(TapError):
    """One or more settings are not valid.

    Attributes:
        problems: What is wrong with each, in words that name the setting.
    """

    read_on = "docs/failures.md#settings-and-files"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class StateError(TapError):
    """The state has another shape, is not valid, or belongs to other settings."""

    read_on = "docs/failures.md#state-of-another-kind"


class RefusedError(TapError):
    """Mixpanel refuses the request, and would refuse every other one too."""

    read_on = "docs/failures.md#refused"


class ClockError(RefusedError):
    """Mixpanel's clock and this machine's are on different days."""

    read_on = "docs/failures.md#clock"


class AttemptError(TapError):
    """One attempt at one window failed; another may succeed."""


class TransportError(AttemptError):
    """No answer, a server error, or a connection that broke on the way."""

    read_on = "docs/failures.md#connection"


class OverdueError(TransportError):
    """The answer had not come whole when its time was up."""

    read_on = "docs/failures.md#size-and-time"


class SpoolError(AttemptError):
    """Windows can't be kept on disk: it is full, or the folder can't be written.

    Emitting other windows frees space, so another attempt may succeed.

    Attributes:
        is_full: Whether the disk is full.
    """

    read_on = "docs/failures.md#disk-space"

    def __init__(self, message: str, *, is_full: bool = False) -> None:
        super().__init__(message)
        self.is_full = is_full


class RateLimitError(AttemptError):
    """Mixpanel answered 429.

    Attributes:
        retry_after: Seconds to wait as Mixpanel says, or None if it does not say.
        span: The limit that is reached: that of an `hour`, or of a `moment` (requests in a
            second, or at once); None if Mixpanel says no more than how short the wait is.
    """

    read_on = "docs/failures.md#rate-limit"

    def __init__(
        self,
        message: str,
        retry_after: float | None = None,
        span: Literal["hour", "moment"] | None = "hour",
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.span = span


class HourlyLimitError(TapError):
    """The hourly limit is reached, and the run does not wait, or has waited in vain.

    Attributes:
        reason: Why no request can start, and when one may.
    """

    read_on = "docs/failures.md#rate-limit"

    def __init__(self, reason: str, advice: str) -> None:
        """Say why, and what to do."""
        super().__init__(f"{reason}. {advice}")
        self.reason = reason


class LastAttemptError(AttemptError):
    """One attempt at one window failed, and in this run another would fail as well."""


class OversizeError(LastAttemptError):
    """The answer is larger than any window, or than the disk."""

    read_on = "docs/failures.md#size-and-time"


class LaterThanTodayError(LastAttemptError):
    """Mixpanel says that the window ends after today: clocks or time zones differ."""

    read_on = "docs/failures.md#clock"


class IncompleteExportError(AttemptError):
    """The answer ended before the export did: cut, damaged, or aborted by Mixpanel."""

    read_on = "docs/failures.md#incomplete-export"


class AnotherBodyError(IncompleteExportError):
    """The answer is what was meant for another request."""

    read_on = "docs/failures.md#another-windows-body"


class MalformedLineError(IncompleteExportError):
    """A line of the export is not an event.

    Attributes:
        line_number: The line's number in the window's export, from 1.
    """

    read_on = "docs/failures.md#malformed-lines"

    def __init__(self, line_number: int, line: bytes, reason: str) -> None:
        """Say which line it is, and quote its beginning."""
        super().__init__(f"line {line_number} is not an event ({reason}): {quote_line(line)}")
        self.line_number = line_number


def drop_frames(error: Exception) -> None:
    """Have an error that is kept for later forget the frames it came through.

    They hold what was being worked on: some megabytes of a window.
    """
    error.__traceback__ = error.__context__ = None


def quote_line(line: bytes) -> str:
    """The first 200 characters of a line, for a person."""
    return line[: 4 * _QUOTED].decode("utf-8", "backslashreplace")[:_QUOTED]


class UnknownError(TapError):
    """Something went wrong that this tap does not know."""

    read_on = "docs/failures.md#unknown-errors"

    def __init__(self, where: str, error: BaseException) -> None:
        said = " ".join(str(error).split())
        super().__init__(
            f"{where}: an error that this tap does not know ends the run; please report it: "
            f"{type(error).__name__}: {said}"
        )


class ThreadError(TapError):
    """The machine lets no further thread start."""

    read_on = "docs/failures.md#machine-limits"

    def __init__(self, error: RuntimeError) -> None:
        super().__init__(
            f"{error}; lower workers, or raise the limit of processes "
            "(ulimit -u; in a container, its limit of pids)"
        )


class MemoryShortError(AttemptError):
    """The machine gives no more memory; as other windows leave, there may be enough."""

    read_on = "docs/failures.md#machine-limits"

    def __init__(self) -> None:
        super().__init__(
            "there is not enough memory to convert the window; raise the limit of memory "
            "(ulimit -v), or lower workers and processes"
        )


class ExportFailedError(TapError):
    """The run is over and some windows, or all, are not loaded.

    Attributes:
        result: What was loaded and what failed.
    """

    read_on = "docs/failures.md#failed-windows"

    def __init__(self, message: str, result: ParallelFetchResult) -> None:
        super().__init__(message)
        self.result = result


class OutputError(TapError):
    """Messages can't be passed on: from the disk, or to where standard output goes."""

    read_on = "docs/failures.md#output"


class ReaderGoneError(TapError):
    """Whoever read the messages has closed the pipe."""

    read_on = "docs/failures.md#output"


class TerminatedError(TapError):
    """The process was asked to stop.

    Attributes:
        signum: The signal's number.
    """

    read_on = "docs/failures.md#stopped"

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
