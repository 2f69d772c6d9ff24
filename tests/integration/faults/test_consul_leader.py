"""Consul's leader changes again and again: with the default timings that costs no healthy VM its life.

It changes when it hangs, and often when a server comes back that was away for a while: that one stands for election
before the leader, which tries to reach it less and less often, has found it; and its newer term ends the leader's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lab import consul
from mnha.core.timing import PROFILES
from tests.support import renewals
from tests.support.scene import Scene, eventually

from .test_network import assert_untouched

TIMINGS = PROFILES["default"]

pytestmark = pytest.mark.nightly  # one in some dozens of elections takes longer than D: docs/failure-model.md

LASTS_S = 45.0
QUIET_S = 3.0
"""Between two changes: the servers find each other, the guard renews some times."""
ELECTION_S = 15.0
FEWEST_CHANGES = 5
AWAY_S = 15.0
"""Long enough that the leader tries the missing server only every few seconds."""
BACK_S = 20.0
"""It tries again within ten."""


def test_a_leader_that_hangs_every_few_seconds_costs_no_vm(scene: Scene, tell: Callable[[str], None]) -> None:
    renewals.count_anew(scene)
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    began_s = scene.witness.mark("leader changes begin", scene.holder)
    took_s = []
    end_s = time.monotonic() + LASTS_S
    while time.monotonic() < end_s:
        took_s.append(change_leader(scene))
        time.sleep(QUIET_S)
    assert_untouched(scene, began_s, pid, epoch)
    assert len(took_s) >= FEWEST_CHANGES
    told = renewals.of(scene)
    assert told
    tell(
        f"{len(took_s)} changes of Consul's leader in {LASTS_S:g} s, {min(took_s):.1f} to {max(took_s):.1f} s each; "
        f"{renewals.line(told)}"
    )
    assert told["longest_gap_s"] < TIMINGS.deadline_s


def test_a_server_that_comes_back_costs_no_vm(scene: Scene, tell: Callable[[str], None]) -> None:
    node = scene.others[0]
    renewals.count_anew(scene)
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    cut_s = scene.witness.mark("power cut", node, at_ns=scene.cluster.poweroff(node))
    time.sleep(AWAY_S)
    scene.cluster.poweron(node)
    scene.witness.mark("power back", node)
    time.sleep(BACK_S)
    assert_untouched(scene, cut_s, pid, epoch)
    told = renewals.of(scene)
    assert told
    tell(f"a server away for {AWAY_S:g} s and back: {renewals.line(told)}")
    assert told["longest_gap_s"] < TIMINGS.deadline_s


def change_leader(scene: Scene) -> float:
    """Stop the leader's server (its connections stay open: it hangs) until another leads; returns how long that took.

    Consul 1.8 has no command that passes the leadership on.
    """
    old = eventually(lambda: consul.leader(scene.cluster), ELECTION_S, "Consul has a leader")
    scene.witness.mark("leader stopped", old, text=f"the leading Consul server on {old} is stopped")
    begin_s = time.monotonic()
    scene.cluster.run(old, ["systemctl", "kill", "--signal=STOP", "consul"], check=True)
    try:
        eventually(
            lambda: consul.leader(scene.cluster, but=old) not in ("", old), ELECTION_S, f"another leader than {old}"
        )
        return time.monotonic() - begin_s
    finally:
        scene.cluster.run(old, ["systemctl", "kill", "--signal=CONT", "consul"], check=True)
