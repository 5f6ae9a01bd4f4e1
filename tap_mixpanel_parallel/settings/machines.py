"""`executor` and its companions: whether other machines do the work, and how they are reached."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tap_mixpanel_parallel.settings.network import stays_here
from tap_mixpanel_parallel.wording import shown

if TYPE_CHECKING:
    from tap_mixpanel_parallel.settings.batch import BatchConfig
    from tap_mixpanel_parallel.settings.reader import ConfigReader

DASK: Final = "dask"
SCHEDULER: Final = "dask_scheduler"
TLS: Final = "dask_tls"

_ADDRESS: Final = re.compile(r"(tcp|tls)://[^\s/@]+:\d{1,5}")
_TLS_FILES: Final = ("ca_file", "cert_file", "key_file")


@dataclass(frozen=True, slots=True)
class Machines:
    """How a Dask cluster is reached.

    Attributes:
        scheduler: Its address, or the file that holds it.
        tls: The files of the authority, the certificate and its key; empty leaves it to Dask's
            own configuration.
    """

    scheduler: str
    tls: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Whether a file holds the address."""
        return "://" not in self.scheduler


def read_machines(reader: ConfigReader, batch: BatchConfig | None) -> Machines | None:
    """Read how other machines are reached, and check what is needed to work on them.

    Returns:
        None if this machine does the work, or if something is not valid.
    """
    if reader.choice("executor") != DASK:
        for name in (SCHEDULER, TLS):
            if reader.is_set(name):
                reader.warnings.append(f"{name}: has no effect without executor: {DASK}")
        return None
    known = len(reader.problems)
    if find_spec("distributed") is None:
        reader.reject(
            "executor",
            DASK,
            "needs distributed, which is not installed; install tap-mixpanel-parallel[dask], "
            "or give local",
        )
    if batch is None and not reader.is_set("batch_config"):
        reader.reject(
            "executor",
            DASK,
            "needs batch_config: workers store files, with a storage.root that they and the loader "
            "share, e.g. s3://bucket/mixpanel; set it, or give local",
        )
    if reader.is_set("processes"):
        reader.warnings.append(f"processes: has no effect with executor: {DASK}")
    scheduler, address = _scheduler(reader)
    tls = _tls(reader, scheduler, address)
    if len(reader.problems) > known or batch is None:
        return None
    if address.startswith("tcp:") and not stays_here(address.replace("tcp:", "http:", 1)):
        reader.warnings.append(
            f"{SCHEDULER}: tcp:// sends the credentials to the workers in clear text; use it only "
            f"in a network that you trust, or tls:// with {TLS} (see docs/scale.md)"
        )
    return Machines(scheduler, tls)


def _scheduler(reader: ConfigReader) -> tuple[str, str]:
    """What is given, and the address: the same, or what the given file holds."""
    known = len(reader.problems)
    value = reader.text(SCHEDULER)
    if value is None and len(reader.problems) > known:
        return "", ""
    if value is None:
        reader.problems.append(
            f"{SCHEDULER}: is missing; executor: {DASK} needs the address of the scheduler, e.g. "
            "tcp://scheduler:8786, or its file"
        )
        return "", ""
    if _ADDRESS.fullmatch(value):
        return value, value
    try:
        address = json.loads(Path(value).read_text(encoding="utf-8"))["address"]
        problem = None if _ADDRESS.fullmatch(address) else f"its address is {shown(address)}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = (isinstance(error, OSError) and error.strerror) or "it has no address in JSON"
    if problem is not None:
        reader.reject(
            SCHEDULER,
            value,
            f"is neither an address nor a scheduler's file ({problem}); give e.g. "
            "tcp://scheduler:8786, or the file that the scheduler writes with --scheduler-file",
        )
        return value, ""
    return value, address


def _tls(reader: ConfigReader, scheduler: str, address: str) -> Mapping[str, str]:
    value = reader.value(TLS)
    if value is None:
        return {}
    if not isinstance(value, Mapping) or {*value} != {*_TLS_FILES}:
        reader.problems.append(
            f"{TLS}: is not an object of {', '.join(_TLS_FILES)}; give all three"
        )
        return {}
    for name in _TLS_FILES:
        path = value[name]
        if not isinstance(path, str) or not Path(path).is_file():
            reader.reject(f"{TLS}.{name}", path, "is not a file; give the path of a PEM file")
    if address.startswith("tcp:"):
        what = "is" if address == scheduler else f"names {address}, which is"
        reader.reject(SCHEDULER, scheduler, f"{what} not encrypted; with {TLS} give tls://")
    return dict(value)
