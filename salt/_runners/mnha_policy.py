"""What reactor and orchestrations run, and nobody types: see `mnha` for the verbs.

They return what those return (`mnha.master.verbs`). What concerns Consul goes through a minion of the cluster, for
events the one that reported.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mnha
from mnha import keys
from mnha.master import failover as takeover
from mnha.master import minions as ask
from mnha.master import verbs, wishes

log = logging.getLogger(__name__)

ROLES_WAIT_S = 45.0
"""For policies and tokens of one node: some twenty requests, and a cluster just born may still elect its leader."""


def failover(
    cluster: str, vm: str, epoch: int, reporter: str, seq: int = 0, attempt: int = 0, event: str = "lease_expired",
    index: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What the reactor runs when a lease expires or is free: claim it, choose a node, order the take-over,
    record it. The guards refuse it while the holder renews its lease.

    CLI Example:

    .. code-block:: bash

        salt-run mnha_policy.failover example mnvm 7 node2
    """
    incident = takeover.Incident(vm, int(epoch), int(seq), int(attempt), reporter, event, index)
    master = str(__opts__["id"])

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        verbs.require_node(reporter, name, nodes)
        result = takeover.fail_over(_minions(), incident, master)
        log.warning("failover of %s/%s (%s, epoch %s): %s", name, vm, event, epoch, result.text)
        return result.to_dict()

    return verbs.run(__opts__, cluster, work)


def prepare() -> bool:
    """Nothing but being called: whoever calls it, the reactor, has loaded the runners then, and fails over
    faster.

    CLI Example:

    .. code-block:: bash

        salt-run mnha_policy.prepare
    """
    mnha.on_demand("master.clusters")
    with _minions().client():
        return True


def claim(cluster: str, action: str) -> dict[str, Any]:
    """Claim an action for this master, through any node of the cluster; fails if another master has it.

    CLI Example:

    .. code-block:: bash

        salt-run mnha_policy.claim example maintenance-node2
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        minions = _minions()
        node = wishes.with_quorum(minions, nodes, "claimed")[0][0]
        answer = takeover.value_of(minions.one(node, "consul_ha.claim", {"action": action, "by": str(__opts__["id"])}))
        minions.one(node, "consul_ha.kv_prune", {"prefix": keys.ACTIONS})
        return {"result": answer["claimed"], "comment": f"{action} is claimed by {answer['by']}"}

    return verbs.run(__opts__, cluster, work)


def consul_roles(cluster: str | None = None, node: str | None = None, wanted: str | None = None) -> dict[str, Any]:
    """Make the policies and tokens in Consul of a cluster's nodes, or of one, with this master's secrets.

    What the reactor runs when a node misses some, with the digest of what is `wanted` there.

    CLI Example:

    .. code-block:: bash

        salt-run mnha_policy.consul_roles cluster=example node=node1
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        if node is not None:
            verbs.require_node(node, name, nodes)
        secrets, seal = mnha.on_demand("secrets.store"), mnha.on_demand("secrets.sealed").seal
        token, made = secrets.management_token(secrets.folder(__opts__) / name), {}
        for one in nodes if node is None else [node]:
            sealed_token = seal(token, (Path(__opts__["pki_dir"]) / "minions" / one).read_text())
            order = {"sealed_token": sealed_token, "wanted": wanted}
            made[one] = takeover.value_of(_minions().one(one, "consul_ha.make_roles", order, timeout_s=ROLES_WAIT_S))
        text = "; ".join(f"{one}: {', '.join(changes)}" for one, changes in made.items() if changes)
        return {"result": True, "comment": text or "policies and tokens are as they should be", "changes": made}

    return verbs.run(__opts__, cluster, work)


def _minions() -> ask.Minions:
    return ask.Minions(__opts__["conf_file"])
