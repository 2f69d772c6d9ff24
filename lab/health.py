"""Whether the product on a cluster is well, and how a test or a benchmark makes it so again.

Well means: every guard answers and finds nothing wrong on its node, Consul has a leader, exactly one node holds the
lease and runs the VM, all others are candidates; and, where asked, every minion is connected to every master.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

from lab import cgroups, guards, storage
from lab.cluster import Cluster
from lab.settings import VM_NAME, LabError

SERVICES = ("consul", "libvirtd", "salt-master", "salt-minion", "mnha-fencer", "mnha-guard")
HEALTHY_S = 120.0
PUBLISHER_PORT = 4505


def heal(cluster: Cluster, timeout_s: float = HEALTHY_S, *, links: bool = False) -> None:
    """Undo whatever was done to the cluster (power, freezes, cuts, valves, daemons) and wait until all is well again.

    :param links: also wait for the connections between all minions and all masters.
    :raises LabError: it does not get well; the message lists what is wrong.
    """
    undo(cluster)
    wait_healthy(cluster, timeout_s, links=links)


def undo(cluster: Cluster) -> None:
    """Undo whatever was done to the cluster: every node is on and ready, every daemon started, nothing cut or delayed.

    :raises LabError: a node does not come up, or a daemon does not start.
    """
    for name in cluster.names:
        if storage.is_there(name):  # what has files open behind the valve would not let it go
            cluster.poweroff(name)
        if not cluster.node(name).is_on():
            cluster.poweron(name, wait=False)
        if cgroups.is_frozen(name):
            cluster.thaw(name)
        cluster.heal(name)

    def start(name: str) -> None:
        cluster.node(name).wait_ready()  # its watchdog may have reset it
        cluster.run(name, ["systemctl", "kill", "--signal=CONT", *SERVICES])
        cluster.run(name, ["systemctl", "start", *SERVICES], timeout_s=120, check=True)

    with ThreadPoolExecutor(len(cluster.names)) as nodes:
        list(nodes.map(start, cluster.names))


def accept_disk(cluster: Cluster, vm: str = VM_NAME) -> None:
    """Let a VM that is off start from its image again, where it last wrote to something else: a test that has failed
    left it so. No part of :func:`undo`, which also ends what went well, and must not hide a record that is wrong.
    """
    with contextlib.suppress(LabError, KeyError):
        if not guards.vm_status(cluster, cluster.names[0], vm)["checks"]["overlay"]["ok"]:
            guards.ask(cluster, cluster.names[0], "accept_disk", vm=vm)  # refused while it runs


def wait_healthy(cluster: Cluster, timeout_s: float = HEALTHY_S, *, links: bool = False) -> None:
    """Wait until nothing is wrong.

    :raises LabError: something still is; the message lists it.
    """
    end = time.monotonic() + timeout_s
    while True:
        wrong = ailments(cluster) or (missing_links(cluster) if links else [])
        if not wrong:
            return
        if time.monotonic() > end:
            raise LabError(f"the cluster is not well after {timeout_s:g} s: {'; '.join(wrong)}")
        time.sleep(0.2)


def ailments(cluster: Cluster, vm: str = VM_NAME) -> list[str]:
    """What keeps the cluster from being well, a sentence each; empty if it is."""
    wrong: list[str] = []
    running: list[str] = []
    for name in cluster.names:
        try:
            status = guards.ask(cluster, name, "status")["result"]
        except LabError as error:
            wrong.append(str(error))
            continue
        except KeyError:
            wrong.append(f"the guard of {name} does not tell its status")
            continue
        checks = {**status["checks"], **status["vms"][vm]["checks"]}
        bad = [f"{check}: {found['why']}" for check, found in checks.items() if not found["ok"]]
        wrong += [f"{name}: {text}" for text in bad]
        if not status["consul"]["known_leader"]:
            wrong.append(f"{name}: Consul has no leader")
        state = status["vms"][vm]
        if state["state"] == "running" and state["vm"] == "running":
            running.append(name)
        elif state["state"] != "standby":
            wrong.append(f"{name}: {state['sentence']}")
    if not wrong and len(running) != 1:
        wrong.append(f"{vm} runs on {' and '.join(running) or 'no node'}")
    return wrong


def missing_links(cluster: Cluster) -> list[str]:
    """Which nodes have not a connection each, as minion to all masters and as master from all minions.

    Both ends are asked: after a power loss the other end believes in a connection that no longer is.
    """
    wanted = len(cluster.names)
    wrong: list[str] = []
    for name in cluster.names:
        for side, role in (("dport", "minion"), ("sport", "master")):
            peers: set[str] = set()
            with contextlib.suppress(LabError):
                words = ["ss", "-Htn", "state", "established", side, "=", f":{PUBLISHER_PORT}"]
                lines = cluster.run(name, words, timeout_s=10).stdout.splitlines()
                peers = {line.split()[-1].rsplit(":", 1)[0] for line in lines}
            if len(peers) < wanted:
                wrong.append(f"{name} as {role} is connected to {len(peers)} of {wanted}")
    return wrong
