"""A pillar that is changed on one master: told there before it is applied, and by no master afterwards."""

from __future__ import annotations

import json

import pytest

from lab.pillar import read_pillar
from lab.provision import MASTER, await_links
from tests.support.scene import Scene

from .test_provisioning import LAB_PILLAR, apply, failed

ANNOUNCE_S = 2.0


def told(scene: Scene, node: str) -> list[str]:
    """What the status typed on a node says of pillar and configuration."""
    return [text for text in scene.salt_run(node, "status")[1]["warnings"] if "in force" in text or "pillar" in text]


@pytest.mark.nightly
def test_a_changed_pillar_is_in_force_when_its_apply_has_ended_and_every_master_says_so(scene: Scene) -> None:
    cluster, path = scene.cluster, scene.cluster.file(MASTER, LAB_PILLAR)
    good, pid = path.read_text(), scene.qemu_pid(scene.holder)
    changed = read_pillar(path)
    changed["mnha"]["cluster"]["announce_s"] = ANNOUNCE_S
    try:
        cluster.write_file(MASTER, LAB_PILLAR, json.dumps(changed))
        (text,) = told(scene, MASTER)
        assert "the pillar on this master differs from what is in force (announce_s)" in text
        answers = apply(cluster, "*")
        assert {node: failed(states) for node, states in answers.items()} == {node: [] for node in cluster.names}
        await_links(cluster)  # the minions' beacons are configured anew
        assert {node: told(scene, node) for node in cluster.names} == {node: [] for node in cluster.names}
        for node in cluster.names:
            words = ["salt", "--out=json", "--static", "*", "mnvm.config"]
            answers = json.loads(cluster.run(node, words, timeout_s=60, check=True).stdout)
            assert {one: found["announce_s"] for one, found in answers.items()} == dict.fromkeys(
                cluster.names, ANNOUNCE_S
            )
    finally:
        cluster.write_file(MASTER, LAB_PILLAR, good)
        answers = apply(cluster, "*")
        await_links(cluster)
    assert {node: failed(states) for node, states in answers.items()} == {node: [] for node in cluster.names}
    assert scene.qemu_pid(scene.holder) == pid


@pytest.mark.nightly
def test_a_wrong_pillar_in_the_memory_of_the_minions_refuses_no_verb(scene: Scene) -> None:
    """`mnha.stop` was refused by what a minion remembered of the pillar."""
    cluster, path = scene.cluster, scene.cluster.file(MASTER, LAB_PILLAR)
    good = path.read_text()
    broken = read_pillar(path)
    broken["mnha"]["cluster"]["watchdog"] = "sometimes"
    try:
        cluster.write_file(MASTER, LAB_PILLAR, json.dumps(broken))
        cluster.run(MASTER, ["salt", "*", "saltutil.refresh_pillar", "wait=True"], timeout_s=60)
        code, _, printed = scene.salt_run(MASTER, "stop", timeout_s=240)
        assert code == 0, printed
        code, _, printed = scene.salt_run(MASTER, "start", timeout_s=120)
        assert code == 0, printed
    finally:
        cluster.write_file(MASTER, LAB_PILLAR, good)
        cluster.run(MASTER, ["salt", "*", "saltutil.refresh_pillar", "wait=True"], timeout_s=60)
        answers = apply(cluster, "*", "states.consul")
    assert {node: failed(states) for node, states in answers.items()} == {node: [] for node in cluster.names}
