"""Two VMs of which each fits a node and their sum does not; and one that is stopped and whose image is missing.

The nodes share this machine's memory, and each has its own idea of what of it is promised. Like its neighbour this
comes last in a run: the cluster has two VMs from here on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import disk, guards, health
from lab.cluster import Cluster
from lab.guest_image import DISK_BYTES
from lab.pillar import read_pillar
from lab.provision import MASTER
from lab.settings import VM_NAME
from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

from ..cluster.test_provisioning import LAB_PILLAR, apply, failed
from .test_two_vms import SECOND, prove_second, with_second

pytestmark = pytest.mark.nightly

TIMINGS = PROFILES["default"]
SHARE = 0.55
"""Of the memory that is free: twice that is more than all."""
SEEN_S = 30.0
ORDERED_S = 2.0
"""So long after the expiry a VM is up at the latest whose take-over masters have ordered."""


def free_mib() -> int:
    """What is free on this machine, and so on each node by its own count."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) // 1024


def configure(cluster: Cluster, memory_mib: int | None, prefer: dict[str, list[str]]) -> None:
    """Have both VMs in the pillar, so large if that is given, and with these preferred nodes; apply it."""
    pillar = read_pillar(cluster.file(MASTER, LAB_PILLAR))
    vms = pillar["mnha"]["cluster"]["vms"]
    if SECOND not in vms:
        pillar = with_second(pillar)
        vms = pillar["mnha"]["cluster"]["vms"]
    for name, vm in vms.items():
        vm["prefer"] = prefer.get(name, [])
        if memory_mib is not None:
            vm["memory_mib"] = memory_mib
    cluster.write_file(MASTER, LAB_PILLAR, json.dumps(pillar))
    answers = apply(cluster, "*")
    assert {node: failed(states) for node, states in answers.items()} == {node: [] for node in cluster.names}


def salt_run(cluster: Cluster, verb: str) -> None:
    """`mnha.VERB` of the second VM, which must succeed."""
    done = cluster.run(MASTER, ["salt-run", f"mnha.{verb}", f"vm={SECOND}"], timeout_s=180)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def two(cluster: Cluster) -> Cluster:
    """The cluster with the second VM, stopped."""
    health.heal(cluster, links=True)
    image = cluster.settings.disk_image.with_name(f"{SECOND}.img")
    if not image.exists():
        disk.make(image, DISK_BYTES)
    configure(cluster, None, {})
    salt_run(cluster, "stop")
    return cluster


@pytest.fixture
def large(two: Cluster) -> Iterator[int]:
    """Both VMs have so many MiB, by the configuration; the MNVM that runs keeps what it has until its next start. At
    the end the second is stopped, and both are as large as before.
    """
    before = read_pillar(two.file(MASTER, LAB_PILLAR))["mnha"]["cluster"]["vms"][VM_NAME]["memory_mib"]
    memory_mib = int(SHARE * free_mib())
    configure(two, memory_mib, {})
    yield memory_mib
    health.undo(two)
    eventually(lambda: not health.missing_links(two), health.HEALTHY_S, "all minions are connected")
    salt_run(two, "stop")
    health.wait_healthy(two, links=True)
    configure(two, before, {})


def test_two_vms_whose_sum_does_not_fit_are_on_two_nodes_though_both_prefer_one(
    two: Cluster, scene: Scene, large: int, tell: Callable[[str], None]
) -> None:
    first = scene.holder
    configure(two, large, {SECOND: [first]})
    salt_run(two, "start")
    second = guards.wait_until_running(two, vm=SECOND)
    assert second != first, "there it does not fit beside the MNVM"
    third = next(name for name in two.names if name not in (first, second))

    configure(two, large, {VM_NAME: [first, second], SECOND: [second]})
    eventually(
        lambda: not guards.vm_status(two, second)["checks"]["memory"]["ok"], SEEN_S, "the guard counts what is promised"
    )
    _, status, printed = scene.salt_run(third, "status")
    assert status["vms"][VM_NAME]["candidates"] == [third], printed
    assert "memory" in status["vms"][VM_NAME]["rejected"][second], printed
    cut_s = scene.witness.mark("power cut", first, at_ns=two.poweroff(first))
    began = scene.witness.wait_for("QEMU began", 4 * TIMINGS.lease_s, after_s=cut_s)
    assert began.node == third
    assert guards.wait_until_running(two, but=first) == third
    assert guards.wait_until_running(two, vm=SECOND) == second
    tell(f"two VMs of {large} MiB: on {first} and {second}; {first} lost its power, its VM went to {third}")
    prove_second(two)


@pytest.fixture
def missing_image(two: Cluster) -> Iterator[None]:
    """The second VM is stopped, and its image is away."""
    salt_run(two, "stop")
    image = two.settings.disk_image.with_name(f"{SECOND}.img")
    away = image.with_name(f"{SECOND}.away")
    image.rename(away)
    yield
    away.rename(image)


@pytest.mark.usefixtures("missing_image")
def test_a_stopped_vm_without_its_image_keeps_nobody_from_taking_over_the_other(
    two: Cluster, scene: Scene, tell: Callable[[str], None]
) -> None:
    def told() -> list[dict[str, Any]]:
        return [guards.vm_status(two, name, SECOND)["checks"]["image"] for name in two.names]

    eventually(lambda: not any(one["ok"] for one in told()), SEEN_S, "every guard tells that the image is missing")
    assert all(guards.vm_status(two, name)["checks"]["image"]["ok"] for name in two.names)
    _, status, printed = scene.salt_run(scene.others[0], "status")
    assert sorted(status["vms"][VM_NAME]["candidates"]) == sorted(scene.others), printed
    assert status["vms"][SECOND]["candidates"] == [], printed
    cut_s = scene.witness.mark("power cut", scene.holder, at_ns=two.poweroff(scene.holder))
    scene.witness.wait_for("started", 4 * TIMINGS.lease_s, after_s=cut_s)
    moments = scene.witness.failover(cut_s)
    assert moments.expired_s is not None, scene.witness.table()
    assert moments.qemu_s is not None, scene.witness.table()
    assert moments.qemu_s - moments.expired_s < ORDERED_S, scene.witness.table()
    tell(f"a stopped VM's image missing: QEMU of the other began {moments.qemu_s:.2f} s after the power cut")
