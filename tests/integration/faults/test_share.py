"""The share is not mounted on one node, which has a copy of the image below its mount point: it is no candidate, no
target, and no failover chooses it.

Something empty is mounted over the share, for what is unmounted in a node can't be mounted again from within it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab import guards
from lab.settings import IMAGE_FOLDER, LabError
from lab.storage import TARGET
from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]
NOTICE_S = 10.0
FAILOVER_S = 40.0
MIGRATION_S = 60.0


def consul_record(scene: Scene, key: str) -> dict[str, Any]:
    """A record of the cluster, as a node's module reads it."""
    words = ["salt-call", "--out=json", "consul_ha.kv_get", key]
    done = scene.cluster.run(scene.holder, words, timeout_s=60, check=True)
    return (json.loads(done.stdout)["local"] or {}).get("value") or {}


@contextlib.contextmanager
def without_share(scene: Scene, node: str) -> Iterator[None]:
    """A node whose share is not mounted, with a stale copy of all images in the folder below."""
    copy = f"mkdir -p /run/stale && cp -a {IMAGE_FOLDER} /run/stale/ && rm -rf /run/stale/mngt/.mnha"
    hide = f"mount -t tmpfs stale {TARGET} && cp -a /run/stale/mngt {TARGET}/"
    scene.cluster.run(node, ["sh", "-c", copy], timeout_s=60, check=True)
    scene.cluster.run(node, ["sh", "-c", hide], timeout_s=60, check=True)
    try:
        yield
    finally:
        with contextlib.suppress(LabError):  # it may have no power any more
            scene.cluster.run(node, ["sh", "-c", f"umount -l {TARGET}; rm -rf /run/stale"])


def storage(scene: Scene, node: str) -> dict[str, Any]:
    return scene.guard(node)["checks"]["storage"]


def test_a_cluster_has_the_id_of_its_share_without_anybodys_help(scene: Scene) -> None:
    record = eventually(lambda: consul_record(scene, "share"), NOTICE_S, "the id is there")
    assert record["placed"] is True
    for node in scene.cluster.names:
        done = scene.cluster.run(node, ["cat", f"{IMAGE_FOLDER}/.mnha/id"], check=True)
        assert done.stdout.strip() == record["id"]
        assert storage(scene, node) == {"ok": True, "why": ""}
        assert scene.guard(node)["checks"]["mount"] == {"ok": True, "why": ""}, "the pillar vouches for the lab's share"


@pytest.mark.nightly
def test_an_unmounted_node_is_no_candidate_and_no_target_and_a_failover_passes_it_over(scene: Scene) -> None:
    node, other = scene.others
    pid = scene.qemu_pid(scene.holder)
    with without_share(scene, node):
        eventually(lambda: not storage(scene, node)["ok"], NOTICE_S, "it is noticed")
        assert "is not the cluster's share" in storage(scene, node)["why"]
        assert "is the share mounted?" in storage(scene, node)["why"]
        listed = scene.cluster.run(node, ["ls", "-A", IMAGE_FOLDER], check=True).stdout.split()
        assert ".mnha" not in listed, "nothing is written there"

        def no_candidate() -> bool:
            code, told, _ = scene.salt_run(scene.holder, "status")
            vm = told["vms"]["mnvm"]
            return code == 1 and vm["candidates"] == [other] and "is the share mounted?" in vm["rejected"][node]

        eventually(no_candidate, 30, "the status tells")
        code, _, printed = scene.salt_run(scene.holder, "migrate", node)
        assert code == 1
        assert "is the share mounted?" in printed
        assert (scene.qemu_pid(scene.holder), scene.status(scene.holder)["state"]) == (pid, "running")

        cut_s = scene.witness.mark("power cut", scene.holder, at_ns=scene.cluster.poweroff(scene.holder))
        began = scene.witness.wait_for("QEMU began", FAILOVER_S, after_s=cut_s)
        assert began.node == other, scene.witness.table()
    eventually(lambda: storage(scene, node)["ok"], NOTICE_S, "it is a candidate again")


@pytest.mark.nightly
def test_a_target_that_loses_its_share_as_it_is_ordered_lets_nothing_in(scene: Scene) -> None:
    """Nobody asks it beforehand here: the order goes to the holder's guard, in the moment after the mount."""
    node = scene.others[0]
    pid, before = scene.qemu_pid(scene.holder), {life.pid for life in scene.witness.monitor.lives()}
    with without_share(scene, node):
        answer = guards.ask(
            scene.cluster,
            scene.holder,
            "migrate",
            timeout_s=MIGRATION_S + 5,
            target=node,
            wait_s=MIGRATION_S,
            reason="test",
        )
        assert not answer["ok"], answer
        copies = [life for life in scene.witness.monitor.lives() if life.incoming and life.pid not in before]
        assert not [life for life in copies if life.resumed_ns is not None], scene.witness.table()
    eventually(
        lambda: scene.status(scene.holder)["lease"]["phase"] == "held", TIMINGS.lease_s, "the offer is withdrawn"
    )
    assert (scene.qemu_pid(scene.holder), scene.status(scene.holder)["state"]) == (pid, "running")


@pytest.mark.nightly
def test_a_holder_does_not_take_an_unmounted_nodes_word_that_the_storage_is_well(scene: Scene) -> None:
    """Two nodes without the share, and the holder's hangs: its VM waits."""
    holder = scene.holder
    scene.cluster.add_valve(holder)
    with contextlib.ExitStack() as stack:
        for node in scene.others:
            stack.enter_context(without_share(scene, node))
        for node in scene.others:
            eventually(lambda node=node: not storage(scene, node)["ok"], NOTICE_S, "it is noticed")  # type: ignore[misc]
        pid = scene.qemu_pid(holder)
        hung_s = scene.witness.mark("storage hangs", holder, at_ns=scene.cluster.hang_storage(holder))
        eventually(lambda: scene.cluster.boottime() > hung_s + 12.0 + 8.0, 40, "the limit has passed")
        assert scene.qemu_pid(holder) == pid, scene.witness.table()
        scene.cluster.free_storage(holder)
    eventually(lambda: storage(scene, holder)["ok"], 30, "it answers")
    assert scene.qemu_pid(holder) == pid
