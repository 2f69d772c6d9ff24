"""Who takes over without an order, and in which order: the choice that a master would make, made on each node.

Of its own node a guard goes by what it knows at this moment, of the others by their records. What it does not see makes
no other node a candidate; nodes that see different things may both come first, and the lease lets one through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.choose import Needs, Node
from ..core.evacuation import has_management
from ..core.guard import Guard
from ..core.placement import Cluster, place, placed
from .adapters.node_records import Seen


def turns_of(
    config: Mapping[str, Any],
    guards: Mapping[str, Guard],
    own: Mapping[str, Any],
    seen: Seen | None,
    peers: Mapping[str, Mapping[str, Any]],
) -> dict[str, tuple[str, ...] | None]:
    """VM -> the nodes that may take it over, the best first; None where the others' records are not known.

    :param config: what :func:`mnha.daemon.settings.load` returned.
    :param own: this node's record, as it is now, with the free memory that was told of it: all compare by that.
    :param seen: the others'.
    :param peers: which of them Consul sees alive (:meth:`mnha.daemon.adapters.peers.Peers.seen`).
    """
    if seen is None:
        return dict.fromkeys(guards)
    views = {name: guard.view for name, guard in guards.items()}
    known = {name: (vars(view.lease) if view.lease is not None else None, view.desired) for name, view in views.items()}
    cluster = cluster_of(config, list(_nodes(config, guards.values(), own, seen, peers)), known)
    return {name: place(cluster, name).order for name in guards}


def better_of(order: Iterable[str] | None, seen: Seen | None, disk_error: str) -> list[str]:
    """The nodes to which a VM may leave a lost management network, the best first.

    None while its disk keeps it from being started anew: a migration would take it onto old data, and after a shutdown
    it would stay off. The nodes' records say so, too, but a moment later.

    :param order: of :func:`turns_of`.
    :param disk_error: why a start from its image must not be; empty: it may.
    """
    if seen is None or disk_error:
        return []
    return [name for name in order or () if has_management(seen.nodes.get(name))]


def cluster_of(config: Mapping[str, Any], nodes: Sequence[Node], known: Mapping[str, tuple[Any, Any]]) -> Cluster:
    """What a placement of the configuration's VMs depends on.

    :param known: VM -> its lease and its desired state, as :func:`mnha.core.placement.placed` takes them.
    """
    vms = {
        vm["name"]: placed(
            Needs(vm["name"], int(vm["memory_mib"]), int(vm["cpus"])), vm.get("prefer", ()), *known[vm["name"]]
        )
        for vm in config["vms"]
    }
    return Cluster(nodes, vms, int(config.get("memory_reserve_mib", 0)))


def _nodes(
    config: Mapping[str, Any],
    guards: Iterable[Guard],
    own: Mapping[str, Any],
    seen: Seen,
    peers: Mapping[str, Mapping[str, Any]],
) -> Iterable[Node]:
    """The nodes of the cluster as this one sees them."""
    reason = next((guard.view.maintenance for guard in guards if guard.view.maintenance), "")
    for name in config["nodes"]:
        if name == config["node"]:
            yield Node(name, own, alive=True, maintenance={"reason": reason} if reason else None)
        else:
            alive = (peers.get(name) or {}).get("alive")
            yield Node(name, seen.nodes.get(name), alive, seen.maintenance.get(name))
