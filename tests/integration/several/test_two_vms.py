"""A second protected VM beside the MNVM: each has a lease of its own, and what befalls one leaves the other alone.

The last tests of a run: the cluster has two VMs from here on.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from lab import checker, disk, guards, health
from lab.cluster import Cluster
from lab.guest_image import DISK_BYTES
from lab.pillar import read_pillar
from lab.provision import MASTER
from lab.settings import GUEST_HOST, VM_NAME
from tests.support.scene import Scene, eventually

from ..cluster.test_provisioning import LAB_PILLAR, apply, failed

pytestmark = pytest.mark.nightly  # four minutes

SECOND = "second"


def with_second(pillar: dict[str, Any]) -> dict[str, Any]:
    """The lab's pillar with another VM, that differs from the first in name, identity, image and address only."""
    vms = pillar["mnha"]["cluster"]["vms"]
    text = json.dumps(vms[VM_NAME])
    for old, new in (("6e766d0001", "6e766d0002"), ("6d:6e:01", "6d:6e:02"), (f"{VM_NAME}.img", f"{SECOND}.img"),
                     (f'.{GUEST_HOST}"', f'.{GUEST_HOST + 1}"')):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    vms[SECOND] = json.loads(text)
    return pillar


@pytest.fixture(scope="module")
def two(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with both VMs started."""
    health.heal(cluster, links=True)
    image = cluster.settings.disk_image.with_name(f"{SECOND}.img")
    disk.make(image, DISK_BYTES)
    cluster.write_file(MASTER, LAB_PILLAR, json.dumps(with_second(read_pillar(cluster.file(MASTER, LAB_PILLAR)))))
    answers = apply(cluster, "*")
    assert {node: failed(states) for node, states in answers.items()} == {node: [] for node in cluster.names}
    done = cluster.run(MASTER, ["salt-run", "mnha.start", f"vm={SECOND}"], timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    yield cluster
    cluster.run(MASTER, ["salt-run", "mnha.stop", f"vm={SECOND}"], timeout_s=180, check=True)


def prove_second(cluster: Cluster) -> None:
    """That no two instances of the second VM overlapped so far, by its own disk."""
    verdict = checker.check(cluster.settings.disk_image.with_name(f"{SECOND}.img"), {})
    assert not [fault for fault in verdict.faults if "overlap" in fault], verdict.text()
    assert verdict.instances, "its guest has written"


def test_both_run_and_a_verb_that_does_not_name_one_is_refused(two: Cluster, scene: Scene) -> None:
    status = scene.salt_run(MASTER, "status")[1]
    assert {name: vm["running_on"] for name, vm in status["vms"].items()} == {
        VM_NAME: scene.holder, SECOND: guards.wait_until_running(two, vm=SECOND),
    }  # fmt: skip
    for verb in ("start", "stop", "migrate"):
        code, _, text = scene.salt_run(MASTER, verb)
        assert code != 0
        assert f"name one of {VM_NAME}, {SECOND}" in text
    eventually(lambda: checker.check(two.settings.disk_image.with_name(f"{SECOND}.img"), {}).instances, 60, "a record")
    prove_second(two)


def test_what_befalls_the_second_leaves_the_first_alone(two: Cluster, scene: Scene) -> None:
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    holder = guards.wait_until_running(two, vm=SECOND)
    killed = guards.vm_status(two, holder, SECOND)["vm_pid"]
    two.run(holder, ["kill", f"-{signal.SIGKILL.value}", str(killed)], check=True)
    eventually(lambda: guards.vm_status(two, holder, SECOND)["vm_pid"] not in (None, killed), 30, "started again")
    assert guards.wait_until_running(two, vm=SECOND) == holder
    target = next(name for name in two.names if name != holder)
    code, _, text = scene.salt_run(MASTER, "migrate", target, f"vm={SECOND}", timeout_s=120)
    assert code == 0, text
    assert guards.wait_until_running(two, vm=SECOND) == target
    code, _, text = scene.salt_run(MASTER, "stop", f"vm={SECOND}", timeout_s=180)
    assert code == 0, text
    assert guards.runners(two, SECOND) == []
    assert (scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]) == (pid, epoch)
    prove_second(two)


def test_the_holder_of_both_loses_power_and_both_run_elsewhere(two: Cluster, scene: Scene) -> None:
    code, _, text = scene.salt_run(MASTER, "start", f"vm={SECOND}", timeout_s=120)
    assert code == 0, text
    if guards.wait_until_running(two, vm=SECOND) != scene.holder:
        code, _, text = scene.salt_run(MASTER, "migrate", scene.holder, f"vm={SECOND}", timeout_s=120)
        assert code == 0, text
    two.poweroff(scene.holder)
    assert guards.wait_until_running(two, but=scene.holder) in scene.others
    assert guards.wait_until_running(two, but=scene.holder, vm=SECOND) in scene.others
    prove_second(two)
