"""A VM whose disk is in Ceph, beside the MNVM: it starts, migrates and fails over, and an old client writes no more.

Ceph runs at the switch, reachable from the nodes over their storage network. It is gone after these tests, and the VM
stopped: what is wrong with its disk then is no matter of the MNVM.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import ceph, checker, guards, health, network
from lab.cluster import Cluster
from lab.guest_image import DISK_BYTES
from lab.pillar import CLUSTER_NAME, read_pillar
from lab.provision import MASTER
from lab.settings import GUEST_HOST, STORAGE_NET, SWITCH_HOST, VM_NAME
from mnha.daemon.adapters.rbd import CLIENT
from tests.support.scene import Scene, eventually

from ..cluster.test_provisioning import LAB_PILLAR, apply, failed

pytestmark = pytest.mark.nightly  # six minutes

VM = "inceph"
FENCER = "/etc/mnha/fencer.json"
START_S, GUEST_S = 60.0, 90.0
INTRUDER = """
import errno, sys, rados, rbd
cluster = rados.Rados(name="client.libvirt", conffile=sys.argv[1])
cluster.connect()
image = rbd.Image(cluster.open_ioctx("mn"), "inceph")
print("open", flush=True)
sys.stdin.readline()
try:
    image.write(b"intruder".ljust(512), 0)
    image.flush()
    print("written", flush=True)
except Exception as error:
    print("refused" if abs(getattr(error, "errno", 0)) == errno.ESHUTDOWN else repr(error), flush=True)
"""
"""Opens the image to write, and writes when it is told to."""


def with_vm(pillar: dict[str, Any], monitor: str) -> dict[str, Any]:
    """The lab's pillar with another VM that differs from the first in name, identity, address and disk only."""
    vms = pillar["mnha"]["cluster"]["vms"]
    text = json.dumps(vms[VM_NAME])
    for old, new in (
        ("6e766d0001", "6e766d0003"),
        ("6d:6e:01", "6d:6e:03"),
        (f'.{GUEST_HOST}"', f'.{GUEST_HOST + 2}"'),
    ):
        assert old in text
        text = text.replace(old, new)
    vms[VM] = json.loads(text)
    del vms[VM]["image"]
    vms[VM]["rbd"] = {"pool": ceph.POOL, "monitors": [monitor]}
    return pillar


@dataclass
class Site:
    """The cluster with the VM started, and its Ceph."""

    cluster: Cluster
    ceph: ceph.Ceph
    folder: Path

    def prove(self) -> None:
        """That no two instances of the VM overlapped so far, and nobody else wrote, by its own disk."""
        copy = self.folder / "copy"
        copy.unlink(missing_ok=True)
        self.ceph.rbd("export", f"{ceph.POOL}/{VM}", str(copy), "--no-progress")
        verdict = checker.check(copy, {})
        assert not [fault for fault in verdict.faults if "overlap" in fault or "record" in fault], verdict.text()
        assert verdict.instances, "its guest has written"

    def beats(self) -> int:
        """How many records there are on the disk."""
        copy = self.folder / "beats"
        copy.unlink(missing_ok=True)
        self.ceph.rbd("export", f"{ceph.POOL}/{VM}", str(copy), "--no-progress")
        return checker.check(copy, {}).records

    def reached(self) -> list[bool]:
        """Of each node, whether its guard finds the VM's disk well."""
        found = [guards.vm_status(self.cluster, node, VM)["checks"]["image"]["ok"] for node in self.cluster.names]
        return [bool(one) for one in found]

    def shut_out(self) -> list[str]:
        """The clients of Ceph's that were shut out, by the history."""
        done = self.cluster.run(
            MASTER, ["salt-run", "--out=json", "mnha.history", f"cluster={CLUSTER_NAME}", "limit=50"], check=True
        )
        events = json.loads(done.stdout)[CLUSTER_NAME]["history"]
        return [client for event in events if event["event"] == "shut out" for client in event["clients"]]

    def place(self, scene: Scene, node: str) -> None:
        """Have the VM run on that node."""
        if guards.wait_until_running(self.cluster, vm=VM) != node:
            code, _, text = scene.salt_run(MASTER, "migrate", node, f"vm={VM}", timeout_s=120)
            assert code == 0, text
        assert guards.wait_until_running(self.cluster, vm=VM) == node


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    health.heal(cluster, links=True)
    address, folder = f"{STORAGE_NET}.{SWITCH_HOST}", tmp_path_factory.mktemp("ceph")
    with ceph.running(folder / "ceph", address, ("nsenter", f"--net={network.NETNS}")) as store:
        store.make_image(VM, DISK_BYTES >> 20)
        key = store.make_user()
        cluster.write_file(
            MASTER, LAB_PILLAR, json.dumps(with_vm(read_pillar(cluster.file(MASTER, LAB_PILLAR)), address))
        )
        cluster.write_file(MASTER, "/root/ceph.key", f"{key}\n", 0o600)
        done = cluster.run(MASTER, ["salt-run", "mnha.ceph_key", "/root/ceph.key", f"vm={VM}"], timeout_s=60)
        assert done.returncode == 0, done.stdout + done.stderr
        answers = apply(cluster, "*")
        assert {node: failed(states) for node, states in answers.items()} == {node: [] for node in cluster.names}
        done = cluster.run(MASTER, ["salt-run", "mnha.start", f"vm={VM}"], timeout_s=120)
        assert done.returncode == 0, done.stdout + done.stderr
        found = Site(cluster, store, folder)
        eventually(found.beats, GUEST_S, "its guest writes")
        yield found
        cluster.run(MASTER, ["salt-run", "mnha.stop", f"vm={VM}"], timeout_s=180, check=True)


