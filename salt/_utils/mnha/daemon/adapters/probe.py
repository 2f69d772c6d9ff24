"""The single looks at a node: the folder with the images, an image, the bridges, memory, the disks. What they
are looked at for stands in :mod:`mnha.daemon.checks`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import look


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of one probe; `why` is what to do about it when it is not `ok`; else it may say what is the case."""

    ok: bool
    why: str = ""


NOT_LOOKED_AT = Check(False, look.NOT_LOOKED_AT)


def ground(folder: Path, who: str, images: Sequence[Path]) -> tuple[Check, list[Check]]:
    """The folder with the images, and each image, seen by a process of its own (:mod:`.look`); one that hangs is waited
    for, for as long as it does.

    :param who: names the file that is written there; no two that look at once may have the same.
    """
    words = [sys.executable, "-I", "-S", look.__file__, str(folder), who, *map(str, images)]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        return Check(False, f"{folder} can't be looked at: {error}"), [NOT_LOOKED_AT] * len(images)
    lines = done.stdout.split("\n")[:-1]
    if done.returncode or len(lines) != 1 + len(images):
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Check(False, f"{folder} can't be looked at: {said}"), [NOT_LOOKED_AT] * len(images)
    first, *rest = [Check(not line, line) for line in lines]
    return first, rest


def _there(path: Path, missing: str) -> Check:
    """A file is there. One that can't be looked at (a stale handle, no rights) is not missing, but no better."""
    try:
        return Check(True) if path.is_file() else Check(False, missing)
    except OSError as error:
        return Check(False, f"{path} can't be looked at: {error.strerror}")


def bridge(names: list[str]) -> Check:
    """The bridges that the VM's NICs hang on exist."""
    missing = [name for name in names if not Path("/sys/class/net", name, "bridge").is_dir()]
    return Check(not missing, f"no bridge {', '.join(missing)} on this node: apply states.network" if missing else "")


def domain(path: Path) -> Check:
    """The VM's rendered domain is there."""
    return _there(path, f"{path} is missing: apply states.mnvm")


def free_memory_mib() -> int:
    """MemAvailable in MiB."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) // 1024
    return 0


@dataclasses.dataclass(frozen=True)
class Disk:
    """A folder of the node's own that needs room.

    :param least_mib: with less it counts as full.
    :param lost: what comes of that.
    """

    folder: Path
    least_mib: int
    lost: str


NODE_DISKS = (
    Disk(Path("/var/lib/mnha/consul"), 16, "Consul's server stands still"),
    Disk(Path("/var/log"), 16, "libvirt starts no VM"),
)
"""Without room there a node can't run a VM."""

SALT_DISKS = (
    Disk(
        Path("/var/cache/salt"), 16, "Salt can't write its jobs: this master fails nothing over, this minion is silent"
    ),
    Disk(Path("/tmp"), 16, "Salt and what it calls can't write their temporary files"),
    Disk(Path("/"), 64, "nothing can be installed or configured"),
)
"""Without room there a node's Salt does not work. Its VM, guard and fencer do."""

LEAST_INODES = 256
"""With fewer a file system counts as full, too; those that make them as they need them tell of none at all."""


def disks(found: Sequence[Disk]) -> Check:
    """There is room on the node's own disks, in bytes and in inodes; a folder that does not exist needs none."""
    full = [f"{disk.folder} is full: {left}; {disk.lost}; make room" for disk in found if (left := _left(disk))]
    return Check(not full, "; ".join(full))


def _left(disk: Disk) -> str:
    """How little is left there; empty if that is enough."""
    with contextlib.suppress(OSError):
        found = os.statvfs(disk.folder)
        free_mib = found.f_bavail * found.f_frsize >> 20
        if free_mib < disk.least_mib:
            return f"{free_mib} MiB are left"
        if found.f_files and found.f_favail < LEAST_INODES:
            return f"{found.f_favail} inodes are left"
    return ""
