"""The seed that a guest boots from: its name and addresses at one node, for cloud-init's data source NoCloud. Pure.

Each node has the seed of a VM at the same path, with the addresses that the guest is to have *there*, and of the same
size. So the domain is the same everywhere, and a guest that boots, wherever that is, boots with the right addresses.

`instance-id` is the VM's UUID and stays the same: to cloud-init another one is another machine, which gets new SSH host
keys, users and all else that is done once. cloud-init renders a network once for an instance as well; so the
vendor-data have it do that at each boot (`updates: network: when: [boot]`). cloud-init 22.4 (Debian 12) heeds that:
`NoCloud` is among the sources whose network may be read anew at a boot (`supported_update_events`),
`Init.apply_network_config` asks for it (`update_event_enabled`), and the vendor-data of the boot before are part of the
configuration by then. It stands in the vendor-data, so that a guest's own user-data may say otherwise.

An interface is found by its MAC address and keeps its name (cloud-init before 22.4 takes the one that it has here). The
default route is written as `gateway4`, of which netplan warns: of a route to 0.0.0.0/0 cloud-init 22.4 makes a call of
`route` where the guest has ifupdown, which a Debian 12 does not have, and `to: default` it does not understand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from ..config import guest_networks
from . import iso9660

if TYPE_CHECKING:
    from ..config import ClusterConfig, Vm

LABEL = "cidata"
"""By which cloud-init knows a seed."""
CLOUD_CONFIG = "#cloud-config\n"


def files(cluster: ClusterConfig, vm_name: str, node: str) -> dict[str, str] | None:
    """What a VM's seed holds at one node: file -> text. None: its guest is not configured.

    :raises InputError: the cluster has no such VM or node.
    """
    cluster.require_node(node)
    vm = cluster.require_vm(vm_name)
    if not vm.configure_guest:
        return None
    metadata = {
        "instance-id": vm.uuid,
        "local-hostname": vm_name,
        "node": node,
        "console_proxy_address": guest_networks.console_address(vm, node),
    }
    return {
        "meta-data": _yaml(metadata),
        "network-config": _yaml(_network_config(vm, node)),
        "user-data": CLOUD_CONFIG,
        "vendor-data": CLOUD_CONFIG + _yaml({"updates": {"network": {"when": ["boot"]}}}),
    }


def image(contents: Mapping[str, str]) -> bytes:
    """The seed's disk image."""
    return iso9660.image(LABEL, {name: text.encode("utf-8") for name, text in contents.items()})


def _network_config(vm: Vm, node: str) -> dict[str, Any]:
    """The guest's networks in cloud-init's version 2, which is netplan's form."""
    found: dict[str, Any] = {}
    for one in guest_networks.interfaces(vm, node):
        wanted: dict[str, Any] = {"match": {"macaddress": one.mac}, "dhcp4": False, "addresses": [one.address]}
        if one.gateway:
            wanted["gateway4"] = one.gateway
            if vm.dns:
                wanted["nameservers"] = {"addresses": list(vm.dns)}
        found[f"eth{one.number}"] = wanted
    return {"version": 2, "ethernets": found}


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=4096)
