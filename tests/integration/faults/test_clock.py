"""The wall clock of the holder's guard jumps by hours, to and fro; the VM does not notice: its lease has another one.

Nodes of the lab share one kernel, whose clock must not be set. So the guard gets a library before libc's that shifts
the wall clock, and only that (`wall_clock.c`; libfaketime breaks sleeps by CLOCK_MONOTONIC when it leaves that clock
alone). Consul can't be given one: Go asks the kernel itself.

Steps stay below a day: a certificate is valid from a day before it was made, and a new TLS connection looks at that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import guards
from lab.shell import run
from mnha.core.timing import PROFILES
from tests.support.renewals import line
from tests.support.scene import Scene, eventually

from .test_network import assert_untouched

TIMINGS = PROFILES["default"]
SOURCE = Path(__file__).with_name("wall_clock.c")
LIBRARY = "/usr/local/lib/wall_clock.so"
SHIFT = "/etc/wall-clock-shift"
DROP_IN = "/etc/systemd/system/mnha-guard.service.d/wall-clock.conf"
UNIT = f"[Service]\nEnvironment=LD_PRELOAD={LIBRARY} WALL_CLOCK_SHIFT={SHIFT}\n"
STEPS_H = (3, -20, 11, 0)
EACH_S = 6.0


@pytest.fixture
def shifted(scene: Scene) -> Iterator[Callable[[int], None]]:
    """The holder's guard runs with a wall clock that can be shifted, by hours; at the end it is as before."""
    node, cluster = scene.holder, scene.cluster
    run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", cluster.file(node, LIBRARY), SOURCE])
    cluster.write_file(node, DROP_IN, UNIT)

    def shift(hours: int) -> None:
        cluster.write_file(node, SHIFT, f"{hours * 3600}\n")

    def again() -> None:
        """A new process, with another environment: its VM goes with it and is started again."""
        cluster.run(node, ["systemctl", "daemon-reload"], check=True)
        pid = scene.guard(node)["guard"]["pid"]
        cluster.run(node, ["kill", "-KILL", str(pid)], check=True)
        eventually(lambda: scene.guard(node)["guard"]["pid"] != pid, 20, "a new guard answers")
        eventually(lambda: len(guards.runners(cluster)) == 1, 60, "the VM runs again")

    shift(0)
    again()
    yield shift
    Path(cluster.file(node, DROP_IN)).unlink()
    again()


def test_a_wall_clock_that_jumps_under_the_holders_guard_is_not_noticed(
    scene: Scene, shifted: Callable[[int], None], tell: Callable[[str], None]
) -> None:
    assert guards.runners(scene.cluster) == [scene.holder]
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    begun_s = scene.witness.mark("wall clock begins to jump", scene.holder)
    for hours in STEPS_H:
        shifted(hours)
        time.sleep(EACH_S)
        assert abs(hours_ahead(scene) - hours) < 0.1
    assert_untouched(scene, begun_s, pid, epoch)
    after = scene.status(scene.holder)["renewals"]
    assert after["longest_gap_s"] < 3 * TIMINGS.renew_s
    tell(f"wall clock of the holder's guard stepped by {STEPS_H} h: VM untouched; {line(after)}")


def hours_ahead(scene: Scene) -> float:
    """By how many hours a process with the guard's environment finds the wall clock ahead; the guard has that too."""
    pid = scene.guard(scene.holder)["guard"]["pid"]
    assert LIBRARY in scene.cluster.run(scene.holder, ["cat", f"/proc/{pid}/maps"], check=True).stdout
    environment = scene.cluster.run(scene.holder, ["cat", f"/proc/{pid}/environ"], check=True).stdout.split("\0")
    words = ["env", *filter(None, environment), "/opt/mnha/bin/python", "-c", "import time; print(time.time())"]
    told_s = float(scene.cluster.run(scene.holder, words, check=True).stdout)
    return (told_s - time.time()) / 3600
