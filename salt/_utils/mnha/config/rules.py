"""What must hold between several keys of a cluster's configuration. Pure.

The rules read plain nested mappings, not the model, and each looks only at what is there. So they can also be run over
what is left of a configuration whose faulty values have been taken out, and an operator learns everything at once: that
one VM's memory is misspelt *and* that two others share a MAC address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..core.timing import PROFILES, Timings
from ..errors import ConfigurationError, Fault
from . import killing, network_rules, rbd, shared_mounts
from .fields import Wrong, check_mac, check_per_node, check_uuid, items, join, nested, not_a_host, show

NODE_COUNTS = (3, 5)
MINIMUM_CPUS = 4
MINIMUM_MEMORY_MIB = 8192
"""The smallest size that the management software of a small cloud (fewer than 100 hosts and 1,000 VMs) runs with."""

SHORTEST_STORAGE_LIMIT_S = 10.0
"""A guard notices hanging storage after 6 s at the latest (it looks every 2 s and waits for 4 s), and it takes a moment
until the others have read that. Asked sooner, a node that hangs with all others would still look well."""

SHORTEST_MANAGEMENT_LIMIT_S = 8.0
"""A guard takes up to 5 s to find that nobody answers, and the others have to find the same where a switch is gone for
all."""

SHORTEST_OWN_ACCORD_S = 1.0
"""A master that hears of an expired lease only when it has expired has given its order after about a second (beacon,
event bus, plan: docs/salt-latency.md); before that a guard would only be in its way."""

SHORTEST_WATCHED_KILL_S = 1.0
"""A watchdog counts whole seconds, and so may reset the node up to one second before it must (fencer/watchdog.py)."""

Mapping_ = Mapping[str, Any]

TAKEN_OUT = object()
"""Stands where a faulty value stood: something is there, but nothing that may be compared."""


def check_timings(value: Any) -> Timings:
    """A profile's name, or a mapping of all timings.

    :raises Wrong: it is neither, or not safe; each violated inequality with its numbers.
    """
    names = ", ".join(PROFILES)
    if isinstance(value, str) and value in PROFILES:
        return PROFILES[value]
    if not isinstance(value, Mapping):
        raise Wrong(f"{show(value)} is no profile", f"write one of {names}, or a mapping of the four timings")
    try:
        return Timings.from_dict({str(name): seconds for name, seconds in value.items()})
    except ConfigurationError as error:
        faults = error.faults or (Fault("", value, error.message, ""),)
    raise Wrong(
        faults=tuple(
            Fault(fault.path.removeprefix("timings").lstrip(":"), fault.value, fault.problem, fault.remedy)
            for fault in faults
        )
    )


def check(cluster: Mapping_) -> tuple[Fault, ...]:
    """All faults between the keys of `cluster`; their paths are relative to it.

    :param cluster: what stands under `mnha:cluster`. Each value is valid by itself, or missing, or ``TAKEN_OUT``.
    """
    rules: tuple[Callable[[Mapping_], Iterator[Fault]], ...] = (
        _node_count,
        _node_addresses,
        network_rules.check,
        shared_mounts.check,
        _announcement,
        _watched_kill,
        _memory_in_time,
        _storage_limit,
        _management_limit,
        _own_accord,
        _consul_ports,
        _pip,
        _masters,
        _vm_count,
        rbd.of_one_kind,
        _unique_in_vms,
        _minimum_size,
        _one_of_each_network,
        _networks,
        _guest_addresses,
        _per_node_values,
        _prefer,
    )
    return tuple(fault for rule in rules for fault in rule(cluster))


def unread(cluster: Mapping_) -> tuple[Fault, ...]:
    """The faults that the model can't have, for its mapping lacks what they are about; as :func:`check`.

    :param cluster: as it was written.
    """
    return tuple(shared_mounts.alike(cluster))


def doubts(cluster: Mapping_) -> tuple[Fault, ...]:
    """What is allowed in a `cluster` without faults, and may turn out badly; as :func:`check`."""
    return (*_in_time(cluster, killing.tight), *network_rules.doubts(cluster), *shared_mounts.doubts(cluster))


def outgrown(cluster: Mapping_, memory_mib: int, cores: int) -> tuple[Fault, ...]:
    """What of the VMs is more than a node has; as :func:`doubts`.

    :param memory_mib: the node's; 0: not known.
    :param cores: the node's; 0: not known.
    """
    has = {"memory_mib": (memory_mib, f"{memory_mib} MiB of memory"), "cpus": (cores, f"{cores} cores")}
    return tuple(
        Fault(join("vms", name, key), vm.get(key), f"this node has {text} in all", "give the VM less, or the node more")
        for name, vm in _vms(cluster)
        for key, (most, text) in has.items()
        if most and int(vm.get(key) or 0) > most
    )


def _storage_limit(cluster: Mapping_) -> Iterator[Fault]:
    value = cluster.get("storage_lost_after_s")
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < SHORTEST_STORAGE_LIMIT_S:
        yield Fault(
            "storage_lost_after_s",
            value,
            f"it takes up to {SHORTEST_STORAGE_LIMIT_S:g} s to know whether other nodes reach the image",
            f"give {SHORTEST_STORAGE_LIMIT_S:g} or more, or 0: the VM is never killed for that",
        )


def _management_limit(cluster: Mapping_) -> Iterator[Fault]:
    value = cluster.get("management_lost_after_s")
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < SHORTEST_MANAGEMENT_LIMIT_S:
        yield Fault(
            "management_lost_after_s",
            value,
            f"it takes up to {SHORTEST_MANAGEMENT_LIMIT_S:g} s to know whether other nodes have lost it as well",
            f"give {SHORTEST_MANAGEMENT_LIMIT_S:g} or more, or 0: the VM is never moved for that",
        )


def _own_accord(cluster: Mapping_) -> Iterator[Fault]:
    value = cluster.get("masterless_takeover_after_s")
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < SHORTEST_OWN_ACCORD_S:
        yield Fault(
            "masterless_takeover_after_s",
            value,
            f"a master that was not told in time takes up to {SHORTEST_OWN_ACCORD_S:g} s for its order",
            f"give {SHORTEST_OWN_ACCORD_S:g} or more, or 0: no guard ever does so by itself",
        )


def _vms(cluster: Mapping_) -> Iterator[tuple[str, Mapping_]]:
    for name, vm in items(nested(cluster, "vms")):
        if isinstance(vm, Mapping):
            yield str(name), vm


def _vm_networks(cluster: Mapping_) -> Iterator[tuple[str, Mapping_]]:
    """Every network of every VM, with its path."""
    for name, vm in _vms(cluster):
        for index, network in items(nested(vm, "networks")):
            if isinstance(network, Mapping):
                yield join("vms", name, "networks", index), network


def _is_text(mapping: Mapping_, key: str) -> bool:
    return isinstance(mapping.get(key), str)


def _node_names(cluster: Mapping_) -> list[str]:
    return [str(name) for name, _ in items(nested(cluster, "nodes"))]


def _node_count(cluster: Mapping_) -> Iterator[Fault]:
    nodes = nested(cluster, "nodes")
    if isinstance(nodes, Mapping) and len(nodes) not in NODE_COUNTS:
        yield Fault(
            "nodes",
            len(nodes),
            f"{len(nodes)} nodes form no cluster",
            "list 3 nodes (one may fail) or 5 (two may): an even number tolerates no more failures than one fewer",
        )


def _duplicates(places: list[tuple[str, Any]], what: str, remedy: str) -> Iterator[Fault]:
    """A fault for every place whose value stands at an earlier place already."""
    first: dict[Any, str] = {}
    for path, value in places:
        if value in first:
            yield Fault(path, value, f"{what} {value} is also that of {first[value]}", remedy)
        else:
            first[value] = path


def _node_addresses(cluster: Mapping_) -> Iterator[Fault]:
    places = [
        (join("nodes", name, key), nested(node, key))
        for name, node in items(nested(cluster, "nodes"))
        for key in ("management", "storage")
        if isinstance(nested(node, key), str)
    ]
    yield from _duplicates(places, "the address", "give every node its own address in each network")


def _announcement(cluster: Mapping_) -> Iterator[Fault]:
    announce_s = nested(cluster, "announce_s")
    if not isinstance(announce_s, int | float):
        return
    try:
        timings = check_timings(cluster.get("timings", "default"))
    except Wrong:
        return
    longest_s = timings.lease_s - 3 * timings.renew_s
    if announce_s > longest_s:
        yield Fault(
            "announce_s",
            announce_s,
            f"announce_s ≤ lease_s - 3 · renew_s does not hold: {announce_s:g} ≤ {timings.lease_s:g} - "
            f"3 · {timings.renew_s:g} = {longest_s:g}; every late renewal would be announced as a failure",
            f"lower it to {longest_s:g}",
        )


def _watched_kill(cluster: Mapping_) -> Iterator[Fault]:
    timings = cluster.get("timings", "default")
    if cluster.get("watchdog", "automatic") not in ("required", "automatic") or not isinstance(timings, Mapping):
        return
    try:
        kill_s = check_timings(timings).kill_s
    except Wrong:
        return
    if kill_s < SHORTEST_WATCHED_KILL_S:
        yield Fault(
            "timings:kill_s",
            kill_s,
            f"is less than {SHORTEST_WATCHED_KILL_S:g} s: a watchdog counts whole seconds, and might reset a node "
            "before deadline_s is over",
            f"raise it to {SHORTEST_WATCHED_KILL_S:g} (and lease_s by as much), or set watchdog to 'off'",
        )


def _memory_in_time(cluster: Mapping_) -> Iterator[Fault]:
    return _in_time(cluster, killing.too_large)


def _in_time(cluster: Mapping_, judge: Callable[[str, int, Timings], Iterator[Fault]]) -> Iterator[Fault]:
    """What `judge` says of each VM's memory, where that and the timings are known."""
    try:
        timings = check_timings(cluster.get("timings", "default"))
    except Wrong:
        return
    for name, vm in _vms(cluster):
        memory_mib = vm.get("memory_mib")
        if isinstance(memory_mib, int):
            yield from judge(name, memory_mib, timings)


