"""What an operator types: `salt-run mnha.VERB cluster=NAME`.

Every verb returns `{CLUSTER: {"result": done?, "comment": one sentence, …}}`, shown by the outputter `mnha`;
`--out=json` gives the data. A verb that failed has a `retcode` beside it and a non-zero exit code. The cluster
may be left out where the master has one only.

A master need not reach Consul: what concerns it goes through a minion of the cluster, for events the one that
reported.
"""

from __future__ import annotations

import getpass
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import salt.version
from salt.exceptions import CommandExecutionError

import mnha
from mnha import __version__, keys
from mnha.errors import ConfigurationError, InputError, MnhaError, UnreachableError
from mnha.master import failover as takeover
from mnha.master import migration, report
from mnha.master import minions as ask
from mnha.master.inventory import Accepted

log = logging.getLogger(__name__)

STATUS_WAIT_S = 4.0
"""The most that a status waits; `report.heard_enough` mostly ends it sooner."""
STOP_WAIT_S = 180.0
ROLES_WAIT_S = 45.0
"""For policies and tokens of one node: some twenty requests, and a cluster just born may still elect its leader."""


def status(cluster: str | None = None, wait_s: float = STATUS_WAIT_S) -> dict[str, Any]:
    """How the cluster stands: VMs, nodes, guards, Consul. Ends as soon as all nodes that Consul sees have
    answered, or the rest is silent for longer than the answers took; a holder that has just renewed is waited for.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.status
        salt-run mnha.status cluster=example --out=json
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        began_s = time.monotonic()
        replies = _minions().each(nodes, "mnvm.report", timeout_s=float(wait_s), enough=report.heard_enough)
        if not replies:
            raise UnreachableError(f"no node of {name} answers within {wait_s:g} s: is salt-minion running on {nodes}?")
        return report.status(nodes, replies, now_s=time.time(), waited_s=time.monotonic() - began_s)

    return _verb(cluster, work)


def history(cluster: str | None = None, limit: int = 20) -> dict[str, Any]:
    """The cluster's newest events: who took over when, why, and how long it took.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.history limit=50
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        events = _minions().first(nodes, "guard.history", {"limit": int(limit)}).value
        return {"result": True, "comment": f"{len(events)} events", "history": events}

    return _verb(cluster, work)


def start(cluster: str | None = None, vm: str | None = None) -> dict[str, Any]:
    """Wish the VM started and let the best node take it; returns when it runs.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.start
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        minions = _minions()
        adviser, stand = _wish(minions, nodes, "started", vm)
        lease = stand["lease"]
        if lease["holder"]:
            text = f"{lease['holder']} has the lease (epoch {lease['epoch']}) and starts it"
            return {
                "result": True,
                "comment": f"{stand['vm']} is wished started; {text}",
                "vm": stand["vm"],
                "node": lease["holder"],
            }
        return _told(takeover.order(minions, stand, adviser, f"mnha.start by {_who()}"), stand["vm"])

    return _verb(cluster, work)


def stop(cluster: str | None = None, vm: str | None = None, wait_s: float = STOP_WAIT_S) -> dict[str, Any]:
    """Wish the VM stopped; returns when it is off and its lease given back. Consul and the guards go on.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.stop
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        minions = _minions()
        _, stand = _wish(minions, nodes, "stopped", vm)
        lease, holder = stand["lease"], stand["lease"]["holder"]
        if lease["phase"] == "released":
            return {"result": True, "comment": f"{stand['vm']} is stopped: no node has its lease", "vm": stand["vm"]}
        order = {"vm": stand["vm"], "wait_s": float(wait_s)}
        reply = minions.one(holder, "guard.stop", order, timeout_s=float(wait_s) + 8)
        text = (
            f"{stand['vm']} is stopped; it ran on {holder}"
            if reply.ok
            else f"wished stopped, but {holder}: {reply.value}"
        )
        return {"result": reply.ok, "comment": text, "vm": stand["vm"], "node": holder}

    return _verb(cluster, work)


def migrate(node: str = "", cluster: str | None = None, vm: str | None = None, wait_s: float = 600.0) -> dict[str, Any]:
    """Migrate the VM, live, to a node, or to the best one. If it can't be, it goes on where it is.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.migrate
        salt-run mnha.migrate node2
    """
    who = _who()
    return _verb(cluster, lambda _, nodes: migration.migrate(_minions(), nodes, vm, node, who, float(wait_s)).told())


