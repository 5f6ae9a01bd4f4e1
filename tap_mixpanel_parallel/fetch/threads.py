"""Threads for requests, as an executor, and for whatever else may take long."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future, wait
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_UP_SECONDS: Final = 0.5
"""How often a run that waits looks up: a signal may ask it to stop."""

_Result = TypeVar("_Result")


class DaemonThreads(Executor):
    """Runs each call in a daemon thread of its own.

    The standard library's pool waits for its threads as the process ends. A request may wait
    for its first byte for minutes, and must not keep a process that is to stop.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a call.

        Raises:
            RuntimeError: If the machine lets no further thread start.
        """
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()

        def call() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=call, daemon=True).start()
        return future


def run_in_thread(call: Callable[[], _Result], meanwhile: Callable[[], object]) -> _Result:
    """What a call returns that may take long.

    Args:
        call: Made by a thread, which is left behind if `meanwhile` raises.
        meanwhile: Called again and again until then.
    """
    done: Future[_Result] = DaemonThreads().submit(call)
    while not wait([done], LOOK_UP_SECONDS).done:
        meanwhile()
    return done.result()
