"""A VM's disk: a file in the image folder, or an RBD image of a Ceph cluster. Its section, and what must hold. Pure.

Rules read plain mappings, as those of :mod:`.rules` do.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ..errors import Fault
from .fields import Wrong, check_host, check_text, items, join, matching, nested, show
from .kinds import Section, Uuid

CEPH_FOLDER = "/etc/mnha/ceph"
"""Where a node has what Ceph's own programs need, for each VM with a disk in RBD."""

check_rbd_name = matching(
    re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,95}"),
    "the name of a pool or image",
    "use letters, digits and . _ - (at most 96), as `ceph osd pool ls` and `rbd ls` show it",
)


def check_ceph_user(value: Any) -> str:
    """A client of Ceph by its name alone."""
    text = check_text(value, "the name of a client of Ceph")
    if text.startswith("client."):
        raise Wrong(f"{show(value)} begins with `client.`", "leave that away")
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text):
        raise Wrong(f"{show(value)} is not the name of a client of Ceph", "give it as `ceph auth ls` shows it")
    return text


def check_monitor(value: Any) -> str:
    """A monitor: an IPv4 address or a host name, with a port or without."""
    text = check_text(value, "a monitor")
    host, colon, port = text.partition(":")
    if colon and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise Wrong(f"{show(value)} has no port after the colon", "write HOST, or HOST:PORT")
    return f"{check_host(host)}{colon}{int(port) if colon else ''}"


def check_monitors(value: Any) -> tuple[str, ...]:
    """The monitors, at least one."""
    if not isinstance(value, list | tuple):
        raise Wrong(f"{show(value)} is not a list", "write a list, also around a single monitor: [10.0.0.1]")
    if not value:
        raise Wrong("is empty", "name the monitors, as `ceph mon dump` shows them")
    found, faults = list[str](), list[Fault]()
    for index, one in enumerate(value):
        try:
            found.append(check_monitor(one))
        except Wrong as wrong:
            faults += [Fault(str(index), one, fault.problem, fault.remedy) for fault in wrong.faults]
    if faults:
        raise Wrong(faults=tuple(faults))
    return tuple(found)


RbdName = Annotated[str, BeforeValidator(check_rbd_name)]


class Rbd(Section):
    """A disk in Ceph."""

    pool: RbdName = Field(description="The pool.")
    image: RbdName | None = Field(
        None, description="The image in it, raw, with RBD's exclusive lock; left out: it is called as the VM is."
    )
    monitors: Annotated[tuple[str, ...], BeforeValidator(check_monitors)] = Field(
        description="Ceph's monitors, each as HOST or HOST:PORT (left out: 3300 and 6789)."
    )
    user: Annotated[str, BeforeValidator(check_ceph_user)] = Field(
        "libvirt",
        description="The client whose key QEMU and guard use, without `client.`; docs/storage.md has its capabilities.",
    )
    secret: Uuid | None = Field(
        None, description="The UUID of libvirt's secret for that key; left out: one that is made of the VM's UUID."
    )

    def image_of(self, vm: str) -> str:
        """The image of a VM, as pool and name."""
        return f"{self.pool}/{self.image or vm}"

    def secret_of(self, vm_uuid: str) -> str:
        """The UUID of libvirt's secret, the same at each node: live migration takes the domain as it is."""
        return self.secret or str(uuid.uuid5(uuid.UUID(vm_uuid), "cephx"))


def of_one_kind(cluster: Mapping[str, Any]) -> Iterator[Fault]:
    """A VM's disk is a file or an RBD image; who takes a file has a folder for it."""
    needs: list[str] = []
    for name, vm in items(nested(cluster, "vms")):
        if not isinstance(vm, Mapping):
            continue
        image, rbd = vm.get("image"), vm.get("rbd")
        if image is not None and rbd is not None:
            problem = "is given though `image` is: a VM has one disk"
            yield Fault(join("vms", name, "rbd"), rbd, problem, "keep one of them")
        if image is None and rbd is None:
            yield Fault(
                join("vms", name, "image"), None, "is missing", "give the disk's file, or `rbd` for one in Ceph"
            )
        needs += [join("vms", name, key) for key in ("image", "boot") if vm.get(key) is not None]
    if needs and nested(cluster, "image_folder") is None:
        problem = f"is missing, though {needs[0]} names a file in it"
        yield Fault("image_folder", None, problem, "name the shared folder")


def of_its_own(cluster: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each VM's RBD image with its path; monitors don't count, for one cluster has many."""
    for name, vm in items(nested(cluster, "vms")):
        pool, image = nested(vm, "rbd", "pool"), nested(vm, "rbd", "image") or name
        if isinstance(pool, str) and isinstance(image, str):
            yield join("vms", name, "rbd"), f"{pool}/{image}"


def configuration_file(vm: str) -> str:
    """Where the configuration of Ceph's programs for a VM's disk lies on every node."""
    return f"{CEPH_FOLDER}/{vm}.conf"


def keyring_file(vm: str) -> str:
    """Where the key for a VM's disk lies on every node, for root alone."""
    return f"{CEPH_FOLDER}/{vm}.keyring"
