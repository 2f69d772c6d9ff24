"""What the VM writes to is not what lies at its image's path: a backup's snapshot of the disk alone is active, or the
file was moved away, or replaced. No node starts the VM from old data then, nor is it migrated onto them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.settings import IMAGE_FOLDER, MGMT, VM_NAME, LabError
from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]
NOTICE_S = 15.0
GUEST_S = 60.0
MANAGEMENT_LOST_S = 15.0
"""The product's default of `management_lost_after_s`."""
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


def candidates(scene: Scene) -> list[str]:
    found = scene.salt_run(scene.holder, "status")[1]["vms"][VM_NAME]["candidates"]
    return list(found)


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
    code, _, printed = scene.salt_run(scene.holder, "status")
    assert code == 1
    assert OVERLAY in printed
    assert candidates(scene) == []
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
def test_while_a_snapshot_is_active_the_vm_does_not_leave_a_lost_management_network(scene: Scene) -> None:
    """It would come to old data, or be off for good."""
    holder, pid = scene.holder, scene.qemu_pid(scene.holder)
    scene.cluster.cut(holder, MGMT)
    eventually(lambda: not scene.guard(holder)["network_checks"]["management"]["ok"], NOTICE_S, "it is noticed")
    time.sleep(MANAGEMENT_LOST_S + 10.0)
    assert scene.qemu_pid(holder) == pid
    assert scene.status(holder)["vm"] == "running"
    scene.cluster.heal(holder)


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


def at_image(scene: Scene, command: str) -> None:
    """As an operator types it in the folder with the images, by any node."""
    words = ["sh", "-c", f"cd {IMAGE_FOLDER} && {command.format(vm=VM_NAME)}"]
    scene.cluster.run(scene.others[0], words, timeout_s=60, check=True)


@pytest.mark.nightly
def test_a_file_that_was_replaced_under_the_vm_is_not_migrated_onto_nor_started_from(scene: Scene) -> None:
    """A backup was played back beside it, and the VM's own file is still there under another name."""
    holder, target = scene.holder, scene.others[0]
    pid = scene.qemu_pid(holder)
    told = "was moved, removed, or replaced"

    def is_told(node: str) -> bool:
        return told in overlay_of(scene, node)["why"]

    def is_well(node: str) -> bool:
        checks = scene.status(node)["checks"]
        return bool(checks["overlay"]["ok"] and checks["image"]["ok"])

    at_image(scene, "mv {vm}.img {vm}.own && cp -p {vm}.own {vm}.img")
    try:
        eventually(lambda: all(map(is_told, scene.cluster.names)), NOTICE_S, "all know of it")
        eventually(lambda: candidates(scene) == [], NOTICE_S, "no node is a candidate")
        code, _, printed = scene.salt_run(holder, "status")
        assert (code, told in printed) == (1, True), printed
        code, _, printed = scene.salt_run(holder, "migrate", target)
        assert (code, told in printed) == (1, True), printed
        assert scene.qemu_pid(holder) == pid
        at_image(scene, "mv {vm}.own {vm}.img")
        eventually(lambda: all(map(is_well, scene.cluster.names)), NOTICE_S, "it is back")
        at_image(scene, "mv {vm}.img {vm}.own && cp -p {vm}.own {vm}.img")
        eventually(lambda: all(map(is_told, scene.cluster.names)), NOTICE_S, "all know of it again")
        died_s = scene.witness.mark("crash", holder)
        scene.cluster.run(holder, ["kill", "-KILL", str(pid)], check=True)
        eventually(lambda: scene.cluster.boottime() > died_s + FAILOVER_S, FAILOVER_S + 10, "everybody has had a try")
        assert scene.witness.first("QEMU began", died_s) is None, scene.witness.table()
    finally:
        at_image(scene, "if [ -e {vm}.own ]; then mv {vm}.own {vm}.img; fi")

    def is_accepted() -> bool:
        """A late minion may do what the verb could not wait for; the VM runs then, and it is refused from then on."""
        done = scene.salt_run(target, "accept_disk", timeout_s=90)[0] == 0
        return done or all(overlay_of(scene, node)["ok"] for node in scene.cluster.names)

    eventually(is_accepted, 120, "it is accepted")
    eventually(lambda: "disk accepted" in scene.salt_run(target, "history")[2], 10, "it stands in the history")
    began = scene.witness.wait_for("QEMU began", 60.0, after_s=died_s)
    scene.witness.wait_for("guest up", GUEST_S, after_s=began.at_s)


def test_an_image_that_qemu_could_not_open_is_told_before_it_has_to(scene: Scene) -> None:
    def told(node: str) -> str:
        return str(scene.status(node)["checks"]["image"]["why"])

    at_image(scene, "chown root:root {vm}.img && chmod 600 {vm}.img")
    try:
        eventually(
            lambda: all("can't be opened by libvirt-qemu" in told(node) for node in scene.cluster.names),
            NOTICE_S,
            "told",
        )
        assert "apply states.mnvm" in scene.salt_run(scene.holder, "status")[2]
    finally:
        at_image(scene, "chown libvirt-qemu:libvirt-qemu {vm}.img && chmod 660 {vm}.img")
    eventually(lambda: not any(map(told, scene.cluster.names)), NOTICE_S, "all is well again")
