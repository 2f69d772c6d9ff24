"""Whether this node could run a VM: the folder with the image, the image, the bridges, libvirt, memory.

Each probe runs in a thread of its own that may hang for ever (NFS does); a probe that has not come back in time
says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...core.ports import AbilitySeen
from .clock import boottime_s

BLOCK = 4096
STORAGE_LIMIT_S = 4.0
DISKS = (Path("/var/lib/mnha/consul"), Path("/var/log"))
"""Without room in the first Consul's server stands still, in the second libvirt starts no VM."""
LEAST_FREE_MIB = 16
PROBE_EVERY_S = 2.0
SETTLE_S = 5.0


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of one probe; `why` is what to do about it when it is not `ok`."""

    ok: bool
    why: str = ""


NOT_LOOKED_AT = Check(False, "not looked at: the storage fails")
"""Of the image: on hanging storage that look would hang too."""


def storage(folder: Path, node: str) -> Check:
    """Write a block to `folder` and read it back, past the page cache (O_DIRECT). May hang as long as the
    storage does."""
    path = folder / ".mnha" / f"probe-{node}"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with mmap.mmap(-1, BLOCK) as block:
            text = f"{node} {boottime_s():.6f}\n".encode().ljust(BLOCK)
            block[:] = text
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_DSYNC, 0o600)
            try:
                os.pwritev(fd, [block], 0)
                block[:] = bytes(BLOCK)
                os.preadv(fd, [block], 0)
            finally:
                os.close(fd)
            if block[:] != text:
                return Check(False, f"{folder} gives back other data than was written")
    except OSError as error:
        return Check(False, f"{folder} can't be written: {error.strerror}; is it mounted?")
    return Check(True)


def image(path: Path) -> Check:
    """The VM's image is there."""
    return Check(True) if path.is_file() else Check(False, f"the image {path} is missing: copy it there")


def bridge(names: list[str]) -> Check:
    """The bridges that the VM's NICs hang on exist."""
    missing = [name for name in names if not Path("/sys/class/net", name, "bridge").is_dir()]
    return Check(not missing, f"no bridge {', '.join(missing)} on this node: apply states.network" if missing else "")


def domain(path: Path) -> Check:
    """The VM's rendered domain is there."""
    return Check(True) if path.is_file() else Check(False, f"{path} is missing: apply states.mnvm")


def memory(needed_mib: int, running: bool) -> Check:
    """Enough memory is free; a VM that runs here has its share already."""
    free = free_memory_mib()
    if running or free >= needed_mib:
        return Check(True)
    return Check(False, f"{free} MiB of memory are free, the VM needs {needed_mib} MiB")


def free_memory_mib() -> int:
    """MemAvailable in MiB."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) // 1024
    return 0


def disks(folders: Sequence[Path] = DISKS, least_mib: int = LEAST_FREE_MIB) -> Check:
    """There is room on the node's own disks; a folder that does not exist needs none."""
    for folder in folders:
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            free_mib = found.f_bavail * found.f_frsize >> 20
            if free_mib < least_mib:
                return Check(False, f"{folder} is full: {free_mib} MiB are left; make room")
    return Check(True)


class Prober:
    """Runs one VM's probes for ever; :attr:`checks` has the newest results, :meth:`unable` their sum.

    :param vm: its part of the guard's configuration.
    :param is_running: whether the VM runs here.
    :param libvirt_error: why libvirt does not answer, empty when it does.
    :param watchdog_error: why a required watchdog would not work, empty when it would.
    :param storage_elsewhere: the other nodes whose storage is well, for people; asked while it is not well here.
    :param changed: called, in the prober's thread, when anything of it has changed.
    """

    def __init__(
        self,
        node: str,
        vm: dict[str, Any],
        is_running: Callable[[], bool],
        libvirt_error: Callable[[], str],
        watchdog_error: Callable[[], str],
        storage_elsewhere: Callable[[], str],
        changed: Callable[[AbilitySeen], None],
    ) -> None:
        self._node, self._vm = node, vm
        self._is_running, self._libvirt_error, self._changed = is_running, libvirt_error, changed
        self._watchdog_error, self._storage_elsewhere = watchdog_error, storage_elsewhere
        self._ground: tuple[float, tuple[Check, Check] | None] = (float("-inf"), None)
        self._lost_s: float | None = None
        self._pause = threading.Event()
        self.checks: dict[str, Check] = {}

    def probe(self) -> AbilitySeen:
        """Probe once, waiting for the storage at most :data:`STORAGE_LIMIT_S`."""
        vm = self._vm
        self._probe_ground()
        hangs = Check(False, f"the storage does not answer within {STORAGE_LIMIT_S:g} s")
        ground, picture = self._ground[1] or (hangs, NOT_LOOKED_AT)
        if ground.ok:
            self._lost_s = None
        elif self._lost_s is None:
            self._lost_s = self._ground[0]
        error, unprotected = self._libvirt_error(), self._watchdog_error()
        self.checks = {
            "storage": ground,
            "image": picture,
            "bridge": bridge(vm["bridges"]),
            "domain": domain(Path(vm["domain_xml"])),
            "libvirt": Check(not error, error),
            "memory": memory(vm["memory_mib"], self._is_running()),
            "watchdog": Check(not unprotected, unprotected),
            "disk": disks(),
        }
        unable = next((check.why for check in self.checks.values() if not check.ok), "")
        elsewhere = "" if self._lost_s is None else self._storage_elsewhere()
        return AbilitySeen(unable, self._lost_s, elsewhere)

    def run(self) -> None:
        """Probe for ever, telling of changes. In the first moments only of good news: libvirt is still being
        asked, and a lease that is held here would be given back.
        """
        last: AbilitySeen | None = None
        settled_s = boottime_s() + SETTLE_S
        while True:
            seen = self.probe()
            if seen != last and (not seen.unable or boottime_s() > settled_s):
                self._changed(seen)
                last = seen
            self._pause.wait(PROBE_EVERY_S if not seen.unable else PROBE_EVERY_S / 4)

    def _probe_ground(self) -> None:
        """Start a look at the storage and at the image on it, unless one still hangs, and wait for its result."""
        began_s, result = self._ground
        if result is not None or began_s == float("-inf"):
            done = threading.Event()
            self._ground = (boottime_s(), None)

            def work() -> None:
                path = Path(self._vm["image"])
                found = storage(path.parent, self._node)
                self._ground = (self._ground[0], (found, image(path) if found.ok else NOT_LOOKED_AT))
                done.set()

            threading.Thread(target=work, name="probe-storage", daemon=True).start()
            done.wait(STORAGE_LIMIT_S)
