"""`systemctl reboot` on the node that runs the VM: the guest goes on elsewhere, or is shut down cleanly, and never
loses its power. The lease is handed over or given back: nobody waits for its expiry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab import guards
from mnha.core.timing import PROFILES
from mnha.host.libvirtd import PKI_FOLDER
from tests.integration.cluster.test_migration import ONCE_MORE, same_guest
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]

pytestmark = pytest.mark.nightly  # a node boots

KEY = f"{PKI_FOLDER}/clientkey.pem"
BOOT_S = 60.0


def reboot(scene: Scene) -> float:
    """Reboot the holder; returns when it is back, with the moment of the order, CLOCK_BOOTTIME in s."""
    ordered_s = scene.witness.mark("reboot", scene.holder)
    scene.cluster.reboot(scene.holder)
    eventually(lambda: scene.status(scene.holder)["state"] == "standby", BOOT_S, "the node is a candidate again")
    return ordered_s


def goodbyes(scene: Scene) -> int:
    """How often the guest has said on the holder's console that it shuts down."""
    return scene.cluster.console(scene.holder).read_text(errors="replace").count("mnha-guest DOWN")


@ONCE_MORE
def test_the_vm_of_a_node_that_reboots_is_migrated_away(scene: Scene, tell: Callable[[str], None]) -> None:
    epoch = scene.status(scene.holder)["lease"]["epoch"]
    with same_guest(scene):
        ordered_s = reboot(scene)
    (runner,) = guards.runners(scene.cluster)
    assert runner in scene.others
    assert scene.status(runner)["lease"]["epoch"] == epoch + 1
    assert scene.status(runner)["came_by"] == "migration"
    moved = scene.witness.first("QEMU resumed", ordered_s, runner)
    assert moved, scene.witness.table()
    tell(f"the holder reboots: its VM went on on {runner} {moved.at_s - ordered_s:.1f} s after the order")


@pytest.fixture
def immovable(scene: Scene) -> Iterator[None]:
    """The holder can migrate nothing away: its libvirt has no key."""
    scene.cluster.run(scene.holder, ["mv", KEY, f"{KEY}.away"], check=True)
    yield
    scene.cluster.run(scene.holder, ["mv", f"{KEY}.away", KEY], check=True)
    eventually(
        lambda: scene.guard(scene.holder)["checks"]["libvirt"]["ok"], BOOT_S, "libvirtd, which could not start, has"
    )


@pytest.mark.usefixtures("immovable")
def test_a_vm_that_can_not_be_migrated_is_shut_down_and_started_elsewhere_at_once(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    said, epoch = goodbyes(scene), scene.status(scene.holder)["lease"]["epoch"]
    ordered_s = reboot(scene)
    assert goodbyes(scene) == said + 1, "the guest was shut down, and knew it"
    gone = scene.witness.first("QEMU ended", ordered_s, scene.holder)
    assert gone, scene.witness.table()
    started = scene.witness.wait_for("started", 2 * TIMINGS.lease_s, after_s=gone.at_s)
    assert started.node in scene.others
    assert scene.status(started.node)["lease"]["epoch"] == epoch + 1
    assert scene.witness.first("killed", ordered_s) is None, scene.witness.table()
    assert started.at_s - gone.at_s < TIMINGS.lease_s, scene.witness.table()
    tell(
        f"the holder reboots and can't migrate: QEMU ended {gone.at_s - ordered_s:.1f} s, started on {started.node} "
        f"{started.at_s - ordered_s:.1f} s after the order"
    )
