"""Reads one setting after another, and collects the problems."""

from __future__ import annotations

import re
import stat
import tempfile
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, available_timezones

from tap_mixpanel_parallel.settings.network import connection_problems, is_url, sends_in_clear
from tap_mixpanel_parallel.settings.report_file import report_problem
from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA
from tap_mixpanel_parallel.settings.values import value_of
from tap_mixpanel_parallel.wording import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_ZONES: Final = frozenset({"localtime", "Factory"})
"""Names that some systems list: the zone of this machine, and none at all."""

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class ConfigReader:
    """Reads settings of a configuration.

    Each method returns the setting's value, or its default. Where the value is not valid it
    adds a problem, which names the setting, the value and the remedy, and returns something
    of the right type, so that reading goes on to the next problem.

    Attributes:
        problems: What is wrong.
        warnings: What is allowed, but should be known.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Read this configuration; a text of nothing but white space counts as not set."""
        self._config = config
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def value(self, name: str) -> Any:
        """The value as it is given, in the type of the schema where it is a form of it."""
        value = value_of(self._config.get(name), self._schema(name))
        return self._schema(name).get("default") if value in (None, "") else value

    def is_set(self, name: str) -> bool:
        """Whether any setting, also one of the SDK's, has a value that does something."""
        return bool(self._config.get(name))

    def reject(self, name: str, value: object, problem: str) -> None:
        """Add a problem that quotes the value."""
        self.problems.append(f"{name}: {shown(value)} {problem}")

    @staticmethod
    def _schema(name: str) -> dict[str, Any]:
        schema: dict[str, Any] = CONFIG_SCHEMA["properties"][name]
        return schema

    def text(self, name: str, *, numbers: bool = False) -> str | None:
        """A text; with `numbers`, a whole number is taken for its digits."""
        value = self.value(name)
        if numbers and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None and not isinstance(value, str):
            self.reject(name, value, "is not text; give it in quotes")
            return None
        return value if value is None or self._is_encodable(name, value) else None

    def credential(self, name: str) -> str | None:
        """A text that can be a part of HTTP Basic's credentials; it is never quoted."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, str):
            self.problems.append(f"{name}: is not text; give it in quotes")
        elif _CONTROLS.search(value):
            self.problems.append(f"{name}: contains a control character; remove it")
        elif self._is_encodable(name, value):
            return value
        return None

    def _is_encodable(self, name: str, value: str) -> bool:
        try:
            value.encode()
        except UnicodeEncodeError:
            self.problems.append(
                f"{name}: contains a lone surrogate, which is not a valid character"
            )
            return False
        return True

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self.value(name)
        if not isinstance(value, bool):
            self.reject(name, value, "is neither true nor false; give one of them")
        return bool(value)

    def integer(self, name: str) -> int:
        """A whole number within the bounds of the schema."""
        return int(self._number(name, int, "a whole number"))

    def optional_integer(self, name: str) -> int | None:
        """A whole number within the bounds of the schema; None if it is not set."""
        return None if self.value(name) is None else self.integer(name)

    def number(self, name: str) -> float:
        """A number within the bounds of the schema."""
        return self._number(name, (int, float), "a number")

    def _number(self, name: str, types: type | tuple[type, ...], kind: str) -> float:
        value: float = self.value(name)
        schema = self._schema(name)
        low, high = schema["minimum"], schema["maximum"]
        # To Python, a bool is an int.
        if isinstance(value, types) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.reject(name, value, f"is not valid; give {kind} from {low:,} to {high:,}")
        return float(schema.get("default", low))

    def choice(self, name: str) -> str:
        """One of the values that the schema allows."""
        value, allowed = self.value(name), self._schema(name)["enum"]
        if value not in allowed:
            self.reject(name, value, f"is unknown; give one of {', '.join(allowed)}")
            return str(self._schema(name)["default"])
        return str(value)

    def names(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.value(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            self.reject(name, value, 'is not a list of event names; give e.g. ["Sign Up"]')
            return ()
        return tuple(value) if all(self._is_encodable(name, v) for v in value) else ()

    def url(self, name: str) -> str | None:
        """A base URL without a slash at its end."""
        value = self.text(name)
        if value is None:
            return None
        if "@" in value:
            self.problems.append(f"{name}: contains credentials; give them in their own settings")
        elif "?" in value or "#" in value:  # a token may follow either: it is not quoted
            self.problems.append(
                f"{name}: has a query (?) or a fragment (#); give the base URL without it, e.g. "
                "https://data.mixpanel.com/api/2.0"
            )
        elif not is_url(value):
            self.reject(
                name, value, "is not a base URL; give e.g. https://data.mixpanel.com/api/2.0"
            )
        elif sends_in_clear(value):
            self.reject(
                name,
                value,
                "would send the credentials over the network in clear text; give https:// "
                "(http:// is only for this machine: localhost, 127.0.0.1)",
            )
        return value.rstrip("/")

    def check_connection(self, url: str) -> None:
        """Check the environment's variables for connections to a URL."""
        self.problems.extend(connection_problems(url))

    def zone(self, name: str) -> ZoneInfo:
        """An IANA time zone."""
        value = self.value(name)
        zones = available_timezones() - _NO_ZONES
        if isinstance(value, str) and value in zones:
            return ZoneInfo(value)
        # A zone of three letters is near to every other: PST to MST.
        near = get_close_matches(str(value), sorted(zone for zone in zones if "/" in zone), n=1)
        hint = f"did you mean {near[0]}?" if near else "give e.g. America/Los_Angeles"
        self.reject(name, value, f"is not an IANA time zone; {hint}")
        return ZoneInfo("UTC")

    def report_file(self, name: str) -> Path | None:
        """A file that a report can be written to; None if it is not set."""
        given = self.text(name)
        if given is None:
            return None
        path = Path(given)
        if (problem := report_problem(path)) is not None:
            self.reject(name, given, problem)
        return path

    def directory(self, name: str) -> Path:
        """A writable folder; by default the system's for temporary files."""
        given = self.text(name)
        try:
            path = Path(given or tempfile.gettempdir())
        except FileNotFoundError:
            self.problems.append(
                f"{name}: is not set, and the system has no writable folder for temporary files; "
                "give a writable folder"
            )
            return Path()
        try:
            tempfile.TemporaryFile(dir=path).close()
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.reject(name, str(path), f"can't be written to ({reason}); give a writable folder")
            return path
        if mode & (stat.S_IWOTH | stat.S_IWGRP) and not mode & stat.S_ISVTX:
            others = "everybody" if mode & stat.S_IWOTH else "its group"
            self.warnings.append(
                f"{name}: {others} can write to {path}, and can replace the files there; "
                f"set its sticky bit (chmod +t {path})"
            )
        return path
