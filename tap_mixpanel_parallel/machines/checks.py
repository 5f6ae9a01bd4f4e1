"""Whether every machine of a cluster can do the work, before any of it is begun."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.fetch.threads import DaemonThreads
from tap_mixpanel_parallel.machines.sealed import PACKAGES, Sealed, short, versions_here
from tap_mixpanel_parallel.machines.task import look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_mixpanel_parallel.machines.task import Work

_LOOK_SECONDS: Final = 40.0
"""How long a worker may look at the storage."""


def problems(client: Any, work: Work, probe: str) -> Iterator[str]:
    """What is wrong with the workers, and with the scheduler, which unpacks tasks too.

    Args:
        client: The connection.
        work: What they are to do.
        probe: A file that the run has put into the root, for them to see.
    """
    here = versions_here()
    questions: dict[str, tuple[Any, ...]] = {"Python": (platform.python_version_tuple,)}
    questions |= {name: (version, name) for name in PACKAGES}
    for name, question in questions.items():
        found = client.run(*question, on_error="return")
        found["the scheduler"] = None
        with suppress(Exception):
            found["the scheduler"] = client.run_on_scheduler(*question)
        for who, answer in found.items():
            there = short(answer) if isinstance(answer, (tuple, list)) else answer
            if there != here[name]:
                has = "no" if there is None or isinstance(there, Exception) else f"{there} of"
                yield (
                    f"{who} has {has} {name}, and the run has {here[name]}; workers and scheduler "
                    f"need {wanted()}"
                )
    found = client.run(look, Sealed(work), probe, _LOOK_SECONDS, on_error="return")
    for who, answer in found.items():
        if answer:
            problem = answer if isinstance(answer, str) else f"{said(answer)}; restart it"
            yield f"worker {who}: {problem}"


def wanted() -> str:
    """The versions that all machines need, for a person."""
    return ", ".join(f"{name} {found}" for name, found in versions_here().items())


def said(error: BaseException) -> str:
    """An error that is not of the tap, in a line."""
    name, text = type(error).__name__, " ".join(str(error).split())
    return f"{name}: {text}" if text else name


def within(call: Callable[[], Any], seconds: float) -> Any:
    """What a call of Dask's returns: some wait for whoever has connected, and says nothing.

    Raises:
        TimeoutError: If it takes longer; it is left behind.
    """
    return DaemonThreads().submit(call).result(seconds)
