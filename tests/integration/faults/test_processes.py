"""Processes that a VM depends on are stopped or killed on its node: what must die dies in time, what need not lives.

SIGSTOP is the harder case: the process is there, holds its connections and its locks, and answers nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lab import consul
from mnha.core.timing import PROFILES
from tests.support.renewals import line
from tests.support.scene import Scene, eventually

from .test_network import assert_untouched

TIMINGS = PROFILES["default"]
RESTART_S = 40.0
GUEST_S = 90.0
HUNG_S = 75.0
"""Three rounds of questions, each with two ways that take their timeouts, until the guest counts as hung."""
KEEPALIVE_S = 25.0
"""After 5 s, three times, the guard gives up a libvirtd that does not answer."""


@pytest.mark.parametrize("signal", ["STOP", "KILL"])
def test_a_guard_that_is_stopped_or_killed_takes_its_vm_along_before_its_deadline(
    scene: Scene, tell: Callable[[str], None], signal: str
) -> None:
    sent_s = scene.send(scene.holder, signal, "mnha-guard")
    ended = scene.witness.wait_for("QEMU ended", TIMINGS.deadline_s + TIMINGS.kill_s)
    began = scene.witness.wait_for("QEMU began", RESTART_S)
    assert ended.node == scene.holder
    assert ended.at_s - sent_s <= TIMINGS.deadline_s + TIMINGS.kill_s, scene.witness.table()
    assert ended.at_s < began.at_s
    scene.witness.wait_for("guest up", GUEST_S)
    where = "its node" if began.node == scene.holder else "another node"
    tell(
        f"SIG{signal} to the guard: VM dead after {ended.at_s - sent_s:.2f} s, "
        f"QEMU began on {where} after {began.at_s - sent_s:.2f} s"
    )


def test_a_vm_whose_process_stands_still_is_found_hung_and_reset_on_its_node(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    eventually(lambda: scene.status(scene.holder)["health"]["answered"], GUEST_S, "the guest has answered its guard")
    before = scene.status(scene.holder)
    scene.cluster.run(scene.holder, ["kill", "-STOP", str(before["vm_pid"])], check=True)
    stopped_s = scene.witness.mark("SIGSTOP to QEMU", scene.holder)
    ended = scene.witness.wait_for("QEMU ended", HUNG_S)
    began = scene.witness.wait_for("QEMU began", RESTART_S)
    up = scene.witness.wait_for("guest up", GUEST_S)
    assert began.node == scene.holder
    after = scene.status(scene.holder)
    assert after["lease"]["epoch"] == before["lease"]["epoch"]
    assert not after["health"]["hung"]
    begun = [event for event in scene.witness.events() if event.kind == "QEMU began" and event.at_s > stopped_s]
    assert len(begun) == 1, "each master orders the reset, and it is done once\n" + scene.witness.table()
    tell(
        f"SIGSTOP to QEMU: reset after {ended.at_s - stopped_s:.2f} s, QEMU began {began.at_s - stopped_s:.2f} s, "
        f"guest up after {up.at_s - stopped_s:.2f} s"
    )


def test_a_vm_lives_through_the_loss_of_libvirtd(scene: Scene, tell: Callable[[str], None]) -> None:
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    stopped_s = scene.send(scene.holder, "STOP", "libvirtd")
    time.sleep(KEEPALIVE_S)
    eventually(
        lambda: not scene.guard(scene.holder)["checks"]["libvirt"]["ok"], 10, "the guard says that libvirtd hangs"
    )
    scene.send(scene.holder, "CONT", "libvirtd")
    eventually(lambda: scene.guard(scene.holder)["checks"]["libvirt"]["ok"], 30, "libvirtd answers again")
    killed_s = scene.send(scene.holder, "KILL", "libvirtd")
    time.sleep(1)
    eventually(lambda: scene.guard(scene.holder)["checks"]["libvirt"]["ok"], 30, "a new libvirtd answers")
    back_s = scene.cluster.boottime() - killed_s
    time.sleep(TIMINGS.lease_s)
    assert_untouched(scene, stopped_s, pid, epoch)
    tell(f"libvirtd stopped for {KEEPALIVE_S:g} s, then killed (back after {back_s:.1f} s): VM untouched")


@pytest.mark.parametrize("signal", ["STOP", "KILL"])
def test_a_vm_lives_through_the_loss_of_the_local_consul_agent(
    scene: Scene, tell: Callable[[str], None], signal: str
) -> None:
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    led = "led" if consul.leader(scene.cluster) == scene.holder else "did not lead"
    sent_s = scene.send(scene.holder, signal, "consul")
    if signal == "STOP":  # one that is killed is back in a second
        eventually(lambda: asked(scene) != "127.0.0.1", 2 * TIMINGS.deadline_s, "the guard asks another server")
    time.sleep(2 * TIMINGS.lease_s)
    assert_untouched(scene, sent_s, pid, epoch)
    told = line(scene.status(scene.holder)["renewals"])
    tell(f"SIG{signal} to the holder's Consul agent, which {led}: VM untouched; {told}")


def asked(scene: Scene) -> str:
    """Which Consul server the holder's guard listens to."""
    return str(scene.guard(scene.holder)["consul"]["server"]).rsplit(":", 1)[0]
