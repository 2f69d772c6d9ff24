"""QEMU processes of a VM, found without libvirt, for people and for what runs where it should not.

Whether a VM is dead is not told here: its slice tells (:mod:`mnha.fencer.slices`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path

from ...host.clock import boottime_s

PROC = Path("/proc")
VCPUS = ("CPU ", "ALL CPUs")
"""How the names of QEMU's threads begin that are virtual CPUs, as `CPU 0/KVM`."""
LIBVIRT_DAEMONS = ("libvirtd", "virtqemud")


def qemu_pids(uuid: str) -> list[int]:
    """Process ids of every live QEMU of the VM with `uuid` on this node, paused and incoming ones included."""
    return [pid for pid in _pids() if is_qemu_of(pid, uuid)]


def _pids() -> list[int]:
    """All process ids."""
    return [int(name) for name in os.listdir(PROC) if name.isdigit()]


def is_qemu_of(pid: int, uuid: str) -> bool:
    """Whether `pid` is a QEMU started with ``-uuid <uuid>``. A zombie has no command line: it is not found, though a
    thread of it may still hang in a write. A script that is about to become a QEMU is none yet.
    """
    try:
        arguments = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    needle = uuid.encode()
    of_uuid = needle in arguments and arguments[arguments.index(needle) - 1] == b"-uuid"
    return of_uuid and os.path.basename(arguments[0]).startswith((b"qemu", b"kvm"))


def is_incoming(pid: int) -> bool:
    """Whether `pid` is a QEMU that was started to receive a migration; False too when it has ended."""
    try:
        return b"-incoming" in (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def vcpu_turns(pid: int) -> dict[str, str] | None:
    """How often and how long each virtual CPU of a QEMU has run, by the kernel's count, as its `schedstat` has it: only
    that it differs means something. None where nobody can say.

    libvirt has QEMU name its threads; the kernel counts each of their turns on a CPU. One that has never run is none:
    a kernel that does not count says so of all.
    """
    turns = {}
    try:
        for task in (PROC / str(pid) / "task").iterdir():
            if (task / "comm").read_text().startswith(VCPUS):
                turns[task.name] = (task / "schedstat").read_text()
    except OSError:  # it ends, or this kernel does not count
        return None
    return turns if any(text.split()[0] != "0" for text in turns.values()) else None


def birth_of(pid: int) -> str:
    """What tells `pid` from any other process of this boot: its number and the clock tick of its start.

    :raises ProcessLookupError: it has ended.
    """
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError as error:
        raise ProcessLookupError(pid) from error
    return f"{pid} {stat.rpartition(')')[2].split()[19]}"


def age_s(pid: int) -> float:
    """How long `pid` has run, in seconds; 0 if it has ended."""
    try:
        ticks = int(birth_of(pid).split()[1])
    except ProcessLookupError:
        return 0.0
    return boottime_s() - ticks / os.sysconf("SC_CLK_TCK")


def libvirt_pids() -> list[int]:
    """Process ids of the libvirt daemons that may start a QEMU, their children that are about to become one
    included: these have the daemon's command line, but the name of the thread that forked them (`rpc-libvirtd`).
    """
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            name = (PROC / str(pid) / "comm").read_text().strip()
            program = os.path.basename((PROC / str(pid) / "cmdline").read_bytes().partition(b"\0")[0])
            if not {name, os.fsdecode(program)}.isdisjoint(LIBVIRT_DAEMONS):
                found.append(pid)
    return found


class Process:
    """A handle of one process that can't come to mean another one (pidfd).

    :raises ProcessLookupError: it has ended already.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def kill(self) -> None:
        """Send SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def wait(self, timeout_s: float | None) -> bool:
        """Whether it has ended, all its threads included, within `timeout_s` (None: for ever)."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        return bool(poller.poll(None if timeout_s is None else max(0, int(timeout_s * 1000))))

    def close(self) -> None:
        """Give the handle back."""
        os.close(self._fd)


def kill_all(pids: list[int], timeout_s: float) -> bool:
    """SIGKILL `pids` at once; whether all have ended within `timeout_s`."""
    processes = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            processes.append(Process(pid))
    try:
        for process in processes:
            process.kill()
        end_s = time.monotonic() + timeout_s
        return all(process.wait(end_s - time.monotonic()) for process in processes)
    finally:
        for process in processes:
            process.close()
