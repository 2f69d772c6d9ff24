"""`make demo`: from a bare machine to a failover that one can watch, and back."""

from __future__ import annotations

import time

from lab import checker, guards, provision
from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.settings import VM_NAME, LabError
from lab.shell import say
from lab.witness import Witness

GUEST_UP_S = 120.0
FAILOVER_S = 60.0
DEGRADED = 1
"""The exit code of a status while a node is down."""


def demo(cluster: Cluster) -> int:
    """Runs the whole demonstration; the exit code says whether the failover worked and no two instances overlapped."""
    began = time.monotonic()
    try:
        provision.up(cluster)
        verdict = _play(cluster)
    finally:
        say("cleaning up")
        cluster.down()
    say(f"done in {time.monotonic() - began:.0f} s")
    return 0 if verdict else 1


def _play(cluster: Cluster) -> bool:
    """Start the MNVM, cut its node's power, watch."""
    first = cluster.names[0]
    with Witness(cluster) as witness:
        began_s = witness.mark("start ordered", first)
        _verb(cluster, first, "start")
        say("waiting for the guest's first heartbeat")
        witness.wait_for("guest up", GUEST_UP_S, after_s=began_s)
    _verb(cluster, first, "status")
    holder = guards.wait_until_running(cluster)
    say(f"cutting the power of {holder}, which runs {VM_NAME}")
    print()
    with Witness(cluster, tell=lambda line: print(line, flush=True)) as witness:
        witness.mark("power cut", holder, at_ns=cluster.poweroff(holder))
        witness.wait_for("started", FAILOVER_S)
        witness.wait_for("guest up", GUEST_UP_S)
        overlaps = witness.monitor.overlaps()
    print()
    survivor = next(name for name in cluster.names if name != holder)
    _verb(cluster, survivor, "status", DEGRADED)
    _verb(cluster, survivor, "history")
    verdict = checker.check(cluster.settings.disk_image, cluster.consoles())
    print(verdict.text())
    return verdict.ok and not overlaps


def _verb(cluster: Cluster, node: str, verb: str, expected: int = 0) -> None:
    """Type an operator's command, and show it with its output.

    :param expected: its exit code.
    :raises LabError: it ends with another one.
    """
    words = ["salt-run", f"mnha.{verb}", f"cluster={CLUSTER_NAME}"]
    print(f"\n{node}# {' '.join(words)}", flush=True)
    done = cluster.run(node, words, timeout_s=120)
    print(done.stdout.rstrip(), flush=True)
    if done.returncode != expected:
        raise LabError(f"`{' '.join(words)}` ended with {done.returncode}: {done.stderr.strip()}")
