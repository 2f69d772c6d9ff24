"""The loss of Consul's leader, with the VM's node or elsewhere: a take-over waits for an election, a VM does not."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lab import guards
from mnha.core.timing import PROFILES
from tests.support.leader import lead
from tests.support.renewals import line
from tests.support.scene import Scene

from .test_network import assert_untouched

pytestmark = pytest.mark.nightly
TIMINGS = PROFILES["default"]
FAILOVER_S = 40.0
GUEST_S = 60.0


def test_the_loss_of_the_holder_that_leads_consul_too_is_one_failover(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    lead(scene, scene.holder)
    assert guards.runners(scene.cluster) == [scene.holder]
    epoch = scene.status(scene.others[0])["lease"]["epoch"]
    cut_s = scene.witness.mark("power cut", scene.holder, at_ns=scene.cluster.poweroff(scene.holder))
    started = scene.witness.wait_for("started", FAILOVER_S)
    scene.witness.wait_for("guest up", GUEST_S)
    moments = scene.witness.failover(cut_s)
    assert moments.expired_s is not None
    assert moments.qemu_s is not None
    assert moments.expired_s < moments.qemu_s
    assert scene.status(started.node)["lease"]["epoch"] == epoch + 1
    tell(
        f"power loss of the holder that led Consul: lease expired {moments.expired_s:.2f} s, QEMU began "
        f"{moments.qemu_s:.2f} s, guest up {moments.beat_s or 0:.2f} s"
    )


def test_the_loss_of_consuls_leader_elsewhere_does_not_touch_the_vm(scene: Scene, tell: Callable[[str], None]) -> None:
    lead(scene, scene.others[0])
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    cut_s = scene.witness.mark("power cut", scene.others[0], at_ns=scene.cluster.poweroff(scene.others[0]))
    time.sleep(2 * TIMINGS.lease_s)
    assert_untouched(scene, cut_s, pid, epoch)
    told = line(scene.status(scene.holder)["renewals"])
    tell(f"power loss of Consul's leader, not the holder: VM untouched; {told}")
