"""Load for the lab's cluster: busy cores, a busy disk, a slow storage network; and what it does, measured.

A test that says *nothing happens under load* is worth what the load is worth, so every kind is measured from outside:
how idle the cores were, how long a write to the disk took, how long a packet was on its way.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.cluster import Cluster
from lab.node import kill_tree
from lab.settings import STORAGE, LabError

CPU, DISK, LATENCY = "cpu", "disk", "latency"
KINDS = (CPU, DISK, LATENCY)

SPIN = "while :; do :; done"
WRITERS = {"small": "bs=4k count=2000", "large": "bs=1M count=50"}
"""Two writers a node, each waiting for the disk after every block: one makes many commits, the other much data."""
SCRATCH = "/var/lib/mnha-load"
"""On the node's own disk, where Consul has its data, too."""
PROBE_EVERY_S = 0.5
PINGS = 20


def rank(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie, nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


@dataclass(frozen=True)
class Measured:
    """What the load was while it lasted.

    :param idle: share of the cores' time in which they had nothing to do (waiting for the disk included).
    :param writes_s: how long writes of 4 KiB took until they were on the disk.
    :param trips_ms: round trips of packets between two nodes on the storage network: least, mean, most.
    """

    idle: float
    writes_s: tuple[float, ...]
    trips_ms: tuple[float, float, float]

    def line(self) -> str:
        """One line for people."""
        median, worst = rank(self.writes_s, 0.5) * 1000, max(self.writes_s) * 1000
        least, mean, most = self.trips_ms
        return (
            f"cores idle {self.idle * 100:.1f} %; a write to the disk median {median:.1f} ms, "
            f"p99 {rank(self.writes_s, 0.99) * 1000:.0f} ms, longest {worst:.0f} ms; "
            f"round trip {least:.0f} / {mean:.0f} / {most:.0f} ms (least, mean, most)"
        )


class Load:
    """Load of the given kinds on a cluster, from entering to leaving.

    :param latency_ms: how much later whatever a node sends on the storage network arrives: a round trip between two
        nodes takes twice as much.
    :param loops: how many busy loops for each core, in every node and outside.
    """

    def __init__(self, cluster: Cluster, kinds: Sequence[str], latency_ms: float, loops: int = 1) -> None:
        if unknown := set(kinds) - set(KINDS):
            raise LabError(f"unknown kinds of load: {', '.join(sorted(unknown))}; known are {', '.join(KINDS)}")
        self._cluster, self._kinds, self._latency_ms, self._loops = cluster, kinds, latency_ms, loops
        self._processes: list[subprocess.Popen[bytes]] = []
        self._outside: list[subprocess.Popen[bytes]] = []
        self._stop = threading.Event()
        self._writes_s: list[float] = []
        self._prober = threading.Thread(target=self._probe, name="load-probe", daemon=True)
        self._cores_at_begin = (0.0, 0.0)

    def __enter__(self) -> Load:
        with contextlib.ExitStack() as undo:
            undo.callback(self._end)
            if LATENCY in self._kinds:
                for name in self._cluster.names:
                    self._cluster.delay(name, STORAGE, self._latency_ms, "out")
            if CPU in self._kinds:
                self._spin()
            if DISK in self._kinds:
                self._write()
            self._prober.start()
            self._cores_at_begin = core_times()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def measured(self) -> Measured:
        """What the load was until now."""
        idle, whole = (now - before for now, before in zip(core_times(), self._cores_at_begin, strict=True))
        return Measured(idle / whole, tuple(self._writes_s), self._trips_ms())

    def _spin(self) -> None:
        """Busy loops for every core in every node, and as many outside of all of them."""
        for _ in range((os.cpu_count() or 1) * self._loops):
            self._outside.append(subprocess.Popen(["/bin/sh", "-c", SPIN], start_new_session=True))
            for name in self._cluster.names:
                self._processes.append(self._cluster.popen(name, ["/bin/sh", "-c", SPIN], stdin=subprocess.DEVNULL))

    def _write(self) -> None:
        """The writers of every node, on its own disk; and one on the folder with the VM's image."""
        for name in self._cluster.names:
            for kind, size in WRITERS.items():
                words = ["/bin/sh", "-c", writer(f"{SCRATCH}-{kind}", size)]
                self._processes.append(self._cluster.popen(name, words, stdin=subprocess.DEVNULL))
        image_folder = self._cluster.settings.disk_image.parent
        words = ["/bin/sh", "-c", writer(f"{image_folder}/load", WRITERS["large"])]
        self._outside.append(subprocess.Popen(words, start_new_session=True))

    def _probe(self) -> None:
        """Time small writes on the disk that all nodes lie on."""
        path = self._cluster.settings.state / "load-probe"
        with path.open("wb", buffering=0) as file:
            while not self._stop.wait(PROBE_EVERY_S):
                begin_s = time.monotonic()
                file.seek(0)
                file.write(os.urandom(4096))
                os.fsync(file.fileno())
                self._writes_s.append(time.monotonic() - begin_s)
        path.unlink()

    def _trips_ms(self) -> tuple[float, float, float]:
        """Round trips between the first two nodes."""
        first, second = self._cluster.plans[:2]
        words = ["ping", "-n", "-q", "-c", str(PINGS), "-i", "0.2", second.storage]
        told = self._cluster.run(first.name, words, timeout_s=60).stdout
        found = re.search(r"= ([\d.]+)/([\d.]+)/([\d.]+)/", told)
        if not found:
            raise LabError(f"no answer to pings from {first.name} to {second.name}: {told}")
        return (float(found[1]), float(found[2]), float(found[3]))

    def _end(self) -> None:
        """End all of it, whatever has been begun."""
        self._stop.set()
        if self._prober.is_alive():
            self._prober.join()
        for process in self._processes:
            kill_tree(process)
        for process in self._outside:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for name in self._cluster.names:
            with contextlib.suppress(LabError):
                self._cluster.heal(name)
                self._cluster.run(name, ["/bin/sh", "-c", f"rm -f {SCRATCH}-*"])
        (self._cluster.settings.disk_image.parent / "load").unlink(missing_ok=True)


def writer(path: str, size: str) -> str:
    """A shell's loop that writes a file over and over again, each block down to the disk."""
    return f"while dd if=/dev/zero of={path} conv=notrunc oflag=dsync status=none {size}; do :; done"


def core_times() -> tuple[float, float]:
    """The seconds that all cores together were idle, and all their seconds, since the machine's start."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ticks = [int(word) / os.sysconf("SC_CLK_TCK") for word in words]
    return ticks[3] + ticks[4], sum(ticks)
