"""How long a killed VM takes to be dead, by the size of its memory: what K (`kill_s`) must be enough for.

    PYTHONPATH=salt/_utils:. .venv/bin/python -m tests.bench.kill [--root ROOTFS] [--gib 1 2 4 8] [--rounds 5]

Needs root, a cgroup2 hierarchy and QEMU, and no lab: here, or in a root file system such as the lab's nodes boot from
(`--root`). In each round a QEMU (TCG, its guest stopped) whose memory is all there lies in a slice as libvirt makes
it, and is killed as the fencer does it. The time is that from before the kill to the kernel's word that nothing is
left.

Four kinds: its memory in huge pages where the kernel gives them, as QEMU asks for, or in pages of 4 KiB, as it has
them where memory is fragmented or huge pages are off; the cores quiet, or one busy process on each. The memory is
filled at idle priority, so that others are not disturbed; QEMU has the normal one when it is killed.

Prints two Markdown tables to stdout: the seconds, and what they make a GiB (`mnha.config.killing` takes its rates from
there).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.cgroups import unified_root
from lab.settings import LabError
from lab.shell import say, wait_until
from mnha.fencer.slices import KernelSlices
from tests.bench import machine, stats
from tests.bench.stats import Measure

NAME = "kill"
VM = "size"
SIZES_GIB = (1, 2, 4, 8)
SPARE_GIB = 4
"""So much memory is left to the others on this machine."""
FILL_S = 300.0
DEATH_S = 120.0
GIB = 1024**3
PRIORITY = 60
"""The fencer's: the kernel's word must not wait for a core."""
SPIN = "while :; do :; done"
LAUNCHER = """
import ctypes, os, pathlib, sys
slice, small, root, *words = sys.argv[1:]
pathlib.Path(slice, "cgroup.procs").write_text("0")
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
ctypes.CDLL(None).prctl(41, int(small), 0, 0, 0)
os.chroot(root)
os.chdir("/")
os.execvp(words[0], words)
"""
"""Enters the slice, gives up priority, and huge pages if it is to have none (PR_SET_THP_DISABLE)."""


@dataclass(frozen=True)
class Kind:
    """What is varied beside the size.

    :param small: no huge pages.
    :param busy: one busy process on each core.
    """

    small: bool
    busy: bool

    @property
    def title(self) -> str:
        """For the table."""
        return f"{'4 KiB pages' if self.small else 'huge pages'}, cores {'busy' if self.busy else 'quiet'}"


KINDS = tuple(Kind(small, busy) for small in (False, True) for busy in (False, True))


class Victim:
    """A QEMU with all its memory in a slice of its own, killed at the end in any case.

    :param root: the root file system that has QEMU.
    :raises LabError: it did not fill its memory.
    """

    def __init__(self, root: Path, gib: int, small: bool) -> None:
        self._folder = unified_root() / f"mnha-bench-{uuid.uuid4().hex[:8]}.slice"
        self.slices = KernelSlices(self._folder)
        self.slices.open(VM)
        backend = f"memory-backend-ram,id=all,size={gib}G,prealloc=on,prealloc-threads={os.cpu_count()}"
        qemu = ["qemu-system-x86_64", "-machine", "q35,accel=tcg,memory-backend=all", "-object", backend, "-m",
                f"{gib}G", "-S", "-nodefaults", "-display", "none"]  # fmt: skip
        words = [sys.executable, "-c", LAUNCHER, str(self.slices.path(VM)), str(int(small)), str(root), *qemu]
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            wait_until(lambda: self._is_full(gib), FILL_S, f"QEMU has not filled its {gib} GiB", every_s=0.05)
            for task in os.listdir(f"/proc/{self._process.pid}/task"):
                os.sched_setscheduler(int(task), os.SCHED_OTHER, os.sched_param(0))
        except BaseException:
            self.close()
            raise

    def _is_full(self, gib: int) -> bool:
        if self._process.poll() is not None:
            raise LabError(f"QEMU ended: {self._process.communicate()[1].strip()}")
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") >= gib * GIB

    def huge_share(self) -> float:
        """How much of its memory lies in huge pages, from 0 to 1."""
        found = {}
        for line in Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            found[name] = int(rest.split()[0])
        return found["AnonHugePages"] / found["Rss"]

    def kill_s(self) -> float:
        """Kill it; how long that took.

        :raises LabError: something is left after `DEATH_S`.
        """
        with (self.slices.path(VM) / "cgroup.events").open("rb") as events:
            changes = select.poll()
            changes.register(events, select.POLLPRI)
            began_s = time.monotonic()
            self.slices.kill(VM)
            while not self.slices.is_empty(VM):
                if time.monotonic() - began_s > DEATH_S:
                    raise LabError(f"something of the VM is left {DEATH_S:g} s after its kill")
                changes.poll(10)
            return time.monotonic() - began_s

    def close(self) -> None:
        """Leave nothing behind."""
        self.slices.kill(VM)
        self._process.communicate()
        wait_until(lambda: self.slices.is_empty(VM), DEATH_S, "something of the VM is left")
        self.slices.path(VM).rmdir()
        self._folder.rmdir()


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """One busy process for each core, each in a session of its own, at normal priority."""
    begun = [subprocess.Popen(["sh", "-c", SPIN], start_new_session=True) for _ in range(os.cpu_count() or 1)]
    try:
        time.sleep(0.2)
        yield
    finally:
        for one in begun:
            one.kill()
            one.wait()


def one_round(root: Path, gib: int, kind: Kind) -> tuple[float, float]:
    """The seconds that one VM took to be dead, and how much of its memory lay in huge pages."""
    victim = Victim(root, gib, kind.small)
    try:
        share = victim.huge_share()
        with busy_cores() if kind.busy else contextlib.nullcontext():
            return victim.kill_s(), share
    finally:
        victim.close()


@dataclass(frozen=True)
class Found:
    """The rounds of one kind and size: seconds, and the smallest share of huge pages that any had."""

    kind: Kind
    gib: int
    seconds: tuple[float, ...]
    huge: float

    def measure(self) -> Measure:
        """As a figure."""
        return Measure(NAME, f"{self.gib} GiB, {self.kind.title}", "s", self.seconds)


def measure(root: Path, sizes_gib: list[int], rounds: int) -> Iterator[Found]:
    """All rounds of each kind and size."""
    for kind in KINDS:
        for gib in sizes_gib:
            times, shares = zip(*(one_round(root, gib, kind) for _ in range(rounds)), strict=True)
            yield Found(kind, gib, times, min(shares))
            say(f"{kind.title}, {gib} GiB, {min(shares):.0%} of it huge: {', '.join(f'{s:.3f}' for s in times)} s")


def rates(found: list[Found]) -> str:
    """The seconds per GiB of each kind, of the larger half of the sizes: what a small one takes is QEMU's own end."""
    sizes = sorted({one.gib for one in found})
    large = sizes[len(sizes) // 2 :]
    rows = []
    for kind in KINDS:
        values = [s / one.gib for one in found if one.kind == kind and one.gib in large for s in one.seconds]
        if summary := stats.summarize(values):
            rows.append(
                [kind.title, f"{summary.min:.3f}", f"{summary.median:.3f}", f"{summary.max:.3f}", f"{summary.n}"]
            )
    title = f"s per GiB, {large[0]} GiB and more" if large else "s per GiB"
    return stats.markdown((title, "min", "median", "max", "n"), rows, right={1, 2, 3, 4})


def main() -> int:
    """Measure what the command line wants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("/"), help="root file system that has QEMU")
    parser.add_argument("--gib", type=int, nargs="+", default=list(SIZES_GIB), help="sizes, in GiB")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    free_gib = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    if max(options.gib) + SPARE_GIB > free_gib:
        parser.error(f"{free_gib:.1f} GiB are free: the largest size may be {free_gib - SPARE_GIB:.0f}")
    if not shutil.which("qemu-system-x86_64", path=f"{options.root}/usr/bin"):
        parser.error(f"{options.root} has no QEMU: give one that has by --root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
    found: list[Found] = []
    try:
        found.extend(measure(options.root, options.gib, options.rounds))
    finally:
        print(f"Machine: {machine.sentence(machine.describe())}.\n")
        print(stats.table(one.measure() for one in found), rates(found), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