def test_the_key_is_where_it_has_to_be_and_nowhere_else(site: Site) -> None:
    key = site.ceph.ask("auth", "get-key", f"client.{ceph.USER}").strip()
    for node in site.cluster.names:
        text = site.cluster.run(node, ["cat", f"/etc/mnha/ceph/{VM}.keyring"], check=True).stdout
        assert key in text
        places = ["/etc", "/run", "/var/lib/mnha", "/var/lib/libvirt", "/var/log", "/srv/mnha"]
        lines = site.cluster.run(node, ["grep", "-rlF", "-D", "skip", key, *places]).stdout.splitlines()
        allowed = (f"/etc/mnha/ceph/{VM}.keyring", "/etc/libvirt/secrets/", "/etc/mnha/secrets/")
        assert [line for line in lines if not line.startswith(allowed)] == []
        for line in site.cluster.run(node, ["sh", "-c", f"find {' '.join(allowed)} -type f | xargs stat -c %a"],
                                     check=True).stdout.split():  # fmt: skip
            assert line.endswith("00"), line


def test_applied_again_nothing_changes(site: Site) -> None:
    for node, states in apply(site.cluster, "*", "states.mnvm").items():
        assert failed(states) == [], node
        assert {key: one["changes"] for key, one in states.items() if one["changes"]} == {}, node


def test_it_migrates_live_and_nobody_is_shut_out(site: Site, scene: Scene) -> None:
    before, node = site.ceph.blocklist(), guards.wait_until_running(site.cluster, vm=VM)
    target = next(name for name in site.cluster.names if name != node)
    site.place(scene, target)
    assert site.ceph.blocklist() == before
    count = site.beats()
    eventually(lambda: site.beats() > count, GUEST_S, "its guest writes on")
    site.prove()


def test_one_that_dies_starts_again_where_it_was_and_its_old_client_is_shut_out(
    site: Site, scene: Scene, tell: Callable[[str], None]
) -> None:
    node = guards.wait_until_running(site.cluster, vm=VM)
    (client,) = site.ceph.watchers(VM)
    killed = guards.vm_status(site.cluster, node, VM)["vm_pid"]
    began_s = site.cluster.boottime()
    site.cluster.run(node, ["kill", "-KILL", str(killed)], check=True)
    eventually(lambda: guards.vm_status(site.cluster, node, VM)["vm_pid"] not in (None, killed), START_S, "again")
    tell(f"a VM in Ceph, killed: QEMU again after {site.cluster.boottime() - began_s:.2f} s")
    assert client in site.ceph.blocklist()
    eventually(lambda: site.ceph.watchers(VM), GUEST_S, "it has its disk open")
    site.prove()


