"""A backup's snapshot of the disk alone is active when the VM ends: no node starts it from its old image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from lab.settings import IMAGE_FOLDER, VM_NAME, LabError
from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]
NOTICE_S = 15.0
GUEST_S = 60.0
FAILOVER_S = TIMINGS.lease_s + 20.0 + 10.0
"""A master's way and that of a guard alone (`masterless_takeover_after_s`) have had their time."""
IMAGE, OVERLAY = f"{IMAGE_FOLDER}/{VM_NAME}.img", f"{IMAGE_FOLDER}/{VM_NAME}.backup"
COMMIT = f"virsh blockcommit {VM_NAME} vda --active --pivot --wait"


def take_snapshot(scene: Scene) -> None:
    """As a backup tool does; into a file that is QEMU's already, for libvirt does not give it any here."""
    make = (
        f"qemu-img create -f qcow2 -b {IMAGE} -F $(qemu-img info -U {IMAGE} | sed -n 's/^file format: //p') {OVERLAY}"
    )
    take = (
        f"virsh snapshot-create-as {VM_NAME} --disk-only --no-metadata --reuse-external --diskspec vda,file={OVERLAY}"
    )
    words = ["sh", "-c", f"{make} && chown libvirt-qemu: {OVERLAY} && {take}"]
    scene.cluster.run(scene.holder, words, timeout_s=60, check=True)


def overlay_of(scene: Scene, node: str) -> dict[str, Any]:
    return scene.status(node)["checks"]["overlay"]


def is_told_everywhere(scene: Scene) -> bool:
    return all(OVERLAY in overlay_of(scene, node)["why"] for node in scene.cluster.names)


@pytest.fixture
def snapshot(scene: Scene) -> Iterator[None]:
    """One is active, and known to all; at the end nothing of it is left."""
    take_snapshot(scene)
    try:
        eventually(lambda: is_told_everywhere(scene), NOTICE_S, "all know of it")
        yield
    finally:
        with contextlib.suppress(LabError):
            scene.cluster.run(scene.holder, ["sh", "-c", f"{COMMIT}; rm -f {OVERLAY}"], timeout_s=60)


@pytest.mark.nightly
@pytest.mark.usefixtures("snapshot")
def test_an_active_snapshot_is_told_and_the_vm_is_not_migrated_until_it_is_committed(scene: Scene) -> None:
    pid = scene.qemu_pid(scene.holder)
    code, told, printed = scene.salt_run(scene.holder, "status")
    assert code == 1
    assert OVERLAY in printed
    assert told["vms"][VM_NAME]["candidates"] == []
    code, _, printed = scene.salt_run(scene.holder, "migrate", scene.others[0])
    assert (code, OVERLAY in printed) == (1, True), printed
    assert scene.qemu_pid(scene.holder) == pid
    scene.cluster.run(scene.holder, ["sh", "-c", COMMIT], timeout_s=60, check=True)
    eventually(
        lambda: all(overlay_of(scene, node)["ok"] for node in scene.cluster.names), NOTICE_S, "the record follows"
    )
    eventually(lambda: scene.salt_run(scene.holder, "status")[0] == 0, 30, "all is well again")
    assert scene.qemu_pid(scene.holder) == pid


@pytest.mark.nightly
@pytest.mark.usefixtures("snapshot")
def test_after_a_crash_with_an_active_snapshot_nobody_starts_the_old_image_until_it_is_merged(scene: Scene) -> None:
    """The node that ran it loses its power; another one merges, by hand, what the snapshot holds."""
    lost, survivor = scene.holder, scene.others[0]
    cut_s = scene.witness.mark("power cut", lost, at_ns=scene.cluster.poweroff(lost))
    eventually(lambda: scene.cluster.boottime() > cut_s + FAILOVER_S, FAILOVER_S + 10, "everybody has had a try")
    assert scene.witness.first("QEMU began", cut_s) is None, scene.witness.table()
    code, _, printed = scene.salt_run(survivor, "status")
    assert code in (1, 2)
    assert OVERLAY in printed
    assert "mnha.accept_disk" in printed
    scene.cluster.run(survivor, ["qemu-img", "commit", "-b", IMAGE, OVERLAY], timeout_s=60, check=True)
    code, _, printed = scene.salt_run(survivor, "accept_disk")
    assert code == 0, printed
    began = scene.witness.wait_for("QEMU began", 60.0, after_s=cut_s)
    assert began.node in scene.others
    scene.witness.wait_for("guest up", GUEST_S, after_s=began.at_s)
