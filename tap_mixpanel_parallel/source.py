"""Where the events of a run come from: Mixpanel, or a sandbox that the run starts."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.fetch.job import Query
from tap_mixpanel_parallel.settings.credentials import Credentials
from tap_mixpanel_parallel.settings.network import stays_here
from tap_mixpanel_parallel.settings.schema import API_URLS, SANDBOX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mixpanel_parallel.settings.settings import Settings


@contextmanager
def open_source(settings: Settings) -> Iterator[Query]:
    """What is asked of each window; a sandbox serves until the context ends."""
    with ExitStack() as stack:
        credentials = settings.credentials
        url = settings.api_url or API_URLS.get(settings.region)
        if settings.region == SANDBOX and (url is None or credentials is None):
            from tap_mixpanel_parallel.sandbox import Project, Sandbox  # noqa: PLC0415 - rare

            sandbox = Sandbox(Project(timezone=settings.project_timezone.key))
            account = sandbox.credentials
            credentials = Credentials(account.username, account.secret, account.project_id)
            url = url or stack.enter_context(sandbox).url
        if url is None or credentials is None:
            raise ValueError("only the sandbox runs without a URL and credentials")
        yield Query(
            url,
            credentials,
            events=settings.events,
            where=settings.where,
            timeout=settings.request_timeout,
            attempt_timeout=settings.attempt_timeout,
            most_bytes=settings.max_window_mb * 1_000_000,
            trust_env=not stays_here(url),
        )
