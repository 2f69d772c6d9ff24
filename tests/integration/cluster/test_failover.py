"""What the product is for: the MNVM's node dies or is cut off, and another one runs it, once."""

from __future__ import annotations

from lab import guards
from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]
FAILOVER_S = 40.0
GUEST_S = 60.0


def test_power_loss_of_the_holder_starts_the_mnvm_on_another_node(scene: Scene) -> None:
    before = scene.status(scene.others[0])["lease"]
    cut_s = scene.witness.mark("power cut", scene.holder, at_ns=scene.cluster.poweroff(scene.holder))
    started = scene.witness.wait_for("started", FAILOVER_S)
    scene.witness.wait_for("guest up", GUEST_S)
    assert started.node in scene.others
    after = scene.status(started.node)
    assert (after["lease"]["holder"], after["lease"]["epoch"]) == (started.node, before["epoch"] + 1)
    moments = scene.witness.failover(cut_s)
    assert moments.expired_s is not None
    assert moments.qemu_s is not None
    assert moments.qemu_s > moments.expired_s, scene.witness.table()
    code, status, printed = scene.salt_run(started.node, "status")
    assert code == 1, printed  # degraded: a node is down
    assert status["vms"]["mnvm"]["running_on"] == started.node
    code, history, printed = scene.salt_run(started.node, "history")
    assert code == 0, printed
    assert any(e["event"] == "taken" and e["epoch"] == before["epoch"] + 1 for e in history["history"]), printed


def test_the_returned_node_is_a_candidate_and_does_not_take_the_mnvm_back(scene: Scene) -> None:
    scene.witness.mark("power cut", scene.holder, at_ns=scene.cluster.poweroff(scene.holder))
    new = scene.witness.wait_for("started", FAILOVER_S).node
    scene.cluster.poweron(scene.holder)
    eventually(lambda: scene.status(scene.holder)["state"] == "standby", 60, f"{scene.holder} is a candidate again")
    scene.await_renewals(holder=new)
    assert guards.runners(scene.cluster) == [new]


def test_storage_cut_kills_the_old_vm_before_any_other_node_may_start_it(scene: Scene) -> None:
    cut_s = scene.witness.mark("storage cut", scene.holder, at_ns=scene.cluster.cut(scene.holder, "storage"))
    new = scene.witness.wait_for("started", FAILOVER_S).node
    moments = scene.witness.failover(cut_s)
    assert new in scene.others
    assert moments.old_dead_s is not None, scene.witness.table()
    assert moments.old_dead_s <= TIMINGS.deadline_s + TIMINGS.kill_s
    assert moments.expired_s is not None
    assert moments.qemu_s is not None
    assert moments.old_dead_s < moments.expired_s < moments.qemu_s
    epoch = scene.status(new)["lease"]["epoch"]
    scene.cluster.heal(scene.holder)
    eventually(lambda: scene.status(scene.holder)["state"] == "standby", 60, f"{scene.holder} is a candidate again")
    scene.await_renewals(holder=new)
    assert guards.runners(scene.cluster) == [new]
    assert scene.status(new)["lease"]["epoch"] == epoch


def test_a_crashed_vm_is_started_again_on_its_node(scene: Scene) -> None:
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    scene.witness.mark("SIGKILL to QEMU", scene.holder)
    scene.cluster.run(scene.holder, ["kill", "-KILL", str(pid)], check=True)
    started = scene.witness.wait_for("started", FAILOVER_S)
    assert started.node == scene.holder
    scene.witness.wait_for("guest up", GUEST_S)
    assert scene.status(scene.holder)["lease"]["epoch"] == epoch
    assert scene.qemu_pid(scene.holder) != pid


def test_a_vm_shut_off_from_inside_is_started_again_on_its_node(scene: Scene) -> None:
    scene.witness.mark("shutdown inside", scene.holder)
    agent = '{"execute":"guest-shutdown","arguments":{"mode":"powerdown"}}'
    # The guest ends without an answer to this command, as it does when somebody types `halt -p` in it.
    scene.cluster.run(scene.holder, ["virsh", "qemu-agent-command", "mnvm", agent])
    assert scene.witness.wait_for("started", FAILOVER_S).node == scene.holder
    scene.witness.wait_for("guest up", GUEST_S)


def test_loss_of_a_node_without_the_mnvm_changes_nothing_but_the_status(scene: Scene) -> None:
    lost, other = scene.others
    pid = scene.qemu_pid(scene.holder)
    scene.witness.mark("power cut", lost, at_ns=scene.cluster.poweroff(lost))

    def told() -> bool:
        _, status, _ = scene.salt_run(other, "status")
        return (
            bool(status)
            and status["nodes"][lost]["consul"] in ("failed", "left")
            and not status["nodes"][lost]["answers"]
        )

    eventually(told, 60, f"the status says that {lost} is lost")
    scene.await_renewals()
    assert scene.qemu_pid(scene.holder) == pid


def test_without_a_quorum_the_vm_is_stopped_and_with_its_return_it_starts_again(scene: Scene) -> None:
    for name in scene.others:
        moment_ns = scene.cluster.poweroff(name)
    cut_s = scene.witness.mark("second node lost", scene.others[1], at_ns=moment_ns)
    ended = scene.witness.wait_for("QEMU ended", TIMINGS.deadline_s + TIMINGS.kill_s + 5)
    assert ended.at_s - cut_s <= TIMINGS.deadline_s + TIMINGS.kill_s
    eventually(lambda: scene.status(scene.holder)["state"] == "renewing", 2, "the guard knows that its VM is dead")
    status = scene.status(scene.holder)
    assert "no renewal was confirmed" in status["last_fence"]["reason"]
    code, _, printed = scene.salt_run(scene.holder, "status")
    assert "quorum" in printed or "leader" in printed, printed
    assert code == 2, printed  # nobody knows
    scene.cluster.poweron(scene.others[0])
    scene.witness.wait_for("started", 120)
    scene.witness.wait_for("guest up", GUEST_S)
    assert len(guards.runners(scene.cluster)) == 1
