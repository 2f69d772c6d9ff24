"""The lab's cluster for the tests of this folder: real Salt, Consul, libvirt, QEMU and guards on three nodes.

Needs root; takes a minute to come up and some seconds a test. Every test begins with three healthy nodes and a running
MNVM, and ends with the proof, from the guest's disk, all consoles and the kernel's processes, that no two instances
ever overlapped.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import checker, guards
from lab.cluster import Cluster
from lab.provision import CLUSTER_NAME
from lab.settings import LabError
from lab.witness import Witness

SERVICES = ("consul", "libvirtd", "salt-master", "salt-minion", "mnha-guard")
HEALTHY_S = 120.0


def eventually(question: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Wait until `question` returns something true, and return that."""
    end = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(LabError):
            if answer := question():
                return answer
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.2)


class Scene:
    """A healthy cluster with a running MNVM, and what a test does to it."""

    def __init__(self, cluster: Cluster, witness: Witness) -> None:
        self.cluster, self.witness = cluster, witness
        self.holder = guards.wait_until_running(cluster)
        self.others = [name for name in cluster.names if name != self.holder]

    def salt_run(self, node: str, verb: str, *arguments: str, timeout_s: float = 60) -> tuple[int, dict[str, Any], str]:
        """Type `salt-run mnha.VERB` on a node: exit code, data, and everything it printed."""
        words = ["salt-run", "--out=json", f"mnha.{verb}", *arguments]
        done = self.cluster.run(node, words, timeout_s=timeout_s)
        try:
            data = json.loads(done.stdout)
        except ValueError:
            data = {}
        return done.returncode, data.get(CLUSTER_NAME, data), done.stdout + done.stderr

    def status(self, node: str) -> dict[str, Any]:
        """What a node's guard says of the MNVM."""
        return guards.vm_status(self.cluster, node)

    def qemu_pid(self, node: str) -> int:
        """The MNVM's process on a node, as the node numbers it."""
        return int(self.status(node)["vm_pid"])


def heal(cluster: Cluster) -> None:
    """Whatever a test did: power, network, daemons, wish; until all is well again."""
    for name in cluster.names:
        if not cluster.node(name).is_on():
            cluster.poweron(name)
        cluster.thaw(name)
        cluster.heal(name)
    for name in cluster.names:
        cluster.run(name, ["systemctl", "start", *SERVICES], timeout_s=120)
    eventually(lambda: is_healthy(cluster), HEALTHY_S, "three healthy nodes and a running MNVM")


def is_healthy(cluster: Cluster) -> bool:
    """Three nodes ready, exactly one with the MNVM."""
    running = []
    for name in cluster.names:
        answer = guards.ask(cluster, name, "status")["result"]
        if not all(check["ok"] for check in answer["checks"].values()) or not answer["consul"]["known_leader"]:
            return False
        vm = answer["vms"]["mnvm"]
        if vm["vm"] == "running" and vm["state"] == "holding":
            running.append(name)
        elif vm["state"] != "candidate":
            return False
    return len(running) == 1


LOGS = (
    ("guard", ["journalctl", "-u", "mnha-guard", "-o", "short-monotonic", "--no-pager", "-n", "60"]),
    ("minion", ["tail", "-n", "30", "/var/log/salt/minion"]),
    ("master", ["tail", "-n", "30", "/var/log/salt/master"]),
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed test shows what the nodes say of it."""
    report = yield
    scene = item.funcargs.get("scene") if isinstance(item, pytest.Function) else None
    if report.failed and scene is not None:
        report.sections.append(("events", scene.witness.table()))
        with contextlib.suppress(LabError):  # there may be no cluster any more
            report.sections += [
                (f"{node}: {name}", scene.cluster.run(node, words).stdout)
                for node in scene.cluster.names
                for name, words in LOGS
            ]
    return report


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three provisioned nodes, the MNVM started by the operator's verb."""
    made = Cluster()
    try:
        made.up()
        done = made.run(made.names[0], ["salt-run", "mnha.start", f"cluster={CLUSTER_NAME}"], timeout_s=120)
        assert done.returncode == 0, done.stdout + done.stderr
        yield made
    finally:
        made.down()


@pytest.fixture
def scene(cluster: Cluster) -> Iterator[Scene]:
    """See the module's docstring."""
    heal(cluster)
    with Witness(cluster) as witness:
        yield Scene(cluster, witness)
        heal(cluster)
    assert witness.monitor.overlaps() == [], witness.table()
    assert not [event for event in witness.events() if event.kind == "overlap"], witness.table()
    verdict = checker.check(cluster.settings.disk_image, cluster.consoles())
    assert verdict.ok, verdict.text()
