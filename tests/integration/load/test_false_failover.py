"""A failover that was not needed is a failure too: load on what a renewal goes through costs no VM its life.

For a minute and a half (ten in `make nightly`), with the default timings, at once: all cores busy, in the nodes' own
groups and outside of them; the disk of Consul's servers and of the image busy with writes that are waited for; every
frame of the storage network 200 ms late, so that a round trip takes 400. One after the other, and for longer:

    make soak KINDS="cpu disk latency" MINUTES=30
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import pytest

from lab import consul, guards
from lab.settings import VM_NAME, LabError
from mnha.core.timing import PROFILES
from tests.support import renewals
from tests.support.load import CPU, DISK, LATENCY, Load
from tests.support.scene import Scene, eventually

from ..faults.test_network import assert_untouched

TIMINGS = PROFILES["default"]
MINUTES = float(os.environ.get("MNHA_SOAK_MINUTES") or 1.5)
LOADS = [tuple(word.split("+")) for word in (os.environ.get("MNHA_SOAK_KINDS") or "cpu+disk+latency").split()]
LASTS_S = MINUTES * 60 / len(LOADS)
LATENCY_MS = 200.0
LOOK_EVERY_S = 5.0

LOOPS = 2
"""For each core: a guard that begins as any other program does is too late then, by seconds."""
MOST_IDLE = 0.1
"""Of the cores' time: more than that, and they were not busy."""


def assert_realtime(scene: Scene) -> None:
    """On every node guard and Consul come before all that the cores are busy with."""
    for name in scene.cluster.names:
        for service, priority in (("mnha-guard", 50), ("consul", 10)):
            words = f"chrt --pid $(systemctl show --property MainPID --value {service})"
            told = scene.cluster.run(name, ["sh", "-c", words], check=True).stdout
            assert "SCHED_RR" in told, (name, service, told)
            assert told.rstrip().endswith(f"priority: {priority}"), (name, service, told)
            words = f"ps -L -o cls= -p $(systemctl show --property MainPID --value {service})"
            classes = scene.cluster.run(name, ["sh", "-c", words], check=True).stdout.split()
            assert classes.count("RR") > len(classes) / 2, (name, service, classes)


@pytest.mark.parametrize("kinds", LOADS, ids="+".join)
def test_load_costs_no_vm(scene: Scene, kinds: tuple[str, ...], tell: Callable[[str], None]) -> None:
    renewals.count_anew(scene)
    assert_realtime(scene)
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    elections = consul.elections(scene.cluster)
    least_left_s = TIMINGS.deadline_s
    with Load(scene.cluster, kinds, LATENCY_MS) as load:
        began_s = scene.witness.mark("load begins", scene.holder, text=f"load begins: {', '.join(kinds)}")
        end_s = time.monotonic() + LASTS_S
        while time.monotonic() < end_s:
            time.sleep(LOOK_EVERY_S)
            status = scene.status(scene.holder)
            assert status["state"] == "running", scene.witness.table()
            least_left_s = min(least_left_s, status["may_run_for_s"] or 0.0)
        measured = load.measured()
        assert_untouched(scene, began_s, pid, epoch)
        told = renewals.of(scene)
        elections = consul.elections(scene.cluster) - elections
    assert told
    tell(
        f"{' and '.join(kinds)} for {LASTS_S:.0f} s: {renewals.line(told)}; deadline never seen nearer than "
        f"{least_left_s:.2f} s; {elections} elections in Consul\n  {measured.line()}"
    )
    assert guards.runners(scene.cluster) == [scene.holder]
    assert told["longest_gap_s"] < TIMINGS.deadline_s
    if CPU in kinds:
        assert measured.idle < MOST_IDLE
    if LATENCY in kinds:
        assert measured.trips_ms[0] >= 2 * LATENCY_MS
    if DISK in kinds:
        assert measured.writes_s


def test_a_guard_that_is_killed_on_a_busy_node_costs_no_vm(scene: Scene, tell: Callable[[str], None]) -> None:
    """The next one is there before the moment that was last granted: it has its priority from its first instruction on,
    not only when it is ready."""
    before, epoch = scene.guard(scene.holder)["guard"]["pid"], scene.status(scene.holder)["lease"]["epoch"]
    pid = scene.qemu_pid(scene.holder)

    def goes_on() -> bool:
        """Whether the next one answers, and has renewed."""
        with contextlib.suppress(LabError):
            status = guards.ask(scene.cluster, scene.holder, "status")["result"]
            return status["guard"]["pid"] != before and bool(status["vms"][VM_NAME]["may_run_for_s"])
        return False

    with Load(scene.cluster, (CPU,), 0.0, LOOPS) as load:
        began_s = scene.witness.mark("guard killed", scene.holder)
        scene.cluster.run(scene.holder, ["systemctl", "kill", "--signal=KILL", "mnha-guard"], check=True)
        eventually(goes_on, 30, "the next guard goes on")
        took_s, measured = scene.cluster.boottime() - began_s, load.measured()
        assert_untouched(scene, began_s, pid, epoch)
    assert measured.idle < MOST_IDLE
    tell(f"a guard killed on a busy node: the next one had renewed {took_s:.1f} s later; {measured.idle:.0%} idle")
