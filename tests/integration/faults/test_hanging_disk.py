"""The disk below a Consul server hangs. Its heartbeats go on: of themselves the others would elect no other leader, and
nobody could renew a lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lab import consul, guards
from mnha.core.timing import PROFILES
from mnha.daemon.adapters.consul_disk import LOOK_EVERY_S, REST_S, hangs_s
from tests.support.hanging_disk import hanging
from tests.support.leader import lead
from tests.support.scene import Scene, eventually

from .test_network import assert_untouched

TIMINGS = PROFILES["default"]

pytestmark = pytest.mark.nightly  # a server is ended only when it has run for a minute

LASTS_S = 2 * TIMINGS.lease_s
SOON_S = 0.5
"""Questions to the servers, and what the lab's processes wait for a core."""
ELECTION_S = 10.0
TRIES = 3


def lead_for_long(scene: Scene, node: str) -> None:
    """Have a node's server lead that has run for so long that it may be ended."""
    for _ in range(TRIES):
        lead(scene, node)
        time.sleep(REST_S)
        if consul.leader(scene.cluster) == node:
            return
    raise AssertionError(f"{node} does not lead Consul for {REST_S:g} s")


@pytest.mark.parametrize("leads", ["holder", "another"])
def test_the_vm_lives_or_is_back_before_its_lease_would_have_expired(
    scene: Scene, tell: Callable[[str], None], leads: str
) -> None:
    leader = scene.holder if leads == "holder" else scene.others[0]
    lead_for_long(scene, leader)
    with hanging(scene, leader) as hung_s:
        ended = scene.witness.wait_for("consul_ended", TIMINGS.renew_s + hangs_s(TIMINGS) + ELECTION_S, hung_s)
        eventually(
            lambda: consul.leader(scene.cluster, but=leader) not in ("", leader), ELECTION_S, "another server leads"
        )
        eventually(lambda: scene.cluster.boottime() > hung_s + LASTS_S, LASTS_S + 10, "some time")
        gone, back = (scene.witness.first(kind, hung_s) for kind in ("QEMU ended", "QEMU began"))
        assert guards.runners(scene.cluster) == [scene.holder], scene.witness.table()
        _, _, printed = scene.salt_run(scene.others[1], "status")
    told = "VM untouched"
    if gone:
        assert back, scene.witness.table()
        told = f"VM dead {gone.at_s - hung_s:.2f} s, QEMU began {back.at_s - hung_s:.2f} s"
    longest_s = scene.status(scene.holder)["renewals"]["longest_gap_s"]
    tell(f"disk of Consul's leader ({leads}) hangs: ended {ended.at_s - hung_s:.2f} s; {told}; gap {longest_s:.2f} s")
    assert ended.node == leader
    assert ended.at_s - hung_s < TIMINGS.renew_s + hangs_s(TIMINGS) + 2 * LOOK_EVERY_S + SOON_S
    assert back is None or back.at_s - hung_s < TIMINGS.lease_s, scene.witness.table()
    assert "it was ended, for another one to lead" in printed


def test_a_server_that_does_not_lead_is_left_alone_and_its_disk_is_told(scene: Scene) -> None:
    lead_for_long(scene, scene.holder)
    node = scene.others[0]
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    with hanging(scene, node) as hung_s:
        why = eventually(
            lambda: scene.guard(node)["checks"]["disk"]["why"], TIMINGS.lease_s + 10, "its guard tells of its disk"
        )
        assert "hangs: nothing is written there" in why
        _, _, printed = scene.salt_run(scene.holder, "status")
        assert f"{node}: disk: {why}" in printed
        assert scene.witness.first("consul_ended") is None, scene.witness.table()
        assert_untouched(scene, hung_s, pid, epoch)
