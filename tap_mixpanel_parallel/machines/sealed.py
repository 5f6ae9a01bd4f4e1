"""What travels to another machine, and which versions both ends have."""

from __future__ import annotations

import pickle
import platform
from importlib.metadata import version
from typing import Any, Final

from tap_mixpanel_parallel.exceptions import TapError

PACKAGES: Final = ("tap-mixpanel-parallel", "msgspec")
"""The packages of which both ends need the same version."""


class Sealed:
    """A value with secrets on its way to another machine.

    A cluster shows the `repr` of what it passes on, in logs and on its pages. This one's says
    nothing. It also tells which versions it was made with, before it is opened.
    """

    def __init__(self, value: object) -> None:
        """Seal a value that can be pickled."""
        self.versions = versions_here()
        self._pickled = pickle.dumps(value)

    def open(self) -> Any:
        """The value.

        Raises:
            TapError: If it was made by other versions, or needs what is not installed.
        """
        for name, here in versions_here().items():
            if (there := self.versions[name]) != here:
                raise TapError(
                    f"it has {name} {here}, and the run has {there}; "
                    "install the same version everywhere"
                )
        try:
            return pickle.loads(self._pickled)  # noqa: S301 - the run has made it
        except ImportError as error:
            raise TapError(
                f"what the run wants needs more than is installed there ({error}); install the "
                "same extras everywhere, such as tap-mixpanel-parallel[dask,files,s3]"
            ) from None

    def __repr__(self) -> str:
        """Nothing of the value."""
        return "<sealed>"


def versions_here() -> dict[str, str]:
    """The versions that both ends need alike."""
    return {"Python": short(platform.python_version_tuple())} | {
        name: version(name) for name in PACKAGES
    }


def short(python: tuple[str, ...] | list[str]) -> str:
    """Python's version, as far as it matters."""
    return ".".join(python[:2])