def _consul_ports(cluster: Mapping_) -> Iterator[Fault]:
    ports = items(nested(cluster, "consul", "ports"))
    places = [(join("consul", "ports", name), port) for name, port in ports if isinstance(port, int)]
    if isinstance(port := nested(cluster, "migration", "port"), int):
        places.append((join("migration", "port"), port))
    yield from _duplicates(places, "the port", "give each its own port")


def _pip(cluster: Mapping_) -> Iterator[Fault]:
    pip = nested(cluster, "packages", "pip")
    if nested(pip, "no_index") is True and nested(pip, "find_links") is None:
        yield Fault(
            "packages:pip:find_links", None, "is missing while no_index is true", "say where pip finds packages"
        )


def _masters(cluster: Mapping_) -> Iterator[Fault]:
    if nested(cluster, "salt", "masters_on_nodes") is False and not nested(cluster, "salt", "masters"):
        yield Fault(
            "salt:masters",
            nested(cluster, "salt", "masters"),
            "names no master while masters_on_nodes is false",
            "give the address of at least one master, or set masters_on_nodes to true",
        )


def _vm_count(cluster: Mapping_) -> Iterator[Fault]:
    vms = nested(cluster, "vms")
    if isinstance(vms, Mapping) and not vms:
        yield Fault("vms", vms, "no VM is protected", "describe the management-node VM here, as `mnvm`")


