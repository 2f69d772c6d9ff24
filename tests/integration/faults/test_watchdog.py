"""The watchdog through its fencer's death, its guard's replacement, and its own failure. What it does to a node that
stands still is in `test_freeze`; a real kernel's device is in `tests/kernel`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import watchdog
from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

from .test_network import assert_untouched

TIMINGS = PROFILES["default"]
CONFIG = "/etc/mnha/fencer.json"
RESTART_S = 40.0
FAILOVER_S = 60.0
GUEST_S = 60.0


def done_since(scene: Scene, node: str, since_s: float) -> list[dict[str, Any]]:
    """What a node's device did."""
    return [line for line in watchdog.history(scene.cluster.settings, node) if line["at_s"] >= since_s]


def names(lines: list[dict[str, Any]]) -> set[str]:
    """Of these, the events."""
    return {line["event"] for line in lines}


def test_a_guard_is_replaced_while_the_device_counts_on(scene: Scene) -> None:
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    reloaded_s = scene.witness.mark("guard reloaded", scene.holder)
    scene.cluster.run(scene.holder, ["systemctl", "reload", "mnha-guard"], check=True)
    time.sleep(2 * TIMINGS.lease_s)
    assert_untouched(scene, reloaded_s, pid, epoch)
    assert scene.guard(scene.holder)["watchdog"]["armed"]
    # "switched on" is what a guard says with its first telling; it was on all along.
    told = {"switched on", *(f"timeout {n} s" for n in range(1, 8))}
    assert names(done_since(scene, scene.holder, reloaded_s)) <= told


def test_a_fencer_that_is_killed_does_not_put_the_reset_off_and_the_next_one_stops_the_device(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    qemu = scene.qemu_pid(scene.holder)
    killed_s = scene.send(scene.holder, "KILL", "mnha-fencer")
    scene.cluster.run(scene.holder, ["kill", "-KILL", str(qemu)], check=True)
    began = scene.witness.wait_for("QEMU began", RESTART_S)
    scene.witness.wait_for("guest up", GUEST_S)
    assert began.node == scene.holder
    eventually(lambda: scene.status(scene.holder)["health"]["answered"], GUEST_S, "the guest can shut down")
    code, _, printed = scene.salt_run(scene.holder, "stop", timeout_s=180)
    assert code == 0, printed
    stopped = names(done_since(scene, scene.holder, killed_s))
    assert "switched off" in stopped
    assert not stopped & {"closed while it counts", "reset", "armed"}
    code, _, printed = scene.salt_run(scene.holder, "start", timeout_s=120)
    assert code == 0, printed
    tell(f"SIGKILL to fencer and VM: QEMU began again after {began.at_s - killed_s:.2f} s, the device counted on")


@contextlib.contextmanager
def required(scene: Scene, node: str) -> Iterator[None]:
    """A node's fencer with `watchdog: required`."""
    text = scene.cluster.file(node, CONFIG).read_text()
    scene.cluster.write_file(node, CONFIG, json.dumps({**json.loads(text), "watchdog": "required"}), 0o600)
    scene.cluster.run(node, ["systemctl", "restart", "mnha-fencer"], check=True)
    eventually(lambda: scene.guard(node)["watchdog"]["mode"] == "required", 20, "the watchdog is required")
    try:
        yield
    finally:
        scene.cluster.write_file(node, CONFIG, text, 0o600)
        eventually(
            lambda: scene.cluster.run(node, ["systemctl", "restart", "mnha-fencer"]).returncode == 0, 60, "as it was"
        )


@pytest.mark.nightly
def test_a_vm_whose_required_watchdog_breaks_goes_to_another_node_in_an_orderly_way(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    eventually(lambda: scene.status(scene.holder)["health"]["answered"], GUEST_S, "the guest can shut down")
    broken = watchdog.broken_mark(scene.cluster.settings, scene.holder)
    with required(scene, scene.holder):
        eventually(lambda: scene.status(scene.holder)["state"] == "running", 20, "it holds its VM again")
        broken.touch()
        try:
            broken_s = scene.witness.mark("the watchdog breaks", scene.holder)
            ended = scene.witness.wait_for("QEMU ended", TIMINGS.reset_s + 1, after_s=broken_s)
            began = scene.witness.wait_for("QEMU began", FAILOVER_S, after_s=broken_s)
            scene.witness.wait_for("guest up", GUEST_S, after_s=broken_s)
        finally:
            broken.unlink()
        assert began.node in scene.others
        assert "reset" not in names(done_since(scene, scene.holder, broken_s)), "the guest had the time to shut down"
        reason = scene.status(began.node)["lease"]["reason"]
    tell(
        f"required watchdog broken: guest shut down and QEMU gone after {ended.at_s - broken_s:.2f} s, QEMU began on "
        f"another node after {began.at_s - broken_s:.2f} s; the lease says: {reason}"
    )
