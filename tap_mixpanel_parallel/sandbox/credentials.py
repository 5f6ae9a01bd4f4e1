"""Authentication: a service account with a project id, or a project secret."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from tap_mixpanel_parallel.sandbox.answers import RefusedError


@dataclass(frozen=True)
class Credentials:
    """The credentials that the sandbox accepts.

    Attributes:
        username: The name of the service account.
        secret: The secret of the service account.
        project_id: The only project that the service account may export.
        project_secret: The secret of that project, which authenticates on its own.
    """

    username: str
    secret: str
    project_id: str
    project_secret: str

    def check(self, authorization: str | None, project_id: str | None) -> None:
        """Check the credentials of a request.

        Args:
            authorization: The header `Authorization`.
            project_id: The parameter `project_id`.

        Raises:
            RefusedError: The credentials are missing or wrong.
        """
        given = _basic(authorization or "")
        if not given:
            raise RefusedError(400, "Unable to authenticate request")
        if given & {self.project_secret, f"{self.project_secret}:"}:
            if project_id is not None:
                raise RefusedError(400, "project_id must not be sent along with a project secret")
            return
        if f"{self.username}:{self.secret}" not in given:
            raise RefusedError(401, "Invalid service account credentials")
        if project_id is None:
            raise RefusedError(400, "Missing required parameter: project_id")
        if project_id != self.project_id:
            raise RefusedError(403, "You do not have access to this project")


def _basic(authorization: str) -> set[str]:
    """Give the ways to read a Basic header: Mixpanel takes Base64 and plain text."""
    scheme, _, text = authorization.partition(" ")
    text = text.strip()
    if scheme.lower() != "basic" or not text:
        return set()
    try:
        return {text, base64.b64decode(text, validate=True).decode()}
    except ValueError:
        return {text}
