"""All checks of a guard, in one table: what each looks at, and whether it concerns the node, one VM or Salt there.

A check of a *node* that fails makes it no candidate for any VM; a check of a *VM* only for that one. One of *Salt* is
only told: a node with no room for Salt's jobs runs a VM as well as any other, and where all nodes are like that one of
them has to. A new check is one more entry of :data:`CHECKS`: the status, the node's record, the choice, the beacons and
``--check`` take it from there.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .adapters import probe
from .adapters.probe import Check


class Of(enum.StrEnum):
    """Whom a check concerns."""

    NODE = "node"
    VM = "VM"
    SALT = "Salt"


@dataclasses.dataclass(frozen=True)
class Sight:
    """What the checks may look at, of one node and one VM.

    :param vm: the VM's part of the guard's configuration.
    :param storage: the newest look at the folder with the images; it may hang, so it is not a check's to begin it.
    :param mount: how that folder is mounted.
    :param image: that at the VM's image there, made together with it; of a disk in Ceph also that at its pool.
    :param overlay: whether a start from it would go on where the VM last wrote to.
    :param libvirt: whether libvirt answers.
    :param fencer: whether the fencer keeps the VM's deadline.
    :param watchdog: whether the watchdog works, if it is required.
    :param disk: whether the disk of Consul's server takes what is written.
    :param running: whether the VM runs here.
    :param lack: why its memory is not to be had here, if it does not run here; empty when it is.
    """

    vm: Mapping[str, Any]
    storage: Check
    mount: Check
    image: Check
    overlay: Check
    libvirt: Check
    fencer: Check
    watchdog: Check
    disk: Check
    running: bool
    lack: str


@dataclasses.dataclass(frozen=True)
class Kind:
    """One check: what has to be so (`tells`), of whom, and the look at it. It must not hang."""

    of: Of
    tells: str
    look: Callable[[Sight], Check]


STORAGE, MOUNT, DISK = "storage", "mount", "disk"

CHECKS: Mapping[str, Kind] = {
    STORAGE: Kind(
        Of.NODE, "the folder with the images is the share, and can be written and read", lambda sight: sight.storage
    ),
    MOUNT: Kind(Of.NODE, "locks there hold between nodes, and no write is given up", lambda sight: sight.mount),
    "image": Kind(Of.VM, "its image is there; of one in Ceph: and its pool is well", lambda sight: sight.image),
    "overlay": Kind(Of.VM, "it last wrote to its image, not to an overlay of it", lambda sight: sight.overlay),
    "bridge": Kind(Of.VM, "the bridges of its NICs exist", lambda sight: probe.bridge(sight.vm["bridges"])),
    "domain": Kind(Of.VM, "its libvirt domain is rendered", lambda sight: probe.domain(Path(sight.vm["domain_xml"]))),
    "libvirt": Kind(Of.NODE, "libvirt answers", lambda sight: sight.libvirt),
    "memory": Kind(
        Of.VM,
        "its memory is to be had beside that of the others and of the host, or it runs here",
        lambda sight: Check(sight.running or not sight.lack, "" if sight.running else sight.lack),
    ),
    "fencer": Kind(Of.VM, "the fencer answers, and finds nothing wrong with it", lambda sight: sight.fencer),
    "watchdog": Kind(Of.NODE, "a required watchdog works", lambda sight: sight.watchdog),
    DISK: Kind(
        Of.NODE,
        "the node's own disks have room, and that of Consul takes what is written",
        lambda sight: probe.disks(probe.NODE_DISKS) if sight.disk.ok else sight.disk,
    ),
    "salt": Kind(Of.SALT, "Salt has room to write there", lambda sight: probe.disks(probe.SALT_DISKS)),
}
"""By name. Of several that fail the first one is told as why a VM can't run here."""


def look(sight: Sight) -> dict[str, Check]:
    """The results of all checks."""
    return {name: kind.look(sight) for name, kind in CHECKS.items()}


def told(results: Mapping[str, Check], of: Of) -> dict[str, dict[str, Any]]:
    """Those of the results that concern the node, the VM or Salt, as status and record have them."""
    return {name: dataclasses.asdict(check) for name, check in results.items() if CHECKS[name].of is of}


def of_node(results: list[Mapping[str, Check]], of: Of = Of.NODE) -> dict[str, dict[str, Any]]:
    """The checks of the node, or of its Salt, from the results of all its VMs; each VM's prober has looked, the first
    failing one counts.
    """
    merged: dict[str, dict[str, Any]] = {}
    for one in results:
        for name, check in told(one, of).items():
            if merged.get(name, {"ok": True})["ok"]:
                merged[name] = check
    return merged


def unable(results: Mapping[str, Check]) -> str:
    """Why a VM can't run here; empty when it can."""
    return next((check.why for name, check in results.items() if not check.ok and CHECKS[name].of is not Of.SALT), "")
