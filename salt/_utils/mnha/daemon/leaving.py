"""What becomes of a node's VMs when the node goes down in an orderly way: each is migrated, live, to the best other
node. What can't be migrated in time is shut down with the guard, as ever.

It runs in the process that has the guard end (``--stop``), and only asks: the guard and the lease decide.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import keys
from ..core.choose import Choice, Node
from ..core.guard import OUTCOME_S
from ..core.model import Phase, Run, Vm
from ..core.placement import place_all
from ..errors import MnhaError, UnreachableError
from ..host.clock import boottime_s
from . import client
from .adapters.consul import Servers, rows_of
from .turns import cluster_of

log = logging.getLogger(__name__)

CONSUL_TIMEOUT_S = 2.0
LEAST_S = 2.0
"""With less time left no migration is begun."""
UNKNOWN = {"vm": Vm.UNKNOWN, "desired": None, "lease": None}
"""What the guard tells of a VM that was configured since it began."""


def leave(config: dict[str, Any]) -> None:
    """Have the running guard migrate its VMs away, for as long as the configuration grants (`leave_s`) in all. Whatever
    comes of it is told, and no reason not to go on.
    """
    end_s = boottime_s() + config.get("leave_s", 0.0)
    try:
        status = client.request("status", path=config["socket"])
        records = _records(config)
    except MnhaError as error:
        log.warning("no VM is migrated away: %s", error.message)
        return
    for vm, choice in choices(config, status, records).items():
        log.warning("%s: %s", vm, choice.sentence)
        _migrate(config, vm, choice.order, end_s)


def choices(config: Mapping[str, Any], status: Mapping[str, Any], records: Mapping[str, Any]) -> dict[str, Choice]:
    """The running VMs, the largest first, each with the nodes that it can be migrated to, the best first: as they would
    be taken over if this node were lost, all at once.

    :param status: the guard's; of a VM that it does not know yet it says nothing.
    :param records: Consul's, by their keys relative to the cluster's.
    """
    alive = {node: seen["alive"] for node, seen in status["peers"].items()}
    nodes = [
        Node(node, records.get(keys.node(node)), alive.get(node), records.get(keys.maintenance(node)))
        for node in config["nodes"]
    ]
    vms = {vm["name"]: status["vms"].get(vm["name"], UNKNOWN) for vm in config["vms"]}
    own = {"holder": config["node"], "phase": Phase.HELD}
    here = [name for name, seen in vms.items() if seen["vm"] == Vm.RUNNING and seen["desired"] == Run.STARTED]
    known = {name: (own if name in here else seen["lease"], seen["desired"]) for name, seen in vms.items()}
    placed = place_all(cluster_of(config, nodes, known), here[0]) if here else {}
    return {name: choice for name, choice in placed.items() if name in here}


def _migrate(config: Mapping[str, Any], vm: str, order: tuple[str, ...], end_s: float) -> None:
    """Migrate a VM to the first node of which that succeeds."""
    for target in order:
        left_s = end_s - boottime_s()
        if left_s < LEAST_S:
            log.warning("%s is not migrated: its time is over", vm)
            return
        log.warning("%s is migrated to %s, for %.0f s at the most", vm, target, left_s)
        try:
            client.request(
                "migrate",
                path=config["socket"],
                timeout_s=left_s + 2 * OUTCOME_S + LEAST_S,
                vm=vm,
                target=target,
                wait_s=left_s,
                reason=f"{config['node']} goes down",
            )
        except MnhaError as error:
            log.warning("%s was not migrated to %s: %s", vm, target, error.message)
        else:
            log.warning("%s is on %s now", vm, target)
            return


def _records(config: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes' records and maintenance, by their keys relative to the cluster's, from the first server that answers.
    What can't be read of them is left out.

    :raises UnreachableError: none answers.
    """
    consul, prefix = config["consul"], keys.folder(config["cluster"])
    servers = Servers(consul["servers"], Path(consul["ca"]), Path(consul["token_file"]))
    for number in range(len(servers)):
        try:
            return {key: value for folder in (keys.NODES, keys.MAINTENANCE)
                    for key, value in _below(servers, number, prefix, folder)}  # fmt: skip
        except MnhaError as error:
            log.warning("%s", error.message)
    raise UnreachableError("no Consul server tells of the other nodes")


def _below(servers: Servers, number: int, prefix: str, folder: str) -> Iterator[tuple[str, Any]]:
    """The records of a folder by their keys relative to `prefix`."""
    whole = f"{prefix}/{folder}"
    answer = servers.read(number, CONSUL_TIMEOUT_S, lambda consul: consul.kv.get(whole, recurse=True))
    for row in rows_of(answer.value, whole):
        try:
            yield row["Key"].removeprefix(f"{prefix}/"), json.loads(row["Value"] or b"")
        except (ValueError, RecursionError):
            continue
