"""Runs in a machine with systemd, libvirt and QEMU, by `test_placement.py`: where does libvirt put a VM's QEMU, and
what is that to the fencer's slices?

    placement.py FOLDER

FOLDER has the domains, `<vm>.xml`. Each of :data:`PHASES` goes on where the one before it ended; what it has found true
is printed as `true <phase>`. It runs on a node's own Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mnha.daemon.adapters.libvirt import explained
from mnha.daemon.adapters.processes import LIBVIRT_DAEMONS, libvirt_pids
from mnha.fencer.slices import KernelSlices, slice_of
from mnha.host.jobs import load_state

VMS = ("mnvm", "my-vm.2")
VM, OTHER = VMS
ROOT = Path("/sys/fs/cgroup")
SLICES = KernelSlices(ROOT / "mnha.slice")
MACHINED = "systemd-machined.service"
OF_MACHINED = (
    "/lib/systemd/system/systemd-machined.service",
    "/lib/systemd/system/dbus-org.freedesktop.machine1.service",
    "/lib/systemd/systemd-machined",
    "/usr/share/dbus-1/system-services/org.freedesktop.machine1.service",
)
LIMIT_S = 120.0


def run(*words: str) -> str:
    """What a command prints; its error is the test's."""
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def starting(vm: str) -> subprocess.Popen[str]:
    """An order to libvirt to start a VM, without letting its CPUs run."""
    return subprocess.Popen(
        ["virsh", "start", "--paused", vm], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def until(what: Callable[[], object], why: str, limit_s: float = LIMIT_S) -> None:
    """Wait for something to be the case."""
    end_s = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end_s, f"{why}: not within {limit_s:g} s"
        time.sleep(0.05)


def qemus() -> list[int]:
    """All processes of this machine that are a QEMU with a guest."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.path.basename(words[0]).startswith(b"qemu-system") and b"-uuid" in words:
            found.append(int(folder.name))
    return found


def groups_of(pid: int) -> Iterator[str]:
    """The groups of all threads of a process."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield (task / "cgroup").read_text().strip().removeprefix("0::")


def events(vm: str) -> list[str]:
    return (SLICES.path(vm) / "cgroup.events").read_text().splitlines()


def must_be_in_place(vm: str) -> None:
    """One QEMU more, wholly in its slice, where the fencer finds it."""
    (pid,) = SLICES.pids(vm)
    assert pid in qemus()
    for group in groups_of(pid):
        assert group.startswith(f"/mnha.slice/{slice_of(vm)}/machine-qemu"), group
    assert not SLICES.is_empty(vm)


def must_not_start() -> None:
    """Another VM, in an open slice, for want of machined."""
    others = qemus()
    SLICES.open(OTHER)
    order = starting(OTHER)
    said = order.communicate(timeout=LIMIT_S)[0].strip()
    print(explained(said))
    assert order.returncode != 0
    assert "by systemd-machined" in explained(said)
    assert SLICES.is_empty(OTHER)
    assert qemus() == others


def take_machined_away() -> None:
    """As if its package were not installed."""
    run("systemctl", "stop", MACHINED)
    for path in OF_MACHINED:
        os.rename(path, f"{path}.away")
    run("systemctl", "daemon-reload")
    run("systemctl", "reload", "dbus")


# ---- the phases


def the_kernel_has_controllers() -> None:
    """Without them libvirt places nothing."""
    assert {"cpu", "memory", "pids"} <= set((ROOT / "cgroup.controllers").read_text().split())


def libvirt_puts_qemu_into_its_open_slice() -> None:
    """All its threads, those that libvirt sends to groups of their own as well."""
    SLICES.bar(VM)
    SLICES.open(VM)
    order = starting(VM)
    print(order.communicate(timeout=LIMIT_S)[0].strip())
    must_be_in_place(VM)
    (pid,) = SLICES.pids(VM)
    assert len(set(groups_of(pid))) == 3, "the emulator's and those of two CPUs"
    print(run("systemctl", "status", "--no-pager", "mnha.slice"), run("machinectl"))


def its_scope_is_stopped_after_a_guard_and_before_the_fencer() -> None:
    """The product's units count on that order when a node goes down."""
    (pid,) = SLICES.pids(VM)
    (scope,) = {group.split("/")[3] for group in groups_of(pid)}
    assert "virt-guest-shutdown.target" in run("systemctl", "show", "--property=Before", "--value", scope).split()
    assert "libvirtd.service" in run("systemctl", "show", "--property=After", "--value", scope).split()


def a_start_while_barred_executes_nothing_and_fails_when_killed() -> None:
    """What comes is a child of libvirtd that never becomes a QEMU. Another VM does not notice."""
    SLICES.bar(OTHER)
    order = starting(OTHER)
    until(lambda: not SLICES.is_empty(OTHER), "something comes")
    time.sleep(3.0)
    assert order.poll() is None
    assert qemus() == SLICES.pids(VM)
    (child,) = SLICES.pids(OTHER)
    assert Path(os.readlink(f"/proc/{child}/exe")).name in LIBVIRT_DAEMONS
    assert child in libvirt_pids()
    SLICES.kill(OTHER)
    until(lambda: SLICES.is_empty(OTHER), "it is dead", 10.0)
    print(order.communicate(timeout=LIMIT_S)[0].strip())
    assert order.returncode != 0
    must_be_in_place(VM)
    assert qemus() == SLICES.pids(VM)


def a_bar_freezes_it_and_systemd_does_not_thaw() -> None:
    """Not even one that reads all its units anew."""
    SLICES.bar(VM)
    until(lambda: "frozen 1" in events(VM), "it freezes")
    run("systemctl", "daemon-reexec")
    time.sleep(0.5)
    assert events(VM) == ["populated 1", "frozen 1"]


def a_kill_reaches_it_and_its_slice_stays_barred() -> None:
    """Also when systemd has tidied away what was in the slice."""
    SLICES.kill(VM)
    until(lambda: SLICES.is_empty(VM), "it is dead", 10.0)
    until(lambda: not [path for path in SLICES.path(VM).iterdir() if path.is_dir()], "its scope is gone")
    assert events(VM) == ["populated 0", "frozen 1"]
    until(lambda: "shut off" in run("virsh", "domstate", VM), "libvirt sees it")


def a_start_while_barred_succeeds_once_the_slice_is_open() -> None:
    """The second start in a slice that both fencer and systemd know by now."""
    order = starting(VM)
    until(lambda: not SLICES.is_empty(VM), "something comes")
    time.sleep(1.0)
    assert order.poll() is None
    SLICES.open(VM)
    print(order.communicate(timeout=LIMIT_S)[0].strip())
    assert order.returncode == 0
    must_be_in_place(VM)


def it_stays_there_while_it_runs_and_daemons_are_restarted() -> None:
    """systemd, machined and libvirtd find it again, and leave it."""
    run("virsh", "resume", VM)
    run("systemctl", "restart", "systemd-machined", "libvirtd")
    until(lambda: "running" in run("virsh", "domstate", VM), "libvirt finds it")
    must_be_in_place(VM)


def without_machined_it_stays_there_and_nothing_is_started() -> None:
    """Not installed any more: a libvirtd that is restarted finds it all the same. Another VM it would put into a group
    of another name, which it does not make.
    """
    assert load_state(MACHINED) == "loaded"
    take_machined_away()
    assert load_state(MACHINED) == "not-found"
    run("systemctl", "restart", "libvirtd")
    until(lambda: "running" in run("virsh", "domstate", VM), "libvirt finds it")
    must_not_start()
    must_be_in_place(VM)


def libvirtd_ends_it_where_machined_can_not_be_started() -> None:
    """Masked: a libvirtd that is restarted sends it SIGTERM, for it can not ask where it is; nor does one start."""
    for path in OF_MACHINED:
        os.rename(f"{path}.away", path)
    run("systemctl", "mask", MACHINED)
    run("systemctl", "reload", "dbus")
    assert load_state(MACHINED) == "masked"
    run("systemctl", "restart", "libvirtd")
    until(lambda: SLICES.is_empty(VM), "libvirtd ends it")
    assert "(daemon)" in run("virsh", "domstate", "--reason", VM)
    must_not_start()


PHASES = (
    the_kernel_has_controllers,
    libvirt_puts_qemu_into_its_open_slice,
    its_scope_is_stopped_after_a_guard_and_before_the_fencer,
    a_start_while_barred_executes_nothing_and_fails_when_killed,
    a_bar_freezes_it_and_systemd_does_not_thaw,
    a_kill_reaches_it_and_its_slice_stays_barred,
    a_start_while_barred_succeeds_once_the_slice_is_open,
    it_stays_there_while_it_runs_and_daemons_are_restarted,
    without_machined_it_stays_there_and_nothing_is_started,
    libvirtd_ends_it_where_machined_can_not_be_started,
)


def main(folder: Path) -> None:
    """Go through all phases."""
    run("systemctl", "start", "libvirtd")
    for vm in VMS:
        run("virsh", "define", str(folder / f"{vm}.xml"))
    for phase in PHASES:
        began_s = time.monotonic()
        phase()
        print(f"true {phase.__name__} after {time.monotonic() - began_s:.1f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
