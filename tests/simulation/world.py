"""The whole world of one seed, and the invariants that hold at every step of it.

Safety, checked where it could break and never by asking a guard:

- a QEMU is started only where, at that moment, no other QEMU is alive on any node (one that is frozen or that does not
  die is alive), by the node that Consul's record names, and with its watchdog armed where that is required;
- where it is required, a watchdog is armed for as long as a QEMU is alive;
- a start or resume is ordered only where the node's fencer has confirmed a moment ahead;
- the lease changes hands, or is given back, only while no QEMU is alive on any node, and no start is under way that
  could still make one: one in a slice that is barred can't;
- no QEMU, and no start that has begun, is alive for longer than K after the moment that the fencer of its node has last
  confirmed, if that one got its turn, unless it was sent SIGKILL and sleeps in the kernel;
- what a migration has brought is resumed only while its memory is no older than its disk, and what a failing disk has
  paused only by the lease's holder, and if it is no migration for which it stands still;
- epoch, sequence number and ModifyIndex only grow, the epoch by one whenever the lease changes hands.

Liveness, after everything has healed: within ``Config.settle_s`` exactly one VM runs, if it is wanted, on the node that
holds the lease; or none runs and the lease is given back. And no guard kills its VM as if the lease were another's
while it is its own.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from mnha.core import guard as guard_module
from mnha.core import lease as rules
from mnha.core import pauses
from mnha.core.guard import Limits
from mnha.core.model import Lease, Op, Pause, Phase, Run, View
from mnha.core.ports import LeaseSeen
from mnha.core.timing import LONGEST_S, PROFILES, SKEW, Timings
from mnha.fencer import rules as fencer_module

from .consul import Consul
from .engine import SECOND, Engine, us
from .host import Host, WatchdogKind
from .hypervisor import Image, Qemu
from .policy import Master
from .records import NodeRecords

HALF_SKEW_PPM = int(SKEW / (2 + SKEW) * 1_000_000)
"""How far a node's clock rate may be off, so that no two differ by more than SKEW."""

BOOT_S = 45.0
"""A node's reset, boot and first contact with Consul, at the longest."""


OWN_ACCORD = "nobody ordered"
"""How the reason of a take-over begins that no master ordered."""

FAILING_STARTS_S = 5.0
"""How long a node tries that can't start the VM, before it gives the lease back for the next one."""


class ViolationError(Exception):
    """An invariant does not hold."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What a world is made of.

    :param others: what some nodes' guards have instead, while a new configuration spreads.
    :param kinds: a watchdog for each node.
    :param ppm: a clock rate for each node.
    :param lock_s: how long the file server keeps a dead client's lock.
    :param lingering: how often the lock of a QEMU that was killed outlives it for a while.
    :param masters: how many Salt masters react.
    :param sloppy: how often they order nonsense.
    :param copy_s: how long a migration copies the guest's memory; None: it differs.
    :param unheard: how often the source of a migration does not hear that all has arrived, and lets the guest go on.
    :param masters_stay_dead: no master ever orders anything; with ``limits.masterless_s`` the guards must do without.
    :param partial: how often a guard sees only some of the nodes' records.
    """

    timings: Timings = PROFILES["default"]
    others: Timings | None = None
    kinds: tuple[WatchdogKind, ...] = (WatchdogKind(),) * 3
    ppm: tuple[int, ...] = (0, 0, 0)
    lock_s: float = 10.0
    lingering: float = 0.0
    limits: Limits = dataclasses.field(default_factory=Limits)
    masters: int = 1
    sloppy: float = 0.0
    unheard: float = 0.1
    copy_s: float | None = None
    masters_stay_dead: bool = False
    partial: float = 0.0

    @property
    def settle_s(self) -> float:
        """How long everything may take, after the last fault has healed, until all is well.

        The longest chain: a node boots; a guest that was asked to end is waited for; a start that hangs is voided; a
        dead client's lock is waited for, in rounds of starts that fail and back off; the lease expires twice. Or: a VM
        that its disk has paused is resumed after the longest gap. Without a master each take-over comes later, by the
        time that is waited for an order; so does each round of starts.
        """
        lease_s = max(self.timings.lease_s, self.others.lease_s if self.others else 0.0)
        bound_s = BOOT_S + self.limits.shutdown_s + self.limits.start_s + self.lock_s + 2 * lease_s + 45.0
        bound_s = max(bound_s, BOOT_S + pauses.LONGEST_GAP_S)
        if self.masters_stay_dead:
            nodes = len(self.kinds)
            turns_s = rules.SETTLE_S + self.limits.masterless_s + 3 * nodes * rules.RANK_STEP_S
            bound_s += (nodes + 1) * (turns_s + FAILING_STARTS_S)
        return bound_s


