"""What a user can cause, as one sentence that names the thing and the remedy."""

from __future__ import annotations

from singer_sdk.exceptions import MissingKeyPropertiesError


class LoaderError(Exception):
    """The run can't go on. What was committed stays; what was not is not there at all."""


class DatabaseError(LoaderError):
    """The database file can't be opened, or can't be written."""


class InputError(LoaderError):
    """The input is not what a Singer tap writes."""


class SchemaError(LoaderError):
    """A stream's schema can't become a table, or does not go with the table that is there."""


class ManifestError(LoaderError):
    """A file of a BATCH message is missing or damaged."""


class ValueDoesNotFitError(LoaderError):
    """A value does not fit the type of its column."""


class NullKeyError(LoaderError, MissingKeyPropertiesError):
    """A record has no value for its key."""


class TerminatedError(LoaderError):
    """A signal asked to end.

    Attributes:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
