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
        scene.cluster.run(name, ["systemctl", "kill", "--signal=KILL", *SALT])  # some need not run
        scene.cluster.run(name, ["systemctl", "stop", *SALT], check=True)


def candidates(scene: Scene, holder: str) -> list[str]:
    """The nodes without the VM, in the order in which they take over."""
    (vm,) = configuration(scene, holder)["vms"]
    return [name for name in vm["ranking"] if name != holder]


def lose(scene: Scene, holder: str, tell: Callable[[str], None], *, turn: int) -> str:
    """Cut the holder's power and see a guard take over by itself in turn `turn`; returns its node."""
    after_s = configuration(scene, holder)["masterless_takeover_after_s"]
    cut_s = scene.witness.mark("power cut", holder, at_ns=scene.cluster.poweroff(holder))
    limit_s = TIMINGS.lease_s + after_s + turn * RANK_STEP_S + SLACK_S
    began = scene.witness.wait_for("QEMU began", limit_s, after_s=cut_s)
    taken = scene.witness.wait_for("taken", 5, after_s=cut_s)
    assert "nobody ordered a take-over" in taken.text
    scene.witness.wait_for("guest up", GUEST_S, after_s=cut_s)
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


def test_without_any_master_the_guards_take_over_in_their_turn(scene: Scene, tell: Callable[[str], None]) -> None:
    """The first in rank, told not to, leaves its turn to the next; then the nodes as they are."""
    first, second = candidates(scene, scene.holder)
    before = scene.cluster.file(first, CONFIG).read_text()
    reload_with(scene, first, json.dumps({**json.loads(before), "masterless_takeover_after_s": 0}))
    assert scene.status(first)["masterless_in_s"] is None
    kill_salt(scene)
    try:
        assert lose(scene, scene.holder, tell, turn=1) == second
    finally:
        reload_with(scene, first, before)
    assert guards.runners(scene.cluster) == [second]

    scene.cluster.poweron(scene.holder)
    kill_salt(scene)
    eventually(lambda: scene.status(scene.holder)["state"] == "standby", 60, "the lost node is a candidate again")
    following = candidates(scene, second)[0]
    epoch = scene.status(following)["lease"]["epoch"]
    assert lose(scene, second, tell, turn=0) == following
    after = scene.status(following)["lease"]
    assert (after["holder"], after["epoch"]) == (following, epoch + 1)


def reload_with(scene: Scene, node: str, text: str) -> None:
    """Give a node's guard another configuration."""
    since_s = scene.guard(node)["guard"]["since_s"]
    scene.cluster.write_file(node, CONFIG, text, mode=0o600)
    scene.cluster.run(node, ["systemctl", "reload", "mnha-guard"], check=True)
    eventually(lambda: scene.guard(node)["guard"]["since_s"] > since_s, 15, f"a new guard answers on {node}")
    eventually(lambda: scene.status(node)["state"] == "standby", 15, f"{node} is a candidate")
