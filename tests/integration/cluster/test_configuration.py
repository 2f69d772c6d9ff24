"""The configuration by the old suite's file, as its operators change it; and of two masters that differ one decides."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.pillar import read_pillar
from lab.provision import MASTER
from lab.settings import VM_NAME
from tests.support.scene import Scene, eventually

from .test_provisioning import LAB_PILLAR, apply, failed

EXPORTED, EDITED = "/tmp/current.config.json", "/root/current.config.json"
"""A node's /tmp is in its memory, where nobody else writes."""
MORE_GB = 0.3125
HALT = '{"execute":"guest-shutdown","arguments":{"mode":"powerdown"}}'


def memory_mib(cluster: Cluster, node: str) -> int:
    """What the running VM has."""
    return (
        int(cluster.run(node, ["virsh", "dominfo", VM_NAME], check=True).stdout.split("Max memory:")[1].split()[0])
        // 1024
    )


def versions(scene: Scene) -> list[dict[str, Any]]:
    return list(scene.salt_run(MASTER, "config_history")[1]["versions"])


def test_memory_is_changed_by_export_edit_import_and_a_halt_in_the_guest(scene: Scene) -> None:
    cluster, other, before = scene.cluster, scene.others[0], versions(scene)[-1]["version"]
    had = memory_mib(cluster, scene.holder)
    code, told, printed = scene.salt_run(other, "export_config")
    assert (code, told["comment"]) == (0, f"output config json file to {EXPORTED}"), printed
    edited = told["text"].replace(f'"MemorySizeInGB": {had / 1024:g},', f'"MemorySizeInGB": {MORE_GB} // more')
    cluster.write_file(other, EDITED, edited)
    try:
        code, told, printed = scene.salt_run(other, "check_config", EDITED)
        assert (code, told["comment"]) == (0, "config file check pass"), printed
        assert [line for line in told["corrections"] if "comma" in line], "told what was corrected"
        code, told, printed = scene.salt_run(other, "import_config", EDITED, timeout_s=300)
        assert code == 0, printed
        assert list(told["differences"]) == ["at the VM's next start"]
        events = scene.salt_run(MASTER, "history")[1]["history"]
        (text,) = (one["text"] for one in events if one["event"] == "command" and "import_config" in one["text"])
        assert f"`mnha.import_config file={EDITED}` by root@{other}_master: version" in text
        assert memory_mib(cluster, scene.holder) == had, "the VM runs on as it is"
        for node in cluster.names:  # of which each is a master
            assert read_pillar(cluster.file(node, LAB_PILLAR))["mnha"]["cluster"]["vms"][VM_NAME]["memory_mib"] == 320
        pid = scene.qemu_pid(scene.holder)
        cluster.run(scene.holder, ["virsh", "qemu-agent-command", VM_NAME, HALT])  # it ends without an answer
        eventually(lambda: scene.status(scene.holder)["vm_pid"] not in (None, pid), 60, "the VM was started again")
        assert memory_mib(cluster, scene.holder) == 320
        assert versions(scene)[-1]["changes"] == f"vms:{VM_NAME}:memory_mib: {had} → 320"
    finally:
        code, _, printed = scene.salt_run(MASTER, "config_rollback", str(before), timeout_s=300)
    assert code == 0, printed


def test_of_two_masters_with_different_pillars_the_second_is_refused(scene: Scene) -> None:
    cluster, other = scene.cluster, scene.cluster.names[1]
    good = cluster.file(MASTER, LAB_PILLAR).read_text()
    try:
        for node, key, value in ((MASTER, "announce_s", 2.0), (other, "storage_lost_after_s", 20.0)):
            changed = read_pillar(cluster.file(node, LAB_PILLAR))
            changed["mnha"]["cluster"][key] = value
            cluster.write_file(node, LAB_PILLAR, json.dumps(changed))
        (states,) = apply(cluster, MASTER, "states.claimed").values()
        assert failed(states) == []
        (states,) = apply(cluster, cluster.names[2], "states.guard", master=other).values()
        assert len(states) == 1, "nothing was begun"
        (text,) = failed(states)
        assert f"the pillar on master {other} was last in force as version" in text
        assert "storage_lost_after_s: 12.0 → 20.0" in text
    finally:
        for node in (MASTER, other):
            cluster.write_file(node, LAB_PILLAR, good)
        answers = apply(cluster, "*", "states.salt")  # by which the others' masters follow
    assert [failed(states) for states in answers.values()] == [[], [], []]


@pytest.mark.nightly
def test_a_master_that_was_away_may_change_the_configuration_only_when_told_to(scene: Scene) -> None:
    cluster, other = scene.cluster, scene.cluster.names[1]
    good = cluster.file(MASTER, LAB_PILLAR).read_text()
    changed = read_pillar(cluster.file(MASTER, LAB_PILLAR))
    changed["mnha"]["cluster"]["announce_s"] = 2.0
    try:
        cluster.write_file(MASTER, LAB_PILLAR, json.dumps(changed))
        (states,) = apply(cluster, MASTER, "states.claimed").values()
        assert failed(states) == []
        (states,) = apply(cluster, other, "states.claimed", master=other).values()
        assert "announce_s: 2.0 → 2.5" in failed(states)[0]
        assert scene.salt_run(other, "config_accept")[0] == 0
        (states,) = apply(cluster, other, "states.claimed", master=other).values()
        assert failed(states) == []
    finally:
        cluster.write_file(MASTER, LAB_PILLAR, good)
        answers = apply(cluster, "*", "states.salt")
    assert [failed(states) for states in answers.values()] == [[], [], []]
