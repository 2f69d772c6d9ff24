"""The shared file systems that the nodes mount, in a configuration; what must hold between the keys, and what is wanted
on one node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ..errors import Fault
from ..host import mounting, mounts
from .fields import PerNode, Wrong, check_absolute_path, check_text, items, join, nested, show, value_at
from .kinds import Section, Text, as_tuple, per_node
from .network_rules import given_for_each_node


def check_option(value: Any) -> str:
    """One option of a mount."""
    text = check_text(value, "an option of a mount")
    if "," in text or " " in text:
        raise Wrong(f"{show(value)} is more than one option", "write a list, an option each")
    return text


Source = Annotated[PerNode, per_node(lambda value: check_text(value, "what is mounted"))]
Option = Annotated[str, BeforeValidator(check_option)]


class SharedMount(Section):
    """A shared file system that every node mounts in one folder."""

    source: Source = Field(
        description="What is mounted, as `mount` takes it: nfs1:/export/mngt, gluster1:/vol, /dev/mapper/shared; one, "
        "or one per node."
    )
    kind: Text = Field("nfs4", description="The file system's type: nfs4, nfs (v3), glusterfs, ceph, ocfs2, gfs2, ….")
    options: Annotated[tuple[Option, ...], BeforeValidator(as_tuple)] = Field(
        (),
        description="More options, or others than the defaults of NFS: vers=4.2, hard, noatime.",
    )


def check(cluster: Mapping[str, Any]) -> Iterator[Fault]:
    """All faults of the mounts, and between them and other keys; paths are relative to `cluster`."""
    nodes = [str(name) for name, _ in items(nested(cluster, "nodes"))]
    for folder, mount in items(nested(cluster, "mounts")):
        if not isinstance(mount, Mapping):
            continue
        path, source, kind = join("mounts", folder), mount.get("source"), mount.get("kind", "nfs4")
        yield from given_for_each_node([(join(path, "source"), source)], nodes)
        for one in source.values() if isinstance(source, Mapping) else [source]:
            if kind in mounts.NFS and isinstance(one, str) and ":" not in one:
                yield Fault(join(path, "source"), one, f"{one} names no server", "write SERVER:/EXPORT")
        yield from _unsafe(cluster, str(folder), mount)


def _unsafe(cluster: Mapping[str, Any], folder: str, mount: Mapping[str, Any]) -> Iterator[Fault]:
    """What a guard would refuse of the mount with the images is refused before it is made."""
    try:
        images = check_absolute_path(nested(cluster, "image_folder"))
    except Wrong:
        return
    kind, given = mount.get("kind", "nfs4"), mount.get("options", ())
    if not f"{images}/".startswith(f"{folder}/") or cluster.get("unsafe_mount", "refuse") != "refuse":
        return
    if not isinstance(kind, str) or not isinstance(given, list | tuple):
        return
    options = mounting.with_defaults(kind, [one for one in given if isinstance(one, str)])
    for fault in mounts.Mount("", folder, kind, frozenset(map(mounting.spelt, options))).faults:
        problem, _, remedy = fault.partition(": ")
        yield Fault(join("mounts", folder, "options"), list(given), problem, f"{remedy}; or set unsafe_mount: warn")


def wanted(declared: Mapping[str, SharedMount], node: str) -> tuple[mounting.Wanted, ...]:
    """The mounts of a node."""
    return tuple(
        mounting.Wanted(
            folder, value_at(one.source, node), one.kind, mounting.with_defaults(one.kind, one.options)
        )
        for folder, one in declared.items()
    )  # fmt: skip
