"""What a dry run tells of restarts is what happens then, on a node that is not the holder."""

from __future__ import annotations

from typing import Any

import pytest

from lab.provision import MASTER, TREE
from tests.support.scene import Scene

from .test_provisioning import apply, changed, failed

CORE = f"{TREE}/salt/_utils/mnha/core/state.py"
RESTARTS = {"consul_current": "consul", "guard_current": "mnha-guard", "fencer_current": "mnha-fencer"}


def restarted(states: dict[str, dict[str, Any]]) -> set[str]:
    return {name for state, name in RESTARTS.items() if state in changed(states)}


def pids(scene: Scene, node: str) -> dict[str, str]:
    words = ["systemctl", "show", "--property=MainPID", "--value"]
    return {name: scene.cluster.run(node, [*words, name], check=True).stdout.strip() for name in RESTARTS.values()}


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("path", "only"), [(CORE, {"mnha-guard"}), (f"{TREE}/salt/states/consul/files/consul.service", {"consul"})],
    ids=["library", "unit of Consul"],
)  # fmt: skip
def test_a_dry_run_tells_what_is_restarted_then_and_nothing_else(scene: Scene, path: str, only: set[str]) -> None:
    cluster, node = scene.cluster, next(name for name in scene.others if name != MASTER)
    text = cluster.file(MASTER, path).read_text()
    layers = ("states.consul,states.fencer,states.guard",)
    assert restarted(apply(cluster, node, *layers, "test=True")[node]) == set()
    try:
        cluster.write_file(MASTER, path, f"{text}\n# changed by a test\n")
        before = pids(scene, node)
        dry = apply(cluster, node, *layers, "test=True")[node]
        assert (failed(dry), restarted(dry)) == ([], only)
        assert pids(scene, node) == before
        wet = apply(cluster, node, *layers)[node]
        assert (failed(wet), restarted(wet)) == ([], only)
        after = pids(scene, node)
        assert {name for name, pid in after.items() if pid != before[name]} == only
    finally:
        cluster.write_file(MASTER, path, text)
        apply(cluster, node, *layers)
