"""The folder with the image hangs on the holder, and only there: the VM is stopped, and runs where it can be reached.

The other networks and Consul are well, so the lease alone would go on for ever. Moments are on one clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab import guards, watchdog
from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]
LIMIT_S = 12.0
"""`storage_lost_after_s`, by default."""
NOTICE_S = 2.5
"""A look every 2 s: so much later than the fault the first one that hangs may begin."""
UNDER_WAY_S = 0.5
"""Or earlier: a look that has begun already hangs as well."""
HANDOVER_S = 20.0
FAILOVER_S = LIMIT_S + NOTICE_S + TIMINGS.lease_s + HANDOVER_S
GUEST_S = 60.0
nightly = pytest.mark.nightly


def move(scene: Scene, target: str) -> None:
    """Have the VM run on `target`, in order: shut down, lease given back, taken there at once."""
    cluster = scene.cluster
    holder = guards.wait_until_running(cluster)
    if holder == target:
        return
    eventually(lambda: scene.status(holder)["health"]["answered"], GUEST_S, "the guest can shut down")
    answer = guards.ask(cluster, holder, "release", timeout_s=80, wait_s=70, reason="moved by a test")
    assert answer["ok"], answer
    lease = eventually(lambda: released(scene, target), 5, f"{target} sees that the lease is free")
    orders = {"epoch": lease["epoch"], "wait_s": 70, "reason": "moved by a test"}
    answer = guards.ask(cluster, target, "takeover", timeout_s=80, **orders)
    assert answer["ok"], answer
    assert guards.wait_until_running(cluster) == target


def released(scene: Scene, node: str) -> dict[str, Any]:
    """The lease as a node sees it, if it is free."""
    lease = scene.status(node)["lease"]
    return lease if lease["phase"] == "released" else {}


def storage_is_well(scene: Scene, node: str) -> bool:
    """Whether a node's guard finds its image folder well."""
    return bool(scene.guard(node)["checks"]["storage"]["ok"])


def behind_a_valve(scene: Scene, *, killable: bool) -> str:
    """Have the VM run on a node with a valve in its way to the image; returns that node."""
    node = scene.others[0]
    scene.cluster.add_valve(node, killable=killable)
    move(scene, node)
    eventually(lambda: scene.status(node)["health"]["answered"], GUEST_S, "the guest answers")
    return node


@pytest.mark.parametrize("killable", [True, pytest.param(False, marks=nightly)], ids=["killable", "in_D_state"])
def test_a_holder_whose_image_folder_hangs_stops_its_vm_and_another_runs_it(
    scene: Scene, tell: Callable[[str], None], killable: bool
) -> None:
    """A QEMU that can't be killed is ended by the watchdog, with its node."""
    node = behind_a_valve(scene, killable=killable)
    hung_s = scene.witness.mark("storage hangs", node, at_ns=scene.cluster.hang_storage(node))
    ended = scene.witness.wait_for("QEMU ended", FAILOVER_S, after_s=hung_s)
    began = scene.witness.wait_for("QEMU began", FAILOVER_S, after_s=hung_s)
    scene.witness.wait_for("guest up", GUEST_S, after_s=hung_s)
    killed = scene.witness.first("killed", hung_s, node)
    assert ended.node == node
    assert began.node != node
    assert ended.at_s < began.at_s, scene.witness.table()
    assert killed is not None
    assert "out of reach here" in killed.text
    assert LIMIT_S - UNDER_WAY_S <= killed.at_s - hung_s <= LIMIT_S + NOTICE_S, scene.witness.table()
    reset_s = [line["at_s"] for line in watchdog.history(scene.cluster.settings, node) if line["event"] == "reset"]
    resets = [at_s for at_s in reset_s if at_s > hung_s]
    assert len(resets) == (0 if killable else 1), scene.witness.table()
    if killable:
        assert ended.at_s - killed.at_s < TIMINGS.kill_s
        assert scene.witness.first("released", hung_s, node) is not None
    else:
        assert resets[0] - killed.at_s <= TIMINGS.reset_s
    tell(
        f"image folder hangs on the holder ({'killable' if killable else 'D state'}): killed after "
        f"{killed.at_s - hung_s:.2f} s, {'' if killable else f'node reset {resets[0] - hung_s:.2f} s, '}"
        f"VM dead {ended.at_s - hung_s:.2f} s, QEMU began elsewhere {began.at_s - hung_s:.2f} s"
    )


