"""What a mount says of itself, by its line of /proc/self/mountinfo: that of the folder with the images above all. The
file system itself is never asked, so nothing here can hang.

QEMU's image lock is the last net below the lease. It rests on locks that hold between nodes: NFSv3 keeps those of a
dead node until that is back, and `nolock`, `local_lock=` and the like keep all locks on the node. And a `soft` mount
gives up writes that the file server may still carry out, after what the next node has written.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

TABLE = Path("/proc/self/mountinfo")
STATISTICS = Path("/proc/self/mountstats")
LOCAL = frozenset(
    ("bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "overlay", "ramfs", "reiserfs",
     "rootfs", "squashfs", "tmpfs", "vfat", "xfs", "zfs")
)  # fmt: skip
"""File systems that no two nodes can have mounted from one place at once."""
NFS = ("nfs", "nfs4")
LEAST_NFS = 4.0
WITHOUT_LOCKS = ("nolock", "nobrl", "localflocks", "localflock", "lockproto=lock_nolock", "local_lock=all",
                 "local_lock=posix", "local_lock=flock")  # fmt: skip
"""Options by which locks stay on the node; `local_lock=flock` among them, for QEMU may take either kind."""
GIVES_UP = ("soft", "softerr")


@dataclasses.dataclass(frozen=True)
class Mount:
    """A mount.

    :param key: names this very mount: another one at the same place has another key.
    :param point: where it is mounted, as /proc/self/mountinfo writes it.
    :param kind: its file system's type.
    :param options: those of the mount and those of the file system.
    :param source: what is mounted, as the kernel has it.
    """

    key: str
    point: str
    kind: str
    options: frozenset[str]
    source: str = ""

    @property
    def faults(self) -> list[str]:
        """What makes it unfit, each with its remedy; none: it is fit."""
        found = []
        if self.kind in NFS:
            version = next((one[5:] for one in self.options if one.startswith("vers=")), "")
            if re.fullmatch(r"\d+(\.\d+)?", version) and float(version) < LEAST_NFS:
                found.append(f"it is NFSv{version}, which keeps a dead node's locks: mount it with vers=4.2")
        found += [f"option {one} keeps locks on this node: mount it without" for one in sorted(self.options)
                  if one in WITHOUT_LOCKS]  # fmt: skip
        if self.kind in NFS:
            found += [f"option {one} gives up writes that the server may carry out later: mount it `hard`"
                      for one in GIVES_UP if one in self.options]  # fmt: skip
        return found

    @property
    def place(self) -> tuple[str, ...]:
        """What is mounted and where, for any process: device, root and point. Of the same mount it is the same in
        another namespace.
        """
        return tuple(self.key.split(" ")[2:5])

    @property
    def is_local(self) -> bool:
        """Whether such a file system can't be shared."""
        return self.kind in LOCAL


def parse(line: str) -> Mount | None:
    """A line of /proc/self/mountinfo; None: it can't be understood."""
    before, dash, after = line.partition(" - ")
    own, theirs = before.split(" "), after.split(" ")
    if not dash or len(own) < 6 or len(theirs) < 3:
        return None
    key = " ".join([*own[:5], *theirs[:2]])
    options = frozenset([*own[5].split(","), *theirs[2].split(",")])
    return Mount(key, own[4], theirs[0], options, plain(theirs[1]))


def plain(text: str) -> str:
    """A path as it is, of one as the kernel's table has it: blanks and the like are octal numbers there."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def at(folder: str, lines: Iterable[str]) -> Mount | None:
    """What is mounted at a folder: of several, one over the other, the one that is seen; None: nothing.

    :param lines: the kernel's table.
    """
    found = all_at(folder, lines)
    return found[-1] if found else None


def all_at(folder: str, lines: Iterable[str]) -> list[Mount]:
    """All that is mounted at a folder, one over the other; the last is seen."""
    return [one for line in lines if (one := parse(line.rstrip("\n"))) and plain(one.point) == folder]


def carrying(path: str, lines: Iterable[str]) -> Mount | None:
    """The mount that a path lies in; None: the table tells of none.

    :param path: absolute, without symbolic links.
    :param lines: the kernel's table.
    """
    table = [one for line in lines if (one := parse(line.rstrip("\n")))]
    numbers = {one.key.split(" ")[0] for one in table}
    here = next((one for one in table if one.point == "/" and _is_first(one, numbers)), None)
    while here:
        # As the kernel walks: what is mounted nearest to the root covers all that was mounted below it before.
        own = here.key.split(" ")[0]
        above = [one for one in table if one.key.split(" ")[1] == own and one is not here and _has(one, path)]
        if not above:
            return here
        here = min(above, key=lambda one: len(one.point))
    return None


def _is_first(mount: Mount, numbers: Iterable[str]) -> bool:
    own, parent = mount.key.split(" ")[:2]
    return parent not in numbers or parent == own


def _has(mount: Mount, path: str) -> bool:
    """Whether a path is a mount's point, or below it."""
    point = plain(mount.point).rstrip("/")
    return path == point or path.startswith(f"{point}/")


def table() -> list[str]:
    """The kernel's table of mounts, a line each.

    :raises OSError: it can't be read.
    """
    return TABLE.read_text(encoding="utf-8", errors="surrogateescape").splitlines()


def lease_time_s(folder: str, statistics: str) -> int | None:
    """For how long the server of an NFSv4 mount keeps the locks of a node that is dead; None: it is not known.

    :param statistics: the text of /proc/self/mountstats.
    """
    for part in re.split(r"^device ", statistics, flags=re.MULTILINE):
        if f" mounted on {folder} with fstype nfs4" in part and (found := re.search(r"\blease_time=(\d+)", part)):
            return int(found[1])
    return None
