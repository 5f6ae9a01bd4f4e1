"""The credentials, and the settings that give them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.settings.schema import SANDBOX

if TYPE_CHECKING:
    from tap_mixpanel_parallel.settings.reader import ConfigReader


@dataclass(frozen=True, slots=True)
class Credentials:
    """How requests authenticate: HTTP Basic.

    Attributes:
        username: A service account's name, or an old project's secret.
        password: The service account's secret; empty with a project secret.
        project_id: Sent with a service account; Mixpanel refuses it with a project secret.
    """

    username: str = field(repr=False)
    password: str = field(repr=False)
    project_id: str | None

    @property
    def secret(self) -> str:
        """The part that nobody else may see."""
        return self.password or self.username


def check_apart(reader: ConfigReader) -> None:
    """Refuse synthetic events where a real project's secret is set: its table is not for them.

    A loader can't tell the two apart, and a run without a state knows of no earlier one.
    """
    secrets = ("service_account_secret", "project_secret")
    if given := [name for name in secrets if reader.is_set(name)]:
        reader.problems.append(
            f"region: 'sandbox' makes synthetic events, but {given[0]} is that of a real "
            "project, and the two must not come into one table; for the project set region to "
            "us, eu or in (in the tap's own Meltano project: --environment=prod), for the "
            "sandbox leave the project's credentials out"
        )


def read_credentials(
    reader: ConfigReader, region: str, project_id: str | None
) -> Credentials | None:
    """The credentials; None in the sandbox, which needs none."""
    problems = reader.problems
    known = len(problems)
    username = reader.credential("service_account_username")
    secret = reader.credential("service_account_secret")
    project_secret = reader.credential("project_secret")
    if len(problems) > known:
        return None
    if project_secret and (username or secret):
        problems.append(
            "project_secret: is set together with a service account; give only one of the two"
        )
    elif project_secret:
        reader.warnings.append(
            "project_secret: Mixpanel retires project secrets on 2027-03-03; "
            "create a service account (Organization Settings > Service Accounts)"
        )
        return Credentials(project_secret, "", None)
    elif username and secret:
        if project_id is None:
            problems.append("project_id: is missing; a service account needs it (Project Settings)")
        return Credentials(username, secret, project_id)
    elif username or secret:
        missing = "service_account_secret" if username else "service_account_username"
        problems.append(f"{missing}: is missing; a service account has a username and a secret")
    elif region != SANDBOX:
        account = "service_account_username, service_account_secret"
        problems.append(
            f"{account if project_id else f'project_id, {account}'}: are missing; give those of a "
            "service account (or a project_secret), or try region: sandbox, which needs none"
        )
    return None