def _unique_in_vms(cluster: Mapping_) -> Iterator[Fault]:
    """A shared image would be written by two VMs at once; libvirt refuses a shared UUID; a shared MAC is cut off."""
    vms = list(_vms(cluster))
    uuids = [(join("vms", n, "uuid"), check_uuid(vm["uuid"])) for n, vm in vms if _is_text(vm, "uuid")]
    yield from _duplicates(uuids, "the UUID", "give every VM its own, made with uuidgen")
    images = [(join("vms", n, "image"), vm["image"]) for n, vm in vms if _is_text(vm, "image")]
    images += rbd.of_its_own(cluster)
    yield from _duplicates(images, "the image", "give every VM its own: two writers destroy it")
    macs = [(join(p, "mac"), check_mac(net["mac"])) for p, net in _vm_networks(cluster) if _is_text(net, "mac")]
    yield from _duplicates(macs, "the MAC address", "make up another one")


def _minimum_size(cluster: Mapping_) -> Iterator[Fault]:
    if nested(cluster, "minimum_size") is False:
        return
    for name, vm in _vms(cluster):
        for key, least in (("cpus", MINIMUM_CPUS), ("memory_mib", MINIMUM_MEMORY_MIB)):
            value = vm.get(key)
            if isinstance(value, int) and value < least:
                yield Fault(
                    join("vms", name, key),
                    value,
                    f"{value} is below the minimum of {least}",
                    f"give at least {least}, or set minimum_size to false for a test VM",
                )


def _one_of_each_network(cluster: Mapping_) -> Iterator[Fault]:
    for name, vm in _vms(cluster):
        networks = nested(vm, "networks")
        if not isinstance(networks, list | tuple) or None in networks:
            continue
        for key in ("management", "default_route"):
            values = [nested(network, key) for network in networks]
            count = values.count(True)
            if count != 1 and TAKEN_OUT not in values:
                yield Fault(
                    join("vms", name, "networks"),
                    count,
                    f"{count} networks have `{key}: true`",
                    "set it for exactly one",
                )


