"""A local Mixpanel: the raw export API over a deterministic synthetic project.

It is for tests, benchmarks and first steps without an account. In Python:

    with Sandbox(Project(seed=7)) as sandbox:
        requests.get(f"{sandbox.url}/export", auth=sandbox.auth, params=...)

In a shell: `python -m tap_mixpanel_parallel.sandbox --help`.
"""

from tap_mixpanel_parallel.sandbox.effects import (
    Cut,
    Damage,
    Effect,
    Empty,
    HalfLine,
    Line,
    Plain,
    Redirect,
    Reset,
    Stall,
    Status,
    TerminatedEarly,
)
from tap_mixpanel_parallel.sandbox.faults import Fault
from tap_mixpanel_parallel.sandbox.ledger import ExportRequest
from tap_mixpanel_parallel.sandbox.limits import Limits
from tap_mixpanel_parallel.sandbox.poison import poisoned_lines
from tap_mixpanel_parallel.sandbox.project import Project
from tap_mixpanel_parallel.sandbox.server import Sandbox
from tap_mixpanel_parallel.sandbox.shaping import Shaping
from tap_mixpanel_parallel.sandbox.unruly import (
    AnotherWindow,
    ChunkSize,
    Endless,
    SecondAnswer,
    Trickle,
)

__all__ = [
    "AnotherWindow",
    "ChunkSize",
    "Cut",
    "Damage",
    "Effect",
    "Empty",
    "Endless",
    "ExportRequest",
    "Fault",
    "HalfLine",
    "Limits",
    "Line",
    "Plain",
    "Project",
    "Redirect",
    "Reset",
    "Sandbox",
    "SecondAnswer",
    "Shaping",
    "Stall",
    "Status",
    "TerminatedEarly",
    "Trickle",
    "poisoned_lines",
]
