"""What is asked of a mount, checked before anything is done: folder, source, kind and options. Pure.

A pillar and an operator's command line are held to the same; whether this host knows a type is asked elsewhere.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import Fault
from . import mounting
from .mounts import NFS, Mount

SYSTEM = frozenset(
    ("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/opt/saltstack",
     "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/usr/local", "/var", "/var/cache", "/var/lib",
     "/var/lib/libvirt", "/var/lib/mnha", "/var/log", "/var/run", "/var/spool", "/var/tmp")
)  # fmt: skip
"""Folders that a host lives from: what is mounted there hides what is in them."""
CLOSED = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys", "/usr")
"""Nothing is mounted below these either …"""
OPEN = "/usr/local"
"""… but here."""
OWN_FOLDER = ".mnha"
"""In the folder with the images: the guards', and the share's id is in there."""
KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
WELL_KNOWN = frozenset(("auto", "ceph", "cifs", "gfs2", "glusterfs", "lustre", "nfs", "nfs4", "none", "ocfs2"))
"""Types that a host may be made to know by a package, or by a module that is loaded when it is needed."""
MISSPELT = {"cephfs": "ceph", "gfs": "gfs2", "gluster": "glusterfs", "gluserfs": "glusterfs", "ocfs": "ocfs2",
            "samba": "cifs", "smb": "cifs"}  # fmt: skip
SOURCES = {
    "nfs": (re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):/.*"), "no server with its export", "SERVER:/EXPORT"),
    "glusterfs": (re.compile(r"[^\s:/]+:/?[^\s:/]+(/.*)?|/.+"), "no server with its volume", "SERVER:/VOLUME"),
    "ceph": (re.compile(r"\S*[:=]/.*"), "no monitor with its folder", "MONITOR:/FOLDER, or USER@.NAME=/FOLDER"),
    "cifs": (re.compile(r"//[^\s/]+/.+"), "no server with its share", "//SERVER/SHARE"),
    "ocfs2": (re.compile(r"/.+|[A-Z]+=\S+"), "no device", "/dev/NAME"),
    "gfs2": (re.compile(r"/.+|[A-Z]+=\S+"), "no device", "/dev/NAME"),
}
"""By type: what its sources look like, what is missing in another one, and how to write it."""
VERSIONS = ("2", "3", "4", "4.0", "4.1", "4.2")
REPEATED = ("backup-volfile-server", "backup-volfile-servers", "backupvolfile-server", "comment", "x-")
"""Options that may be given more than once."""


def of_path(value: Any) -> Iterator[Fault]:
    """What is wrong with a folder's path."""
    if not isinstance(value, str) or not value.startswith("/"):
        yield Fault("folder", value, f"{value!r} is not a path", "write it from / on")
    elif wrong := _unwritable(value):
        yield Fault("folder", value, f"{value!r} {wrong}", "write a plain path from / on")


def of_folder(value: Any) -> Iterator[Fault]:
    """What makes a folder unfit to mount something there; nothing: it is fit."""
    if wrong := tuple(of_path(value)):
        yield from wrong
    elif (path := plain_path(value)) in SYSTEM:
        yield Fault("folder", value, f"{path} is a system folder, which a mount would hide", "name a folder of its own")
    elif path != OPEN and _is_below(path, CLOSED) and not _is_below(path, (OPEN,)):
        yield Fault("folder", value, f"{path} lies in a system folder", "name a folder of its own")


def of_kind(value: Any) -> Iterator[Fault]:
    """What is wrong with a file system's type, as far as that can be said without a host."""
    if not isinstance(value, str) or not KIND.fullmatch(value):
        yield Fault("kind", value, f"{value!r} is no file system's type", "write it as `mount` takes it, such as nfs4")
    elif value.lower().startswith("nfs") and value not in (*NFS, "nfsd"):
        remedy = "write nfs4, and another version as an option, such as vers=4.1"
        yield Fault("kind", value, f"{value} is no file system's type", remedy)
    elif meant := MISSPELT.get(value.lower()):
        yield Fault("kind", value, f"{value} is no file system's type", f"write {meant}")


