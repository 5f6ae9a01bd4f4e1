"""Reads one setting after another, and collects what is wrong with them."""

from __future__ import annotations

import re
import stat
import tempfile
from datetime import date, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, available_timezones

from tap_mixpanel_parallel.plan.windows import EARLIEST_DAY, Window
from tap_mixpanel_parallel.settings.credentials import Credentials
from tap_mixpanel_parallel.settings.forms import value_of
from tap_mixpanel_parallel.settings.network import connection_problems, is_url, sends_in_clear
from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA, SANDBOX
from tap_mixpanel_parallel.wording import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_DATE: Final = re.compile(r"(\d{4}-\d{2}-\d{2})([T ]00:00(:00(\.0+)?)?(Z|\+00:00)?)?")
_PERIOD: Final = re.compile(r"P(\d{1,5})D")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class ConfigReader:
    """Reads settings of a configuration.

    Each method returns the setting's value, or its default. Where the value makes no
    sense it adds a problem, in words that name the setting, the value and the remedy,
    and returns something of the right type, so that reading goes on to the next problem.

    Attributes:
        problems: What is wrong.
        warnings: What is allowed, but should be known.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Read this configuration; a text without anything but white space counts as not set."""
        self._config = config
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def _value(self, name: str) -> Any:
        value = value_of(self._config.get(name), self._schema(name))
        return self._schema(name).get("default") if value in (None, "") else value

    @staticmethod
    def _schema(name: str) -> dict[str, Any]:
        schema: dict[str, Any] = CONFIG_SCHEMA["properties"][name]
        return schema

    def _problem(self, name: str, value: object, remedy: str) -> None:
        self.problems.append(f"{name}: {shown(value)} {remedy}")

    def text(self, name: str, *, numbers: bool = False) -> str | None:
        """A text; with `numbers`, a whole number is taken for its digits."""
        value = self._value(name)
        if numbers and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None and not isinstance(value, str):
            self._problem(name, value, "is no text; give it in quotes")
            return None
        return value if value is None or self._is_whole(name, value) else None

    def _is_whole(self, name: str, value: str) -> bool:
        """Whether a text can be sent: without lone surrogates."""
        try:
            value.encode()
        except UnicodeEncodeError:
            self.problems.append(f"{name}: holds a lone surrogate, which is no character")
            return False
        return True

    def _is_sendable(self, name: str, value: object) -> bool:
        """Whether a value can be a part of HTTP Basic's credentials; it is never quoted."""
        if not isinstance(value, str):
            self.problems.append(f"{name}: is no text; give it in quotes")
        elif _CONTROLS.search(value):
            self.problems.append(f"{name}: holds a control character; give it without")
        else:
            return self._is_whole(name, value)
        return False

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self._value(name)
        if not isinstance(value, bool):
            self._problem(name, value, "is neither true nor false; give one of them")
        return bool(value)

    def integer(self, name: str) -> int:
        """A whole number within the bounds of the schema."""
        value = self._value(name)
        # A bool is an int to Python, and to nobody else.
        whole = isinstance(value, int) and not isinstance(value, bool)
        return int(self._bounded(name, value if whole else None, "a whole number"))

    def number(self, name: str) -> float:
        """A number within the bounds of the schema."""
        value = self._value(name)
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        return self._bounded(name, value if fits else None, "a number")

    def _bounded(self, name: str, value: float | None, kind: str) -> float:
        schema = self._schema(name)
        low, high = schema["minimum"], schema["maximum"]
        if value is not None and low <= value <= high:
            return value
        remedy = f"does not fit; give {kind} from {low:,} to {high:,}"
        self._problem(name, self._value(name), remedy)
        return float(schema["default"])

    def choice(self, name: str) -> str:
        """One of the values that the schema allows."""
        value, allowed = self._value(name), self._schema(name)["enum"]
        if value not in allowed:
            self._problem(name, value, f"is unknown; give one of {', '.join(allowed)}")
            return str(self._schema(name)["default"])
        return str(value)

    def names(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self._value(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            self._problem(name, value, 'is no list of event names; give e.g. ["Sign Up"]')
            return ()
        return tuple(value) if all(self._is_whole(name, v) for v in value) else ()

    def url(self, name: str) -> str | None:
        """A base URL without a slash at its end."""
        value = self.text(name)
        if value is None:
            return None
        if "@" in value:
            self.problems.append(f"{name}: holds credentials; give them in their own settings")
        elif "?" in value or "#" in value:  # behind either a token may stand: it is not quoted
            self.problems.append(
                f"{name}: has a query (?) or a fragment (#); give the base URL without it, e.g. "
                "https://data.mixpanel.com/api/2.0"
            )
        elif not is_url(value):
            self._problem(
                name, value, "is no base URL; give e.g. https://data.mixpanel.com/api/2.0"
            )
        elif sends_in_clear(value):
            self._problem(
                name,
                value,
                "would send the credentials over the network in clear text; give https:// "
                "(http:// is for this machine alone: localhost, 127.0.0.1)",
            )
        return value.rstrip("/")

    def check_connection(self, url: str) -> None:
        """Look at what the environment says about connections to a URL."""
        self.problems.extend(connection_problems(url))

    def zone(self, name: str) -> ZoneInfo:
        """An IANA time zone."""
        value = self._value(name)
        try:
            return ZoneInfo(value)
        except (KeyError, ValueError, TypeError, OSError, AttributeError):
            near = get_close_matches(str(value), sorted(available_timezones()), n=1)
            hint = f"did you mean {near[0]}?" if near else "give e.g. America/Los_Angeles"
            self._problem(name, value, f"is no IANA time zone; {hint}")
            return ZoneInfo("UTC")

    def directory(self, name: str) -> Path:
        """A folder that can be written; the system's for temporary files by default."""
        given = self.text(name)
        try:
            path = Path(given or tempfile.gettempdir())
        except FileNotFoundError:
            self.problems.append(
                f"{name}: is not set, and the system has no folder for temporary files that can "
                "be written; give a folder that can"
            )
            return Path()
        try:
            tempfile.TemporaryFile(dir=path).close()
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._problem(name, str(path), f"can't be written ({reason}); give a folder that can")
            return path
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            self.warnings.append(
                f"{name}: everybody can write to {path}, and can replace the files there; "
                f"set its sticky bit (chmod +t {path})"
            )
        return path

    def wanted(self, today: date) -> Window:
        """The days from `start_date` to `end_date`, up to today at most."""
        end = self._date("end_date", default=today)
        start = self._value("start_date")
        if end is not None and end > today:
            self.warnings.append(f"end_date {end} lies in the future: reading up to today, {today}")
        if start is None:
            self.problems.append("start_date: is missing; give the first day, e.g. 2025-01-01")
        elif isinstance(start, str) and (period := _PERIOD.fullmatch(start)):
            if end is not None:
                return self._period(start, int(period[1]), min(end, today))
        elif (first := self._date("start_date")) is not None and end is not None:
            return self._range(first, end, today)
        return Window(today, today)

    def days(self, name: str, today: date) -> Window | None:
        """A day, or a range of days up to today."""
        value = self.text(name)
        if value is None:
            return None
        try:
            first, dots, last = value.partition("..")
            window = Window.parse(first, last if dots else first)
        except ValueError:
            window = None
        if window is None or window.first < EARLIEST_DAY or window.last > today:
            remedy = (
                f"is not a range of days from {EARLIEST_DAY} to {today}; "
                "give e.g. 2025-01-05..2025-01-11"
            )
            self._problem(name, value, remedy)
        return window

    def _range(self, first: date, end: date, today: date) -> Window:
        if first < EARLIEST_DAY:
            remedy = f"is before {EARLIEST_DAY}; no event is older, so give a day from then on"
            self._problem("start_date", str(first), remedy)
            return Window(today, today)
        if first > today:
            remedy = f"lies in the future; give a day up to today, {today} in the project's zone"
            self._problem("start_date", str(first), remedy)
            return Window(today, today)
        if end < first:
            remedy = f"is before start_date {first}; give a day from then on"
            self._problem("end_date", str(end), remedy)
            return Window(today, today)
        return Window(first, min(end, today))

    def _period(self, value: str, days: int, end: date) -> Window:
        if 1 <= days <= (end - EARLIEST_DAY).days + 1:
            return Window(end - timedelta(days=days - 1), end)
        remedy = f"is not a period that begins on {EARLIEST_DAY} or later; give e.g. P90D"
        self._problem("start_date", value, remedy)
        return Window(end, end)

    def _date(self, name: str, default: date | None = None) -> date | None:
        value = self._value(name)
        if value is None:
            return default
        try:
            return date.fromisoformat(_DATE.fullmatch(value)[1])  # type: ignore[index]
        except (TypeError, ValueError):
            self._problem(name, value, "is no date; give yyyy-mm-dd, e.g. 2025-01-31")
            return None

    def credentials(self, region: str, project_id: str | None) -> Credentials | None:
        """The credentials; None in the sandbox, which needs none."""
        given = {
            name: self._value(name)
            for name in ("service_account_username", "service_account_secret", "project_secret")
        }
        checks = [
            self._is_sendable(name, value) for name, value in given.items() if value is not None
        ]
        if not all(checks):
            return None
        username, secret, project_secret = given.values()
        if project_secret and (username or secret):
            self.problems.append(
                "project_secret: is set beside a service account; give one of the two"
            )
        elif project_secret:
            self.warnings.append(
                "project_secret: Mixpanel retires project secrets on 2027-03-03; "
                "create a service account (Organization Settings > Service Accounts)"
            )
            return Credentials(project_secret, "", None)
        elif username and secret:
            if project_id is None:
                self.problems.append(
                    "project_id: is missing; a service account needs it (Project Settings)"
                )
            return Credentials(username, secret, project_id)
        elif username or secret:
            missing = "service_account_secret" if username else "service_account_username"
            self.problems.append(f"{missing}: is missing; a service account has both")
        elif region != SANDBOX:
            account = "service_account_username, service_account_secret"
            self.problems.append(
                f"{account if project_id else f'project_id, {account}'}: are missing; give a "
                "service account's (or a project_secret), or try region: sandbox, which needs none"
            )
        return None
