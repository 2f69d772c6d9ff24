"""The disk of the holder's Consul server is full, and that server leads: no write gets through it any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab import guards
from mnha.timing import PROFILES
from tests.support.renewals import line
from tests.support.scene import Scene, eventually

from .test_quorum_leader import lead

TIMINGS = PROFILES["default"]
DATA = "/var/lib/mnha/consul"
KEPT = "/var/lib/mnha/consul-before"
LASTS_S = 40.0
AGAIN_S = 60.0


def shell(scene: Scene, text: str, *, check: bool = True) -> None:
    """A line of shell on the holder."""
    scene.cluster.run(scene.holder, ["sh", "-ec", text], check=check, timeout_s=60)


@pytest.fixture
def small_disk(scene: Scene) -> Iterator[None]:
    """The data of the holder's Consul server lie on a disk of 64 MiB of their own."""
    shell(
        scene,
        f"systemctl stop consul; mv {DATA} {KEPT}; mkdir {DATA}; mount -t tmpfs -o size=64m consul {DATA};"
        f" cp -a {KEPT}/. {DATA}; chown --reference={KEPT} {DATA}; systemctl start consul",
    )
    yield
    shell(
        scene,
        f"systemctl stop consul; rm -rf {DATA}/ballast {KEPT}/*; cp -a {DATA}/. {KEPT}; umount {DATA}; rmdir {DATA};"
        f" mv {KEPT} {DATA}; systemctl start consul",
    )


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_under_consuls_leader_costs_the_vm_at_most_a_restart_and_is_told(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    lead(scene, scene.holder)
    pid = scene.qemu_pid(scene.holder)
    before = scene.status(scene.holder)["renewals"]
    full_s = scene.witness.mark("disk full", scene.holder)
    shell(scene, f"dd if=/dev/zero of={DATA}/ballast bs=1M status=none", check=False)
    why = eventually(
        lambda: scene.guard(scene.holder)["checks"]["disk"]["why"],
        10,
        "the guard of the node tells that its disk is full",
    )
    assert f"{DATA} is full" in why
    eventually(lambda: scene.cluster.boottime() > full_s + LASTS_S, LASTS_S + 10, "some time")
    (runner,) = eventually(lambda: guards.runners(scene.cluster), AGAIN_S, "the VM runs")
    _, _, printed = scene.salt_run(scene.others[0], "status")
    assert f"{DATA} is full" in printed
    untouched = runner == scene.holder and scene.qemu_pid(runner) == pid
    figures = line(scene.status(scene.holder)["renewals"], before) if untouched else f"it runs on {runner}"
    tell(f"disk of Consul's leader full for {LASTS_S:g} s: VM {'untouched' if untouched else 'restarted'}; {figures}")
