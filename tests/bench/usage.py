"""What processes cost, seen from outside the nodes: by the kernel's accounting of their control groups and /proc."""

from __future__ import annotations

import array
import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab import cgroups
from lab.monitor import is_vm
from lab.settings import SWITCH, VM_NAME

MIB = 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")
PRESENT, FRAME = 1 << 63, (1 << 55) - 1
"""Of an entry of /proc/PID/pagemap: the page is in memory; where (0 to who is not root)."""
SYSTEM = "payload/system.slice"


@dataclass(frozen=True)
class Memory:
    """Resident memory of some processes: RSS counts a shared page in each of them, PSS its share in each."""

    rss_mib: float
    pss_mib: float


def group(node: str, inside: str = "") -> Path:
    """The cgroup2 folder of a node, or of a group inside it."""
    return cgroups.folders(node)[0] / inside


def service(node: str, name: str) -> Path:
    """The cgroup2 folder of a service on a node."""
    return group(node, f"{SYSTEM}/{name}.service")


def cpu_s(folder: Path) -> float:
    """CPU time that all processes ever in a group have used; 0 if there is no such group (now)."""
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / "cpu.stat").read_text().splitlines():
            name, value = line.split()
            if name == "usage_usec":
                return int(value) / 1e6
    return 0.0


def pids(folder: Path) -> list[int]:
    """The processes in a group and below it."""
    found: list[int] = []
    for path, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            found += map(int, (Path(path) / "cgroup.procs").read_text().split())
    return found


def vm_pids(node: str) -> list[int]:
    """The VM's QEMU process on a node, if it runs there. (It lies in libvirtd's group: cgroup2 has no controllers.)"""
    found = []
    for pid in pids(group(node)):
        with contextlib.suppress(OSError):
            if is_vm(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"), VM_NAME):
                found.append(pid)
    return found


def process_cpu_s(processes: Iterable[int]) -> float:
    """CPU time of living processes, in steps of 10 ms."""
    ticks = 0
    for pid in processes:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(processes: Iterable[int]) -> Memory:
    """Resident memory of the processes that still are."""
    rss_kib = pss_kib = 0
    for pid in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in ("Rss", "Pss"):
                    value = int(rest.split()[0])
                    rss_kib, pss_kib = rss_kib + value * (name == "Rss"), pss_kib + value * (name == "Pss")
    return Memory(rss_kib / 1024, pss_kib / 1024)


def together_mib(processes: Iterable[int]) -> float:
    """Resident memory of the processes that still are, in MiB, each page counted once however many of them have it:
    what they take in all. Takes root.
    """
    frames: set[int] = set()
    for pid in processes:
        with contextlib.suppress(OSError), Path(f"/proc/{pid}/pagemap").open("rb") as pagemap:
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                first, last = (int(one, 16) // PAGE for one in line.split()[0].split("-"))
                if line.endswith("[vsyscall]"):
                    continue
                pagemap.seek(first * 8)
                entries = array.array("Q", pagemap.read((last - first) * 8))
                frames.update(entry & FRAME for entry in entries if entry & PRESENT)
    return len(frames) * PAGE / MIB


def node_memory_mib(node: str) -> float:
    """Anonymous memory charged to a node by the kernel: no page cache, which it can have back at any time."""
    text = Path(f"/sys/fs/cgroup/memory/{SWITCH}/{node}/memory.stat").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("total_rss ")) / MIB
