"""A slice for each VM: the control group (v2) in which libvirt puts its QEMU, and by which the kernel kills it.

`cgroup.kill` reaches every fork and helper at once; `populated 0` in `cgroup.events` says that no thread is left, one
that sleeps in the kernel included. Neither names nor /proc have a part in it.

`cgroup.freeze` bars it: a process that comes to a frozen group executes nothing, and can still be killed there.

One thing `cgroup.kill` does not reach (seen on Linux 6.18): a process whose first thread has ended while another lives
on, for it signals first threads one by one. So each process that is left gets a SIGKILL of its own as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from pathlib import Path

MADE_FOR = re.compile(r"mnha-(.+)\.slice")
_PLAIN = re.compile(r"[A-Za-z0-9:_.]")


def slice_of(vm: str) -> str:
    """The name of a VM's slice, escaped as systemd does: a dash would mean a slice within a slice."""
    return f"mnha-{''.join(_escaped(byte) for byte in vm.encode())}.slice"


def vm_of(name: str) -> str | None:
    """The VM of a slice; None if it is none of ours."""
    found = MADE_FOR.fullmatch(name)
    if not found or "-" in found[1]:
        return None
    parts = re.split(r"\\x([0-9a-f]{2})", found[1])
    plain = b"".join(bytes.fromhex(part) if number % 2 else part.encode() for number, part in enumerate(parts))
    return plain.decode(errors="replace")


def _escaped(byte: int) -> str:
    letter = chr(byte)
    return letter if _PLAIN.fullmatch(letter) else f"\\x{byte:02x}"


class KernelSlices:
    """The slices below one folder of the unified hierarchy: a :class:`mnha.fencer.rules.Slices`.

    :param folder: usually /sys/fs/cgroup/mnha.slice.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, vm: str) -> Path:
        """The group's folder."""
        return self._folder / slice_of(vm)

    def names(self) -> set[str]:
        """See :class:`mnha.fencer.rules.Slices`."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as found:
            return {vm for entry in found if entry.is_dir() and (vm := vm_of(entry.name))}
        return set()

    def open(self, vm: str) -> None:
        """See :class:`mnha.fencer.rules.Slices`."""
        self._freeze(vm, "0")

    def bar(self, vm: str) -> None:
        """See :class:`mnha.fencer.rules.Slices`."""
        self._freeze(vm, "1")

    def _freeze(self, vm: str, word: str) -> None:
        self.path(vm).mkdir(mode=0o755, parents=True, exist_ok=True)
        (self.path(vm) / "cgroup.freeze").write_text(word, encoding="ascii")

    def pids(self, vm: str) -> list[int]:
        """The processes that are listed in the group and below it; none where nothing can be read."""
        return [pid for group in self.path(vm).rglob("cgroup.procs") for pid in sorted(_listed(group))]

    def is_empty(self, vm: str) -> bool:
        """See :class:`mnha.fencer.rules.Slices`."""
        try:
            words = (self.path(vm) / "cgroup.events").read_text(encoding="ascii").split()
        except FileNotFoundError:
            # The kernel removes no group that holds a process; without the hierarchy itself nothing is known.
            os.stat(self._folder.parent / "cgroup.controllers")
            return True
        known = dict(zip(words[::2], words[1::2], strict=False))
        if "populated" not in known:
            raise OSError(errno.EIO, f"{self.path(vm)}/cgroup.events does not say whether it is populated")
        return known["populated"] == "0"

    def kill(self, vm: str) -> None:
        """See :class:`mnha.fencer.rules.Slices`."""
        with contextlib.suppress(FileNotFoundError):
            (self.path(vm) / "cgroup.kill").write_text("1", encoding="ascii")
            for group in self.path(vm).rglob("cgroup.procs"):
                kill_each(group)


def kill_each(group: Path) -> None:
    """SIGKILL every process of a group, and nobody else: a number counts only if, once its handle is there, it is still
    listed.

    :param group: the group's `cgroup.procs`.
    """
    with contextlib.ExitStack() as stack:
        handles = {}
        for pid in _listed(group):
            with contextlib.suppress(ProcessLookupError):
                handles[pid] = os.pidfd_open(pid)
                stack.callback(os.close, handles[pid])
        for pid in handles.keys() & _listed(group):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handles[pid], signal.SIGKILL)


def _listed(group: Path) -> set[int]:
    """The processes of a group; none if it is gone by now."""
    try:
        return {int(pid) for pid in group.read_text(encoding="ascii").split()} - {0}
    except OSError:
        return set()