def _networks(cluster: Mapping_) -> Iterator[Fault]:
    """What belongs together within a network is given together."""
    needs = (
        ("management", "address", "the guest is managed at it"),
        ("address", "netmask", "an address needs one"),
        ("netmask", "address", "a netmask is nothing without one"),
        ("gateway", "address", "a gateway is nothing without one"),
        ("default_route", "gateway", "the default route goes through it"),
    )
    for path, network in _vm_networks(cluster):
        missing: set[str] = set()
        for key, needed, why in needs:
            wanted = network.get(key) not in (None, False, TAKEN_OUT)
            if wanted and network.get(needed) is None and needed not in missing:
                missing.add(needed)
                yield Fault(join(path, needed), None, f"is missing although {key} is set: {why}", "give it")


def _resolve(value: Any, nodes: list[str]) -> dict[str, str]:
    """A per-node value (valid by itself) by node; a single value is that of all nodes."""
    if value is None or value is TAKEN_OUT:
        return {}
    resolved = check_per_node(value, str)
    return dict.fromkeys(nodes, resolved) if isinstance(resolved, str) else resolved


def _guest_addresses(cluster: Mapping_) -> Iterator[Fault]:
    """Address, netmask and gateway agree on every node, and nobody else has the address."""
    nodes = _node_names(cluster)
    taken = {
        value: join("nodes", name, key)
        for name, node in items(nested(cluster, "nodes"))
        for key, value in items(node)
        if isinstance(value, str)
    }
    for path, network in _vm_networks(cluster):
        addresses = _resolve(network.get("address"), nodes)
        masks, gateways = _resolve(network.get("netmask"), nodes), _resolve(network.get("gateway"), nodes)
        seen: set[tuple[str, str | None, str | None]] = set()
        for node, address in addresses.items():
            combination = (address, masks.get(node), gateways.get(node))
            if combination not in seen:
                seen.add(combination)
                yield from _guest_address(path, *combination, taken)
        for address in dict.fromkeys(addresses.values()):
            taken.setdefault(address, join(path, "address"))


def _guest_address(
    path: str, address: str, mask: str | None, gateway: str | None, taken: Mapping[str, str]
) -> Iterator[Fault]:
    if address in taken:
        yield Fault(
            join(path, "address"), address, f"{address} is also that of {taken[address]}", "give the guest its own"
        )
    if mask is None:
        return
    network = ipaddress.IPv4Network(f"{address}/{mask}", strict=False)
    if not_a_host(address, network):
        yield Fault(
            join(path, "address"), address, f"{address} is no host's address in {network}", "give one in between"
        )
    if gateway is None:
        return
    if ipaddress.IPv4Address(gateway) not in network:
        yield Fault(
            join(path, "gateway"), gateway, f"{gateway} is not in the guest's network {network}", "correct one of them"
        )
    elif not_a_host(gateway, network):
        yield Fault(join(path, "gateway"), gateway, f"is no host's address in {network}", "give the router's")
    elif gateway == address:
        yield Fault(join(path, "gateway"), gateway, "is the guest's own address", "give the router's")


def _per_node_values(cluster: Mapping_) -> Iterator[Fault]:
    """A value that is given per node is given for every node of the cluster, and for no other."""
    nodes = _node_names(cluster)
    places = [(join(p, k), net.get(k)) for p, net in _vm_networks(cluster) for k in ("address", "netmask", "gateway")]
    keys = ("console_address", "console_proxy_address")
    places += [(join("vms", name, key), vm.get(key)) for name, vm in _vms(cluster) for key in keys]
    for path, value in places:
        if not nodes or value is None or value is TAKEN_OUT:
            continue
        given = _resolve(value, nodes)
        for name in sorted(set(given) - set(nodes)):
            yield Fault(join(path, name), given[name], f"{name} is no node of the cluster", _nodes_are(nodes))
        missing = [name for name in nodes if name not in given]
        if missing:
            yield Fault(
                path,
                value,
                f"has no value for {', '.join(missing)}",
                "give one for every node, or a single one for all",
            )


def _prefer(cluster: Mapping_) -> Iterator[Fault]:
    nodes = _node_names(cluster)
    for name, vm in _vms(cluster):
        places = [
            (join("vms", name, "prefer", i), node) for i, node in items(vm.get("prefer")) if isinstance(node, str)
        ]
        for path, node in places:
            if nodes and node not in nodes:
                yield Fault(path, node, f"{node} is no node of the cluster", _nodes_are(nodes))
        yield from _duplicates(places, "the node", "name every node once")


def _nodes_are(nodes: list[str]) -> str:
    return f"its nodes are {', '.join(nodes)}"
