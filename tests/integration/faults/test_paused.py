"""QEMU pauses the VM because its disk fails or is full, or somebody suspends it: told, and resumed or left alone.

The errors are put into QEMU's own writes (`strace`), so that the folder with the images is well all the time.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.pillar import VM_UUID
from mnha.daemon.adapters.processes import qemu_pids
from mnha.daemon.repeats import PLAIN
from tests.support.scene import Scene, eventually

PAUSED_S = 30.0
"""The guest writes some times a second; the emulator, traced, is slow."""
LIMIT_S = 12.0
"""`storage_lost_after_s`, by default."""
GAPS_S = 20.0
"""Three tries take 7 s, the fourth comes after 15 s; and each takes its time."""
FAILOVER_S = 60.0
GUEST_S = 90.0
nightly = pytest.mark.nightly


@contextlib.contextmanager
def writes_fail(word: str) -> Iterator[None]:
    """Every write of the VM's QEMU to its disk fails with that error."""
    (pid,) = qemu_pids(VM_UUID)
    writes = "pwrite64,pwritev,pwritev2"
    inject = ["-e", f"trace={writes}", "-e", f"inject={writes}:error={word}"]
    words = ["strace", "-f", "-p", str(pid), "-o", "/dev/null", *inject]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tracer:
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGTERM)  # it lets QEMU go
            tracer.wait(10)


def paused(scene: Scene, node: str) -> dict[str, Any]:
    """Why the VM stands paused on a node, if it does."""
    status = scene.status(node)
    return status["paused"] if status["vm"] == "paused" else {}


def entries(scene: Scene, event: str) -> list[dict[str, Any]]:
    """The entries of the history with that event."""
    _, data, _ = scene.salt_run(scene.holder, "history", "limit=100")
    return [one for one in data["history"] if one["event"] == event]


def told(scene: Scene, words: str) -> bool:
    """Whether `mnha.status` says why the VM is paused, and ends with 1; not in the moment in which it is tried."""
    code, data, _ = scene.salt_run(scene.holder, "status")
    is_paused = data["vms"]["mnvm"]["state"] == "paused"
    return is_paused and code == 1 and any(words in text for text in data["warnings"])


@nightly
def test_a_vm_whose_disk_is_full_is_paused_told_and_goes_on_when_there_is_room(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    node, pid, before = scene.holder, scene.qemu_pid(scene.holder), len(entries(scene, "resumed"))
    with writes_fail("ENOSPC"):
        seen = eventually(lambda: paused(scene, node), PAUSED_S, "the VM is paused")
        assert seen["why"] == "its disk has no space left"
        eventually(lambda: told(scene, "its disk has no space left"), LIMIT_S / 2, "it is told")
    well_s = scene.witness.mark("room again", node)
    eventually(lambda: not paused(scene, node), LIMIT_S, "it goes on")
    on_s = scene.cluster.boottime()
    scene.await_renewals()
    assert scene.qemu_pid(node) == pid
    eventually(lambda: len(entries(scene, "resumed")) > before, 10, "its tries stand in the history")
    assert len(entries(scene, "resumed")) <= before + PLAIN, "from then on they are counted in the last of these"
    assert scene.salt_run(node, "status")[1]["vms"]["mnvm"]["state"] == "running"
    tell(f"disk full (ENOSPC in QEMU): paused, and on again {on_s - well_s:.1f} s after there was room; same process")


@nightly
def test_a_vm_whose_disk_fails_on_its_node_alone_runs_on_another(scene: Scene, tell: Callable[[str], None]) -> None:
    node = scene.holder
    with writes_fail("EIO"):
        failed_s = scene.witness.mark("writes fail", node)
        eventually(lambda: paused(scene, node), PAUSED_S, "the VM is paused")
        ended = scene.witness.wait_for("QEMU ended", PAUSED_S + LIMIT_S + GAPS_S, after_s=failed_s)
    began = scene.witness.wait_for("QEMU began", FAILOVER_S, after_s=failed_s)
    scene.witness.wait_for("guest up", GUEST_S, after_s=failed_s)
    killed = scene.witness.first("killed", failed_s, node)
    assert killed is not None
    assert "in vain" in killed.text
    assert (ended.node, began.node != node) == (node, True)
    assert ended.at_s < began.at_s, scene.witness.table()
    assert scene.witness.first("released", failed_s, node) is not None
    tell(
        f"disk fails on its node alone (EIO in QEMU): VM dead {ended.at_s - failed_s:.1f} s, "
        f"QEMU began elsewhere {began.at_s - failed_s:.1f} s"
    )


@nightly
def test_a_vm_that_somebody_has_suspended_is_told_and_left_alone(scene: Scene, tell: Callable[[str], None]) -> None:
    node, pid, epoch = scene.holder, scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    scene.cluster.run(node, ["virsh", "suspend", "mnvm"], check=True)
    suspended_s = scene.witness.mark("suspended", node)
    seen = eventually(lambda: paused(scene, node), 10, "the VM is paused")
    assert seen["why"] == "somebody has suspended it"
    assert told(scene, "nobody resumes it but `virsh resume mnvm`")
    code, data, _ = scene.salt_run(node, "start")
    assert code != 0
    assert "is paused there: somebody has suspended it" in data["comment"]
    eventually(lambda: scene.cluster.boottime() > suspended_s + LIMIT_S + GAPS_S, LIMIT_S + GAPS_S + 5, "some time")
    assert paused(scene, node), "nobody has resumed it"
    scene.cluster.run(node, ["virsh", "resume", "mnvm"], check=True)
    eventually(lambda: not paused(scene, node), 10, "it goes on")
    assert (scene.qemu_pid(node), scene.status(node)["lease"]["epoch"]) == (pid, epoch)
    tell("virsh suspend: told, left alone, and on with virsh resume; same process, same epoch")
