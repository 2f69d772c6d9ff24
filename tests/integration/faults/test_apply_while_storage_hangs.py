"""The states are applied on a node whose way to the images hangs: the run ends, and says why."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lab.provision import MASTER
from tests.support.scene import Scene, eventually

from ..cluster.test_provisioning import apply, failed

LIMIT_S = 8.0
APPLY_S = 90.0
"""What a whole run may take on a busy machine, beside that."""


@pytest.mark.nightly
@pytest.mark.parametrize("killable", [True, False], ids=["killable", "in_D_state"])
def test_a_run_of_states_ends_and_names_the_folder_that_hangs(
    scene: Scene, tell: Callable[[str], None], killable: bool
) -> None:
    cluster, pid = scene.cluster, scene.qemu_pid(scene.holder)
    node = next(name for name in scene.others if name != MASTER)
    cluster.add_valve(node, killable=killable)
    cluster.hang_storage(node)
    try:
        began_s = time.monotonic()
        states = apply(cluster, node)[node]
        lasted_s = time.monotonic() - began_s
    finally:
        cluster.free_storage(node)
    assert isinstance(states, dict), states
    told = failed(states)
    assert any("storage_image_folder: " in text and "does not answer within 8 s" in text for text in told), told
    assert {text.split(":")[0] for text in told} == {
        "storage_image_folder", "storage_image_mnvm", "mnvm_image_mnvm", "mnvm_mnvm",
    }, told  # fmt: skip
    assert lasted_s < LIMIT_S + APPLY_S
    eventually(lambda: scene.guard(node)["checks"]["storage"]["ok"], 60, f"the guard of {node} is well again")
    assert failed(apply(cluster, node)[node]) == []
    assert scene.qemu_pid(scene.holder) == pid
    tell(f"state.apply on a node whose image folder hangs: {lasted_s:.1f} s")
