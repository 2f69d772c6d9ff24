"""Who else may die in the middle of a live migration, and in which of its phases: Consul, its quorum, and the target's
guard and node. What its source, its target and their libvirtd do is in tests/integration/cluster/test_migration.py.
"""

from __future__ import annotations

import pytest

from lab import guards
from tests.integration.cluster import test_migration as migrations
from tests.support.scene import Scene, eventually

from .test_consul_leader import change_leader

pytestmark = pytest.mark.nightly

slow = migrations.slow


@migrations.ONCE_MORE
def test_consuls_leader_is_lost_in_the_middle_and_the_migration_comes_to_its_end(
    scene: Scene, slow: migrations.Slow
) -> None:
    """The election takes less than D: nothing of the migration is lost."""
    with migrations.same_guest(scene):
        slow.begin()
        change_leader(scene)
        scene.cluster.run(
            slow.source, ["virsh", "migrate-setspeed", "mnvm", str(migrations.UNLIMITED_MIB_S)], check=True
        )
        answer = slow.end(migrations.MIGRATION_S)
        assert answer["ok"], answer
        eventually(lambda: scene.status(slow.target)["state"] == "running", 20, "it runs at its target")


def test_the_quorum_is_lost_in_the_middle_and_the_vm_is_dead_at_its_deadline_and_runs_once_after(
    scene: Scene, slow: migrations.Slow
) -> None:
    slow.begin()
    lost_s = scene.witness.mark("quorum lost", slow.source)
    for node in scene.others:
        scene.cluster.run(node, ["systemctl", "kill", "--signal=STOP", "consul"], check=True)
    try:
        dead = scene.witness.wait_for(
            "QEMU ended", migrations.TIMINGS.deadline_s + migrations.TIMINGS.kill_s + 5, lost_s, slow.source
        )
        assert dead.at_s - lost_s <= migrations.TIMINGS.deadline_s + migrations.TIMINGS.kill_s
        eventually(slow.copy_is_gone, migrations.TIMINGS.lease_s + 5, "the copy at the target is gone")
    finally:
        for node in scene.others:
            scene.cluster.run(node, ["systemctl", "kill", "--signal=CONT", "consul"], check=True)
    scene.witness.wait_for("started", migrations.FAILOVER_S, dead.at_s)
    scene.witness.wait_for("guest up", migrations.GUEST_S)
    assert not slow.was_resumed()


def test_targets_guard_dies_in_the_middle_and_the_vm_goes_on_at_one_end(scene: Scene, slow: migrations.Slow) -> None:
    """The next one lets stand what is still offered, or kills it."""
    slow.begin()
    scene.send(slow.target, "KILL", "mnha-guard")
    scene.cluster.run(slow.source, ["virsh", "migrate-setspeed", "mnvm", str(migrations.UNLIMITED_MIB_S)], check=True)
    slow.end(migrations.MIGRATION_S)
    runner = guards.wait_until_running(scene.cluster, migrations.FAILOVER_S)
    assert runner in (slow.source, slow.target)
    scene.await_renewals(3, holder=runner)


def test_target_loses_power_as_soon_as_the_vm_is_its_own_and_another_node_starts_it(
    scene: Scene, slow: migrations.Slow
) -> None:
    """Between hand-over and resume, or right after: it is a holder like any other that is lost."""
    slow.begin()
    scene.cluster.run(slow.source, ["virsh", "migrate-setspeed", "mnvm", str(migrations.UNLIMITED_MIB_S)], check=True)

    def is_theirs() -> bool:
        return bool(scene.status(slow.source)["lease"]["holder"] == slow.target)

    eventually(is_theirs, migrations.MIGRATION_S, "the lease is handed over")
    cut_s = scene.witness.mark("power cut", slow.target, at_ns=scene.cluster.poweroff(slow.target))
    started = scene.witness.wait_for("started", migrations.FAILOVER_S, cut_s)
    assert started.node != slow.target
    scene.witness.wait_for("guest up", migrations.GUEST_S)
