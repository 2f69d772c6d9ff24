"""A node's way to the shared folder with a valve in it: storage that hangs on one node only, as an NFS mount does.

    cluster.add_valve("node2")       # on a node without the VM: what is open before goes past it
    cluster.hang_storage("node2")    # every access from that node waits
    cluster.free_storage("node2")    # and goes on

The valve is a file system (FUSE) that passes everything on, mounted over the folder in that node only. It goes with the
node's power. It is served from outside: `python3 -m lab.storage NODE`, in a control group of its own that is frozen to
make it hang. What waits then can be killed or not: see :func:`start`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lab import cgroups
from lab.settings import LabError, Settings
from lab.shell import run, wait_until

TARGET = "/srv/shared"
NAME = "lab-valve"
CONNECTIONS = "/sys/fs/fuse/connections"
CALM_S = 5.0
"""A guest writes some times a second, for milliseconds: a moment without any access comes long before."""

_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV = 2, 4
_FLOCK = struct.Struct("@hhqqi4x")
_OFD = {fcntl.F_GETLK: 36, fcntl.F_SETLK: 37, fcntl.F_SETLKW: 38}
"""linux/fcntl.h: locks of an open file, not of a process: here one process has them all."""


class Passed:
    """Every operation as the folder behind does it: what :mod:`mfusepy` calls."""

    use_ns = True

    def __init__(self, behind: Path) -> None:
        self._behind = str(behind)

    def _path(self, path: str) -> str:
        return self._behind + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """As `stat` tells it; times in ns."""
        found = os.lstat(self._path(path)) if fh is None else os.fstat(fh)
        names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino", "st_blocks")
        times = {name: getattr(found, f"{name}_ns") for name in ("st_atime", "st_mtime", "st_ctime")}
        return {**{name: getattr(found, name) for name in names}, **times}

    def readdir(self, path: str, fh: int) -> list[str]:
        """Names only."""
        return [".", "..", *os.listdir(self._path(path))]

    def open(self, path: str, flags: int) -> int:
        """Without O_DIRECT, whose buffers must be aligned; O_DSYNC stays."""
        return os.open(self._path(path), flags & ~os.O_DIRECT & ~os.O_NOFOLLOW)

    def create(self, path: str, mode: int, flags: int) -> int:
        """See :meth:`open`."""
        return os.open(self._path(path), (flags | os.O_CREAT) & ~os.O_DIRECT, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Bytes of an open file."""
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """Bytes to an open file."""
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """Another length."""
        os.truncate(self._path(path) if fh is None else fh, length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        """To the disk."""
        os.fdatasync(fh) if datasync else os.fsync(fh)
        return 0

    def release(self, path: str, fh: int) -> int:
        """The last close; its locks go with it."""
        os.close(fh)
        return 0

    def unlink(self, path: str) -> int:
        """Away with a file."""
        os.unlink(self._path(path))
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        """A new folder."""
        os.mkdir(self._path(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        """Away with a folder."""
        os.rmdir(self._path(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        """Another name."""
        os.rename(self._path(old), self._path(new))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        """Other rights."""
        os.chmod(self._path(path), mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        """Another owner; libvirt gives the image to QEMU's user."""
        os.chown(self._path(path), uid, gid)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        """Other times, in ns."""
        os.utime(self._path(path), ns=times) if times else os.utime(self._path(path))
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        """How full it is."""
        found = os.statvfs(self._path(path))
        names = ("bavail", "bfree", "blocks", "bsize", "favail", "ffree", "files", "frsize", "namemax")
        return {f"f_{name}": getattr(found, f"f_{name}") for name in names}


class Locked(Passed):
    """Locks are passed on too: the nodes that have no valve see them, and theirs are seen.

    A process that ends unlocks what it had locked, and waits for the answer: if the folder hangs it can't die.
    """

    def lock(self, path: str, fh: int, cmd: int, lock: Any) -> int:
        """A lock on a part of the open file."""
        wanted = lock.contents
        packed = _FLOCK.pack(wanted.l_type, wanted.l_whence, wanted.l_start, wanted.l_len, 0)
        found = fcntl.fcntl(fh, _OFD[cmd], packed)
        if cmd == fcntl.F_GETLK:
            wanted.l_type, wanted.l_whence, wanted.l_start, wanted.l_len, _ = _FLOCK.unpack(found)
        return 0


def group(name: str) -> str:
    """The control group of the process that is node `name`'s valve."""
    return f"valve-{name}"


def is_there(name: str) -> bool:
    """Whether node `name` has a valve."""
    return cgroups.populated(group(name))


def start(settings: Settings, name: str, init_pid: int, *, killable: bool) -> None:
    """Give node `name` a valve; returns when it is there.

    :param init_pid: the node's PID 1 as this machine numbers it.
    :param killable: whether a process that waits for the hanging folder can be killed; locks are not passed on then. If
        not, it stays in `D` state, as behind a dead disk, or behind NFS with a lock to be given back.
    :raises LabError: there is one already, or it does not come.
    """
    if is_there(name):
        raise LabError(f"{name} has a valve already: a power cycle removes it")
    cgroups.create(group(name))
    errors = settings.node_dir(name) / "valve.errors"
    words = [sys.executable, "-m", "lab.storage", name, str(init_pid), "killable" if killable else "unkillable"]
    with errors.open("ab") as log:
        subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=settings.repository,
            env={**os.environ, "MNHA_LAB_STATE": str(settings.state), "MNHA_LAB_CACHE": str(settings.cache)},
        )  # fmt: skip
    mounts = Path(f"/proc/{init_pid}/mounts")
    fault = f"the valve of {name} does not come: see {errors}"
    wait_until(lambda: f"{NAME} {TARGET} " in mounts.read_text(), 10, fault)


def hang(name: str, init_pid: int) -> None:
    """Let every access through the valve wait, from a moment on at which none is under way: the kernel lets nobody be
    killed who waits for one that the valve has begun.

    :param init_pid: the node's PID 1 as this machine numbers it.
    :raises LabError: the node has no valve, or there is no such moment.
    """
    if not is_there(name):
        raise LabError(f"{name} has no valve: put one there while the VM is elsewhere")
    end = time.monotonic() + CALM_S
    while True:
        cgroups.freeze(group(name), True)
        if not under_way(init_pid):
            return
        cgroups.freeze(group(name), False)
        if time.monotonic() > end:
            raise LabError(f"the valve of {name} always had something to do for {CALM_S:g} s")
        time.sleep(0.01)


def under_way(init_pid: int) -> int:
    """How many accesses the kernel has handed to a node's valve, or is about to, that are not answered yet."""
    mounts = Path(f"/proc/{init_pid}/mountinfo").read_text().splitlines()
    (device,) = (line.split()[2] for line in mounts if f" {TARGET} " in line and f" {NAME} " in line)
    # The kernel's own count, in a mount that ends with the command.
    look = f"mount -t fusectl none {CONNECTIONS} && cat {CONNECTIONS}/{device.split(':')[1]}/waiting"
    return int(run(["unshare", "--mount", "sh", "-c", look]).stdout)


def free(name: str) -> None:
    """Let what waits go on.

    :raises LabError: the node has no valve.
    """
    if not is_there(name):
        raise LabError(f"{name} has no valve")
    cgroups.freeze(group(name), False)


def stop(name: str) -> None:
    """End the valve; what waits for it gets an error. Nothing happens where there is none."""
    if is_there(name):
        cgroups.kill(group(name))
        cgroups.freeze(group(name), False)


def mount_in(pid: int, descriptor: int) -> None:
    """Mount the file system that `descriptor` (an open /dev/fuse) serves over the folder, in the namespace of `pid`.

    :raises OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    child = os.fork()
    if child == 0:
        space = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
        failed = libc.setns(space, _CLONE_NEWNS) or libc.mount(
            NAME.encode(), TARGET.encode(), b"fuse", _MS_NOSUID | _MS_NODEV, options.encode()
        )
        os._exit(ctypes.get_errno() or errno.EIO if failed else 0)
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(code, f"the valve can't be mounted on {TARGET}: {os.strerror(code)}")


def serve(name: str, init_pid: int, *, killable: bool) -> None:
    """Be the valve of node `name` until the node has lost its power."""
    import mfusepy  # it loads libfuse, which commands that need no valve do not

    cgroups.enter(group(name))
    descriptor = os.open("/dev/fuse", os.O_RDWR)
    os.set_inheritable(descriptor, True)
    mount_in(init_pid, descriptor)
    # With direct_io the kernel waits killably; without it, an O_DIRECT write waits for its end, whatever comes.
    behind = (Passed if killable else Locked)(Settings.from_environment().shared)
    mfusepy.FUSE(behind, f"/dev/fd/{descriptor}", foreground=True, direct_io=killable)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), killable=sys.argv[3] == "killable")
