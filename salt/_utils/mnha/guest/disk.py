"""Which file a running VM writes to, and whether a start would go on from there. Pure.

A snapshot of the disk alone (`virsh snapshot-create-as --disk-only`, and so most backup tools) has a running VM go on
in a new file, an overlay of its image, which stands still from then on. A start takes the image: after a crash it would
bring back old data, and the overlay would be of no use any more. So the holder records where the VM writes to, and a
start from anywhere else is refused until that is merged, or somebody accepts it. So does it where the file itself is
moved away or replaced under a VM that runs: QEMU goes on with the old one, a start and a migration would not.
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from ..errors import FailedError


@dataclasses.dataclass(frozen=True)
class Disk:
    """The disk of a VM that runs.

    :param target: its name in libvirt, such as `vda`.
    :param chain: the file that is written to, then those below it, as far as libvirt tells.
    :param whole: whether libvirt has told the whole chain.
    """

    target: str
    chain: tuple[str, ...]
    whole: bool


def running(xml: str) -> Disk | None:
    """The first disk in the XML of a running domain; None: the domain does not run.

    :raises FailedError: it can't be understood.
    """
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as error:
        raise FailedError(f"libvirt's XML can't be read: {error}") from error
    if root.tag != "domain":
        raise FailedError(f"what libvirt gave is no domain: {root.tag}")
    if root.get("id") is None:  # what is defined only says nothing of what runs
        return None
    disk = next((one for one in root.iterfind("devices/disk") if one.get("device", "disk") == "disk"), None)
    target = None if disk is None else disk.find("target")
    if disk is None or target is None:
        raise FailedError("the domain has no disk")
    chain: list[str] = []
    layer: ET.Element | None = disk
    while layer is not None and (name := _source(layer)):
        chain.append(name)
        layer = layer.find("backingStore")
    if not chain:
        raise FailedError("libvirt does not tell the disk's file")
    return Disk(target.get("dev", ""), tuple(chain), layer is not None)


def _source(layer: ET.Element) -> str:
    """Where a layer of a disk lies; empty: it has no source, as the end of a chain."""
    source = layer.find("source")
    if source is None:
        return ""
    return next((value for key in ("file", "dev", "name", "volume") if (value := source.get(key))), "")


def recorded(before: Mapping[str, Any] | None, disk: Disk, image: str, is_moved: bool | None = None) -> dict[str, Any]:
    """What the record is to say of a VM that runs.

    What was recorded as `started`, the file that its start has taken, stays so while it runs on: also when the
    configuration names another image by now, which then counts from the next start on.

    :param before: what it says; None: there is none.
    :param image: what a start would take.
    :param is_moved: whether what it writes to does not lie there any more; None: it is not known, and what is recorded
        of that file stays so.
    """
    top = disk.chain[0]
    if is_moved is None:
        is_moved = written(before) == top and bool(before and before.get("moved"))
    if top == image:
        started = image
    elif before is not None:
        started = str(before.get("started", ""))
    else:
        started = top if disk.whole and image not in disk.chain else image
    said = {"v": 1, "target": disk.target, "started": started, "chain": list(disk.chain)}
    return {**said, "moved": True} if is_moved else said


def written(record: Mapping[str, Any] | None) -> str:
    """The file that the VM last wrote to; empty: that is not known."""
    chain = (record or {}).get("chain")
    return str(chain[0]) if isinstance(chain, list) and chain else ""


def accepted(image: str) -> dict[str, Any]:
    """The record of a VM that is off, and is to be started from its image."""
    return {"v": 1, "target": "", "started": image, "chain": [image]}


def objection(record: Mapping[str, Any] | None, vm: str, image: str) -> str:
    """Why the VM must not be started from `image`, with what to do; empty: it may.

    :param record: of the disk that it last ran on; None: there is none.
    """
    if record is None:
        return ""
    chain, started = record.get("chain"), record.get("started")
    if not isinstance(chain, list) or not chain or not isinstance(started, str):
        remedy = "`salt-run mnha.accept_disk` writes it anew, if the VM is to start from its image"
        return f"the record of the disk of {vm} can't be understood: {remedy}"
    top = str(chain[0])
    if record.get("moved"):
        return (
            f"while {vm} ran, {top}, which it wrote to, was moved, removed, or replaced: a start would bring back old "
            f"data. While the VM still runs, move the file back, or save what it holds: `virsh blockcopy {vm} "
            f"{record.get('target')} NEW --wait --pivot`. With the VM off, put it back, and then salt-run "
            "mnha.accept_disk, which alone gives up what it held"
        )
    if top in (image, started):
        return ""
    if image not in chain:
        return (
            f"{vm} last wrote to {top}, not to {image}: a start would bring back old data; name {top} as its image in "
            "the pillar, or give up what it holds: with the VM off, salt-run mnha.accept_disk"
        )
    return (
        f"{vm} writes to {top}, an overlay of {image}: a start would bring back old data. Merge it: while the VM runs, "
        f"`virsh blockcommit {vm} {record.get('target')} --active --pivot` on its node; while it is off, `qemu-img "
        f"commit -b {image} {top}` and then `salt-run mnha.accept_disk`, which alone gives up what the overlay holds"
    )
