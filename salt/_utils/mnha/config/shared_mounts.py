"""The shared file systems that the nodes mount, in a configuration; what must hold between the keys, and what is wanted
on one node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ..errors import Fault
from ..host import mount_arguments as arguments
from ..host import mounting
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
    kind: Text = Field(
        "nfs4", description="The file system's type: nfs4 or nfs (the same), glusterfs, ceph, ocfs2, gfs2, …."
    )
    options: Annotated[tuple[Option, ...], BeforeValidator(as_tuple)] = Field(
        (),
        description="More options, or others than the defaults of NFS: vers=4.2, hard, noatime.",
    )


def alike(cluster: Mapping[str, Any]) -> Iterator[Fault]:
    """Folders that are one, though they are written in several ways; paths are relative to `cluster`.

    :param cluster: as it was written: the model's mapping has each folder once, and one of the two mounts is lost.
    """
    first: dict[str, str] = {}
    for folder, _ in items(nested(cluster, "mounts")):
        if (path := _plain(folder)) is None:
            continue
        if path in first:
            problem = f"{folder} is the same folder as {first[path]}"
            yield Fault(join("mounts", folder), folder, problem, "leave one away: each folder has one mount")
        first.setdefault(path, folder)


def check(cluster: Mapping[str, Any]) -> Iterator[Fault]:
    """All faults of the mounts, and between them and other keys; paths are relative to `cluster`."""
    nodes = [str(name) for name, _ in items(nested(cluster, "nodes"))]
    carrier = _carrier(cluster)
    for folder, mount in items(nested(cluster, "mounts")):
        path, source, kind = join("mounts", folder), nested(mount, "source"), nested(mount, "kind") or "nfs4"
        if (plain := _plain(folder)) is not None:
            yield from _at("", path, arguments.of_folder(plain))
            yield from _in_own_folder(cluster, path, plain)
        if not isinstance(mount, Mapping):
            continue
        yield from given_for_each_node([(join(path, "source"), source)], nodes)
        if isinstance(kind, str):
            yield from _at("kind", path, arguments.of_kind(kind))
        told: set[str] = set()
        for one in source.values() if isinstance(source, Mapping) else [source]:
            found = arguments.of_source(one, kind) if isinstance(one, str) and one not in told else ()
            told.add(str(one))
            yield from _at("source", path, found)
        yield from _options(cluster, path, kind, mount, is_carrier=folder == carrier)


def doubts(cluster: Mapping[str, Any]) -> Iterator[Fault]:
    """What is allowed, and may turn out badly; as :func:`check`."""
    carrier, folders = _carrier(cluster), [str(folder) for folder, _ in items(nested(cluster, "mounts"))]
    for folder, mount in items(nested(cluster, "mounts")):
        path = join("mounts", folder)
        if folder != carrier or cluster.get("unsafe_mount", "refuse") != "refuse":
            for fault in arguments.unsafe(mount.get("kind", "nfs4"), mount.get("options", ())):
                yield Fault(join(path, "options"), list(mount.get("options", ())), fault.problem, fault.remedy)
        for outer in folders:
            if outer != folder and arguments.is_in(folder, outer):
                problem = f"{folder} lies in {outer}, another share: without that it is not mounted"
                yield Fault(path, folder, problem, "mount it beside that one")


def _options(
    cluster: Mapping[str, Any], path: str, kind: Any, mount: Mapping[str, Any], *, is_carrier: bool
) -> Iterator[Fault]:
    """What is wrong with a mount's options. What a guard would refuse of the mount with the images is refused before it
    is made.
    """
    given = mount.get("options", ())
    if not isinstance(kind, str) or not isinstance(given, list | tuple):
        return
    options = [one for one in given if isinstance(one, str)]
    yield from _at("options", path, arguments.of_options(options, kind))
    if is_carrier:
        yield from _at("options", path, arguments.read_only(options))
        if cluster.get("unsafe_mount", "refuse") == "refuse":
            for fault in arguments.unsafe(kind, options):
                remedy = f"{fault.remedy}; or set unsafe_mount: warn"
                yield Fault(join(path, "options"), list(given), fault.problem, remedy)


def _at(key: str, path: str, faults: Iterable[Fault]) -> Iterator[Fault]:
    """Faults of arguments, at their place in a configuration."""
    return (dataclasses.replace(fault, path=join(path, key)) for fault in faults)


def _in_own_folder(cluster: Mapping[str, Any], path: str, folder: str) -> Iterator[Fault]:
    images = _plain(nested(cluster, "image_folder"))
    own = images and f"{images}/{arguments.OWN_FOLDER}"
    if own and arguments.is_in(folder, own):
        problem = f"{folder} lies in {own}, where the guards keep the share's id"
        yield Fault(path, folder, problem, "name another folder")


def _carrier(cluster: Mapping[str, Any]) -> Any:
    """The folder, as it is written, of the mount that the images lie in; None: none of these."""
    images = _plain(nested(cluster, "image_folder"))
    above = [
        (len(path), folder)
        for folder, _ in items(nested(cluster, "mounts"))
        if images and (path := _plain(folder)) and arguments.is_in(images, path)
    ]
    return max(above)[1] if above else None


def _plain(folder: Any) -> str | None:
    """A folder as the model has it; None: it is none."""
    try:
        return check_absolute_path(folder)
    except Wrong:
        return None


def wanted(declared: Mapping[str, SharedMount], node: str) -> tuple[mounting.Wanted, ...]:
    """The mounts of a node."""
    return tuple(
        mounting.Wanted(
            folder, value_at(one.source, node), one.kind, mounting.with_defaults(one.kind, one.options)
        )
        for folder, one in declared.items()
    )  # fmt: skip
