"""With every Salt daemon dead and the holder lost, a guard takes over by itself, in its turn, unless told not to.

See `lease.masterless_at_s`: the nodes come one after the other as the guards' configuration ranks them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lab import guards
from mnha.core.lease import RANK_STEP_S
from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]
SALT = ("salt-minion", "salt-master")
CONFIG = "/etc/mnha/guard.json"
SLACK_S = 6.0
"""For an election of Consul's (the lost node may have led), and for the start of QEMU."""
GUEST_S = 60.0


def configuration(scene: Scene, node: str) -> dict[str, Any]:
    """What the guard of a node was configured with."""
    return json.loads(scene.cluster.file(node, CONFIG).read_text())


def kill_salt(scene: Scene) -> None:
    """Every master and every minion of the cluster is gone, and stays so."""
    for name in scene.cluster.names:
        scene.cluster.run(name, ["systemctl", "kill", "--signal=KILL", *SALT], check=True)
        scene.cluster.run(name, ["systemctl", "stop", *SALT], check=True)


def candidates(scene: Scene) -> list[str]:
    """The nodes without the VM, in the order in which they take over."""
    (vm,) = configuration(scene, scene.holder)["vms"]
    return [name for name in vm["ranking"] if name != scene.holder]


def lose_holder(scene: Scene, tell: Callable[[str], None], *, turn: int) -> str:
    """Cut the holder's power and see a guard take over by itself in turn `turn`; returns its node."""
    after_s = configuration(scene, scene.holder)["masterless_takeover_after_s"]
    cut_s = scene.witness.mark("power cut", scene.holder, at_ns=scene.cluster.poweroff(scene.holder))
    began = scene.witness.wait_for("QEMU began", TIMINGS.lease_s + after_s + turn * RANK_STEP_S + SLACK_S)
    taken = scene.witness.wait_for("taken", 5, after_s=cut_s)
    assert "nobody ordered a take-over" in taken.text
    scene.witness.wait_for("guest up", GUEST_S)
    moments = scene.witness.failover(cut_s)
    assert moments.expired_s is not None, scene.witness.table()
    assert moments.qemu_s is not None, scene.witness.table()
    waited_s = moments.qemu_s - moments.expired_s
    assert after_s + turn * RANK_STEP_S <= waited_s <= after_s + turn * RANK_STEP_S + SLACK_S, scene.witness.table()
    tell(
        f"no master alive, turn {turn}: lease expired {moments.expired_s:.2f} s, QEMU began on {began.node} "
        f"{moments.qemu_s:.2f} s after the power cut"
    )
    return began.node


def test_without_any_master_the_first_in_rank_takes_over_by_itself(scene: Scene, tell: Callable[[str], None]) -> None:
    first = candidates(scene)[0]
    epoch = scene.status(first)["lease"]["epoch"]
    kill_salt(scene)
    assert lose_holder(scene, tell, turn=0) == first
    after = scene.status(first)["lease"]
    assert (after["holder"], after["epoch"]) == (first, epoch + 1)


def test_a_guard_for_which_it_is_switched_off_leaves_it_to_the_next(scene: Scene, tell: Callable[[str], None]) -> None:
    first, second = candidates(scene)
    before = scene.cluster.file(first, CONFIG).read_text()
    reload_with(scene, first, json.dumps({**json.loads(before), "masterless_takeover_after_s": 0}))
    assert scene.status(first)["masterless_in_s"] is None
    kill_salt(scene)
    try:
        # The first one's turn passes; its own time would have come a step earlier.
        assert lose_holder(scene, tell, turn=1) == second
    finally:
        reload_with(scene, first, before)
    assert guards.runners(scene.cluster) == [second]


def reload_with(scene: Scene, node: str, text: str) -> None:
    """Give a node's guard another configuration."""
    since_s = scene.guard(node)["guard"]["since_s"]
    scene.cluster.write_file(node, CONFIG, text, mode=0o600)
    scene.cluster.run(node, ["systemctl", "reload", "mnha-guard"], check=True)
    eventually(lambda: scene.guard(node)["guard"]["since_s"] > since_s, 15, f"a new guard answers on {node}")
    eventually(lambda: scene.status(node)["state"] == "standby", 15, f"{node} is a candidate")
