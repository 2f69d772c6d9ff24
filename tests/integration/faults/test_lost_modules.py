"""A node's Salt has lost a package that this project's modules need, as after an upgrade of Salt to another Python."""

from __future__ import annotations

import json

import pytest

from lab.provision import MASTER, await_links
from tests.support.scene import Scene, eventually

from ..cluster.test_provisioning import apply, failed


@pytest.mark.nightly
def test_a_node_that_has_lost_its_modules_is_told_and_repaired_by_its_states(scene: Scene) -> None:
    cluster, pid = scene.cluster, scene.qemu_pid(scene.holder)
    node = next(name for name in scene.others if name != MASTER)
    grain = cluster.run(node, ["salt-call", "--out=json", "grains.get", "pythonexecutable"], timeout_s=60, check=True)
    python = json.loads(grain.stdout)["local"]
    uninstall = [python, "-m", "pip", "uninstall", "--yes", "python-consul2"]
    cluster.run(node, uninstall, timeout_s=60, check=True)
    cluster.run(node, ["systemctl", "restart", "salt-minion"], check=True)
    await_links(cluster)
    eventually(lambda: scene.salt_run(MASTER, "status")[1]["nodes"][node]["answers"], 60, f"the minion of {node}")
    code, found, printed = scene.salt_run(MASTER, "status")
    assert (code, found["nodes"][node]["contact"]) == (1, "no report"), printed
    (text,) = [text for text in found["warnings"] if text.startswith(f"{node}: ")]
    assert "Salt's own Python misses consul" in text
    assert f"`salt {node} state.apply states.salt.packages` repairs it" in text
    first = apply(cluster, node)[node]
    assert isinstance(first, dict), first
    assert [line.split(":")[0] for line in failed(first)] == ["salt_modules_repaired"], failed(first)
    await_links(cluster)  # the minion begins anew
    eventually(lambda: scene.salt_run(MASTER, "status")[0] == 0, 60, "all is well again")
    assert failed(apply(cluster, node)[node]) == []
    assert scene.qemu_pid(scene.holder) == pid
