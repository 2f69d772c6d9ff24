"""Salt is stopped on the node that has the MNVM: the verbs work all the same, or say what they can't do.

How long each took is told, not judged: `salt-run` alone takes from one to five seconds, as busy as the machine is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from lab import guards
from tests.support.scene import Scene, eventually

GUEST_S = 60.0


@pytest.fixture
def silent(scene: Scene) -> Iterator[Scene]:
    """The holder's minion is stopped. Whatever became of the VM, it runs in the end."""
    scene.cluster.run(scene.holder, ["systemctl", "stop", "salt-minion"], check=True)
    yield scene
    scene.cluster.run(scene.holder, ["systemctl", "start", "salt-minion"], check=True)
    if not guards.runners(scene.cluster):
        scene.salt_run(scene.others[0], "start", timeout_s=120)


def timed(scene: Scene, *words: str) -> tuple[int, str, float]:
    """A verb typed on another node: exit code, its sentence, and how long it took, in s."""
    began_s = time.monotonic()
    code, answer, printed = scene.salt_run(scene.others[0], *words, timeout_s=120)
    return code, str(answer.get("comment", printed)), time.monotonic() - began_s


@pytest.mark.nightly
def test_stop_and_start_work_while_the_minion_of_the_vms_node_is_silent(
    silent: Scene, tell: Callable[[str], None]
) -> None:
    code, said, stopped_s = timed(silent, "stop")
    assert code == 0, said
    assert said.startswith(f"mnvm is stopped; it ran on {silent.holder}: the guest shut down by itself after "), said
    assert said.endswith(" s, asked through its agent"), said
    assert guards.runners(silent.cluster) == []
    code, said, started_s = timed(silent, "start")
    assert code == 0, said
    (runner,) = guards.runners(silent.cluster)
    assert runner in silent.others, "the one that can be ordered to"
    assert said.startswith(f"mnvm runs on {runner}, epoch ")
    silent.witness.wait_for("guest up", GUEST_S)
    tell(f"the holder's minion silent: stop took {stopped_s:.1f} s, start elsewhere {started_s:.1f} s")


def test_a_migration_is_refused_while_the_holders_minion_is_silent(silent: Scene, tell: Callable[[str], None]) -> None:
    pid = silent.qemu_pid(silent.holder)
    code, said, lasted_s = timed(silent, "migrate", silent.others[0])
    assert code == 1
    assert said.startswith(f"mnvm stays on {silent.holder}: its minion is silent"), said
    assert silent.qemu_pid(silent.holder) == pid
    code, said, started_s = timed(silent, "start")
    assert code == 0, said
    assert said.startswith(f"mnvm runs on {silent.holder}, epoch ")
    tell(f"the holder's minion silent: migrate refused after {lasted_s:.1f} s, start of what runs {started_s:.1f} s")


@pytest.mark.nightly
def test_a_start_with_a_dead_holder_returns_when_the_vm_runs_elsewhere(scene: Scene) -> None:
    scene.witness.mark("power cut", scene.holder, at_ns=scene.cluster.poweroff(scene.holder))
    code, said, _ = timed(scene, "start")
    assert code == 0, said
    assert "starts it" not in said
    (runner,) = guards.runners(scene.cluster)
    assert said.startswith(f"mnvm runs on {runner}, epoch ")
    eventually(lambda: scene.status(runner)["vm"] == "running", 5, "its guard says so")
    scene.witness.wait_for("guest up", GUEST_S)
