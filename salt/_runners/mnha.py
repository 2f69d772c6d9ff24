"""What an operator types: `salt-run mnha.VERB cluster=NAME`.

Every verb returns what `mnha.master.verbs` says, shown by the outputter `mnha`; `--out=json` gives the data. A verb
that failed has a `retcode` beside it and a non-zero exit code. The cluster may be left out where the master has one
only. What reactor and orchestrations run is in `mnha_policy`.

A master need not reach Consul: what concerns it goes through a minion of the cluster. Status and history are read from
Consul directly where this machine is a node.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import salt.version

import mnha
from mnha import __version__
from mnha.errors import ConfigurationError, FailedError, InputError, MnhaError, UnreachableError
from mnha.master import failover as takeover
from mnha.master import history as recorded
from mnha.master import migration, report, typed, verbs, wishes
from mnha.master import minions as ask
from mnha.master.inventory import Inventory

log = logging.getLogger(__name__)

STATUS_WAIT_S = 4.0
"""The most that a status waits; `report.heard_enough` mostly ends it sooner."""
LOST_WAIT_S = 2.0
"""The most that it waits for why a minion can't report."""
OWN_RECORDS_S = 2.0
"""The most that a status waits for Consul's records, where this machine can read them."""
STOP_WAIT_S = 180.0
ADOPT_WAIT_S = 40.0


@typed.verb
def status(*, cluster: str | None = None, wait_s: float = STATUS_WAIT_S) -> dict[str, Any]:
    """How the cluster is: VMs, nodes, guards, Consul. Exit code 0: healthy; 1: degraded, or a VM is not as desired; 2:
    not known, or no quorum.

    Ends as soon as all nodes have answered, or the rest is silent for as long again as the answers took; a
    holder that has just renewed is waited for. On a node it reads Consul itself, and needs neither master nor minions.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.status
        salt-run mnha.status cluster=example --out=json
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        began_s, why_silent, replies = time.monotonic(), "", {}
        records = _own_records(name)
        reading = _on_demand("master.records").Reading(records) if records else None
        try:
            replies = _minions().each(nodes, "mnvm.report", timeout_s=wait_s, enough=report.heard_enough)
        except UnreachableError as error:
            why_silent = error.message
        waited_s = time.monotonic() - began_s
        if lame := report.without_report(replies):
            with contextlib.suppress(UnreachableError):
                replies = report.explained(replies, _minions().each(lame, report.LOST, timeout_s=LOST_WAIT_S))
        view, renewed_s = reading.result(OWN_RECORDS_S, with_renewals=not replies) if reading else (None, {})
        return report.status(
            nodes, replies, now_s=time.time(), waited_s=waited_s, records=view, renewed_s=renewed_s,
            why_silent=why_silent, compare=lambda recorded, given: _compared(nodes[0], recorded, given),
        )  # fmt: skip

    return verbs.run(__opts__, cluster, work)


@typed.verb
def history(*, cluster: str | None = None, limit: int = 20) -> dict[str, Any]:
    """The cluster's newest events: who took over when, why, and how long it took. On a node it reads Consul itself.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.history limit=50
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        events = _own_history(name, limit)
        if events is None:
            events = _minions().first(nodes, "guard.history", {"limit": limit}).value
        return {"result": True, "comment": f"{len(events)} events", "history": events}

    return verbs.run(__opts__, cluster, work)


@typed.verb
def start(*, cluster: str | None = None, vm: str | None = None) -> dict[str, Any]:
    """Set the VM's desired state to started and let the best node take it; returns when it runs. The guards obey what
    Consul holds: it goes through any node whose minion answers. It has failed where the VM stands paused.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.start
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        return wishes.start(_minions(), nodes, vm, _who()).to_dict()

    return verbs.run(__opts__, cluster, work)


@typed.verb
def stop(*, cluster: str | None = None, vm: str | None = None, wait_s: float = STOP_WAIT_S) -> dict[str, Any]:
    """Set the VM's desired state to stopped; returns when it is off and its lease given back. Consul and the guards
    go on.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.stop
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        return wishes.stop(_minions(), nodes, vm, _who(), wait_s).to_dict()

    return verbs.run(__opts__, cluster, work)


@typed.verb
def migrate(
    node: str = "", *, cluster: str | None = None, vm: str | None = None, wait_s: float = 600.0
) -> dict[str, Any]:
    """Migrate the VM, live, to a node, or to the best one. If it can't be, it goes on where it is.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.migrate
        salt-run mnha.migrate node2
    """
    who = _who()

    def work(_: str, nodes: list[str]) -> dict[str, Any]:
        return migration.migrate(_minions(), nodes, vm, node, who, wait_s).to_dict()

    return verbs.run(__opts__, cluster, work)


@typed.verb
def maintenance(
    node: str, state: str | bool, *, cluster: str | None = None, reason: str = "", force: bool = False
) -> dict[str, Any]:
    """`on`: migrate the VM away, then make the node no candidate (`force`: even if the VM has to stay). `off`: make
    it one again; the VM comes back only if `prefer` names this node before the present one.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.maintenance node1 on reason='new memory'
        salt-run mnha.maintenance node1 off
    """
    who = _who()

    def work(_: str, nodes: list[str]) -> dict[str, Any]:
        return migration.maintenance(_minions(), nodes, node, state, who, reason, force).to_dict()

    return verbs.run(__opts__, cluster, work)


