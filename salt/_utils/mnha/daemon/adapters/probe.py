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

from ...host import mounts
from . import look

QEMU_USER = "libvirt-qemu"
"""As whom QEMU runs: to it `states.mnvm` gives the images."""
CONSUL_DATA = Path("/var/lib/mnha/consul")


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of one probe; `why` is what to do about it when it is not `ok`; else it may say what is the case."""

    ok: bool
    why: str = ""


NOT_LOOKED_AT = Check(False, look.NOT_LOOKED_AT)


@dataclasses.dataclass(frozen=True)
class Ground:
    """A look at the folder with the images.

    :param storage: whether it is the share, and can be written and read.
    :param images: each image that was asked for.
    :param lost: it fails, or is out of reach: what runs from there may be stuck. A folder that is not the share is not
        lost: what runs may have been started before somebody mounted something over it.
    :param share: the id that lies in the share; empty: none, or it can't be read.
    :param path: the folder, without symbolic links.
    :param mount: what is mounted there; None: it is not known.
    :param moved: that what QEMU writes to does not lie there any more; empty: it does; None: it is not known.
    """

    storage: Check
    images: list[Check]
    lost: bool = False
    share: str = ""
    path: str = ""
    mount: mounts.Mount | None = None
    moved: str | None = None

    @classmethod
    def failed(cls, why: str, images: int) -> Ground:
        """Of a look that came to nothing."""
        return cls(Check(False, why), [NOT_LOOKED_AT] * images, lost=True)

    @classmethod
    def foreign(cls, why: str, images: int) -> Ground:
        """Of a folder that is not, or not yet, known to be the share."""
        return cls(Check(False, why), [Check(False, look.NOT_THE_SHARE)] * images)

    def by_whom(self, is_of_vm: bool) -> tuple[Check, Check]:
        """The checks of the node's storage, and of the first image.

        :param is_of_vm: whether the storage is of this VM alone. Then what is wrong with it is the VM's matter, and
            keeps no other from running on the node.
        """
        image = Check(False, self.moved) if self.moved else self.images[0]
        if not is_of_vm:
            return self.storage, image
        is_told = not self.storage.ok or (image.ok and self.storage.why)
        return Check(True), self.storage if is_told else image

    @property
    def is_readable(self) -> bool:
        """Whether the share's id could be read, or that there is none."""
        return bool(self.path) and not self.lost and not self.is_root

    @property
    def is_root(self) -> bool:
        """Whether it lies on the node's root file system."""
        return self.mount is not None and self.mount.point == "/"


def ground(
    folder: Path,
    who: str,
    images: Sequence[Path],
    share: Path,
    wanted: str = "",
    pid: int = 0,
    file: str = "",
    *,
    may_be_root: bool = False,
) -> Ground:
    """The folder with the images, and each image, seen by a process of its own (:mod:`.look`); one that hangs is waited
    for, for as long as it does. A folder that is well, and full, says so: that is no fault of this node.

    :param who: names the file that is written there; no two that look at once may have the same.
    :param share: the shared folder that it is, or lies in.
    :param wanted: the id of the cluster's share; empty: none is known.
    :param pid: QEMU, which writes to `file`; 0: none.
    :param may_be_root: whether it may lie on the node's root file system.
    """
    root = "allow" if may_be_root else "refuse"
    words = ["look", QEMU_USER, str(folder), who, str(share), wanted, root, str(pid), file, *map(str, images)]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", look.__file__, *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError as error:
        return Ground.failed(f"{folder} can't be looked at: {error}", len(images))
    lines = done.stdout.split("\n")[:-1]
    if done.returncode or len(lines) != look.FIRST_LINES + len(images):
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Ground.failed(f"{folder} can't be looked at: {said}", len(images))
    wrong, other, full, found, path, mount, moved = lines[: look.FIRST_LINES]
    seen = [Check(not line, line) for line in lines[look.FIRST_LINES :]]
    why = wrong or other
    return Ground(
        Check(not why, why or full),
        seen,
        bool(wrong),
        found,
        path,
        mounts.parse(mount),
        None if moved == look.NOT_KNOWN else moved,
    )


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
