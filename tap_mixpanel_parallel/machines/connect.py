"""The connection to a cluster's scheduler."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from distributed import Client, Security

from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.machines.checks import said, within
from tap_mixpanel_parallel.settings.machines import SCHEDULER

if TYPE_CHECKING:
    from tap_mixpanel_parallel.settings.machines import Machines

ANSWER_SECONDS: Final = 5.0


class ClusterError(TapError):
    """The cluster can't be used, or is gone."""

    read_on = "docs/failures.md#cluster"


def connect(machines: Machines) -> Any:
    """A client of Dask's.

    Raises:
        ClusterError: If the scheduler does not answer.
    """
    where = {"scheduler_file" if machines.is_file else "address": machines.scheduler}
    tls = machines.tls
    try:
        security = (
            Security(
                tls_ca_file=tls["ca_file"],
                tls_client_cert=tls["cert_file"],
                tls_client_key=tls["key_file"],
                require_encryption=True,
            )
            if tls
            else None
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions: the check says more
            connecting = partial(
                Client, **where, timeout=ANSWER_SECONDS, security=security, set_as_default=False
            )
            return within(connecting, 2 * ANSWER_SECONDS)
    except Exception as error:  # noqa: BLE001 - Dask raises anything
        raise ClusterError(
            f"{SCHEDULER}: {machines.scheduler} does not answer ({said(error)}); start the "
            "scheduler, correct the address, or see that both ends have the same TLS"
        ) from None
