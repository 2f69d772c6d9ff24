"""This host's own networks: bonds, bridges, VLANs and addresses, as the pillar has them under `mnha:cluster:networks`.

They are changed as a whole or not at all: what came of a change is looked at, by carrier, LACP, and who answers, and if
anything is wrong the old network comes back, also without Salt (`mnha.host.network.transaction`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.config import devices as wanted_devices
from mnha.errors import MnhaError
from mnha.host.network import live, owners, reach, transaction

__virtualname__ = "hostnet"
RUNNING = ("running", "paused")


def __virtual__():
    return __virtualname__


def wanted() -> list[dict[str, Any]]:
    """The devices that the pillar wants here, each after those that it lies on; empty: it says nothing of them.

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.wanted
    """
    return [{"kind": type(one).__name__.lower(), **dataclasses.asdict(one)} for one in _wanted()]


def names() -> list[str]:
    """The names of the devices that the pillar wants here.

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.names
    """
    return [one.name for one in _wanted()]


def list_() -> dict[str, dict[str, Any]]:
    """The network devices that this host has, by name.

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.list
    """
    return {name: dataclasses.asdict(one) for name, one in _look().items()}


__func_alias__ = {"list_": "list"}


def problems() -> list[str]:
    """What is wrong with this host's network by itself, a sentence each: devices that are missing or carry nothing, and
    what differs from the files. Nobody else is asked.

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.problems
    """
    devices = _wanted()
    if not devices:
        return []
    try:
        return [*transaction.unlike(), *reach.carriers(live.look(), devices)]
    except (OSError, MnhaError) as error:
        raise CommandExecutionError(f"the network can't be looked at: {error}") from error


def apply(test: bool = False, force: bool = False, limit_s: float = transaction.LIMIT_S) -> dict[str, Any]:
    """Have this host's network be as the pillar wants it, all or nothing; returns `changes` (the difference of each
    file), `faults` (why the old network is back; empty: the new one holds) and `took_s`.

    Refused while a VM runs here, for its disk is reached by the storage network; while another program makes the
    network; and where an interface is in use otherwise. All reasons are given at once, and nothing is changed.

    test
        tell what would be changed
    force
        change it under a running VM
    limit_s
        after so long the old network comes back, whatever happens

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.apply test=True
    """
    devices = _wanted()
    if not devices:
        return {"changes": {}, "faults": [], "took_s": 0.0}
    if reasons := owners.others():
        raise CommandExecutionError("the network is not changed: " + "; ".join(reasons))
    try:
        found = transaction.changes(devices)
        if test or not (found or transaction.unlike()):
            return {"changes": found, "faults": [], "took_s": 0.0}
        if not force:
            _require_no_vm()
        cluster = __salt__["mnha_config.cluster"]()
        networks = wanted_devices.networks(cluster, __opts__["id"])
        judge = reach.Reach(networks, devices, _masters())
        outcome = transaction.apply(devices, judge.faults, float(limit_s))
    except (OSError, MnhaError) as error:
        raise CommandExecutionError(str(error)) from error
    return {"changes": dict(outcome.changes), "faults": list(outcome.faults), "took_s": round(outcome.took_s, 2)}


def _wanted() -> tuple[Any, ...]:
    return wanted_devices.devices(__salt__["mnha_config.cluster"](), __opts__["id"])


def _look() -> dict[str, live.Interface]:
    try:
        return live.look()
    except OSError as error:
        raise CommandExecutionError(f"the kernel does not tell of its network devices: {error}") from error


def _masters() -> list[str]:
    """The addresses of this minion's masters."""
    masters = __opts__.get("master") or []
    return [masters] if isinstance(masters, str) else list(masters)


def _require_no_vm() -> None:
    """That no protected VM runs here. A guard that is not there yet guards none."""
    try:
        vms = __salt__["guard.status"](timeout_s=2.0)["vms"]
    except CommandExecutionError:
        return
    here = [name for name, vm in vms.items() if vm["vm"] in RUNNING]
    if here:
        raise CommandExecutionError(
            f"the network is not changed while {', '.join(here)} runs here, for its disk would be cut off: "
            f"`salt-run mnha.maintenance {__opts__['id']} on` moves it away; or `force=True`"
        )
