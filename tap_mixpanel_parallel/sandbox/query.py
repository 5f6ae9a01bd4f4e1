"""The query of an export request: its parameters, and the lines that they select."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from tap_mixpanel_parallel.sandbox.answers import RefusedError
from tap_mixpanel_parallel.sandbox.operators import OperandError, to_number
from tap_mixpanel_parallel.sandbox.where import compile_where

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tap_mixpanel_parallel.sandbox.project import Project
    from tap_mixpanel_parallel.sandbox.where import Test

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DIGITS = re.compile(r"\d{1,15}", re.ASCII)
_MOST_EVENTS = 100_000  # "Value cannot be over 100000" (Mixpanel's OpenAPI text)


@dataclass(frozen=True)
class Query:
    """The parameters of an export request, checked."""

    from_date: date
    to_date: date
    events: frozenset[str] | None = None
    where: str | None = None
    limit: int | None = None
    time_in_ms: bool = False

    @classmethod
    def parse(cls, parameters: Mapping[str, str], today: date) -> Query:
        """Read the parameters as Mixpanel does.

        Args:
            parameters: The parameters of the URL or the form.
            today: The current day of the project.

        Raises:
            RefusedError: A parameter is missing or not valid.
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
        """The days of the range, in order."""
        return [
            self.from_date + timedelta(days=number)
            for number in range((self.to_date - self.from_date).days + 1)
        ]

    def lines(self, project: Project, as_of: datetime) -> Iterator[bytes]:
        """Give the lines of the project that this query selects, without line ends."""
        lines: Iterator[bytes] = (
            line
            for day in self.days
            for line in project.lines(
                day, as_of=as_of, events=self.events, time_in_ms=self.time_in_ms
            )
        )
        if self.where is not None:
            lines = self._filtered(lines, compile_where(self.where))
        return islice(lines, self.limit)

    def _filtered(self, lines: Iterator[bytes], test: Test) -> Iterator[bytes]:
        """Give the lines whose properties pass the test.

        An expression that fails does so while the body is sent, when the status is 200 already.
        So the error is a line of the body. That Mixpanel does the same here is a guess.
        """
        try:
            for line in lines:
                if test(self._properties(line)):
                    yield line
        except OperandError as error:
            yield json.dumps({"error": f"Invalid where expression: {error}"}).encode()

    def _properties(self, line: bytes) -> dict[str, Any]:
        """Give the properties as an expression sees them: numbers as floats, times in seconds."""
        event = json.loads(line, parse_int=to_number, parse_float=to_number)
        properties: dict[str, Any] = event["properties"]
        time = properties["time"]
        if self.time_in_ms and isinstance(time, float):
            time /= 1000
        return properties | {"time": time, "$time": time}


def parsed_date(text: str | None) -> date | None:
    """Read a date in the form yyyy-mm-dd; None if the text is not one."""
    if text is None or not _DATE.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def whole_number(text: str) -> int | None:
    """Read a number of at most 15 digits; None if the text is not one."""
    return int(text) if _DIGITS.fullmatch(text) else None


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
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RefusedError(400, "event must be a JSON array of event names")
    return frozenset(names)


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    limit = whole_number(text)
    if limit is None or not 1 <= limit <= _MOST_EVENTS:
        raise RefusedError(400, f"limit must be a number from 1 to {_MOST_EVENTS}")
    return limit
