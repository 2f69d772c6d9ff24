"""No Salt for two minutes, and in their midst one harmless fault after the other: the same VM runs through all of it.

Every master and every minion is stopped before the first test here and started after the last one. Each test is one
fault, and demands of it what it would demand alone: the same process, the same epoch, nothing tried in between, and
three further renewals after it. Then the VM is killed, and its guard starts it again. At last the holder is lost, and
a guard takes over by itself, in its turn (see `lease.masterless_at_s`), at most 12 s after the power cut.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import guards, health, watchdog
from lab.cluster import Cluster
from lab.settings import MGMT, LabError
from lab.witness import Witness
from mnha.core.lease import RANK_STEP_S
from mnha.core.timing import PROFILES
from tests.support import renewals
from tests.support.leader import lead
from tests.support.renewals import line
from tests.support.scene import Scene, eventually
from tests.support.wall_clock import WallClock

from .test_network import GUEST_S, assert_untouched

TIMINGS = PROFILES["default"]
SALT = ("salt-minion", "salt-master")
LASTS_S = 120.0
STEPS_H = (3, -20, 11, 0)
"""Below a day: a certificate is valid from a day before it was made, and a new TLS connection looks at that."""
SHORT_FREEZE_S = 3.0
KEEPALIVE_S = 35.0
"""After 5 s, three times, the guard gives up a libvirtd that does not answer."""
BACK_S = 30.0
WITHOUT_SALT_S = 12.0
"""From a power cut to QEMU elsewhere, without any Salt process: L, `masterless_takeover_after_s`, turns, a start."""
CONFIG = "/etc/mnha/guard.json"
SLACK_S = 6.0
"""For an election of Consul's (the lost node may have led), and for the start of QEMU."""
GUEST_BOOT_S = 60.0


class Untouched:
    """The VM as it was when Salt was stopped.

    :param since_s: CLOCK_BOOTTIME of that moment.
    """

    def __init__(self, scene: Scene, clock: WallClock) -> None:
        self.scene, self.clock = scene, clock
        self.pid, self.epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
        self.since_s = scene.witness.mark("Salt is stopped", scene.holder, text="Salt is stopped on every node")

    def check(self) -> None:
        """Three renewals more, and all is as it was."""
        self.scene.await_renewals()
        assert_untouched(self.scene, self.since_s, self.pid, self.epoch)


def salt_is_dead(cluster: Cluster) -> bool:
    """Whether no process of Salt's is left on any node."""
    return all(cluster.run(name, ["pgrep", "-f", "salt-(master|minion)"]).returncode == 1 for name in cluster.names)


