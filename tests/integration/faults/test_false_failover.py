"""A failover that was not needed is a failure too: load on everything that a renewal goes through costs no VM its life.

Both cores busy (in the nodes' own groups and outside of them), the disk of Consul's servers and of the image busy with
writes that are waited for, and every frame of the storage network 200 ms late (a round trip takes 400): all at once,
for ten minutes, with the default timings.

`make soak KINDS=disk MINUTES=30` does the same with one kind alone, or for longer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from lab import consul, guards
from mnha.timing import PROFILES
from tests.support.load import CPU, DISK, KINDS, LATENCY, Load
from tests.support.renewals import line
from tests.support.scene import Scene

from .test_network import assert_untouched

TIMINGS = PROFILES["default"]
MINUTES = float(os.environ.get("MNHA_SOAK_MINUTES") or 10)
WANTED = tuple((os.environ.get("MNHA_SOAK_KINDS") or " ".join(KINDS)).split())
LATENCY_MS = 200.0
LOOK_EVERY_S = 5.0

MOST_IDLE = 0.1
"""Of the cores' time: more than that, and they were not busy."""


def test_load_on_everything_costs_no_vm(scene: Scene, tell: Callable[[str], None]) -> None:
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    before, elections = scene.status(scene.holder)["renewals"], consul.elections(scene.cluster)
    least_left_s = TIMINGS.deadline_s
    with Load(scene.cluster, WANTED, LATENCY_MS) as load:
        began_s = scene.witness.mark("load begins", scene.holder, text=f"load begins: {', '.join(WANTED)}")
        end_s = time.monotonic() + MINUTES * 60
        while time.monotonic() < end_s:
            time.sleep(LOOK_EVERY_S)
            status = scene.status(scene.holder)
            assert status["state"] == "holding", scene.witness.table()
            least_left_s = min(least_left_s, status["may_run_for_s"] or 0.0)
        measured = load.measured()
        assert_untouched(scene, began_s, pid, epoch)
        after = scene.status(scene.holder)["renewals"]
        elections = consul.elections(scene.cluster) - elections
    tell(
        f"{', '.join(WANTED)} for {MINUTES:g} minutes: {line(after, before)}; deadline never seen nearer than "
        f"{least_left_s:.2f} s; {elections} elections in Consul\n  {measured.line()}"
    )
    assert guards.runners(scene.cluster) == [scene.holder]
    assert after["longest_gap_s"] < TIMINGS.deadline_s
    if CPU in WANTED:
        assert measured.idle < MOST_IDLE
    if LATENCY in WANTED:
        assert measured.trips_ms[0] >= 2 * LATENCY_MS
    if DISK in WANTED:
        assert measured.writes_s