def test_its_node_loses_power_and_it_runs_elsewhere(site: Site, scene: Scene, tell: Callable[[str], None]) -> None:
    site.place(scene, scene.others[0])
    eventually(lambda: site.ceph.watchers(VM), GUEST_S, "it has its disk open")
    (client,) = site.ceph.watchers(VM)
    began_s = site.cluster.boottime()
    site.cluster.poweroff(scene.others[0])
    node = guards.wait_until_running(site.cluster, but=scene.others[0], vm=VM)
    tell(f"a VM in Ceph, power cut: runs elsewhere after {site.cluster.boottime() - began_s:.2f} s")
    assert node != scene.others[0]
    assert client in site.ceph.blocklist()
    eventually(lambda: client in site.shut_out(), 20, "the history tells who was shut out")
    count = site.beats()
    eventually(lambda: site.beats() > count, GUEST_S, "its guest writes")
    site.prove()


@contextlib.contextmanager
def without_watchdog(cluster: Cluster, node: str) -> Iterator[None]:
    """A node whose fencer uses none: what stands still there comes back."""
    text = cluster.file(node, FENCER).read_text()
    cluster.write_file(node, FENCER, json.dumps({**json.loads(text), "watchdog": "off"}), 0o600)
    cluster.run(node, ["systemctl", "restart", "mnha-fencer"], check=True)
    eventually(lambda: guards.ask(cluster, node, "status")["result"]["watchdog"]["mode"] == "off", 20, "it is off")
    try:
        yield
    finally:
        cluster.write_file(node, FENCER, text, 0o600)
        cluster.run(node, ["systemctl", "restart", "mnha-fencer"], check=True)


def test_a_node_that_stood_still_comes_back_and_nothing_on_it_writes_to_the_disk(site: Site, scene: Scene) -> None:
    """Neither the VM, which its fencer kills, nor another client there that had opened the image before."""
    node = scene.others[0]
    site.place(scene, node)
    with without_watchdog(site.cluster, node):
        words = ["/usr/bin/python3", "-I", "-c", INTRUDER, f"/etc/mnha/ceph/{VM}.conf"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        intruder = site.cluster.popen(node, words, **pipes)
        assert intruder.stdout
        assert intruder.stdin
        assert intruder.stdout.readline() == "open\n"
        clients = set(site.ceph.watchers(VM))
        assert len(clients) == 2
        site.cluster.freeze(node)
        try:
            assert guards.wait_until_running(site.cluster, but=node, vm=VM) != node
            assert clients <= set(site.ceph.blocklist())
        finally:
            site.cluster.thaw(node)
        intruder.stdin.write("\n")
        intruder.stdin.flush()
        assert intruder.stdout.readline() == "refused\n"
        intruder.kill()
        intruder.wait()
        count = site.beats()
        eventually(lambda: site.beats() > count, GUEST_S, "its guest writes")
        site.prove()


def test_a_ceph_that_does_not_answer_keeps_no_node_from_running_the_other_vm(site: Site, scene: Scene) -> None:
    site.ceph.pause_daemon("osd")
    try:
        eventually(lambda: not any(site.reached()), 30, "it is told by all nodes")
        assert health.ailments(site.cluster) == []
    finally:
        site.ceph.resume_daemon("osd")
    eventually(lambda: all(site.reached()), 60, "all nodes find it well again")


def test_the_program_that_asks_ceph_is_the_one_of_this_tree(site: Site) -> None:
    """Else these tests would tell of another."""
    path = f"/usr/lib/mnha/mnha/daemon/adapters/{CLIENT.name}"
    installed = site.cluster.run(MASTER, ["cat", path], check=True).stdout
    assert installed == CLIENT.read_text(encoding="utf-8")