@typed.verb
def adopt_share(node: str, *, cluster: str | None = None) -> dict[str, Any]:
    """Make what a node has mounted at `image_folder` the cluster's share, after that was replaced: by its id the nodes
    tell the share from an empty mount point. While a VM runs, only its node may be named.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.adopt_share node1
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        verbs.require_node(node, name, nodes)
        found = takeover.value_of(_minions().one(node, "guard.adopt_share", timeout_s=ADOPT_WAIT_S))
        text = f"the share that {node} has mounted is the cluster's, by the id {found['id']}"
        return {"result": True, "comment": text, "node": node, "id": found["id"]}

    return verbs.run(__opts__, cluster, work)


@typed.verb
def accept_disk(*, cluster: str | None = None, vm: str | None = None) -> dict[str, Any]:
    """Let the VM be started from its image again, though it last wrote to an overlay of it: after that was merged by
    hand, or to give up what it holds. The VM must be off.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.accept_disk
    """

    def work(_: str, nodes: list[str]) -> dict[str, Any]:
        minions = _minions()
        node = minions.first(nodes, "consul_ha.quorum", timeout_s=8.0).node
        found = takeover.value_of(minions.one(node, "guard.accept_disk", {"vm": vm}, timeout_s=ADOPT_WAIT_S))
        return {"result": True, "comment": found["message"], "vm": found["vm"]}

    return verbs.run(__opts__, cluster, work)


@typed.verb
def check_config(*, cluster: str | None = None, node: str | None = None) -> dict[str, Any]:
    """Check the pillar of a cluster's nodes (or of one minion): all faults at once, nothing is changed.

    `doubts` has what is allowed, and may turn out badly.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.check_config
        salt-run mnha.check_config node=node1
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        faults: dict[str, list[str]] = {}
        inventory = Inventory(__opts__)
        doubts: dict[str, list[str]] = {}
        config = _on_demand("config")
        for one in (queue := list(nodes)):
            pillar = inventory.compile_pillar(one)
            if broken := inventory.render_faults(pillar):
                faults[one] = broken
                continue
            try:
                found = config.load(pillar)
                found.require_node(one)
                if not node:  # those that the pillar adds are not in force yet
                    queue += [other for other in found.nodes if other not in queue]
                grains = inventory.grains(one)
                sizes = (int(grains.get(key) or 0) for key in ("mem_total", "num_cpus"))
                if lines := [str(doubt) for doubt in config.doubts(found, *sizes)]:
                    doubts[one] = lines
            except ConfigurationError as error:
                faults[one] = [str(fault) for fault in error.faults] or [error.message]
            except InputError as error:
                faults[one] = [error.message]
        alike = {text for lines in faults.values() for text in lines}
        text = f"{len(alike)} faults in the pillar of {', '.join(faults)}" if faults else "config file check pass"
        if doubts:
            text += f"; {len({text for lines in doubts.values() for text in lines})} doubts"
        return {"result": not faults, "comment": text, "faults": faults, "doubts": doubts}

    return verbs.run_for(node, [node], work) if node else verbs.run(__opts__, cluster, work)


@typed.verb
def version(*, cluster: str | None = None) -> dict[str, Any]:
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

    return verbs.run(__opts__, cluster, work)


@typed.verb
def bootstrap(cluster: str, *, renew_certificates: bool = False, renew_tokens: bool = False) -> dict[str, Any]:
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
    secrets = _on_demand("secrets.store")
    conf = Inventory(__opts__).configuration(cluster)
    plan = secrets.Plan(
        cluster=conf.name,
        datacenter=conf.name,
        nodes={name: (node.storage, node.management) for name, node in conf.nodes.items()},
        masters_on_nodes=conf.salt.masters_on_nodes,
        salt_master_key=Path(__opts__["pki_dir"]) / "master.pem",
    )
    folder = secrets.folder(__opts__) / conf.name
    made = secrets.bootstrap(folder, plan, renew_certificates, renew_tokens=renew_tokens)
    result: dict[str, Any] = {"folder": str(folder), "created": made.created}
    return {**result, "kept": len(made.kept), "warnings": made.warnings}


# ---- how the verbs work


def _on_demand(name: str) -> Any:
    """A part of the library that needs packages beside Salt's.

    :raises FailedError: Salt's Python on this master has lost them, as after an upgrade.
    """
    try:
        return mnha.on_demand(name)
    except ImportError as error:
        remedy = "`salt-call state.apply states.salt.packages` repairs it"
        raise FailedError(f"Salt's own Python on this master can't load mnha.{name} ({error}): {remedy}") from error


def _minions() -> ask.Minions:
    return ask.Minions(__opts__["conf_file"])


def _own_records(cluster: str) -> Any:
    """Consul's records if this machine is a node of the cluster; None if not (`mnha_policy_token` of a master's
    configuration overrides the token's path).
    """
    guard_file = Inventory(__opts__).guard_file
    if not guard_file.is_file():
        return None
    try:
        records = _on_demand("master.records")
    except FailedError as error:
        log.info("the minions are asked, for this node can't read Consul: %s", error.message)
        return None
    return records.of_this_node(cluster, guard_file, Path(__opts__.get("mnha_policy_token", records.POLICY_TOKEN_FILE)))


def _compared(node: str, recorded: Any, given: Mapping[str, Any]) -> list[str]:
    """What this master's pillar for a node wants, compiled now, beside what is in force."""
    try:
        return _on_demand("master.wanted").notes(Inventory(__opts__).compile_pillar(node), recorded, given)
    except FailedError as error:
        return [error.message]


def _own_history(cluster: str, limit: int) -> Any:
    """The newest events as this machine reads them; None if it can't."""
    records = _own_records(cluster)
    try:
        return recorded.newest(records.history(), limit) if records else None
    except MnhaError as error:
        log.info("the minions are asked, for this node can't read the history: %s", error.message)
        return None


def _who() -> str:
    return f"{getpass.getuser()}@{__opts__['id']}"
