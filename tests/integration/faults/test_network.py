"""Cuts of a network, whole and in one direction only: who must stop does so before another may start, and nobody else.

A cut takes nothing away but packets: links stay up, nobody gets a FIN or a RST. All moments are on one clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from lab import guards
from lab.settings import MGMT, STORAGE
from mnha.core.timing import PROFILES
from tests.integration.cluster.test_migration import ONCE_MORE, same_guest
from tests.support.leader import lead
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]
MASTERLESS_S = 2.0
FAILOVER_S = 40.0
GUEST_S = 60.0
MANAGEMENT_LOST_S = 15.0
NOTICED_S = 20.0
EVACUATION_S = 90.0
ELECTION_S = 5.0
"""An election, a split vote included: what was appended just before a cut may be committed by the next leader."""

CHANGES = ("taken", "killed", "released", "died", "QEMU ended", "QEMU began")
"""What must not happen to a VM that has nothing to do with a fault."""


def assert_untouched(scene: Scene, since_s: float, pid: int, epoch: int) -> None:
    """The same process runs under the same epoch, and nothing was tried in between."""
    assert scene.qemu_pid(scene.holder) == pid
    assert scene.status(scene.holder)["lease"]["epoch"] == epoch
    assert guards.runners(scene.cluster) == [scene.holder]
    seen = [event for event in scene.witness.events() if event.kind in CHANGES and event.at_s > since_s]
    assert seen == [], scene.witness.table()


def test_a_management_cut_of_the_holder_touches_neither_lease_nor_vm(scene: Scene) -> None:
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    eventually(lambda: scene.guest_answers(scene.holder), GUEST_S, "the guest answers on the management network")
    cut_s = scene.witness.mark("management cut", scene.holder, at_ns=scene.cluster.cut(scene.holder, MGMT))
    assert not scene.guest_answers(scene.holder)
    scene.await_renewals(10)  # Salt's beacons have had their turns
    assert_untouched(scene, cut_s, pid, epoch)
    scene.cluster.heal(scene.holder)
    eventually(lambda: scene.guest_answers(scene.holder), 10, "the guest answers again")
    assert_untouched(scene, cut_s, pid, epoch)


@ONCE_MORE
def test_a_holder_without_its_management_network_sends_its_vm_to_a_node_that_has_it(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    old, epoch = scene.holder, scene.status(scene.holder)["lease"]["epoch"]
    eventually(lambda: scene.guest_answers(scene.holder), GUEST_S, "the guest answers on the management network")
    with same_guest(scene) as pulse:
        cut_s = scene.witness.mark("management cut", old, at_ns=scene.cluster.cut(old, MGMT))
        eventually(lambda: not told_of(scene, old)["ok"], NOTICED_S, "it is noticed")
        assert "nobody answers by" in told_of(scene, old)["why"]
        eventually(lambda: guards.runners(scene.cluster) not in ([old], []), EVACUATION_S, "the VM runs elsewhere")
        (new,) = guards.runners(scene.cluster)
        eventually(lambda: scene.guest_answers(new), 15, "the guest answers again")
        went_s = scene.cluster.boottime() - cut_s
    assert new in scene.others
    lease = scene.status(new)["lease"]
    assert (lease["holder"], lease["epoch"]) == (new, epoch + 1)
    assert lease["reason"] == f"{old} has lost its management network"
    scene.cluster.heal(old)
    eventually(lambda: told_of(scene, old)["ok"], NOTICED_S, "it is well again")
    scene.await_renewals(3, holder=new)  # nobody takes it back
    events = scene.salt_run(new, "history")[1]["history"]
    assert {("network lost", old), ("network back", old)} <= {(one["event"], one["node"]) for one in events}
    tell(
        f"management network of the holder cut: migrated to {new}, the guest answers there after {went_s:.1f} s; "
        f"it stood still for {pulse.longest_gap_s():.2f} s at the most"
    )


@pytest.mark.nightly
def test_a_management_network_that_is_gone_for_all_nodes_moves_nothing(scene: Scene) -> None:
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    cut_s = scene.witness.mark("management cut", scene.holder)
    for node in scene.cluster.names:
        scene.cluster.cut(node, MGMT)
    eventually(lambda: all(not told_of(scene, node)["ok"] for node in scene.cluster.names), NOTICED_S, "all notice")
    time.sleep(MANAGEMENT_LOST_S + 5.0)
    assert_untouched(scene, cut_s, pid, epoch)
    for node in [*scene.others, scene.holder]:  # who has the VM sees it back last
        scene.cluster.heal(node)
    eventually(lambda: all(told_of(scene, node)["ok"] for node in scene.cluster.names), NOTICED_S, "it is back")
    scene.await_renewals(10)
    assert_untouched(scene, cut_s, pid, epoch)


def told_of(scene: Scene, node: str) -> dict[str, Any]:
    """What a node's guard says of its management network."""
    return dict(scene.guard(node)["network_checks"]["management"])


