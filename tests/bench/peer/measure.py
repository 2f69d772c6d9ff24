"""The same faults at the peer, measured by the same witnesses."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from lab.cluster import boottime_ns
from lab.witness import Witness
from tests.bench import usage
from tests.bench.bed import Round
from tests.bench.peer.pacemaker import PeerBed
from tests.bench.stats import Measure

QEMU_S = 120.0
GUEST_UP_S = 120.0
SERVICES = ("corosync", "pacemaker")
FENCE_ASKED, FENCED, QEMU, GUEST_UP = "fence_asked", "fenced", "qemu", "guest_up"
TITLES = {
    FENCE_ASKED: "fence device asked",
    FENCED: "fence device has answered",
    QEMU: "QEMU began",
    GUEST_UP: "guest's first heartbeat",
}


def lose_power(bed: PeerBed, witness: Witness, this: Round) -> None:
    """Cut the power of the node with the VM; done when the guest is up elsewhere."""
    holder = this.facts["holder"]
    cut_s = witness.mark("power cut", holder, at_ns=bed.cluster.poweroff(holder))
    _await_start(witness, this, cut_s)
    if requests := [request for request in bed.device.requests(cut_s) if request.victim == holder]:
        this.moments[FENCE_ASKED] = requests[0].asked_s - cut_s
        this.moments[FENCED] = requests[0].answered_s - cut_s


def crash(bed: PeerBed, witness: Witness, this: Round) -> None:
    """Kill QEMU; done when the guest is up again, wherever the peer starts it."""
    (life,) = witness.monitor.living()
    killed_s = witness.mark("SIGKILL to QEMU", life.node, at_ns=boottime_ns())
    os.kill(life.pid, signal.SIGKILL)
    _await_start(witness, this, killed_s)


def _await_start(witness: Witness, this: Round, zero_s: float) -> None:
    began = witness.wait_for("QEMU began", QEMU_S)
    this.moments[QEMU] = began.at_s - zero_s
    this.facts["new_node"] = began.node
    this.moments[GUEST_UP] = witness.wait_for("guest up", GUEST_UP_S).at_s - zero_s


def measures(name: str, rounds: Sequence[Round], moments: Sequence[str]) -> list[Measure]:
    """The rounds as figures."""
    found = []
    for moment in moments:
        values = tuple(r.moments[moment] for r in rounds if moment in r.moments)
        found.append(Measure(name, TITLES[moment], "s", values, missing=len(rounds) - len(values)))
    return found


def memory(bed: PeerBed, name: str) -> list[Measure]:
    """Resident memory of the peer's daemons, a value a node."""
    found = {
        service: [usage.memory(usage.pids(usage.service(node, service))) for node in bed.cluster.names]
        for service in SERVICES
    }
    measures = [
        Measure(name, f"{service}'s RSS a node", "MiB", tuple(value.rss_mib for value in values))
        for service, values in found.items()
    ]
    for kind in ("rss", "pss"):
        both = [sum(getattr(part, f"{kind}_mib") for part in parts) for parts in zip(*found.values(), strict=True)]
        measures.append(Measure(name, f"{kind.upper()} of both a node", "MiB", tuple(both)))
    return measures