GUARD, FENCER = "mnha-guard", "mnha-fencer"
REPLACED_S = 4.0
"""Until another guard looks, to which the image is out of reach only from then on."""
ALONE_AND_TOGETHER = ((GUARD,), (FENCER,), (GUARD, FENCER))


@nightly  # CI shows the reset on a kernel of its own: tests/kernel
@pytest.mark.parametrize("units", ALONE_AND_TOGETHER, ids="-".join)
@pytest.mark.parametrize("strike", ["STOP", "KILL", "restart"])
def test_whatever_befalls_guard_and_fencer_a_vm_that_can_not_be_killed_goes_with_its_node(
    scene: Scene, tell: Callable[[str], None], strike: str, units: tuple[str, ...]
) -> None:
    """Its QEMU sleeps in the kernel, where no SIGKILL is seen. A guard that stands still renews nothing, so that its
    VM's time is over at once; the next one of one that is gone renews, until the image was out of reach for too long.
    """
    node = behind_a_valve(scene, killable=False)
    hung_s = scene.witness.mark("storage hangs", node, at_ns=scene.cluster.hang_storage(node))
    for unit in units:
        if strike == "restart":
            scene.cluster.run(node, ["systemctl", "restart", "--no-block", unit], check=True)
            struck_s = scene.witness.mark(f"{unit} is restarted", node)
        else:
            struck_s = scene.send(node, strike, unit)
    ended = scene.witness.wait_for("QEMU ended", FAILOVER_S, after_s=hung_s)
    began = scene.witness.wait_for("QEMU began", FAILOVER_S, after_s=hung_s)
    scene.witness.wait_for("guest up", GUEST_S, after_s=hung_s)
    assert (ended.node, began.node != node) == (node, True)
    assert ended.at_s < began.at_s, scene.witness.table()
    done = watchdog.history(scene.cluster.settings, node)
    resets = [line["at_s"] for line in done if line["event"] == "reset" and line["at_s"] > hung_s]
    assert len(resets) == 1, scene.witness.table()
    stands_still = strike == "STOP" and GUARD in units
    if stands_still:
        assert resets[0] <= struck_s + TIMINGS.reset_s, scene.witness.table()
    else:
        latest_s = struck_s + REPLACED_S + LIMIT_S + NOTICE_S + TIMINGS.reset_s
        assert hung_s + LIMIT_S - UNDER_WAY_S <= resets[0] <= latest_s, scene.witness.table()
    tell(
        f"image folder hangs in D state, {strike} to {' and '.join(units)}: node reset {resets[0] - hung_s:.2f} s, "
        f"VM dead {ended.at_s - hung_s:.2f} s, QEMU began elsewhere {began.at_s - hung_s:.2f} s"
    )


@nightly
def test_a_vm_whose_image_folder_hangs_for_everybody_is_left_alone(scene: Scene, tell: Callable[[str], None]) -> None:
    """The file server restarts: nobody could do better, and the VM goes on as soon as it is back."""
    node = behind_a_valve(scene, killable=True)
    others = [name for name in scene.cluster.names if name != node]
    for name in others:
        scene.cluster.add_valve(name)
    pid, epoch = scene.qemu_pid(node), scene.status(node)["lease"]["epoch"]
    for name in [*others, node]:
        hung_s = scene.witness.mark("storage hangs", name, at_ns=scene.cluster.hang_storage(name))
    eventually(
        lambda: (
            scene.cluster.boottime() > hung_s + LIMIT_S + NOTICE_S + 5.0
            and not scene.guard(node)["checks"]["storage"]["ok"]
        ),
        LIMIT_S + 20.0,
        "the limit has passed",
    )
    assert scene.qemu_pid(node) == pid
    for name in scene.cluster.names:
        scene.cluster.free_storage(name)
    eventually(lambda: all(storage_is_well(scene, name) for name in scene.cluster.names), 30, "it answers")
    eventually(lambda: scene.status(node)["health"]["failures"] == 0, GUEST_S, "the guest answers")
    assert scene.qemu_pid(node) == pid
    assert scene.status(node)["lease"]["epoch"] == epoch
    tell(f"image folder hangs everywhere for {scene.cluster.boottime() - hung_s:.0f} s: VM untouched")
