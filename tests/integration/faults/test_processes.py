"""Processes that a VM depends on are stopped or killed on its node: what must die dies in time, what need not lives.

SIGSTOP is the harder case: the process is there, holds its connections and its locks, and answers nothing. What guard
and fencer may suffer without their VM is in `test_without_salt`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import watchdog
from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]
RESTART_S = 40.0
FAILOVER_S = 60.0
MEMORY = "/run/mnha-fencer/grants.json"
GUEST_S = 90.0
HUNG_S = 75.0
"""Three rounds of questions, each with two ways that take their timeouts, until the guest counts as hung."""

nightly = pytest.mark.nightly
GUARD, FENCER = "mnha-guard", "mnha-fencer"


@pytest.mark.parametrize("units", [(GUARD,), pytest.param((FENCER, GUARD), marks=nightly)], ids=["guard", "both"])
def test_a_vm_whose_guard_stands_still_is_dead_at_its_deadline(
    scene: Scene, tell: Callable[[str], None], units: tuple[str, ...]
) -> None:
    """The fencer kills it without the guard, and if it stands still as well, the next one does, by which systemd
    replaces it: no node is reset for that. Others take over, unless it takes them so long that systemd replaces the
    guard before.
    """
    for unit in units:
        sent_s = scene.send(scene.holder, "STOP", unit)
    ended = scene.witness.wait_for("QEMU ended", TIMINGS.reset_s + 1)
    began = scene.witness.wait_for("QEMU began", FAILOVER_S)
    scene.witness.wait_for("guest up", GUEST_S)
    assert ended.node == scene.holder
    assert ended.at_s - sent_s <= TIMINGS.reset_s, scene.witness.table()
    assert ended.at_s < began.at_s
    done = watchdog.history(scene.cluster.settings, scene.holder)
    resets = [line for line in done if line["event"] == "reset" and line["at_s"] >= sent_s]
    assert not resets
    tell(
        f"SIGSTOP to {' and '.join(units)}: VM dead after {ended.at_s - sent_s:.2f} s, "
        f"QEMU began on {began.node} after {began.at_s - sent_s:.2f} s"
    )


def test_a_fencer_that_remembers_nothing_kills_the_vm_and_it_is_started_again(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    scene.send(scene.holder, "STOP", FENCER)  # it writes what it remembers at each renewal
    scene.cluster.run(scene.holder, ["rm", MEMORY], check=True)
    sent_s = scene.send(scene.holder, "KILL", FENCER)
    ended = scene.witness.wait_for("QEMU ended", TIMINGS.deadline_s)
    began = scene.witness.wait_for("QEMU began", RESTART_S)
    assert (ended.node, began.node) == (scene.holder, scene.holder)
    assert ended.at_s < began.at_s
    scene.witness.wait_for("guest up", GUEST_S)
    tell(f"SIGKILL to a fencer that forgets: VM dead after {ended.at_s - sent_s:.2f} s, "
         f"QEMU began on its node after {began.at_s - sent_s:.2f} s")  # fmt: skip


@nightly
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
