"""The sandbox: an HTTP server on this machine that exports as Mixpanel does."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, time
from functools import partial
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.sandbox.body import Body, Cache
from tap_mixpanel_parallel.sandbox.effects import Effect
from tap_mixpanel_parallel.sandbox.export import Export
from tap_mixpanel_parallel.sandbox.faults import Fault, FaultPlan
from tap_mixpanel_parallel.sandbox.handler import Server
from tap_mixpanel_parallel.sandbox.ledger import ExportRequest, Ledger, Visit
from tap_mixpanel_parallel.sandbox.limits import Gate, Limits
from tap_mixpanel_parallel.sandbox.project import Project
from tap_mixpanel_parallel.sandbox.query import Credentials, Query
from tap_mixpanel_parallel.sandbox.shaping import Shaping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

_DEFAULT_PROJECT = Project()
_DEFAULT_LIMITS = Limits()
_DEFAULT_SHAPING = Shaping()


class Sandbox:
    """Mixpanel's raw export API over a synthetic project, in this process.

    Example:
        >>> with Sandbox(Project(events_per_day=100)) as sandbox:
        ...     requests.get(f"{sandbox.url}/export", auth=sandbox.auth, params={...})

    It serves on the loopback interface from daemon threads, between `start` and `stop`.
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
            project: What it exports.
            port: Where it listens; 0 picks a free port.
            username: The service account that it lets in.
            secret: That account's secret.
            project_id: The project that the account may export.
            project_secret: The project's secret, the older way to be let in.
            limits: Rate limits; None for none.
            shaping: How slow it is.
            faults: What goes wrong.
            as_of: Tells the time (aware): what is ingested later is not exported yet. By default
                it is always the end of the current day, so that a day's answer stays the same.
            cache_bodies: Keep finished bodies in memory and serve them again: for benchmarks.
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
        """Every request for an export that has ended, refused ones as well."""
        return self.ledger.requests

    @property
    def max_concurrent(self) -> int:
        """The most export requests that were ever in progress at once."""
        return self.ledger.max_concurrent

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What goes wrong. Assigning it starts all counts afresh, also while the sandbox runs."""
        return tuple(self._plan.faults)

    @faults.setter
    def faults(self, faults: Sequence[Fault]) -> None:
        self._plan = FaultPlan(tuple(faults))

    def start(self) -> Self:
        """Listen, and serve from a daemon thread."""
        if self._server is not None:
            raise RuntimeError("the sandbox is started already")
        self._server = server = Server(self._port, self)
        serve = partial(server.serve_forever, poll_interval=0.02)
        threading.Thread(target=serve, name="sandbox", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop at once: connections are closed in whatever they are doing."""
        if self._server is not None:
            server, self._server = self._server, None
            server.stop()

    def __enter__(self) -> Self:
        """Start, unless `start` did."""
        return self if self._server else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def export(
        self, parameters: Mapping[str, str], authorization: str | None, visit: Visit, *, gzip: bool
    ) -> Export:
        """Let a request in, and give what it is answered with.

        Raises:
            RefusedError: It is not let in.
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
        )

    def _end_of_today(self) -> datetime:
        today = self.project.today(datetime.now(UTC))
        return datetime.combine(today, time.max, self.project.zone)
