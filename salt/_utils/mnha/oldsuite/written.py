"""The old suite's configuration file, written from what Consul has in force. Standard library only, so that it can be
done where Salt and its packages are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MIB_OF_GB = 1024
NETWORK = {
    "bridge": "Bridge",
    "mac": "MacAddress",
    "address": "Ipaddr",
    "netmask": "Netmask",
    "gateway": "Gateway",
    "management": "IsMgmt",
    "default_route": "IsDefRoute",
}
"""A network's keys here -> there."""


def of_mapping(cluster: Mapping[str, Any], vm: str) -> dict[str, Any]:
    """The old file of a cluster's VM: all keys, in the order of the old suite's own.

    :param cluster: a checked configuration as a mapping, keys that hold nothing left out.
    """
    guest = cluster["vms"][vm]
    gigabytes = guest["memory_mib"] / MIB_OF_GB
    rbd = guest.get("rbd")
    found: dict[str, Any] = {
        "Node": [f"{node['management']} {name}" for name, node in cluster["nodes"].items()],
        "MemorySizeInGB": int(gigabytes) if gigabytes.is_integer() else gigabytes,
        "CPU": guest["cpus"],
        "Type": "CephConf" if rbd else "FileConf",
        "MonAddrs": list(rbd["monitors"]) if rbd else None,
        "ChronyServers": list(cluster.get("chrony_servers", ())),
        "PoolName": rbd["pool"] if rbd else "",
        "ImageFolder": cluster.get("image_folder", ""),
        "DNS": list(guest.get("dns", ())),
        "Network": [
            {theirs: as_there(network.get(ours)) for ours, theirs in NETWORK.items()} for network in guest["networks"]
        ],
    }
    if (proxy := guest.get("console_proxy_address")) is not None:
        found["ConsoleProxyOverriddenIP"] = as_there(proxy)
    return {**found, "AllowResetRootPassword": guest.get("allow_reset_root_password", False)}


def as_there(value: Any) -> Any:
    """A value as the file has it: those per node in one text, an empty one for none."""
    if isinstance(value, Mapping):
        return ", ".join(f"{one}@{node}" for node, one in value.items())
    return "" if value is None else value
