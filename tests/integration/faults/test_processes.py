"""Processes that a VM depends on are stopped or killed on its node: what must die dies in time, what need not lives.

SIGSTOP is the harder case: the process is there, holds its connections and its locks, and answers nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]
RESTART_S = 40.0
GUEST_S = 90.0
HUNG_S = 75.0
"""Three rounds of questions, each with two ways that take their timeouts, until the guest counts as hung."""


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
