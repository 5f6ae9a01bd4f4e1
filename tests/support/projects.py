"""Projects that have an account of their own, and how a tap reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from tap_mixpanel_parallel.sandbox import Project, Sandbox

AS_OF: Final = datetime(2025, 3, 1, tzinfo=UTC)
MAIN: Final = Project(seed=21, events_per_day=30)


def sandbox_of(project: Project, project_id: str) -> Sandbox:
    """A project, as Mixpanel has it under this number."""
    return Sandbox(
        project,
        username=f"etl.{project_id}.mp-service-account",
        secret=f"secret-of-{project_id}",
        project_id=project_id,
        limits=None,
        as_of=lambda: AS_OF,
    )


def access_to(sandbox: Sandbox) -> dict[str, str]:
    """The settings by which a tap reads it."""
    return {
        "api_url": sandbox.url,
        "project_id": sandbox.credentials.project_id,
        "service_account_username": sandbox.credentials.username,
        "service_account_secret": sandbox.credentials.secret,
    }
