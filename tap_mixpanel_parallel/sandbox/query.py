"""One export request: who asks, and for what."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.sandbox.answers import RefusedError
from tap_mixpanel_parallel.sandbox.where import compile_where

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tap_mixpanel_parallel.sandbox.project import Project

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MOST_EVENTS = 100_000  # "Value cannot be over 100000" (Mixpanel's OpenAPI text)


@dataclass(frozen=True)
class Credentials:
    """The two ways to be let in: a service account with a project id, or a project secret."""

    username: str
    secret: str
    project_id: str
    project_secret: str

    def check(self, authorization: str | None, project_id: str | None) -> None:
        """Let a request in.

        Args:
            authorization: The header.
            project_id: The query parameter.

        Raises:
            RefusedError: The credentials are missing, wrong, or in the wrong form.
        """
        if authorization is None:
            raise RefusedError(400, "Unable to authenticate request")
        user, password = _basic(authorization)
        if (user, password) == (self.project_secret, ""):
            if project_id is not None:
                raise RefusedError(400, "project_id must not be sent along with a project secret")
            return
        if (user, password) != (self.username, self.secret):
            raise RefusedError(401, "Invalid service account credentials")
        if project_id is None:
            raise RefusedError(400, "Missing required parameter: project_id")
        if project_id != self.project_id:
            raise RefusedError(403, "You do not have access to this project")


@dataclass(frozen=True)
class Query:
    """What an export is asked for."""

    from_date: date
    to_date: date
    events: frozenset[str] | None = None
    where: str | None = None
    limit: int | None = None
    time_in_ms: bool = False

    @classmethod
    def parse(cls, parameters: Mapping[str, str], today: date) -> Query:
        """Read the query parameters, as Mixpanel understands them.

        Raises:
            RefusedError: They make no sense.
        """
        from_date = _required_date(parameters, "from_date")
        to_date = _required_date(parameters, "to_date")
        if from_date > to_date:
            raise RefusedError(400, "from_date cannot be later than to_date")
        if to_date > today:
            raise RefusedError(400, "to_date cannot be later than today")
        where = parameters.get("where")
        if where is not None:
            try:
                compile_where(where)
            except ValueError as error:
                raise RefusedError(400, f"Invalid where expression: {error}") from None
        return cls(
            from_date=from_date,
            to_date=to_date,
            events=_names(parameters.get("event")),
            where=where,
            limit=_limit(parameters.get("limit")),
            time_in_ms=parameters.get("time_in_ms", "").lower() in ("true", "1"),
        )

    @property
    def days(self) -> list[date]:
        """Every day of the range."""
        return [
            self.from_date + timedelta(days=number)
            for number in range((self.to_date - self.from_date).days + 1)
        ]

    def lines(self, project: Project, as_of: datetime) -> Iterator[bytes]:
        """Give the lines that the project has for this query."""
        lines = (
            line
            for day in self.days
            for line in project.lines(
                day, as_of=as_of, events=self.events, time_in_ms=self.time_in_ms
            )
        )
        if self.where is not None:
            test = compile_where(self.where)
            lines = (line for line in lines if test(json.loads(line)["properties"]))
        return islice(lines, self.limit)


def parsed_date(text: str | None) -> date | None:
    """Give the date that yyyy-mm-dd text names, or None."""
    if text is None or not _DATE.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _required_date(parameters: Mapping[str, str], name: str) -> date:
    text = parameters.get(name)
    if text is None:
        raise RefusedError(400, f"Missing required parameter: {name}")
    parsed = parsed_date(text)
    if parsed is None:
        raise RefusedError(400, f"{name} is not a date in the form yyyy-mm-dd: {text}")
    return parsed


def _names(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RefusedError(400, "event must be a JSON array of event names")
    return frozenset(names)


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= _MOST_EVENTS:
        raise RefusedError(400, f"limit must be a number from 1 to {_MOST_EVENTS}")
    return int(text)


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        decoded = ""
    if scheme.lower() != "basic" or ":" not in decoded:
        raise RefusedError(400, "Unable to authenticate request")
    user, _, password = decoded.partition(":")
    return user, password
