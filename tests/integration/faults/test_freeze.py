"""A node whose kernel stands still: its guard can do nothing; the watchdog outside of it does, before a take-over."""

from __future__ import annotations

import time
from collections.abc import Callable

from lab import watchdog
from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]
FROZEN_S = 15.0
FAILOVER_S = 40.0
GUEST_S = 60.0


def resets(scene: Scene, node: str, since_s: float) -> list[float]:
    """When the watchdog reset a node, CLOCK_BOOTTIME in s."""
    found = watchdog.history(scene.cluster.settings, node)
    return [line["at_s"] for line in found if line["event"] == "reset" and line["at_s"] >= since_s]


def test_a_frozen_holder_is_reset_by_its_watchdog_before_the_vm_runs_again_anywhere(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    assert scene.guard(scene.holder)["watchdog"]["armed"]
    boot = scene.cluster.node(scene.holder).init_pid()
    frozen_s = scene.witness.mark("node frozen", scene.holder, at_ns=scene.cluster.freeze(scene.holder))
    started = scene.witness.wait_for("started", FAILOVER_S)
    time.sleep(max(0.0, frozen_s + FROZEN_S - scene.cluster.boottime()))
    if scene.cluster.node(scene.holder).is_on():
        scene.cluster.thaw(scene.holder)
    scene.witness.wait_for("guest up", GUEST_S)
    moments = scene.witness.failover(frozen_s)
    (reset_at_s,) = resets(scene, scene.holder, frozen_s)
    scene.witness.mark("reset", scene.holder, at_ns=int(reset_at_s * 1e9), text="its watchdog resets the node")
    reset_s = reset_at_s - frozen_s
    assert reset_s <= TIMINGS.reset_s, scene.witness.table()
    assert moments.old_dead_s is not None
    assert moments.qemu_s is not None
    assert started.node != scene.holder, scene.witness.table()
    assert moments.taken_s is not None
    assert reset_s <= moments.old_dead_s < moments.taken_s < moments.qemu_s, scene.witness.table()
    eventually(lambda: scene.cluster.node(scene.holder).init_pid() != boot, 60, f"{scene.holder} boots again")
    eventually(lambda: scene.status(scene.holder)["state"] == "standby", 90, f"{scene.holder} is a candidate again")
    tell(
        f"node frozen: reset by its watchdog after {reset_s:.2f} s, VM dead {moments.old_dead_s:.2f} s, "
        f"taken by another {moments.taken_s:.2f} s, QEMU began {moments.qemu_s:.2f} s\n{scene.witness.table()}"
    )
