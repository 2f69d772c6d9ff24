"""Faults of the product's holder, and how long it takes until the VM is dead, or runs again.

All moments are CLOCK_BOOTTIME, in seconds since the fault; docs/benchmarks.md defines each of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab import guards
from lab.cluster import boottime_ns
from lab.settings import MGMT, STORAGE, LabError
from lab.shell import wait_until
from lab.witness import Witness
from mnha.core.timing import Timings
from tests.bench.bed import Bed, Round
from tests.bench.stats import Measure, Target
from tests.support.pulse import Pulse

STARTED_S = 60.0
GUEST_UP_S = 90.0
ELECTIONS = 4
ELECTION_S = 15.0

QEMU, EXPIRED, TAKEN, STARTED, GUEST_UP, OLD_DEAD = "qemu", "expired", "taken", "started", "guest_up", "old_dead"
EXPIRED_TO_QEMU = "expired_to_qemu"
STANDSTILL = "standstill"
EVACUATION_S = 60.0
BEATS_S = 2.0
"""For some heartbeats at the new place: the lab's guest writes five a second."""

TITLES = {
    EXPIRED: "lease expired",
    TAKEN: "lease taken",
    QEMU: "QEMU began",
    STARTED: "libvirt reports it running",
    GUEST_UP: "guest's first heartbeat",
    EXPIRED_TO_QEMU: "lease expired → QEMU began",
    OLD_DEAD: "old VM dead",
    STANDSTILL: "longest time between two heartbeats",
}


@dataclass(frozen=True)
class Fault:
    """A benchmark in rounds: what is done, which moments it must yield, and the targets among them."""

    name: str
    run: Callable[[Bed, Witness, Round], None]
    moments: tuple[str, ...]
    targets: Callable[[Timings, str], dict[str, tuple[Target, ...]]]
    before: Callable[[Bed, int], None] | None = None
    by_leader: tuple[str, ...] = ()
    """Moments that are shown once more for those rounds in which the holder was Consul's leader, and for the others."""

    def measures(self, rounds: Sequence[Round], timings: Timings, profile: str) -> list[Measure]:
        """The rounds as figures; a moment that a round has not is missing there."""
        targets, title = self.targets(timings, profile), name_of(self.name, profile)
        found = []
        for moment in self.moments:
            values = tuple(r.moments[moment] for r in rounds if moment in r.moments)
            missing = len(rounds) - len(values)
            found.append(Measure(title, TITLES[moment], "s", values, targets.get(moment, ()), missing))
        for moment in self.by_leader:
            for was_leader, what in ((True, "holder led Consul"), (False, "holder did not lead Consul")):
                of_kind = [r for r in rounds if r.facts.get("holder_was_leader") is was_leader]
                values = tuple(r.moments[moment] for r in of_kind if moment in r.moments)
                found.append(Measure(title, f"{TITLES[moment]}, {what}", "s", values))
        return found


def name_of(name: str, profile: str) -> str:
    """A benchmark's name in the results: with the profile, unless that is the default one."""
    return name if profile == "default" else f"{name}_{profile}"


def lose_power(bed: Bed, witness: Witness, this: Round) -> None:
    """Cut the holder's power; done when the guest is up elsewhere."""
    holder = this.facts["holder"]
    cut_s = witness.mark("power cut", holder, at_ns=bed.cluster.poweroff(holder))
    await_takeover(witness, this, cut_s)


def cut_storage(bed: Bed, witness: Witness, this: Round) -> None:
    """Cut the holder off the storage network; done when the guest is up elsewhere."""
    holder = this.facts["holder"]
    cut_s = witness.mark("storage cut", holder, at_ns=bed.cluster.cut(holder, STORAGE))
    await_takeover(witness, this, cut_s)


def cut_management(bed: Bed, witness: Witness, this: Round) -> None:
    """Cut the holder off the management network; done when the VM has been migrated to another node.

    In the lab nobody answers any more; a bond without carrier is noticed 3.5 s earlier.
    """
    holder = this.facts["holder"]
    with Pulse(bed.cluster.settings.disk_image) as pulse:
        cut_s = witness.mark("management cut", holder, at_ns=bed.cluster.cut(holder, MGMT))
        began = witness.wait_for("QEMU began", EVACUATION_S, after_s=cut_s)
        started = witness.wait_for(STARTED, STARTED_S, after_s=cut_s)
        dead = witness.wait_for("QEMU ended", STARTED_S, after_s=cut_s)
        time.sleep(BEATS_S)
        if len(pulse.boots) != 1:
            raise LabError(f"the guest has booted\n{witness.table()}")
        this.moments[STANDSTILL] = pulse.longest_gap_s(cut_s)
    this.facts["new_node"] = began.node
    this.moments |= {QEMU: began.at_s - cut_s, STARTED: started.at_s - cut_s, OLD_DEAD: dead.at_s - cut_s}


