"""What the guard of one node must know, derived from the cluster's configuration. Pure.

The guard reads it as JSON from ``GUARD_FILE`` and knows nothing else of the pillar; it has no pydantic. ``v`` rises
when an older guard could misunderstand a newer file.
"""

from __future__ import annotations

import posixpath
from typing import Any

from ..host.libvirtd import PKI_FOLDER
from . import devices, guest_networks, rbd
from .fields import value_at
from .model import ClusterConfig, Vm
from .network_rules import ADDRESSED

GUARD_FILE = "/etc/mnha/guard.json"
GUARD_SOCKET = "/run/mnha/guard.sock"
FENCER_FILE = "/etc/mnha/fencer.json"
FENCER_FOLDER = "/run/mnha-fencer"
SLICES = "/sys/fs/cgroup/mnha.slice"
CA_FILE = "/etc/mnha/tls/ca.pem"
GUARD_TOKEN_FILE = "/etc/mnha/tokens/guard"
DOMAIN_FOLDER = "/etc/mnha/domains"
LEAVE_S = 180.0
"""How long a node that goes down may take to migrate its VMs away: 16 GiB at 1 Gbit/s take two and a half minutes. What
is not away by then is shut down."""


def domain_file(vm: str) -> str:
    """Where the rendered libvirt domain of a VM lies on every node."""
    return posixpath.join(DOMAIN_FOLDER, f"{vm}.xml")


def guard_config(cluster: ClusterConfig, node: str) -> dict[str, Any]:
    """The guard's configuration at `node`: plain values, to be written as JSON.

    Consul's servers are listed in the order in which they are asked: the local one, then the others by their storage
    addresses.

    :raises InputError: the cluster has no such node.
    """
    cluster.require_node(node)
    port = cluster.consul.ports.https
    others = [peer.storage for name, peer in cluster.nodes.items() if name != node]
    return {
        "v": 1,
        "cluster": cluster.name,
        "node": node,
        "socket": GUARD_SOCKET,
        "timings": cluster.effective_timings.to_dict(),
        "fencer": {"socket": f"{FENCER_FOLDER}/fencer.sock", "slices": SLICES},
        "watchdog": cluster.watchdog,
        "watchdog_device": cluster.watchdog_device,
        "masterless_takeover_after_s": cluster.masterless_takeover_after_s,
        "leave_s": LEAVE_S,
        "storage_lost_after_s": cluster.storage_lost_after_s,
        "management_lost_after_s": cluster.management_lost_after_s,
        "networks": _networks(cluster, node),
        "memory_reserve_mib": cluster.memory_reserve_mib,
        "image_folder": cluster.image_folder or "",
        "unsafe_mount": cluster.unsafe_mount,
        "consul": {
            "servers": [{"host": host, "port": port} for host in ["127.0.0.1", *others]],
            "ca": CA_FILE,
            "token_file": GUARD_TOKEN_FILE,
        },
        "nodes": list(cluster.nodes),
        "addresses": {name: peer.storage for name, peer in cluster.nodes.items()},
        "migration": {**cluster.migration.model_dump(mode="json"), "pki": PKI_FOLDER},
        "vms": [_vm(cluster, node, name, vm) for name, vm in cluster.vms.items()],
    }


def fencer_config(cluster: ClusterConfig) -> dict[str, Any]:
    """The fencer's configuration, the same at each node: plain values, to be written as JSON."""
    return {
        "v": 1,
        "socket": f"{FENCER_FOLDER}/fencer.sock",
        "memory": f"{FENCER_FOLDER}/grants.json",
        "mark": f"{FENCER_FOLDER}/watchdog.counts",
        "slices": SLICES,
        "vms": list(cluster.vms),
        "watchdog": cluster.watchdog,
        "watchdog_device": cluster.watchdog_device,
    }


def _networks(cluster: ClusterConfig, node: str) -> dict[str, Any]:
    """The networks of a node that its guard watches, by role: on which device, if that is configured, with which
    address, and who is to answer there.
    """
    found: dict[str, Any] = {}
    made = {network.role: network for network in devices.networks(cluster, node)}
    for role in ADDRESSED:
        peers = {name: getattr(peer, role) for name, peer in cluster.nodes.items() if name != node}
        network = made.get(role)
        found[role] = {
            "address": getattr(cluster.nodes[node], role),
            "device": network.device if network else None,
            "gateway": network.gateway if network else None,
            "peers": peers,
        }
    if device := devices.of_data(cluster, node):
        found["data"] = {"device": device}
    return found


def _vm(cluster: ClusterConfig, node: str, name: str, vm: Vm) -> dict[str, Any]:
    address = next((n.address for n in vm.networks if n.management and n.address), None)
    return {
        "name": name,
        "uuid": vm.uuid,
        "domain_xml": domain_file(name),
        "image": vm.rbd.image_of(name) if vm.rbd else posixpath.join(cluster.image_folder or "", vm.image or ""),
        "ceph": {"user": vm.rbd.user, "conf": rbd.configuration_file(name)} if vm.rbd else None,
        "bridges": list(dict.fromkeys(network.bridge for network in vm.networks)),
        "cpus": vm.cpus,
        "memory_mib": vm.memory_mib,
        "address": value_at(address, node) if address else None,
        "console_addresses": {name: vm.console_address_at(name) for name in cluster.nodes}
        if vm.console_address
        else {},
        "guest": guest_networks.wanted(cluster, name, node) if vm.configure_guest else None,
        "health": vm.health.model_dump(mode="json"),
        "restarts": vm.restarts.model_dump(mode="json"),
        "stop_timeout_s": vm.stop_timeout_s,
        "prefer": list(vm.prefer),
        "ranking": [*vm.prefer, *(name for name in cluster.nodes if name not in vm.prefer)],
    }