def names_of(nodes: int) -> list[str]:
    """The names of so many nodes."""
    return [f"n{number + 1}" for number in range(nodes)]


class World:
    """Nodes, Consul, masters and what they do to each other."""

    def __init__(self, seed: int, config: Config) -> None:
        self.engine = Engine(seed)
        names = tuple(f"n{number + 1}" for number in range(len(config.kinds)))
        self.limits = dataclasses.replace(config.limits, ranking=config.limits.ranking or names)
        self.config, self.guard_class, self.fencer_class = config, guard_module.Guard, fencer_module.Fencer
        self.counts: Counter[str] = Counter()
        self.events: list[tuple[int, str, str, str]] = []
        self.image = Image()
        self.full_until_us = 0
        self._tickets = 0
        self.consul = Consul(self, self.engine, rules.first(config.timings))
        self.records = NodeRecords(self, seed)
        self.hosts: list[Host] = []
        for name, ppm, kind in zip(names_of(len(config.kinds)), config.ppm, config.kinds, strict=True):
            self.hosts.append(Host(self, self.engine, name, ppm, kind))
        self.masters = [
            Master(self, self.engine, f"master{number + 1}", config.sloppy, 0.3 if number == 0 else 3.0)
            for number in range(config.masters)
            if not config.masters_stay_dead
        ]
        for host in self.hosts:
            self.consul.catch_up(host)
            host.start_both()

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.engine.run_until(self.engine.now + us(seconds))

    def next_ticket(self) -> int:
        """A number for an order."""
        self._tickets += 1
        return self._tickets

    def lease_seen(self, lease: Lease | None, index: int, received_s: float, asked_s: float | None) -> LeaseSeen:
        """The event of a received record; a consistent read's has `asked_s`."""
        if asked_s is None:
            return LeaseSeen(lease, index, received_s)
        return LeaseSeen(lease, index, received_s, consistent=True, asked_s=asked_s)

    def probe_all(self) -> None:
        """Every node's guard learns what its node could run, and whose storage is well."""
        for host in self.hosts:
            if host.process is not None:
                host.process.probe()

    # ---- what happened

    def trace(self, kind: str, host: str, text: str = "") -> None:
        """Write down an event."""
        self.counts[kind] += 1
        self.events.append((self.engine.now, kind, host, text))

    def kinds_of(self, *kinds: str, since_us: int = 0) -> list[tuple[str, str]]:
        """The trace of these kinds, as (node, kind), from `since_us`."""
        return [(host, kind) for when_us, kind, host, _ in self.events if kind in kinds and when_us >= since_us]

    def tail(self, count: int = 60) -> str:
        """The end of the trace, for people."""
        return "\n".join(
            f"{when_us / SECOND:12.6f} {host:4} {kind:24} {text}" for when_us, kind, host, text in self.events[-count:]
        )

    # ---- safety

    def violate(self, what: str) -> None:
        """An invariant is broken.

        :raises ViolationError: always.
        """
        self.trace("VIOLATION", "", what)
        raise ViolationError(f"at {self.engine.now / SECOND:.6f} s: {what}")

    def on_commit(self, writer: str, before: Lease | None, after: Lease) -> None:
        """A guard has written the lease."""
        if before is None:
            return self.violate(f"{writer} wrote a lease where there was none")
        if after.seq != before.seq + 1:
            self.violate(f"seq {before.seq} -> {after.seq} by {writer}")
        if after.holder == before.holder and Phase.RELEASED not in (before.phase, after.phase):
            if after.epoch != before.epoch or after.holder != writer:
                self.violate(f"{writer} renewed {before} as {after}")
            return None
        self._check_hands(writer, before, after)
        alive = [host.name for host in self.hosts if host.hypervisor.may_write]
        if alive:
            self.violate(
                f"the lease goes from {before.holder or 'nobody'} to {after.holder or 'nobody'}, epoch "
                f"{after.epoch}, while the VM may be alive on {', '.join(alive)}"
            )
        self.counts["took" if after.holder else "gave back"] += 1
        if after.holder and after.reason.startswith(OWN_ACCORD):
            self.counts["took without an order"] += 1
        return None

    def _check_hands(self, writer: str, before: Lease, after: Lease) -> None:
        """A lease that changes hands does so by the rules."""
        if after.phase is Phase.RELEASED:
            if before.holder != writer or after.holder or after.epoch != before.epoch:
                self.violate(f"{writer} released {before} as {after}")
        elif after.source:
            if (before.holder, before.target, before.epoch + 1) != (writer, after.holder, after.epoch):
                self.violate(f"{writer} handed over {before} as {after}")
            self.counts["handed over"] += 1
        elif after.holder != writer or after.epoch != before.epoch + 1:
            self.violate(f"{writer} took {before} as {after}")

    def on_order(self, host: Host, view: View) -> None:
        """A guard has a VM started or resumed: decided while its fencer let it run."""
        if host.global_us(view.now_s) >= host.allowed_until_us:
            self.violate(f"{host.name} has the VM started before its fencer has confirmed that it may run")

    def on_start(self, host: Host) -> None:
        """libvirtd begins a start: even one that QEMU's image lock would stop must find nobody."""
        others = [other.name for other in self.hosts if other.hypervisor.has_writer]
        if others:
            self.violate(f"{host.name} starts the VM while it is alive on {', '.join(others)}")

    def on_launch(self, host: Host) -> None:
        """A QEMU appears."""
        self.check_writers(f"QEMU appears on {host.name}")
        if host.watchdog.kind.required and host.watchdog.reset_us is None:
            self.violate(f"{host.name} runs the VM without the required watchdog")
        lease = self.consul.lease
        if lease is not None and lease.epoch and lease.holder != host.name:  # epoch 0: created anew under the VM
            self.violate(f"{host.name} runs the VM with the lease at {lease.holder or 'nobody'}")
        self.trace("qemu", host.name)
        self.on_run(host)

    def on_run(self, host: Host) -> None:
        """The guest runs on: what migrations have copied of it to other nodes is older than its disk from now on."""
        for other in self.hosts:
            if other is not host and other.hypervisor.qemu is not None and other.hypervisor.qemu.arriving:
                other.hypervisor.qemu.stale = True

    def on_resume(self, host: Host, qemu: Qemu) -> None:
        """What a migration has brought is resumed."""
        if qemu.stale:
            self.violate(f"{host.name} resumes a VM whose memory is older than its disk")
        others = [other.name for other in self.hosts if other.hypervisor.may_write]
        if others:
            self.violate(f"{host.name} resumes the VM while it is alive on {', '.join(others)}")
        qemu.arriving = False
        self.on_launch(host)

    def on_unpause(self, host: Host, qemu: Qemu) -> None:
        """A VM that stands paused is resumed."""
        lease = self.consul.lease
        if qemu.arriving or qemu.left or qemu.pause is Pause.OPERATOR:
            self.violate(f"{host.name} resumes a VM that a migration, or somebody, has paused")
        if lease is not None and lease.epoch and lease.holder != host.name:
            self.violate(f"{host.name} resumes the VM with the lease at {lease.holder or 'nobody'}")
        self.check_writers(f"{host.name} resumes the VM")
        self.on_run(host)

    def on_kill(self, host: Host, view: View) -> None:
        """A guard kills its VM. It may have to, but not for a holder that others replaced long ago, or never did."""
        lease = self.consul.lease
        if view.lease is not None and not rules.is_mine(view) and lease is not None and lease.holder == host.name:
            self.violate(f"{host.name} kills its VM as if the lease of epoch {lease.epoch} were not its own")

    def check_writers(self, when: str) -> None:
        """At most one QEMU is alive."""
        alive = [host.name for host in self.hosts if host.hypervisor.has_writer]
        if len(alive) > 1:
            self.violate(f"{when}: the VM is alive on {', '.join(alive)}")

    def check(self) -> None:
        """What holds at every moment, and is looked at now and then."""
        self.check_watchdogs()
        self.check_moments()

    def check_watchdogs(self) -> None:
        """Where it is required, a live QEMU has an armed watchdog."""
        for host in self.hosts:
            kind, hypervisor = host.watchdog.kind, host.hypervisor
            if kind.required and hypervisor.has_writer and host.watchdog.reset_us is None:
                self.violate(f"the VM is alive on {host.name} without the required watchdog")

    def check_moments(self) -> None:
        """No VM is alive beyond what its fencer has confirmed, where that one gets its turn."""
        for host in self.hosts:
            if host.is_alive_too_long:
                until_s = host.allowed_until_us / SECOND
                self.violate(f"the VM is alive on {host.name}, where it was allowed until {until_s:.3f} s")

    # ---- liveness

    def heal(self, run: Run) -> None:
        """Everything works again; the operator's last word is `run`."""
        self.trace("healed", "", f"desired {run}")
        self.consul.leader_from_us, self.consul.retries = min(self.consul.leader_from_us, self.engine.now), False
        self.full_until_us = 0
        for host in self.hosts:
            host.link = type(host.link)()
            host.slow_reports_s, host.unable = 0.0, ""
            host.hypervisor.hung_until_us = host.hypervisor.stuck_until_us = self.engine.now
            host.hypervisor.go_on()
            host.hypervisor.fail_starts, host.hypervisor.deaf = 0.0, False
            host.hypervisor.disk_fails_until_us = 0
            host.hypervisor.guest_goes_on()
            host.watchdog.refuses_until_us = host.memory_full_until_us = 0
            host.regain_storage()
            host.regain_management()
            self.consul.catch_up(host)
            if not host.power:
                self.engine.after(self.engine.span(5.0, 30.0), host.boot_up)
            elif host.process is not None:
                host.process.trap_us = 0
                if host.fencer is not None:
                    host.fencer.trap_us = 0
                host.process.probe()
        self.records.blind_until_us.clear()
        self.records.deluded_until_us.clear()
        for master in self.masters:
            master.sloppy, master.late_s, master.dead_until_us = 0.0, 0.3, 0
        if not self.masters and not self.config.masters_stay_dead:
            self.masters.append(Master(self, self.engine, "operator"))
        if self.consul.lease is None:
            self.consul.create(rules.created_again(self.config.timings))
        self.consul.set_desired(run)

    def is_settled(self) -> bool:
        """Whether all is as the operator wants it."""
        lease = self.consul.lease
        alive = [host for host in self.hosts if host.hypervisor.qemu is not None]
        if self.consul.run is Run.STOPPED:
            return not alive and lease is not None and not lease.holder
        if len(alive) != 1 or lease is None or lease.holder != alive[0].name or not alive[0].hypervisor.runs:
            return False
        process = alive[0].process
        return process is not None and process.guard.state is not None and process.guard.state.value == "running"

    def settle(self, steady_s: float = 5.0) -> float:
        """Wait until all is well, and stays so for `steady_s`; return how long that took in seconds.

        :raises ViolationError: it takes longer than ``Config.settle_s``, and than a lease that was created again needs
            to expire.
        """
        begun_us = self.engine.now
        bound_s = self.config.settle_s + (LONGEST_S if self.counts["created"] else 0.0)
        since_us: int | None = None
        while True:
            self.run_for(0.5)
            self.check()
            if not self.is_settled():
                since_us = None
            elif since_us is None:
                since_us = self.engine.now
            elif self.engine.now - since_us >= us(steady_s):
                return (since_us - begun_us) / SECOND
            if self.engine.now - begun_us > us(bound_s + steady_s):
                holder = self.consul.lease.holder if self.consul.lease else None
                self.violate(
                    f"{bound_s:g} s after everything healed, with desired {self.consul.run}, the lease "
                    f"is at {holder!r} and the VM on {[h.name for h in self.hosts if h.hypervisor.qemu is not None]}"
                )

    @property
    def has_writer(self) -> bool:
        """Whether the guest runs, or did, in a QEMU that is alive anywhere."""
        return any(host.hypervisor.has_writer for host in self.hosts)

    def host(self, name: str) -> Host:
        """The node of that name."""
        return next(host for host in self.hosts if host.name == name)

    def order(self, host: Host, op: Op, epoch: int | None = None, **more: Any) -> None:
        """Order something from the guard of `host` now."""
        if host.process is not None:
            current = self.consul.lease.epoch if self.consul.lease else 0
            host.process.order(op, "ordered", current if epoch is None else epoch, **more)
