"""What the mount of the folder with the images says of it, by its line of /proc/self/mountinfo. Pure: the share itself
is never asked, so nothing here can hang.

QEMU's image lock is the last net below the lease. It rests on locks that hold between nodes: NFSv3 keeps those of a
dead node until that is back, and `nolock`, `local_lock=` and the like keep all locks on the node. And a `soft` mount
gives up writes that the file server may still carry out, after what the next node has written.
"""

from __future__ import annotations

import dataclasses

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
    """

    key: str
    point: str
    kind: str
    options: frozenset[str]

    @property
    def faults(self) -> list[str]:
        """What makes it unfit, each with its remedy; none: it is fit."""
        found = []
        if self.kind in NFS:
            version = next((one[5:] for one in self.options if one.startswith("vers=")), "")
            if version and float(version) < LEAST_NFS:
                found.append(f"it is NFSv{version}, which keeps a dead node's locks: mount it with vers=4.2")
        found += [f"option {one} keeps locks on this node: mount it without" for one in sorted(self.options)
                  if one in WITHOUT_LOCKS]  # fmt: skip
        if self.kind in NFS:
            found += [f"option {one} gives up writes that the server may carry out later: mount it `hard`"
                      for one in GIVES_UP if one in self.options]  # fmt: skip
        return found

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
    return Mount(key, own[4], theirs[0], frozenset([*own[5].split(","), *theirs[2].split(",")]))
