"""The whole site without power: by accident, and as the manual has it done."""

from __future__ import annotations

import pytest

from lab import guards
from lab.provision import MASTER, await_links
from tests.support.scene import Scene, eventually

BACK_S = 120.0
"""Three nodes boot, Consul finds its quorum, and the lease of whoever held it expires."""


def off_and_on(scene: Scene) -> None:
    """All nodes lose their power within a moment, and get it back."""
    for name in scene.cluster.names:
        scene.witness.mark("power cut", name, at_ns=scene.cluster.poweroff(name))
    for name in scene.cluster.names:
        scene.cluster.poweron(name)


@pytest.mark.nightly
def test_after_the_power_was_gone_everywhere_the_vm_runs_again_by_itself(scene: Scene) -> None:
    """Where its own node is back first, that renews what it held; else another takes it when it has expired."""
    epoch, former = scene.status(scene.holder)["lease"]["epoch"], scene.holder
    off_and_on(scene)
    eventually(lambda: len(guards.runners(scene.cluster)) == 1, BACK_S, "one node runs the VM")
    (holder,) = guards.runners(scene.cluster)
    lease = scene.status(holder)["lease"]
    assert lease["holder"] == holder
    assert lease["epoch"] > epoch or (holder == former and lease["epoch"] == epoch)
    await_links(scene.cluster)


@pytest.mark.nightly
def test_a_vm_that_was_stopped_before_stays_off_until_it_is_started(scene: Scene) -> None:
    code, _, printed = scene.salt_run(MASTER, "stop", timeout_s=240)
    assert code == 0, printed
    off_and_on(scene)
    await_links(scene.cluster)
    eventually(lambda: scene.salt_run(MASTER, "status")[1].get("health") == "healthy", BACK_S, "all is well")
    code, told, printed = scene.salt_run(MASTER, "status")
    assert (code, told["comment"]) == (0, "mnvm is stopped"), printed
    assert guards.runners(scene.cluster) == []
    code, _, printed = scene.salt_run(MASTER, "start", timeout_s=120)
    assert code == 0, printed
    assert len(guards.runners(scene.cluster)) == 1