@pytest.fixture(scope="module")
def scene(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One for all tests of this module."""
    health.heal(cluster, links=True)
    clock = WallClock(cluster, guards.wait_until_running(cluster))
    clock.put_in()
    with Witness(cluster) as witness:
        yield Scene(cluster, witness, tmp_path_factory.mktemp("without-salt"))
        health.undo(cluster)
        clock.take_out()
        health.heal(cluster)


@pytest.fixture(scope="module")
def vm(scene: Scene) -> Iterator[Untouched]:
    """The running VM, without Salt. Another node leads Consul: an election may take longer than the deadline."""
    lead(scene, *scene.others)
    renewals.count_anew(scene)
    eventually(lambda: scene.guest_answers(scene.holder), GUEST_S, "the guest answers on the management network")
    for name in scene.cluster.names:
        scene.cluster.run(name, ["systemctl", "stop", *SALT], check=True)
    assert salt_is_dead(scene.cluster)
    yield Untouched(scene, WallClock(scene.cluster, scene.holder))
    scene.prove_no_overlap()


def test_a_wall_clock_that_jumps_under_the_holders_guard_is_not_noticed(
    vm: Untouched, tell: Callable[[str], None]
) -> None:
    for hours in STEPS_H:
        vm.clock.shift(hours)
        vm.check()
        assert abs(vm.clock.hours_ahead() - hours) < 0.1
    told = vm.scene.status(vm.scene.holder)["renewals"]
    assert told["longest_gap_s"] < 3 * TIMINGS.renew_s
    tell(f"wall clock of the holder's guard stepped by {STEPS_H} h: VM untouched; {line(told)}")


def test_a_vm_lives_through_the_loss_of_libvirtd(vm: Untouched, tell: Callable[[str], None]) -> None:
    scene = vm.scene

    def answers() -> bool:
        return bool(scene.guard(scene.holder)["checks"]["libvirt"]["ok"])

    stopped_s = scene.send(scene.holder, "STOP", "libvirtd")
    eventually(lambda: not answers(), KEEPALIVE_S, "the guard says that libvirtd hangs")
    hung_s = scene.cluster.boottime() - stopped_s
    vm.check()
    scene.send(scene.holder, "CONT", "libvirtd")
    eventually(answers, BACK_S, "libvirtd answers again")
    before = service_pid(scene, "libvirtd")
    killed_s = scene.send(scene.holder, "KILL", "libvirtd")
    eventually(lambda: service_pid(scene, "libvirtd") not in ("0", before), BACK_S, "a new libvirtd runs")
    eventually(answers, BACK_S, "a new libvirtd answers")
    vm.check()
    back_s = scene.cluster.boottime() - killed_s
    tell(f"libvirtd stopped (told of after {hung_s:.1f} s), then killed (back after {back_s:.1f} s): VM untouched")


@pytest.mark.parametrize("signal", ["STOP", "KILL"])
def test_a_vm_lives_through_the_loss_of_the_local_consul_agent(
    vm: Untouched, tell: Callable[[str], None], signal: str
) -> None:
    scene = vm.scene
    before = service_pid(scene, "consul")
    scene.send(scene.holder, signal, "consul")
    if signal == "STOP":
        eventually(lambda: asked(scene) != "127.0.0.1", 2 * TIMINGS.deadline_s, "the guard asks another server")
    else:
        eventually(lambda: service_pid(scene, "consul") not in ("0", before), BACK_S, "a new agent runs")
    vm.check()
    told = line(scene.status(scene.holder)["renewals"])
    scene.send(scene.holder, "CONT", "consul")
    eventually(lambda: asked(scene) == "127.0.0.1", BACK_S, "the guard asks its own agent again")
    vm.check()
    tell(f"SIG{signal} to the holder's Consul agent, a follower: VM untouched; {told}")


def test_a_management_cut_of_the_holder_is_not_noticed_without_salt(vm: Untouched) -> None:
    scene = vm.scene
    scene.witness.mark("management cut", scene.holder, at_ns=scene.cluster.cut(scene.holder, MGMT))
    assert not scene.guest_answers(scene.holder)
    vm.check()
    scene.cluster.heal(scene.holder)
    eventually(lambda: scene.guest_answers(scene.holder), 10, "the guest answers again")


def test_a_freeze_shorter_than_the_deadline_costs_nothing(vm: Untouched) -> None:
    scene = vm.scene
    frozen_s = scene.witness.mark("node frozen", scene.holder, at_ns=scene.cluster.freeze(scene.holder))
    time.sleep(SHORT_FREEZE_S)
    scene.cluster.thaw(scene.holder)
    vm.check()
    found = watchdog.history(scene.cluster.settings, scene.holder)
    assert [one for one in found if one["event"] == "reset" and one["at_s"] >= frozen_s] == []


@pytest.mark.parametrize(
    ("verb", "units"),
    [
        ("reload", "mnha-guard"),
        ("restart", "mnha-guard"),
        ("restart", "mnha-fencer"),
        ("kill --signal=KILL", "mnha-guard"),
        ("kill --signal=KILL", "mnha-fencer"),
        ("kill --signal=KILL", "mnha-fencer mnha-guard"),
    ],
)
def test_guard_and_fencer_are_replaced_without_touching_the_running_vm(vm: Untouched, verb: str, units: str) -> None:
    scene = vm.scene
    before = begun(scene)
    scene.cluster.run(scene.holder, ["systemctl", *verb.split(), *units.split()], check=True)
    for unit in units.split():
        eventually(lambda unit=unit: begun(scene)[unit] > before[unit], 15, f"a new {unit} answers")
    eventually(lambda: scene.status(scene.holder)["vm"] == "running", 15, "the guard has found the VM")
    vm.check()


def test_a_guard_stands_still_for_a_moment(vm: Untouched) -> None:
    scene = vm.scene
    scene.send(scene.holder, "STOP", "mnha-guard")
    time.sleep(SHORT_FREEZE_S)
    scene.send(scene.holder, "CONT", "mnha-guard")
    vm.check()


def test_a_fencer_that_stands_still_is_replaced_and_the_vm_lives(vm: Untouched, tell: Callable[[str], None]) -> None:
    scene = vm.scene
    before = begun(scene)["mnha-fencer"]
    sent_s = scene.send(scene.holder, "STOP", "mnha-fencer")
    eventually(lambda: begun(scene)["mnha-fencer"] > before, 15, "a new fencer answers")
    tell(f"SIGSTOP to the fencer: another one after {begun(scene)['mnha-fencer'] - sent_s:.1f} s")
    vm.check()


def test_two_minutes_without_salt_have_passed_and_nobody_wants_the_lease(vm: Untouched) -> None:
    scene = vm.scene
    time.sleep(max(0.0, vm.since_s + LASTS_S - scene.cluster.boottime()))
    assert salt_is_dead(scene.cluster)
    vm.check()
    assert [name for name in scene.others if scene.status(name)["state"] != "standby"] == []


def test_a_vm_that_is_killed_is_started_again_on_its_node(vm: Untouched) -> None:
    """The end of it."""
    scene = vm.scene
    killed_s = scene.witness.mark("SIGKILL to QEMU", scene.holder)
    scene.cluster.run(scene.holder, ["kill", "-KILL", str(vm.pid)], check=True)
    scene.witness.wait_for("QEMU ended", 5.0, after_s=killed_s)
    assert scene.witness.wait_for("QEMU began", 30.0, after_s=killed_s).node == scene.holder


def test_without_any_master_the_guards_take_over_in_their_turn(vm: Untouched, tell: Callable[[str], None]) -> None:
    """At last the holder is lost, twice. First the first in rank, told not to, leaves its turn to the next; then
    the nodes as they are.
    """
    scene = vm.scene
    first, second = candidates(scene, scene.holder)
    before = scene.cluster.file(first, CONFIG).read_text()
    reload_with(scene, first, json.dumps({**json.loads(before), "masterless_takeover_after_s": 0}))
    assert scene.status(first)["masterless_in_s"] is None
    try:
        assert lose(scene, scene.holder, tell, turn=1) == second
    finally:
        reload_with(scene, first, before)
    assert guards.runners(scene.cluster) == [second]

    scene.cluster.poweron(scene.holder)
    scene.cluster.run(scene.holder, ["systemctl", "stop", *SALT], check=True)
    eventually(lambda: scene.status(scene.holder)["state"] == "standby", BACK_S, "the lost node is a candidate again")
    assert salt_is_dead(scene.cluster)
    following = candidates(scene, second)[0]
    epoch = scene.status(following)["lease"]["epoch"]
    assert lose(scene, second, tell, turn=0) == following
    after = scene.status(following)["lease"]
    assert (after["holder"], after["epoch"]) == (following, epoch + 1)


def configuration(scene: Scene, node: str) -> dict[str, Any]:
    """What the guard of a node was configured with."""
    return json.loads(scene.cluster.file(node, CONFIG).read_text())


def candidates(scene: Scene, holder: str) -> list[str]:
    """The nodes without the VM, in the order in which they take over; all of them are to see it alike."""
    names = [name for name in scene.cluster.names if name != holder]

    def seen() -> list[list[str]]:
        return [scene.status(name)["turns"] or [] for name in names]

    eventually(lambda: sorted(seen()[0]) == names and seen()[0] == seen()[1], BACK_S, "the guards agree on their turns")
    return seen()[0]


def lose(scene: Scene, holder: str, tell: Callable[[str], None], *, turn: int) -> str:
    """Cut the holder's power and see a guard take over by itself in turn `turn`; returns its node."""
    after_s = configuration(scene, holder)["masterless_takeover_after_s"]
    cut_s = scene.witness.mark("power cut", holder, at_ns=scene.cluster.poweroff(holder))
    limit_s = TIMINGS.lease_s + after_s + turn * RANK_STEP_S + SLACK_S
    began = scene.witness.wait_for("QEMU began", limit_s, after_s=cut_s)
    taken = scene.witness.wait_for("taken", 5, after_s=cut_s)
    assert "nobody ordered a take-over" in taken.text
    scene.witness.wait_for("guest up", GUEST_BOOT_S, after_s=cut_s)
    moments = scene.witness.failover(cut_s)
    assert moments.expired_s is not None, scene.witness.table()
    assert moments.qemu_s is not None, scene.witness.table()
    waited_s = moments.qemu_s - moments.expired_s
    assert after_s + turn * RANK_STEP_S <= waited_s <= after_s + turn * RANK_STEP_S + SLACK_S, scene.witness.table()
    assert moments.qemu_s <= WITHOUT_SALT_S, scene.witness.table()
    tell(
        f"no master alive, turn {turn}: lease expired {moments.expired_s:.2f} s, QEMU began on {began.node} "
        f"{moments.qemu_s:.2f} s after the power cut"
    )
    return began.node


def reload_with(scene: Scene, node: str, text: str) -> None:
    """Give a node's guard another configuration."""
    since_s = scene.guard(node)["guard"]["since_s"]
    scene.cluster.write_file(node, CONFIG, text, mode=0o600)
    scene.cluster.run(node, ["systemctl", "reload", "mnha-guard"], check=True)
    eventually(lambda: scene.guard(node)["guard"]["since_s"] > since_s, 15, f"a new guard answers on {node}")
    eventually(lambda: scene.status(node)["state"] == "standby", 15, f"{node} is a candidate")


def begun(scene: Scene) -> dict[str, float]:
    """Since when guard and fencer of the holder are there, CLOCK_BOOTTIME in s; 0 where nobody tells."""
    try:
        told = scene.guard(scene.holder)
    except LabError:
        return {"mnha-guard": 0.0, "mnha-fencer": 0.0}
    return {"mnha-guard": told["guard"]["since_s"], "mnha-fencer": (told["fencer"]["about"] or {}).get("since_s", 0.0)}


def asked(scene: Scene) -> str:
    """Which Consul server the holder's guard listens to."""
    return str(scene.guard(scene.holder)["consul"]["server"]).rsplit(":", 1)[0]


def service_pid(scene: Scene, unit: str) -> str:
    """The main process of a service on the holder; "0" while there is none."""
    words = ["systemctl", "show", "--property=MainPID", "--value", unit]
    return scene.cluster.run(scene.holder, words, check=True).stdout.strip()
