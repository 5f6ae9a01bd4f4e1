"""How requests authenticate."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """How requests authenticate: HTTP Basic.

    Attributes:
        username: A service account's name, or an old project's secret.
        password: The service account's secret; empty with a project secret.
        project_id: Sent with a service account; with a project secret it is refused.
    """

    username: str = field(repr=False)
    password: str = field(repr=False)
    project_id: str | None

    @property
    def secret(self) -> str:
        """What nobody else may see."""
        return self.password or self.username
