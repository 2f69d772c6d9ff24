"""The guest has the addresses of the node that it runs at: from its seed when it boots, by its agent when it has come
over while it ran. Each node has another subnet for it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from lab import guards
from lab.settings import GUEST_PORT, VM_NAME
from mnha.guest.addresses import TOLD_FILE
from tests.integration.cluster.test_guest_password import agent
from tests.integration.cluster.test_migration import MIGRATION_S, ONCE_MORE
from tests.support.scene import Scene, eventually

BOOT_S = 60.0
SOON_S = 15.0


def address(scene: Scene, node: str) -> str:
    return next(plan.guest for plan in scene.cluster.plans if plan.name == node)


def page(scene: Scene, node: str) -> str:
    """What the guest's web server gives at the address that it is to have at a node; it differs from boot to boot."""
    url = f"http://{address(scene, node)}:{GUEST_PORT}/"
    return scene.cluster.in_switch(["curl", "-s", "--max-time", "3", url]).stdout


def booted_with(scene: Scene, node: str) -> str:
    """The address that the guest had from its seed when it booted last at a node."""
    lines = scene.cluster.consoles()[node].read_text(errors="replace").splitlines()
    return [line for line in lines if "mnha-guest UP" in line][-1].rpartition("address=")[2].strip()


def own_addresses(scene: Scene, node: str) -> list[str]:
    """The guest's IPv4 addresses, as its agent tells them."""
    told = agent(scene.cluster, node, "guest-network-get-interfaces")
    found: list[dict[str, Any]] = [one for device in told for one in device.get("ip-addresses", ())]
    return [one["ip-address"] for one in found if one["ip-address-type"] == "ipv4" and one["ip-address"] != "127.0.0.1"]


def told_in_the_guest(scene: Scene, node: str) -> dict[str, Any]:
    """What the guest knows of the node that it runs at."""
    handle = agent(scene.cluster, node, "guest-file-open", path=TOLD_FILE)
    text = agent(scene.cluster, node, "guest-file-read", handle=handle)["buf-b64"]
    agent(scene.cluster, node, "guest-file-close", handle=handle)
    return dict(json.loads(base64.b64decode(text)))


def await_address(scene: Scene, node: str, limit_s: float) -> float:
    """Wait until the guest answers at its address of a node, and has no other; after how many seconds."""
    began_s = scene.cluster.boottime()
    eventually(lambda: scene.guest_answers(node), limit_s, f"the guest answers at {address(scene, node)}")
    took_s = scene.cluster.boottime() - began_s
    eventually(lambda: scene.status(node)["guest"] == {"why": "", "set": True}, BOOT_S, "the guard has seen it")
    assert own_addresses(scene, node) == [address(scene, node)]
    assert told_in_the_guest(scene, node) == {
        "vm": VM_NAME, "node": node, "dns": [], "console_address": address(scene, node),
    }  # fmt: skip
    return took_s


@ONCE_MORE
def test_the_guest_has_its_nodes_address_after_a_migration_a_reboot_and_a_power_cut(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    first, second = scene.holder, scene.others[0]
    await_address(scene, first, BOOT_S)

    code, _, printed = scene.salt_run(first, "migrate", second, timeout_s=MIGRATION_S)
    assert code == 0, printed + scene.witness.table()
    moved_s = await_address(scene, second, SOON_S)
    assert not scene.guest_answers(first)

    before = page(scene, second)
    assert before.startswith("boot ")
    scene.cluster.run(second, ["virsh", "reboot", VM_NAME, "--mode", "agent"], check=True)
    eventually(lambda: page(scene, second) not in ("", before), BOOT_S, "it has booted, and answers at its address")
    assert booted_with(scene, second) == f"{address(scene, second)}/24"
    await_address(scene, second, SOON_S)

    scene.witness.mark("power cut", second, at_ns=scene.cluster.poweroff(second))
    third = guards.wait_until_running(scene.cluster, but=second)
    failed_over_s = await_address(scene, third, BOOT_S)
    assert booted_with(scene, third) == f"{address(scene, third)}/24"
    tell(f"the guest answers {moved_s:.1f} s after a migration's end, {failed_over_s:.1f} s after its start elsewhere")