def of_source(value: Any, kind: Any) -> Iterator[Fault]:
    """What is wrong with what is to be mounted, for a file system of that type."""
    if not isinstance(value, str) or not value:
        yield Fault("source", value, f"{value!r} is nothing that can be mounted", "write it as `mount` takes it")
        return
    if wrong := _unwritable(value):
        yield Fault("source", value, f"{value!r} {wrong}", "write it as `mount` takes it")
        return
    name = mounting.type_of(kind) if isinstance(kind, str) else ""
    pattern, problem, remedy = SOURCES.get(name, (None, "", ""))
    if pattern and not pattern.fullmatch(value):
        yield Fault("source", value, f"{value} names {problem}", f"write {remedy}")


def of_options(value: Any, kind: Any = "") -> Iterator[Fault]:
    """What is wrong with options by themselves, a list or a text as `mount` takes it: what is no text, an NFS version
    that there is not, and those that contradict each other.
    """
    if value is None:
        return
    if not isinstance(value, str | list | tuple):
        remedy = "write a list of them, or a text with commas between"
        yield Fault("options", value, f"{value!r} is no list of options", remedy)
        return
    for one in [value] if isinstance(value, str) else value:
        if not isinstance(one, str):
            yield Fault("options", value, f"{one!r} is not an option but of type {type(one).__name__}", "quote it")
        elif wrong := _unwritable(one):
            yield Fault("options", value, f"{one!r} {wrong}", "write options as `mount` takes them")
    seen: dict[str, str] = {}
    for option in listed(value):
        name, other = mounting.subject(option), seen.get(mounting.subject(option), option)
        version = mounting.spelt(option).removeprefix("vers=") if name == "vers" and kind in NFS else VERSIONS[-1]
        if version not in VERSIONS:
            remedy = f"write one of {', '.join(VERSIONS[2:])}"
            yield Fault("options", value, f"{option}: there is no such version of NFS", remedy)
        if mounting.spelt(other) != mounting.spelt(option) and not name.startswith(REPEATED):
            yield Fault("options", value, f"{other} and {option} contradict each other", "leave one away")
        seen[name] = option


def listed(value: Any) -> tuple[str, ...]:
    """Options one by one, of a list or a text as `mount` takes it; what is no text is left out."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
    parts = (part.strip() for text in texts if isinstance(text, str) for part in text.split(","))
    return tuple(part for part in parts if part)


def read_only(options: Iterable[str]) -> Iterator[Fault]:
    """That VMs could not write their images there."""
    given = tuple(options)
    if "ro" in given:
        yield Fault("options", list(given), "option ro lets no VM write its image", "mount it `rw`")


def unsafe(kind: str, options: Iterable[str]) -> Iterator[Fault]:
    """What a guard refuses of a mount with images, see :attr:`.mounts.Mount.faults`."""
    given = mounting.with_defaults(kind, options)
    for fault in Mount("", "", kind, frozenset(map(mounting.spelt, given))).faults:
        problem, _, remedy = fault.partition(": ")
        yield Fault("options", list(given), problem, remedy)


def plain_path(folder: str) -> str:
    """A path without `..`, double and trailing slashes."""
    return posixpath.normpath("/" + folder.lstrip("/"))


def is_in(path: str, folder: str) -> bool:
    """Whether a path is a folder, or lies in it; both are plain."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(is_in(path, folder) for folder in folders)


def _unwritable(text: str) -> str:
    """Why a text can't stand in a unit of systemd; empty: it can."""
    if text != text.strip():
        return "has blanks around it"
    if any(not letter.isprintable() for letter in text) or "\\" in text:
        return "has a letter that no unit can hold"
    return ""