@pytest.mark.parametrize(
    ("networks", "direction"),
    [((STORAGE,), "in"), ((STORAGE,), "out"), ((MGMT, STORAGE), "both")],
    ids=["nothing-comes-in", "nothing-gets-out", "all-networks"],
)
def test_a_holder_that_can_not_renew_is_dead_before_another_may_start(
    scene: Scene, networks: tuple[str, ...], direction: str, tell: Callable[[str], None]
) -> None:
    old, epoch = scene.holder, scene.status(scene.holder)["lease"]["epoch"]
    at_ns = [scene.cluster.cut(old, network, direction) for network in networks][-1]
    cut_s = scene.witness.mark("cut", old, at_ns=at_ns, text=f"cut of {' and '.join(networks)}: {direction}")
    new = scene.witness.wait_for("started", FAILOVER_S).node
    moments = scene.witness.failover(cut_s)
    assert new in scene.others
    assert moments.old_dead_s is not None, scene.witness.table()
    assert moments.expired_s is not None, scene.witness.table()
    assert moments.qemu_s is not None, scene.witness.table()
    assert moments.old_dead_s <= TIMINGS.deadline_s + TIMINGS.kill_s, scene.witness.table()
    assert moments.old_dead_s < moments.expired_s < moments.qemu_s, scene.witness.table()
    # At most one renewal whose answer never came back may have been committed, by the next leader at the latest.
    assert moments.expired_s <= TIMINGS.lease_s + ELECTION_S + TIMINGS.renew_s, scene.witness.table()
    tell(
        f"holder cut off {' and '.join(networks)} ({direction}): old VM dead {moments.old_dead_s:.2f} s, lease expired "
        f"{moments.expired_s:.2f} s, QEMU began on {new} {moments.qemu_s:.2f} s after the cut "
        f"({scene.status(new)['lease']['reason']})"
    )
    scene.cluster.heal(old)
    eventually(lambda: scene.status(old)["state"] == "standby", 60, f"{old} is a candidate again")
    assert guards.runners(scene.cluster) == [new]
    assert scene.status(new)["lease"]["epoch"] == epoch + 1


def test_a_candidate_that_is_cut_off_neither_gets_the_lease_nor_harms_its_holder(scene: Scene) -> None:
    lead(scene, scene.holder, scene.others[1])  # an election may take longer than the deadline
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    candidate = scene.others[0]
    for direction in ("both", "in", "out"):
        at_ns = scene.cluster.cut(candidate, STORAGE, direction)
        cut_s = scene.witness.mark("cut", candidate, at_ns=at_ns, text=f"storage cut, {direction}")
        if direction == "both":
            limit_s = TIMINGS.lease_s + MASTERLESS_S + 10.0
            eventually(
                lambda: _wants_the_lease(scene, candidate), limit_s, "it sees nobody renew, and nobody orders it"
            )
        time.sleep(TIMINGS.renew_s if direction == "both" else TIMINGS.lease_s + TIMINGS.renew_s)
        scene.cluster.heal(candidate)
        eventually(lambda: _watches_again(scene, candidate), 30, f"{candidate} sees the lease renewed again")
        assert_untouched(scene, cut_s, pid, epoch)


def _wants_the_lease(scene: Scene, node: str) -> bool:
    """Whether a node would take the lease, of its own accord."""
    return scene.status(node)["state"] in ("waiting", "taking-over")


def _watches_again(scene: Scene, node: str) -> bool:
    """Whether a node is a candidate again that knows of a renewal of a moment ago."""
    status = scene.status(node)
    return status["state"] == "standby" and status["lease"]["age_s"] < 2 * TIMINGS.renew_s
