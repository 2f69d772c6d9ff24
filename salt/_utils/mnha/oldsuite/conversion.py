"""Between the old suite's configuration and a cluster's. Pure.

What the old file can say replaces what the cluster has; all else of the cluster stays. Nothing is lost on the way back:
``from_cluster(load(to_cluster(old, cluster, vm)), vm) == old``, and ``to_cluster(from_cluster(cluster, vm), cluster,
vm)`` is the cluster.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..config import ClusterConfig
from ..config.fields import join
from ..errors import Fault, InputError
from .file import OldConfig
from .written import MIB_OF_GB, NETWORK, of_mapping

OLD_IMAGE = "mnvm.img"
"""How the old suite calls the image in its folder."""
VM = {
    "cpus": "CPU",
    "memory_mib": "MemorySizeInGB",
    "dns": "DNS",
    "networks": "Network",
    "console_proxy_address": "ConsoleProxyOverriddenIP",
    "allow_reset_root_password": "AllowResetRootPassword",
}
RBD = {"pool": "PoolName", "monitors": "MonAddrs"}
CLUSTER = {"nodes": "Node", "image_folder": "ImageFolder", "chrony_servers": "ChronyServers", "vms": "the VM"}


def the_vm(cluster: ClusterConfig, vm: str = "") -> str:
    """The VM that the old file is about: the one named, or the only one.

    :raises InputError: it is not there, or there are several and none is named.
    """
    if vm:
        cluster.require_vm(vm)
        return vm
    if len(cluster.vms) > 1:
        raise InputError(f"the old file describes one VM; say which: vm={'|'.join(cluster.vms)}")
    return next(iter(cluster.vms))


def to_cluster(old: OldConfig, base: Mapping[str, Any], vm: str) -> dict[str, Any]:
    """What stands under `mnha:cluster` with the old file's values in it.

    :param base: the cluster before, as a mapping; the file does not say all that a cluster needs.
    :param vm: whose values they are.
    """
    cluster = copy.deepcopy(dict(base))
    nodes = dict(cluster.get("nodes") or {})
    cluster["nodes"] = {
        name: {**(nodes.get(name) or {}), "management": address} for name, address in old.addresses().items()
    }
    cluster |= {"image_folder": old.ImageFolder, "chrony_servers": list(old.ChronyServers)}
    guest = dict((cluster.get("vms") or {}).get(vm) or {})
    guest |= _disk(old, guest)
    guest |= {
        "cpus": old.CPU,
        "memory_mib": round(old.MemorySizeInGB * MIB_OF_GB),
        "dns": list(old.DNS),
        "networks": [
            _without_none({ours: getattr(network, theirs) for ours, theirs in NETWORK.items()})
            for network in old.Network
        ],
        "console_proxy_address": old.ConsoleProxyOverriddenIP,
        "allow_reset_root_password": old.AllowResetRootPassword,
    }
    cluster["vms"] = {**(cluster.get("vms") or {}), vm: _without_none(guest)}
    if cluster["image_folder"] is None:
        del cluster["image_folder"]
    return cluster


def _disk(old: OldConfig, guest: Mapping[str, Any]) -> dict[str, Any]:
    """Where the VM's disk is. The file names neither the image nor Ceph's user: what the VM has stays, and what it has
    not is the default, an image as the old suite called it.
    """
    if old.Type == "CephConf":
        rbd = {**(guest.get("rbd") or {}), "pool": old.PoolName, "monitors": list(old.MonAddrs)}
        return {"image": None, "rbd": rbd}
    return {"image": guest.get("image") or (OLD_IMAGE if guest.get("rbd") else None), "rbd": None}


def from_cluster(cluster: ClusterConfig, vm: str) -> dict[str, Any]:
    """The old file of a cluster's VM: all keys, in the order of the old suite's own."""
    cluster.require_vm(vm)
    return of_mapping(cluster.to_mapping(), vm)


def in_the_file(faults: Iterable[Fault], vm: str) -> list[Fault]:
    """The faults of a cluster that was made of an old file, each where it stands in the file, if it does."""
    return [Fault(_path(fault.path, vm), fault.value, fault.problem, fault.remedy) for fault in faults]


def _path(path: str, vm: str) -> str:
    """`mnha:cluster:vms:mnvm:networks:0:address` as `Network:0:Ipaddr`; what the file has not stays as it is."""
    ours = path.removeprefix("mnha:cluster:")
    if found := re.fullmatch(rf"vms:{re.escape(vm)}:networks:(\d+)(?::(\w+))?(?::(.*))?", ours):
        number, key, rest = found.groups()
        return join("Network", number, NETWORK.get(key or "", key or ""), rest or "")
    if found := re.fullmatch(rf"vms:{re.escape(vm)}:rbd(?::(\w+))?(?::(.*))?", ours):
        key, rest = found.groups()
        return join(RBD[key], rest or "") if key in RBD else path if key else "Type"
    if found := re.fullmatch(rf"vms:{re.escape(vm)}:(\w+)(?::(.*))?", ours):
        return join(VM[found[1]], found[2] or "") if found[1] in VM else path
    first, _, rest = ours.partition(":")
    return join(CLUSTER[first], rest) if first in CLUSTER and first != "vms" else path


def _without_none(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}
