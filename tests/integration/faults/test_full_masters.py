"""The disks of all masters are full: no job of Salt can be written. The guards do not need them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab import health
from lab.cluster import Cluster
from tests.support.scene import Scene, eventually

pytestmark = pytest.mark.nightly

CACHE, ROOM = "/var/cache/salt", "/run/mnha-test-room"
ROOM_KIB = 48 * 1024
"""Above the 16 MiB below which a guard calls it full: the test fills it."""
TOLD_S = 20.0
WITHOUT_SALT_S = 12.0
"""From a power cut to QEMU elsewhere, without any master that works."""


def shell(cluster: Cluster, node: str, text: str, *, check: bool = True) -> None:
    """A line of shell on a node."""
    cluster.run(node, ["sh", "-ec", text], check=check, timeout_s=120)


@pytest.fixture
def small_caches(scene: Scene) -> Iterator[None]:
    """What Salt keeps lies on a small disk of its own on each node; what it had before is back after the test."""
    cluster = scene.cluster
    for node in cluster.names:
        shell(
            cluster,
            node,
            f"systemctl stop salt-master salt-minion; used=$(du -sk --apparent-size {CACHE} | cut -f1); mkdir {ROOM};"
            f" mount -t tmpfs -o size=$((used * 2 + {ROOM_KIB}))k room {ROOM}; cp -a {CACHE}/. {ROOM};"
            f" mount --bind {ROOM} {CACHE}; systemctl start salt-master salt-minion",
        )
    health.wait_healthy(cluster, links=True)
    yield
    for node in cluster.names:
        if cluster.node(node).is_on():  # with its power a node has lost what was mounted
            shell(
                cluster,
                node,
                f"rm -f {CACHE}/ballast; systemctl stop salt-master salt-minion; umount {CACHE}; umount {ROOM};"
                f" rmdir {ROOM}; systemctl start salt-master salt-minion",
            )


def fill(scene: Scene, node: str) -> None:
    """Leave no room on a node's small disk; its guard tells."""
    shell(scene.cluster, node, f"dd if=/dev/zero of={CACHE}/ballast bs=64k status=none", check=False)
    why = eventually(
        lambda: scene.guard(node)["salt_checks"]["salt"]["why"], TOLD_S, f"the guard of {node} tells that it is full"
    )
    assert f"{CACHE} is full: 0 MiB are left" in why


@pytest.mark.usefixtures("small_caches")
def test_with_the_disks_of_all_masters_full_a_lost_holder_costs_no_more_than_without_salt(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    last = scene.others[0]
    for node in scene.cluster.names:
        if node != last:
            fill(scene, node)
    _, status, printed = scene.salt_run(last, "status")
    assert printed.count(f"{CACHE} is full") >= len(scene.others), "it names the nodes, heard or silent"
    (vm,) = status["vms"].values()
    assert sorted(vm["candidates"]) == sorted(scene.others), printed
    fill(scene, last)

    cut_s = scene.witness.mark("power cut", scene.holder, at_ns=scene.cluster.poweroff(scene.holder))
    scene.witness.wait_for("QEMU began", 2 * WITHOUT_SALT_S, after_s=cut_s)
    taken = scene.witness.wait_for("taken", 5, after_s=cut_s)
    moments = scene.witness.failover(cut_s)
    assert moments.qemu_s is not None, scene.witness.table()
    assert moments.qemu_s <= WITHOUT_SALT_S, scene.witness.table()
    tell(f"all masters' disks full: QEMU began {moments.qemu_s:.2f} s after the power cut ({taken.text})")
