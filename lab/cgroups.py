"""Control groups of the nodes: how a node is killed at once, frozen, limited, and how it is seen to be alive.

Every node has a group of its own below `mnha-lab`, in the cgroup2 hierarchy and in those of version 1 that the
machine has. All that belongs to a node lies in it: the supervisor, nspawn, the node's processes, entered commands.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from lab.settings import SWITCH, LabError

V1 = ("systemd", "memory", "cpu", "cpuacct")
WORK = "work"
DEVICES = "devices"
"""Where the processes live that are devices of the nodes: they outlive a command, but not the cluster."""
CPU_PERIOD_US = 100_000
REALTIME_PERIOD_US = 100_000
REALTIME_LAB_US = 90_000
"""Of each period and CPU: what real-time processes of the whole lab may use. A new group of version 1 may use none, so
that neither guard nor Consul could get real-time priority. The kernel gives out at most 95 % in all: a second lab
beside this one has to do without."""


def unified_root() -> Path:
    """Where the cgroup2 hierarchy is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(point)
    raise LabError("no cgroup2 hierarchy is mounted: mount one (`mount -t cgroup2 none /sys/fs/cgroup/unified`)")


def roots() -> list[Path]:
    """The lab's folder in each hierarchy, cgroup2 first."""
    first = [unified_root() / SWITCH]
    mounted = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()}
    return first + [Path(f"/sys/fs/cgroup/{name}") / SWITCH for name in V1 if f"/sys/fs/cgroup/{name}" in mounted]


def folders(name: str) -> list[Path]:
    """The folders of the group `name` in each hierarchy, cgroup2 first."""
    return [root / name for root in roots()]


def create(name: str) -> None:
    for folder in folders(name):
        folder.mkdir(parents=True, exist_ok=True)


def allow_realtime(name: str, share_us: int) -> None:
    """Lets a node's processes have real-time priority for `share_us` of each period, where groups limit that at all."""
    root = Path(f"/sys/fs/cgroup/cpu/{SWITCH}")
    for folder, runtime_us in ((root, REALTIME_LAB_US), (root / name, share_us)):
        with contextlib.suppress(OSError):
            (folder / "cpu.rt_period_us").write_text(str(REALTIME_PERIOD_US))
            (folder / "cpu.rt_runtime_us").write_text(str(runtime_us))


def populated(name: str) -> bool:
    """Whether any process lives in the group; zombies do not count."""
    try:
        return "populated 1" in (folders(name)[0] / "cgroup.events").read_text()
    except FileNotFoundError:
        return False


def is_frozen(name: str) -> bool:
    try:
        return "frozen 1" in (folders(name)[0] / "cgroup.events").read_text()
    except FileNotFoundError:
        return False


def freeze(name: str, frozen: bool, timeout_s: float = 5) -> None:
    """Stops (or lets go on) every process of the group; returns when the kernel says it is so."""
    (folders(name)[0] / "cgroup.freeze").write_text("1" if frozen else "0")
    end = time.monotonic() + timeout_s
    while is_frozen(name) != frozen:
        if time.monotonic() > end:
            raise LabError(f"{name} did not {'freeze' if frozen else 'thaw'} in {timeout_s:g} s")
        time.sleep(0.005)


def send_kill(name: str) -> None:
    """Sends SIGKILL to every process of the group, without waiting for their end."""
    with contextlib.suppress(FileNotFoundError):
        (folders(name)[0] / "cgroup.kill").write_text("1")


def kill(name: str, timeout_s: float = 20) -> None:
    """Kills every process of the group, frozen ones too; returns when none is left."""
    folder = folders(name)[0]
    end = time.monotonic() + timeout_s
    while populated(name):
        send_kill(name)
        if time.monotonic() > end:
            raise LabError(f"processes in {folder} outlived SIGKILL for {timeout_s:g} s: look at its cgroup.procs")
        time.sleep(0.005)


def remove(name: str = "") -> None:
    """Removes the group and all below it in every hierarchy; its processes must be dead."""
    for folder in folders(name) if name else roots():
        for path, _, _ in os.walk(folder, topdown=False):
            _remove_folder(Path(path))


def _remove_folder(folder: Path, timeout_s: float = 5) -> None:
    end = time.monotonic() + timeout_s
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > end:
                raise LabError(f"the control group {folder} cannot be removed: {error.strerror}") from error
            time.sleep(0.02)


def enter(name: str) -> None:
    """Moves the calling process into the group in every hierarchy (where the group exists)."""
    for folder in folders(name):
        with contextlib.suppress(FileNotFoundError):
            (folder / "cgroup.procs").write_text("0")


def pids(name: str) -> list[int]:
    """All processes of the group and of those below it."""
    found: list[int] = []
    for path, _, _ in os.walk(folders(name)[0]):
        with contextlib.suppress(OSError):
            found += map(int, (Path(path) / "cgroup.procs").read_text().split())
    return found


def limit_cpu(name: str, percent: float | None) -> None:
    """Lets the group use at most `percent` of one CPU (200 = two CPUs); None lifts the limit."""
    folder = Path(f"/sys/fs/cgroup/cpu/{SWITCH}/{name}")
    if not folder.is_dir():
        raise LabError(f"{folder} is missing: the node is off, or this machine has no version-1 cpu group")
    quota_us = -1 if percent is None else int(percent * CPU_PERIOD_US / 100)
    (folder / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
    (folder / "cpu.cfs_quota_us").write_text(str(quota_us))


def leave(before: str) -> None:
    """Moves the calling process back to the groups that `before`, a text of /proc/self/cgroup, names."""
    for line in before.splitlines():
        number, controllers, path = line.split(":", 2)
        root = unified_root() if number == "0" else Path("/sys/fs/cgroup") / controllers.removeprefix("name=")
        with contextlib.suppress(OSError):
            (root / path.lstrip("/") / "cgroup.procs").write_text("0")
