"""A disk of a node of the lab that hangs: what is written there goes on, and is never said to have arrived.

`strace` holds up each fsync of Consul's server and of the guard's look at its disk, from outside of the node. Who is
held up does not die of SIGKILL before the time is over, as with a disk that is gone; the server's heartbeats go on.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lab import cgroups
from lab.shell import wait_until
from tests.support.scene import Scene

HELD_UP_S = 20
PROGRAMS = (b"/usr/bin/consul\0agent", b"write_through.py")


def processes(node: str) -> list[int]:
    """Those that are held up, as this machine numbers them."""
    found: list[int] = []
    for group in cgroups.folders(node)[0].rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in group.read_text().split() if _is_meant(pid)]
    return found


def _is_meant(pid: str) -> bool:
    """Whether a process is one of those programs."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return any(program in words for program in PROGRAMS)


@contextlib.contextmanager
def hanging(scene: Scene, node: str) -> Iterator[float]:
    """The disk hangs; gives the moment from which on it does, CLOCK_BOOTTIME in s."""
    held = processes(node)
    assert len(held) == len(PROGRAMS), f"of {PROGRAMS} there are {held} on {node}"
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]
    words += ["-e", f"inject=fsync,fdatasync:delay_enter={HELD_UP_S * 1_000_000}"]
    strace = subprocess.Popen([*words, *(word for pid in held for word in ("-p", str(pid)))])
    try:
        wait_until(lambda: all(_is_traced(pid) for pid in held), 10, "strace holds them up")
        yield scene.witness.mark("disk hangs", node)
    finally:
        strace.terminate()
        try:
            strace.wait(HELD_UP_S + 5)
        except subprocess.TimeoutExpired:  # it has lost count of its processes ("delayed wait data"), and lets none go
            strace.kill()
            strace.wait()


def _is_traced(pid: int) -> bool:
    """Whether every thread of a process has a tracer."""
    threads = list(Path(f"/proc/{pid}/task").glob("*/status"))
    return bool(threads) and not any("TracerPid:\t0\n" in one.read_text() for one in threads)
