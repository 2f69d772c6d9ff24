"""A wall clock for a node's guard that can be shifted by hours, and only for it.

Nodes of the lab share one kernel, whose clock must not be set. So the guard gets a library before libc's that shifts
the wall clock, and only that (`wall_clock.c`; libfaketime breaks sleeps by CLOCK_MONOTONIC when it leaves that clock
alone). Consul can't be given one: Go asks the kernel itself.
"""

from __future__ import annotations

import time
from pathlib import Path

from lab import guards
from lab.cluster import Cluster
from lab.shell import run
from tests.support.scene import eventually

SOURCE = Path(__file__).with_name("wall_clock.c")
LIBRARY = "/usr/local/lib/wall_clock.so"
SHIFT = "/etc/wall-clock-shift"
DROP_IN = "/etc/systemd/system/mnha-guard.service.d/wall-clock.conf"
UNIT = f"[Service]\nEnvironment=LD_PRELOAD={LIBRARY} WALL_CLOCK_SHIFT={SHIFT}\n"


class WallClock:
    """That of one node's guard. To put it in and to take it out replaces the guard, and its VM with it."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster, self._node = cluster, node

    def put_in(self) -> None:
        """From now on the guard has it, not shifted."""
        run(
            [
                "gcc",
                "-shared",
                "-fPIC",
                "-O2",
                "-Wall",
                "-Werror",
                "-o",
                self._cluster.file(self._node, LIBRARY),
                SOURCE,
            ]
        )
        self._cluster.write_file(self._node, DROP_IN, UNIT)
        self.shift(0)
        self._again()

    def take_out(self) -> None:
        """The guard has the kernel's again."""
        Path(self._cluster.file(self._node, DROP_IN)).unlink()
        self._again()

    def shift(self, hours: int) -> None:
        """Let it jump to so many hours ahead of the kernel's."""
        self._cluster.write_file(self._node, SHIFT, f"{hours * 3600}\n")

    def hours_ahead(self) -> float:
        """By how much a process with the guard's environment finds it ahead; that the guard has it is seen in /proc."""
        pid = self._pid()
        assert LIBRARY in self._cluster.run(self._node, ["cat", f"/proc/{pid}/maps"], check=True).stdout
        environment = self._cluster.run(self._node, ["cat", f"/proc/{pid}/environ"], check=True).stdout.split("\0")
        words = ["env", *filter(None, environment), "/opt/mnha/bin/python", "-c", "import time; print(time.time())"]
        told_s = float(self._cluster.run(self._node, words, check=True).stdout)
        return (told_s - time.time()) / 3600

    def _pid(self) -> int:
        return int(guards.ask(self._cluster, self._node, "status")["result"]["guard"]["pid"])

    def _again(self) -> None:
        """A new process, with another environment: its VM goes with it and is started again."""
        self._cluster.run(self._node, ["systemctl", "daemon-reload"], check=True)
        pid = self._pid()
        self._cluster.run(self._node, ["kill", "-KILL", str(pid)], check=True)
        eventually(lambda: self._pid() != pid, 60, "a new guard answers")
        eventually(lambda: len(guards.runners(self._cluster)) == 1, 60, "the VM runs again")