def maintenance(
    node: str, state: str | bool, cluster: str | None = None, reason: str = "", force: bool = False
) -> dict[str, Any]:
    """`on`: migrate the VM away, then make the node no candidate (`force`: even if the VM has to stay). `off`: make
    it one again; the VM comes back only if `prefer` names this node before the present one.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.maintenance node1 on reason='new memory'
        salt-run mnha.maintenance node1 off
    """
    who = _who()
    return _verb(
        cluster, lambda _, nodes: migration.maintenance(_minions(), nodes, node, state, who, reason, force).told()
    )


def failover(
    cluster: str, vm: str, epoch: int, reporter: str, seq: int = 0, attempt: int = 0, event: str = "lease_expired",
    index: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What the reactor runs when a lease expires or is free: claim it, choose a node, order the take-over,
    record it.

    Not for the command line in normal times: the guards refuse it while the holder renews its lease.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.failover example mnvm 7 node2
    """
    trouble = takeover.Trouble(vm, int(epoch), int(seq), int(attempt), reporter, event, index)
    master = str(__opts__["id"])

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        if reporter not in nodes:
            raise InputError(f"{reporter} is no node of cluster {name}; its nodes are {', '.join(nodes)}")
        outcome = takeover.fail_over(_minions(), trouble, master)
        log.warning("failover of %s/%s (%s, epoch %s): %s", name, vm, event, epoch, outcome.text)
        return _told(outcome, vm)

    return _verb(cluster, work)


def prepare() -> bool:
    """Nothing but being called: whoever calls it, the reactor, has loaded the runners then, and fails over
    faster.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.prepare
    """
    mnha.part("master.clusters")
    with _minions().client():
        return True


def claim(cluster: str, action: str) -> dict[str, Any]:
    """Claim an action for this master, through any node of the cluster; fails if another master has it.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.claim example maintenance-node2
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        minions = _minions()
        node = minions.first(nodes, "consul_ha.quorum").node
        answer = takeover.value_of(minions.one(node, "consul_ha.claim", {"action": action, "by": str(__opts__["id"])}))
        minions.one(node, "consul_ha.kv_prune", {"prefix": keys.ACTIONS})
        return {"result": answer["claimed"], "comment": f"{action} is claimed by {answer['by']}"}

    return _verb(cluster, work)


def check_config(cluster: str | None = None, node: str | None = None) -> dict[str, Any]:
    """Check the pillar of a cluster's nodes (or of one minion): all faults at once, nothing is changed.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.check_config
        salt-run mnha.check_config node=node1
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        faults: dict[str, list[str]] = {}
        for one in nodes:
            try:
                mnha.part("config").load(_accepted().compile_pillar(one)).require_node(one)
            except ConfigurationError as error:
                faults[one] = [str(fault) for fault in error.faults] or [error.message]
            except InputError as error:
                faults[one] = [error.message]
        alike = {text for lines in faults.values() for text in lines}
        text = f"{len(alike)} faults in the pillar of {', '.join(faults)}" if faults else "config file check pass"
        return {"result": not faults, "comment": text, "faults": faults}

    return _told_of(node, work, [node]) if node else _verb(cluster, work)


def version(cluster: str | None = None) -> dict[str, Any]:
    """This project's version here and in each node's guard, and Salt's.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.version
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        replies = _minions().each(nodes, "guard.status", timeout_s=3.0)
        guards = {
            node: (replies[node].value["guard"]["version"] if replies[node].ok else str(replies[node].value))
            if node in replies
            else "no answer"
            for node in nodes
        }
        return {"result": True, "comment": f"mnha {__version__}", "mnha": __version__, "guards": guards,
                "salt": salt.version.__version__}  # fmt: skip

    return _verb(cluster, work)


def consul_roles(cluster: str | None = None, node: str | None = None, wanted: str | None = None) -> dict[str, Any]:
    """Make the policies and tokens in Consul of a cluster's nodes, or of one, with this master's secrets.

    What the reactor runs when a node misses some, with the digest of what is `wanted` there.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.consul_roles cluster=example node=node1
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        if node is not None and node not in nodes:
            raise InputError(f"{node} is no node of cluster {name}; its nodes are {', '.join(nodes)}")
        secrets, seal = mnha.part("secrets.store"), mnha.part("secrets.sealed").seal
        token, made = secrets.management_token(secrets.folder(__opts__) / name), {}
        for one in nodes if node is None else [node]:
            sealed_token = seal(token, (Path(__opts__["pki_dir"]) / "minions" / one).read_text())
            order = {"sealed_token": sealed_token, "wanted": wanted}
            made[one] = takeover.value_of(_minions().one(one, "consul_ha.make_roles", order, timeout_s=ROLES_WAIT_S))
        text = "; ".join(f"{one}: {', '.join(changes)}" for one, changes in made.items() if changes)
        return {"result": True, "comment": text or "policies and tokens are as they should be", "changes": made}

    return _verb(cluster, work)


def bootstrap(cluster: str, renew_certificates: bool = False, renew_tokens: bool = False) -> dict[str, Any]:
    """Make a cluster's secrets on this master: authority, certificates, Consul's keys and tokens, Salt's shared
    key.

    What exists already stays as it is, so it may be run again at any time: after a node was added, or to hear
    which certificates end soon. Nodes get their secrets with the next `state.apply`.

    cluster
        the cluster's name in the pillar
    renew_certificates
        make the nodes' certificates and keys anew, after a change of address or before they end
    renew_tokens
        make the Consul tokens of all roles of all nodes anew, after somebody may have read one

    CLI Example:

    .. code-block:: bash

        salt-run mnha.bootstrap cluster=example
    """
    secrets = mnha.part("secrets.store")
    try:
        conf = _accepted().configuration(cluster)
        plan = secrets.Plan(
            cluster=conf.name,
            datacenter=conf.name,
            nodes={name: (node.storage, node.management) for name, node in conf.nodes.items()},
            masters_on_nodes=conf.salt.masters_on_nodes,
            salt_master_key=Path(__opts__["pki_dir"]) / "master.pem",
        )
        folder = secrets.folder(__opts__) / conf.name
        made = secrets.bootstrap(folder, plan, renew_certificates, renew_tokens=renew_tokens)
    except MnhaError as error:
        raise CommandExecutionError(error.message) from error
    result: dict[str, Any] = {"folder": str(folder), "created": made.created}
    return {**result, "kept": len(made.kept), "warnings": made.warnings}


# ---- how the verbs work


def _verb(cluster: str | None, work: Callable[[str, list[str]], dict[str, Any]]) -> dict[str, Any]:
    """Find the cluster's nodes and do `work`; what fails is told in one sentence, with a non-zero exit code."""
    try:
        name, nodes = _accepted().nodes(cluster)
    except MnhaError as error:
        return _returned(cluster or "mnha", {"result": False, "comment": error.message})
    return _told_of(name, work, nodes)


def _told_of(name: str, work: Callable[[str, list[str]], dict[str, Any]], nodes: list[str]) -> dict[str, Any]:
    try:
        return _returned(name, work(name, nodes))
    except MnhaError as error:
        return _returned(name, {"result": False, "comment": error.message, "kind": error.kind})


def _returned(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """What Salt needs: with these two keys and no other it shows the data through the outputter, and only them
    with --out.

    It reads success from each `result`, and the exit code of `salt-run` from `retcode` among the data.
    """
    return {"outputter": "mnha", "data": {name: data} if data["result"] else {name: data, "retcode": 1}}


def _told(outcome: takeover.Outcome, vm: str) -> dict[str, Any]:
    return {"result": outcome.ok, "comment": outcome.text, "vm": vm, "done": outcome.done, "node": outcome.node,
            "epoch": outcome.epoch, "timeline": outcome.timeline, "steps_s": outcome.steps_s, "tried": outcome.tried,
            "rejected": outcome.rejected}  # fmt: skip


def _minions() -> ask.Minions:
    return ask.Minions(__opts__["conf_file"])


def _who() -> str:
    return f"{getpass.getuser()}@{__opts__['id']}"


def _wish(minions: ask.Minions, nodes: list[str], run: str, vm: str | None) -> tuple[str, dict[str, Any]]:
    """Write the wish through the first node that has a quorum; that node, and how things stand."""
    node = minions.first(nodes, "consul_ha.quorum", timeout_s=8.0)
    if node.value is not True:
        raise UnreachableError(
            f"{node.node} finds no quorum of Consul: nothing can be started or stopped; see mnha.status"
        )
    reply = minions.one(node.node, "mnvm.wish", {"run": run, "vm": vm, "by": f"mnha by {_who()}"}, timeout_s=8.0)
    return node.node, takeover.value_of(reply)


def _accepted() -> Accepted:
    return Accepted(__opts__)
