"""The sandbox: a local HTTP server that exports like Mixpanel."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, time
from functools import partial
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.sandbox.body import Body, Cache
from tap_mixpanel_parallel.sandbox.credentials import Credentials
from tap_mixpanel_parallel.sandbox.effects import Effect
from tap_mixpanel_parallel.sandbox.export import Export
from tap_mixpanel_parallel.sandbox.faults import Fault, FaultPlan
from tap_mixpanel_parallel.sandbox.handler import Server
from tap_mixpanel_parallel.sandbox.ledger import ExportRequest, Ledger, Visit
from tap_mixpanel_parallel.sandbox.limits import Gate, Limits
from tap_mixpanel_parallel.sandbox.project import Project
from tap_mixpanel_parallel.sandbox.query import Query
from tap_mixpanel_parallel.sandbox.shaping import Shaping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

_DEFAULT_PROJECT = Project()
_DEFAULT_LIMITS = Limits()
_DEFAULT_SHAPING = Shaping()


class Sandbox:
    """A local Mixpanel: its raw export API over a synthetic project.

    Example:
        >>> with Sandbox(Project(events_per_day=100)) as sandbox:
        ...     requests.get(f"{sandbox.url}/export", auth=sandbox.auth, params={...})

    It serves on the loopback interface, from daemon threads of this process, between `start` and
    `stop`.
    """

    def __init__(  # noqa: PLR0913 - all but the first by keyword
        self,
        project: Project = _DEFAULT_PROJECT,
        *,
        port: int = 0,
        username: str = "sandbox",
        secret: str = "sandbox-secret",  # noqa: S107 - it guards nothing
        project_id: str = "1",
        project_secret: str = "sandbox-project-secret",  # noqa: S107
        limits: Limits | None = _DEFAULT_LIMITS,
        shaping: Shaping = _DEFAULT_SHAPING,
        faults: Sequence[Fault] = (),
        as_of: Callable[[], datetime] | None = None,
        cache_bodies: bool = False,
    ) -> None:
        """Prepare a sandbox; `start` starts it.

        Args:
            project: The project that it exports.
            port: The port to listen on; 0 selects a free one.
            username: The name of the service account.
            secret: The secret of the service account.
            project_id: The id of the project, which the service account may export.
            project_secret: The secret of the project, the older way to authenticate.
            limits: The rate limits; None for none.
            shaping: The delays and the bandwidth.
            faults: The faults to play.
            as_of: Gives the current time (an aware datetime). What is ingested later is not
                exported yet. By default it is the end of the current day, so that the answer for
                a day stays the same until midnight.
            cache_bodies: Keep bodies in memory and serve them again; for benchmarks.
        """
        self.project = project
        self.credentials = Credentials(username, secret, project_id, project_secret)
        self.shaping = shaping
        self.ledger = Ledger()
        self._port = port
        self._gate = Gate(limits, project_id)
        self._plan = FaultPlan(tuple(faults))
        self._as_of = as_of or self._end_of_today
        self._cache = Cache() if cache_bodies else None
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The base URL, such as `http://127.0.0.1:8974/api/2.0`."""
        return f"http://127.0.0.1:{self.port}/api/2.0"

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise RuntimeError("the sandbox is not started")
        return self._server.server_port

    @property
    def auth(self) -> tuple[str, str]:
        """The service account's name and secret."""
        return self.credentials.username, self.credentials.secret

    @property
    def requests(self) -> list[ExportRequest]:
        """The requests for an export that have ended, also the refused ones."""
        return self.ledger.requests

    @property
    def max_concurrent(self) -> int:
        """The highest number of export requests in progress at the same time."""
        return self.ledger.max_concurrent

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults to play. They can be assigned at any time; all counts then start again."""
        return tuple(self._plan.faults)

    @faults.setter
    def faults(self, faults: Sequence[Fault]) -> None:
        self._plan = FaultPlan(tuple(faults))

    def start(self) -> Self:
        """Start to listen, and serve from a daemon thread."""
        if self._server is not None:
            raise RuntimeError("the sandbox is started already")
        self._server = server = Server(self._port, self)
        serve = partial(server.serve_forever, poll_interval=0.02)
        threading.Thread(target=serve, name="sandbox", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop at once; connections in use are closed."""
        if self._server is not None:
            server, self._server = self._server, None
            server.stop()

    def __enter__(self) -> Self:
        """Start, if it is not started yet."""
        return self if self._server else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def export(
        self, parameters: Mapping[str, str], authorization: str | None, visit: Visit, *, gzip: bool
    ) -> Export:
        """Accept a request, and give its answer.

        Raises:
            RefusedError: The request is refused.
        """
        self.credentials.check(authorization, parameters.get("project_id"))
        as_of = self._as_of()
        query = Query.parse(parameters, self.project.today(as_of))
        self._gate.enter()
        visit.leaving.callback(self._gate.leave)
        visit.fault = self._plan.draw(query)
        effect = Effect() if visit.fault is None else visit.fault.effect
        lines = partial(effect.asked(query).lines, self.project, as_of)
        body = Body(lines, effect, gzip_accepted=gzip)
        cache = self._cache if visit.fault is None else None
        return Export(
            body=body if cache is None else cache.body((query, as_of, gzip), body),
            instead=effect.answer(),
            delay=self.shaping.delay(len(query.days)),
            bytes_per_second=self.shaping.bytes_per_second,
            comes_again=effect.comes_again,
            made_at=as_of.timestamp(),
        )

    def _end_of_today(self) -> datetime:
        today = self.project.today(datetime.now(UTC))
        return datetime.combine(today, time.max, self.project.zone)
