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

from . import look

DISKS = (Path("/var/lib/mnha/consul"), Path("/var/log"))
"""Without room in the first Consul's server stands still, in the second libvirt starts no VM."""
LEAST_FREE_MIB = 16


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of one probe; `why` is what to do about it when it is not `ok`; else it may say what is the case."""

    ok: bool
    why: str = ""


NOT_LOOKED_AT = Check(False, look.NOT_LOOKED_AT)


def ground(folder: Path, who: str, images: Sequence[Path]) -> tuple[Check, list[Check]]:
    """The folder with the images, and each image, seen by a process of its own (:mod:`.look`); one that hangs is waited
    for, for as long as it does. A folder that is well, and full, says so: that is no fault of this node.

    :param who: names the file that is written there; no two that look at once may have the same.
    """
    words = [sys.executable, "-I", "-S", look.__file__, str(folder), who, *map(str, images)]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        return Check(False, f"{folder} can't be looked at: {error}"), [NOT_LOOKED_AT] * len(images)
    lines = done.stdout.split("\n")[:-1]
    if done.returncode or len(lines) != 2 + len(images):
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Check(False, f"{folder} can't be looked at: {said}"), [NOT_LOOKED_AT] * len(images)
    first, *rest = [Check(not line, line) for line in lines[:-1]]
    return (Check(True, lines[-1]) if first.ok else first), rest


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
