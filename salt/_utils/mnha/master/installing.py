"""What an installation asks beforehand: of the old suite's file what it can't say, of the nodes what must be there.

The nodes are asked by Salt's own functions alone, for this project's modules come with the installation. It needs
pydantic.
"""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ..config import ClusterConfig
from ..errors import Fault
from .minions import Minions, Reply

ASK_S = 12.0
"""A folder that hangs lets the question hang, too."""
NETWORKS = "/sys/class/net"
CONSUL_DATA = "/var/lib/mnha/consul/raft"
OLD_DATA = (
    "its Consul has data of a cluster that most nodes are no part of any more, and would bring its records along: "
    "`salt-run mnha.uninstall yes_i_really_really_mean_it=True` removes them from all nodes"
)
WELL = ("up", "unknown")
"""What the kernel says of a device that can be used; not every driver knows."""
WRITE_HERE = "WRITE-HERE"
"""What no address and no name of a cluster is: who forgets it is told so by `mnha.check_config`."""


@dataclass(frozen=True)
class Question:
    """What is asked of every node.

    :param well: whether the answer is a good one.
    :param fault: what is wrong otherwise, and what to do.
    """

    fun: str
    path: str
    well: Callable[[Reply], bool]
    fault: str


def questions(cluster: ClusterConfig) -> Iterator[Question]:
    """What has to be there before the states are applied: the images, and the bridges with a link. What the states make
    themselves is not asked for: what lies below a folder that they mount, and the hosts' own bridges.
    """
    for name, vm in cluster.vms.items():
        path = posixpath.join(cluster.image_folder, vm.image) if cluster.image_folder and vm.image else ""
        if path and not any(path.startswith(f"{folder}/") for folder in cluster.mounts):
            fault = f"{path}, the image of {name}, is not there: mount the share, and copy the image into it"
            yield Question("file.file_exists", path, lambda reply: reply.value is True, fault)
    for bridge in sorted(_bridges(cluster)):
        folder = posixpath.join(NETWORKS, bridge)
        fault = f"there is no bridge {bridge}: make it, or let the states do so (docs/networks.md)"
        yield Question("file.directory_exists", f"{folder}/bridge", lambda reply: reply.value is True, fault)
        fault = f"{bridge} has no link: is what lies below it connected, and up?"
        yield Question("file.read", f"{folder}/operstate", _has_link, fault)


def _has_link(reply: Reply) -> bool:
    """Whether a device can be used. Of one that is not there another question tells."""
    return not reply.ok or str(reply.value).strip() in WELL


def _bridges(cluster: ClusterConfig) -> set[str]:
    """The VMs' bridges that are not made by the states."""
    wanted = {network.bridge for vm in cluster.vms.values() for network in vm.networks}
    own = cluster.networks
    networks = (own.storage, own.management, own.data) if own else ()
    return wanted - {str(network.bridge) for network in networks if network is not None}


def faults(minions: Minions, nodes: Sequence[str], cluster: ClusterConfig) -> dict[str, list[str]]:
    """What is wrong on each node, where something is: its minion is silent, or what must be there is not."""
    awake = minions.each(nodes, "test.ping", timeout_s=ASK_S)
    silence = "its minion does not answer: is salt-minion running there, with this master in its configuration?"
    found: dict[str, list[str]] = {node: [silence] for node in nodes if node not in awake}
    data = minions.each(sorted(awake), "file.directory_exists", {"path": CONSUL_DATA}, timeout_s=ASK_S)
    has_data = [node for node, reply in data.items() if reply.value is True]
    found |= {node: [OLD_DATA] for node in _remnants(has_data, nodes)}
    for question in questions(cluster):
        replies = minions.each(sorted(awake), question.fun, {"path": question.path}, timeout_s=ASK_S)
        for node in sorted(awake):
            if node not in replies:
                hangs = f"{question.path} could not be looked at within {ASK_S:g} s: does the share hang?"
                found.setdefault(node, []).append(hangs)
            elif not question.well(replies[node]):
                found.setdefault(node, []).append(question.fault)
    return found


def _remnants(has_data: Sequence[str], nodes: Sequence[str]) -> Sequence[str]:
    """The nodes whose Consul has data, if they are no majority: with one the others join them, without one the others
    would begin a cluster of their own.
    """
    return has_data if len(has_data) <= len(nodes) // 2 else []


def lacking(cluster: ClusterConfig) -> list[Fault]:
    """What a new cluster needs that the old suite's file does not say.

    :param cluster: as the file and stand-ins for all of that make it.
    """
    root, unsaid = "mnha:cluster", "the file does not say it"
    (vm,) = cluster.vms
    return [
        Fault(f"{root}:name", None, unsaid, "give the cluster a name"),
        *(Fault(f"{root}:nodes:{node}:storage", None, unsaid, f"write the address of {node} in the storage network")
          for node in cluster.nodes),
        Fault(f"{root}:vms:{vm}:uuid", None, unsaid, "write the VM's UUID; `uuidgen` makes one"),
        Fault(f"{root}:vms:{vm}:image", None, unsaid, "write the image's name in image_folder: mnvm.img"),
    ]  # fmt: skip


def pillar(cluster: ClusterConfig) -> str:
    """A pillar for a new cluster with what the old suite's file says, and marks where it says nothing."""
    whole: dict[str, Any] = cluster.to_pillar()
    found = whole["mnha"]["cluster"]
    found["name"] = WRITE_HERE
    for node in found["nodes"].values():
        node["storage"] = WRITE_HERE
    for vm in found["vms"].values():
        vm["uuid"] = str(uuid.uuid4())
    return yaml.safe_dump(whole, sort_keys=False, width=120, allow_unicode=True)


def alike(found: Mapping[str, Sequence[str]]) -> int:
    """How many different faults there are."""
    return len({text for lines in found.values() for text in lines})