def await_takeover(witness: Witness, this: Round, cut_s: float) -> None:
    """Wait until the VM is up again, and note the moments; those that were seen also when it does not get so far."""
    try:
        witness.wait_for(STARTED, STARTED_S)
        witness.wait_for("guest up", GUEST_UP_S)
    finally:
        seen = witness.failover(cut_s)
        moments = {
            OLD_DEAD: seen.old_dead_s, EXPIRED: seen.expired_s, TAKEN: seen.taken_s, QEMU: seen.qemu_s,
            STARTED: seen.started_s, GUEST_UP: seen.beat_s,
        }  # fmt: skip
        this.moments = {name: value for name, value in moments.items() if value is not None}
        if seen.expired_s is not None and seen.qemu_s is not None:
            this.moments[EXPIRED_TO_QEMU] = seen.qemu_s - seen.expired_s
        this.facts["new_node"] = seen.new_node


def choose_leader(bed: Bed, number: int) -> None:
    """In odd rounds the holder shall lead Consul, in even ones not; as far as elections favour it within some tries.

    Consul 1.8 cannot be told who shall lead; but when the leader's server is restarted, another one is elected.
    """
    for _ in range(ELECTIONS):
        bed.heal()
        holder, leader = guards.wait_until_running(bed.cluster), bed.consul_leader()
        if not leader or (holder == leader) == (number % 2 == 1):
            return
        others = set(bed.cluster.names) - {leader}
        bed.cluster.run(leader, ["systemctl", "restart", "consul"], check=True)
        with contextlib.suppress(LabError):  # it may be elected again itself
            wait_until(lambda others=others: bed.consul_leader() in others, ELECTION_S, "another leader", every_s=0.5)


def forget_crashes(bed: Bed, _number: int) -> None:
    """Replace the guards by fresh ones; the VM is not touched.

    They count crashes and let each further one within ten minutes wait longer: the rounds would not be alike.
    """
    for name in bed.cluster.names:
        bed.cluster.run(name, ["systemctl", "reload", "mnha-guard"], check=True)


def crash(bed: Bed, witness: Witness, this: Round) -> None:
    """Kill QEMU; done when the guest is up again on the same node."""
    (life,) = witness.monitor.living()
    killed_s = witness.mark("SIGKILL to QEMU", life.node, at_ns=boottime_ns())
    os.kill(life.pid, signal.SIGKILL)
    again = witness.wait_for("QEMU began", STARTED_S)
    this.facts["new_node"] = again.node
    if again.node != life.node:
        raise LabError(f"it was started on {again.node}, not in place\n{witness.table()}")
    this.moments[QEMU] = again.at_s - killed_s
    if dead := witness.first("QEMU ended", killed_s):
        this.moments[OLD_DEAD] = dead.at_s - killed_s
    this.moments[STARTED] = witness.wait_for(STARTED, STARTED_S).at_s - killed_s
    this.moments[GUEST_UP] = witness.wait_for("guest up", GUEST_UP_S).at_s - killed_s


def _power_loss_targets(timings: Timings, profile: str) -> dict[str, tuple[Target, ...]]:
    whole = {"default": (Target("median", 9.0), Target("max", 12.0)), "fast": (Target("median", 6.0),)}
    return {QEMU: whole[profile], EXPIRED_TO_QEMU: (Target("median", 1.5),)}


def _storage_cut_targets(timings: Timings, profile: str) -> dict[str, tuple[Target, ...]]:
    return {OLD_DEAD: (Target("max", timings.deadline_s + timings.kill_s),)}


def _crash_targets(timings: Timings, profile: str) -> dict[str, tuple[Target, ...]]:
    return {QEMU: (Target("median", 2.0),)}


def _management_cut_targets(timings: Timings, profile: str) -> dict[str, tuple[Target, ...]]:
    return {STARTED: (Target("max", 20.0),), STANDSTILL: (Target("median", 0.3),)}


POWER_LOSS = Fault(
    "power_loss",
    lose_power,
    (EXPIRED, TAKEN, QEMU, STARTED, GUEST_UP, EXPIRED_TO_QEMU),
    _power_loss_targets,
    choose_leader,
    (QEMU, EXPIRED_TO_QEMU),
)
STORAGE_CUT = Fault("storage_cut", cut_storage, (OLD_DEAD, EXPIRED, QEMU, GUEST_UP), _storage_cut_targets)
CRASH = Fault("crash", crash, (OLD_DEAD, QEMU, STARTED, GUEST_UP), _crash_targets, forget_crashes)
MANAGEMENT_CUT = Fault("management_cut", cut_management, (QEMU, STARTED, OLD_DEAD, STANDSTILL), _management_cut_targets)
FAULTS = {fault.name: fault for fault in (POWER_LOSS, CRASH, STORAGE_CUT, MANAGEMENT_CUT)}
