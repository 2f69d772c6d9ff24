"""The product removed from all nodes by an operator's verb, one of them away at first, and installed by another."""

from __future__ import annotations

import pytest

from lab import guards
from lab.cluster import Cluster
from lab.provision import MASTER, await_links
from lab.settings import IMAGE_FOLDER
from tests.support.scene import Scene, eventually

GONE = (
    "/usr/bin/zsha", "/usr/bin/consul", "/usr/lib/mnha/mnha", "/opt/mnha",
    "/var/lib/mnha/consul", "/var/lib/mnha/seeds",
    "/etc/mnha/guard.json", "/etc/mnha/fencer.json", "/etc/mnha/cluster.json", "/etc/mnha/domains",
    *(f"/etc/mnha/{name}" for name in ("consul", "tokens", "tls", "libvirt")),
    *(f"/etc/systemd/system/{name}.service" for name in ("mnha-guard", "mnha-fencer", "consul")),
)  # fmt: skip
UNITS = ("mnha-guard", "mnha-fencer", "consul", "libvirtd-tls.socket")
IN_EARNEST = "yes_i_really_really_mean_it=True"


def left(cluster: Cluster, node: str) -> set[str]:
    """What of the product is on a node: its files, its units that run, its domains."""
    active = f"for unit in {' '.join(UNITS)}; do systemctl -q is-active $unit && echo $unit; done"
    shell = f"ls -d {' '.join(GONE)} 2>/dev/null; {active}; virsh -q list --all --name"
    found = cluster.run(node, ["sh", "-c", shell], timeout_s=30).stdout
    return {line for line in found.splitlines() if line.strip()}


@pytest.mark.nightly
def test_what_was_removed_from_all_nodes_is_installed_anew(scene: Scene) -> None:
    cluster, away = scene.cluster, scene.cluster.names[-1]
    image = ["stat", "--format=%i %s", f"{IMAGE_FOLDER}/mnvm.img"]
    inode = cluster.run(MASTER, image, check=True).stdout
    before = {node: left(cluster, node) for node in cluster.names}

    code, told, printed = scene.salt_run(MASTER, "uninstall", IN_EARNEST, timeout_s=120)
    assert (code, "nothing was removed: mnvm runs on" in told["comment"]) == (1, True), printed
    code, _, printed = scene.salt_run(MASTER, "stop", timeout_s=240)
    assert code == 0, printed
    code, told, printed = scene.salt_run(MASTER, "uninstall", timeout_s=120)
    assert (code, sorted(told["removed"]), told["faults"]) == (1, cluster.names, {}), printed
    assert {node: left(cluster, node) for node in cluster.names} == before, "without the word nothing is removed"

    cluster.run(away, ["systemctl", "stop", "salt-minion"], check=True)
    code, told, printed = scene.salt_run(MASTER, "uninstall", IN_EARNEST, timeout_s=240)
    assert (code, list(told["faults"])) == (1, [away]), printed
    assert {node: left(cluster, node) for node in cluster.names} == {
        node: before[away] if node == away else set() for node in cluster.names
    }
    assert guards.runners(cluster) == []

    cluster.run(away, ["systemctl", "start", "salt-minion"], check=True)
    await_links(cluster)
    code, told, printed = scene.salt_run(MASTER, "uninstall", IN_EARNEST, timeout_s=240)
    assert (code, list(told["removed"])) == (0, [away]), printed
    assert left(cluster, away) == set()
    assert cluster.run(MASTER, image, check=True).stdout == inode
    await_links(cluster)

    code, told, printed = scene.salt_run(MASTER, "install", "test=True", timeout_s=120)
    assert code == 0, printed
    assert told["comment"].startswith("0 secrets would be made")
    code, told, printed = scene.salt_run(MASTER, "install", timeout_s=400)
    assert code == 0, printed
    await_links(cluster)
    eventually(lambda: len(guards.runners(cluster)) == 1, 60, "one node runs the VM")
    eventually(lambda: scene.salt_run(MASTER, "status")[0] == 0, 60, "all is well")
