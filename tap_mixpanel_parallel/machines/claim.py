"""The right to make an attempt, which exists once.

Dask runs the tasks of a dead worker again by itself. Such a rerun must not reach Mixpanel, since
no limit has counted it. So the run puts a token into a queue of the scheduler's for each attempt,
and a task takes it before its request. Whoever finds none does nothing. A second token lets the
task store its files. The run takes it away from an attempt that it has given up.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from distributed import Queue, get_client

from tap_mixpanel_parallel.exceptions import AttemptError, TapError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

SECONDS: Final = 20.0
"""How long a scheduler may take for an answer."""

_FETCH: Final = "fetch"
_STORE: Final = "store"


_LOST: Final = "the worker that fetched the window is lost: it has died, or was stopped"


class LostError(AttemptError):
    """The worker that fetched a window is lost, or has lost the scheduler."""

    read_on = "docs/failures.md#cluster"

    def __init__(self, message: str = _LOST) -> None:
        super().__init__(message)


@contextmanager
def answered(who: str) -> Iterator[None]:
    """Have a scheduler that does not answer a task mean that the attempt has failed.

    Args:
        who: The worker.

    Raises:
        LostError: Instead of any error of Dask's.
    """
    try:
        yield
    except TapError:
        raise
    except Exception as error:  # noqa: BLE001 - Dask raises anything
        raise LostError(
            f"{who}: the scheduler does not answer it ({type(error).__name__})"
        ) from None


class Claim:
    """The tokens of one attempt, at the scheduler."""

    def __init__(self, name: str, client: Any = None) -> None:
        """Use the queue of this name.

        Args:
            name: The attempt's own name.
            client: The run's; None if a worker asks.
        """
        self._client = client or get_client()
        self._queue = self._sync(self._open, name)

    def give(self) -> None:
        """Let the attempt be made."""
        self._sync(self._queue.put, _FETCH)

    def take(self) -> None:
        """Begin the attempt.

        Raises:
            LostError: If it was begun before: whoever began it is lost.
        """
        if _FETCH not in self._drain():
            raise LostError
        self._sync(self._queue.put, _STORE)

    def take_to_store(self) -> None:
        """Begin to store its files.

        Raises:
            LostError: If the run has given it up.
        """
        if _STORE not in self._drain():
            raise LostError

    def withdraw(self) -> None:
        """Let nobody begin anything any more."""
        with suppress(Exception):  # without a scheduler nobody can
            self._drain()

    def close(self) -> None:
        """Forget the queue, once both ends have."""
        with suppress(Exception):
            self._queue.close()

    def _drain(self) -> list[str]:
        found: list[str] = self._sync(self._take_all)
        return found

    async def _open(self, name: str) -> Any:
        queue = Queue(name, client=self._client)
        await queue._started  # noqa: SLF001 - to await the queue itself opens it once more
        return queue

    async def _take_all(self) -> Any:
        return await self._queue.get(batch=True)

    def _sync(self, call: Callable[..., Awaitable[Any]], *arguments: str) -> Any:
        return self._client.sync(call, *arguments, callback_timeout=SECONDS)
