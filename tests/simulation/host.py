"""A node: its clock, its power, the guard's and the fencer's process on it, and the watchdog outside of it."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from typing import TYPE_CHECKING, Any

from mnha.core.evacuation import Evacuation
from mnha.core.model import Lease, Op, Vm
from mnha.core.ports import AbilitySeen, Confirmed, Ended, Event, FencerSeen, LeaseSeen, Ordered
from mnha.fencer.rules import Grant

from .consul import Agent, Link
from .engine import SECOND, Engine, us
from .fencer import FencerProcess, restart_us
from .hypervisor import Hypervisor
from .process import Process

if TYPE_CHECKING:
    from .world import World

SILENT_S = 1.0
"""How long a guard waits for an answer of the fencer (:data:`mnha.daemon.adapters.fencer.SILENT_S`)."""

MOVE_S = 40.0
"""How long a migration off a lost management network may take; guests are small here."""

MOST_TICKS = 2000
"""Wake-ups of a guard within a millisecond; more is a busy loop."""


class ProcessGone(BaseException):
    """The guard's process died in the middle of a call. Not an Exception: no handler of the guard may see it."""


@dataclasses.dataclass(frozen=True)
class WatchdogKind:
    """How a node's watchdog is set up.

    :param required: no VM without it.
    :param device: whether there is one.
    """

    required: bool = True
    device: bool = True


class Watchdog:
    """The device, counting outside of the node in whole seconds: it resets the node however stuck that is."""

    def __init__(self, engine: Engine, host: Host, kind: WatchdogKind) -> None:
        self._engine, self._host, self.kind = engine, host, kind
        self.reset_us: int | None = None
        self.refuses_until_us = 0
        self._pending_us: int | None = None

    def arm(self, until_s: float) -> bool:
        """See :class:`mnha.fencer.rules.Watchdog`. The device is set to ``floor(until - now)`` seconds, if not 0."""
        if not self.kind.device:
            return not self.kind.required
        if self.refuses_until_us > self._engine.now:  # what was set before counts on
            return not self.kind.required
        left_s = math.floor(until_s - self._host.now_s())
        if left_s >= 1:
            self.reset_us = self._host.global_us(self._host.now_s() + left_s)
            self._expect()
        return self.reset_us is not None or not self.kind.required

    def disarm(self) -> None:
        """See :class:`mnha.fencer.rules.Watchdog`."""
        self.reset_us = None

    def protects(self, vm: str) -> bool:
        """See :class:`mnha.fencer.rules.Watchdog`."""
        return self.reset_us is not None and self.refuses_until_us <= self._engine.now

    def _expect(self) -> None:
        """Have an event for the moment of the reset, or for an earlier one, which then looks again."""
        if self.reset_us is not None and (self._pending_us is None or self.reset_us < self._pending_us):
            self._pending_us = self.reset_us
            self._engine.at(self.reset_us, self._fire)

    def _fire(self) -> None:
        """Reset the node, if nobody moved or stopped the watchdog."""
        self._pending_us = None
        if self.reset_us is not None and self._engine.now >= self.reset_us:
            self._host.reset("watchdog")
        else:
            self._expect()


class Host:
    """One node.

    :param ppm: how much faster than true its CLOCK_BOOTTIME runs, in parts per million.
    """

    def __init__(self, world: World, engine: Engine, name: str, ppm: int, kind: WatchdogKind) -> None:
        self.world, self.engine, self.name = world, engine, name
        self._rate, self._booted_us, self._uptime_us = SECOND + ppm, 0, engine.span(10.0, 1e6)
        self.power, self.boot, self.frozen_until_us, self.power_lost_us = True, 0, 0, 0
        self.timings = world.config.timings
        self.slow_reports_s = 0.0
        self.unable = ""
        self.storage_lost_us: int | None = None
        self.management_lost_us: int | None = None
        self.link, self.agent = Link(), Agent()
        self.watchdog = Watchdog(engine, self, kind)
        self.hypervisor = Hypervisor(world, engine, self)
        self.process: GuardProcess | None = None
        self.fencer: FencerProcess | None = None
        self.remembered: dict[str, Grant] = {}
        self.memory_full_until_us = 0
        self.allowed_until_us, self.allowed_kill_us, self.fencer_late_us = 0, 0, 0

    # ---- clock

    def now_s(self) -> float:
        """This node's CLOCK_BOOTTIME in seconds, to the microsecond."""
        return (self._uptime_us + (self.engine.now - self._booted_us) * self._rate // SECOND) / SECOND

    def global_us(self, local_s: float) -> int:
        """The first global moment at which this node's clock shows `local_s`."""
        left_us = math.ceil(local_s * SECOND) - self._uptime_us
        return self._booted_us - (-left_us * SECOND // self._rate)

    @property
    def has_watchdog(self) -> bool:
        """Whether a watchdog covers what guard and fencer themselves can't."""
        return self.watchdog.kind.device

    # ---- events of this node: lost with its power, late after a freeze

    def after(self, delay_us: int, function: Any, *args: Any) -> None:
        """Call `function` in `delay_us` on this node."""
        self.engine.after(delay_us, self._run, self.boot, function, args)

    def _run(self, boot: int, function: Any, args: tuple[Any, ...]) -> None:
        """Call it now, or after a freeze."""
        if boot != self.boot or not self.power:
            return
        if self.is_frozen:
            self.engine.at(self.frozen_until_us + 1, self._run, boot, function, args)
        else:
            function(*args)

    @property
    def is_frozen(self) -> bool:
        """Whether the whole node stands still."""
        return self.frozen_until_us > self.engine.now

    # ---- storage

    def lose_storage(self) -> None:
        """The image's folder hangs on this node: its QEMU is in uninterruptible sleep until it is back."""
        if self.storage_lost_us is None:
            self.storage_lost_us = self.engine.now
            self.world.trace("storage lost", self.name)
            self.world.probe_all()

    def regain_storage(self) -> None:
        """It answers again; a QEMU that was killed meanwhile dies now."""
        if self.storage_lost_us is not None:
            self.storage_lost_us = None
            self.world.trace("storage back", self.name)
            self.hypervisor.wake_up()
            self.world.probe_all()

    def ability(self) -> AbilitySeen:
        """What a probe finds. Since when the storage is lost is counted from the node's boot at the earliest."""
        well = [
            host.name for host in self.world.hosts if host is not self and host.power and host.storage_lost_us is None
        ]
        if self.storage_lost_us is None:
            qemu, full = self.hypervisor.qemu, self.world.full_until_us > self.engine.now
            elsewhere = ", ".join(well) if qemu is not None and qemu.paused else ""
            return AbilitySeen(self.unable, None, elsewhere, storage_full=full)
        return AbilitySeen("the image's folder does not answer", self._since_s(self.storage_lost_us), ", ".join(well))

    def _since_s(self, at_us: int) -> float:
        """A moment on this node's clock, that of its boot at the earliest."""
        return (self._uptime_us + max(0, at_us - self._booted_us) * self._rate // SECOND) / SECOND

    # ---- management network

    def lose_management(self) -> None:
        """Its management network is gone: nothing of Consul, nor of the storage."""
        if self.management_lost_us is None:
            self.management_lost_us = self.engine.now
            self.world.trace("management lost", self.name)

    def regain_management(self) -> None:
        """It is back."""
        if self.management_lost_us is not None:
            self.management_lost_us = None
            self.world.trace("management back", self.name)

    @property
    def management_lost_s(self) -> float | None:
        """Since when it is gone, on this node's clock; None: it is not."""
        return None if self.management_lost_us is None else self._since_s(self.management_lost_us)

    # ---- power

    def lose_power(self, locked_us: int = 0) -> None:
        """Everything on the node is gone at once."""
        if not self.power:
            return
        self.world.trace("power lost", self.name)
        self.power, self.boot, self.frozen_until_us = False, self.boot + 1, 0
        self.power_lost_us = self.engine.now
        self.allowed_until_us = self.allowed_kill_us = 0
        if self.process is not None:
            self.process.alive = False
            self.process = None
        if self.fencer is not None:
            self.fencer.alive = False
            self.fencer = None
        self.remembered, self.memory_full_until_us = {}, 0
        self.hypervisor.lose_power(locked_us)
        self.watchdog.disarm()
        self.agent = Agent()

    def boot_up(self) -> None:
        """The node is back; its clock begins anew."""
        if self.power:
            return
        self.world.trace("power back", self.name)
        self.power = True
        self._booted_us, self._uptime_us = self.engine.now, self.engine.span(5.0, 30.0)
        self.world.consul.catch_up(self, within_s=5.0)
        self.start_both()

    def start_both(self) -> None:
        """systemd starts the fencer, and then the guard."""
        self.after(self.engine.span(0.05, 0.5), self.start_fencer)
        self.after(self.engine.span(0.5, 2.0), self.start_guard)

    def reset(self, why: str) -> None:
        """The node starts again from nothing."""
        if not self.power:
            return
        self.world.counts[f"reset by {why}"] += 1
        self.world.trace("reset", self.name, why)
        self.lose_power(self.engine.span(0.0, self.world.config.lock_s))
        self.engine.after(self.engine.span(10.0, 40.0), self.boot_up)

    def freeze(self, duration_us: int) -> None:
        """The whole node stands still, its QEMU too."""
        if self.power:
            self.frozen_until_us = max(self.frozen_until_us, self.engine.now + duration_us)
            self.fencer_is_late_until(self.frozen_until_us)
            self.world.trace("frozen", self.name, f"{duration_us / SECOND:.1f} s")
            self.engine.at(self.frozen_until_us, self._thaw, self.boot)

    def _thaw(self, boot: int) -> None:
        """It goes on."""
        if boot == self.boot and self.power and not self.is_frozen:
            self.world.check_writers(f"{self.name} thaws")
            for process in (self.fencer, self.process):
                if process is not None:
                    self.engine.after(0, process.go_on)

    # ---- the guard's process

    def start_guard(self, patience: int = 3) -> None:
        """systemd starts the guard. It asks the fencer what is granted, and for a moment waits for one."""
        if self.process is None:
            fencer = self.fencer
            if (fencer is None or fencer.stands_still) and patience:
                self.after(us(0.15), self.start_guard, patience - 1)
                return
            silent = fencer is None or fencer.stands_still
            granted = None if fencer is None or silent else fencer.granted()
            others = self.world.config.others
            if others is not None and self.engine.chance(0.5):
                self.timings = others if self.timings is self.world.config.timings else self.world.config.timings
            self.process = GuardProcess(self, granted)
            self.process.begin()

    def guard_died(self, restart_s: float = 1.0) -> None:
        """systemd starts the guard again."""
        self.process = None
        self.after(us(restart_s) + self.engine.span(0.0, 0.2), self.start_guard)

    # ---- the fencer's process

    def start_fencer(self) -> None:
        """systemd starts the fencer; the guard finds it."""
        if self.fencer is None:
            self.fencer_is_late_until(self.engine.now)
            self.fencer = FencerProcess(self)
            self.fencer.begin()

    def fencer_died(self) -> None:
        """systemd starts the fencer again; the guard sees the connection break."""
        self.fencer = None
        if self.process is not None:
            self.process.desk.broken()
        self.after(restart_us(self), self.start_fencer)

    def allow(self, until_s: float, kill_s: float) -> None:
        """The fencer has let the VM be alive until a moment, by its last word, and has K to kill it in after that."""
        self.allowed_until_us, self.allowed_kill_us = self.global_us(until_s), us(kill_s)

    def fencer_is_late_until(self, until_us: int) -> None:
        """The fencer gets no turn before `until_us`."""
        self.fencer_late_us = max(self.fencer_late_us, until_us)

    @property
    def is_alive_too_long(self) -> bool:
        """Whether a VM is alive for longer than K after what was last confirmed, though the fencer had its turn to kill
        it. One that was sent SIGKILL, and does not die, sleeps in the kernel.
        """
        vm = self.hypervisor
        if self.fencer is None or self.is_frozen or not vm.is_populated or vm.is_being_killed:
            return False
        from_us = max(self.allowed_until_us, self.fencer_late_us, vm.populated_us)
        return self.engine.now > from_us + (self.allowed_kill_us or SECOND)


class GuardProcess(Process):
    """A guard's process: its main loop, its queue, and its ports to the world.

    It is a :class:`LeaseStore`, :class:`Hypervisor` and :class:`Journal` at once; its `desk` is the :class:`Fencer`.
    """

    WHO = "guard"
    GONE = ProcessGone

    def __init__(self, host: Host, granted: Grant | None) -> None:
        super().__init__(host)
        self.timings = host.timings
        self.ending = False
        self._queue: deque[tuple[Event, bool]] = deque()
        self._ticks, self._ticks_from_us = 0, 0
        self.desk = Desk(self)
        self.evacuation = Evacuation(self.world.limits.management_s, MOVE_S)
        self.guard = self.world.guard_class(
            host.name,
            self.timings,
            self.world.limits,
            store=self,
            hypervisor=self,
            fencer=self.desk,
            journal=self,
            now_s=host.now_s(),
            granted_until_s=granted.until_s if granted else None,
            granted_kill_s=granted.kill_s if granted else 0.0,
        )

    def begin(self) -> None:
        """The process begins: it looks for a running VM, probes, and watches."""
        host = self.host
        self.world.trace("guard begins", host.name)
        host.hypervisor.attach(self)
        host.after(self.engine.span(0.05, 1.0), self.probe)
        host.after(self.engine.span(0.001, 0.05), self.desk.connect)
        host.after(self.engine.span(0.001, 0.3), self._watch)
        self.world.records.begin(self)
        self.wake_at(self.guard.wake_s())

    def _watch(self) -> None:
        """The watch begins."""
        if self.alive:
            self.world.consul.watch(self)

    def probe(self) -> None:
        """A probe of what this node could run."""
        self.post(self.host.ability())

    # ---- what the world tells

    def post_lease(self, lease: Lease | None, index: int, asked_s: float | None = None) -> None:
        """A lease record is received by an adapter; `asked_s` when it is a consistent read's."""
        self.post(self.world.lease_seen(lease, index, self.host.now_s(), asked_s))

    def post(self, event: Event) -> None:
        """An adapter has an event. Of a process that stands still, the adapters do too: they receive it afterwards.

        It is taken in a moment of its own: who posts goes on, whatever the process meets with in it.
        """
        if not self.alive:
            return
        self._queue.append((event, not self.stands_still))
        if not self.busy and not self.stands_still:
            self.engine.after(0, self._drain)

    def go_on(self) -> None:
        """The process goes on."""
        if self.alive and not self.busy and not self.stands_still:
            self._drain()
            if self.alive and not self.stands_still:
                self._deliver(None)

    def _drain(self) -> None:
        """Take what has queued up."""
        while self._queue and self.alive and not self.busy and not self.stands_still:
            event, received = self._queue.popleft()
            if not received and isinstance(event, LeaseSeen):
                event = dataclasses.replace(event, received_s=self.host.now_s())
            self._deliver(event)
        if self.alive and not self.busy:
            self.wake_at(self.guard.wake_s())

    def _deliver(self, event: Event | None) -> None:
        """One round of the main loop."""
        self.busy = True
        try:
            if event is None:
                self.guard.tick(self.host.now_s())
            else:
                self.guard.handle(event, self.host.now_s())
        except ProcessGone:
            return
        finally:
            self.busy = False
        if self.ending and self.guard.done:
            self.world.trace("guard ends", self.host.name)
            self.alive = False
            self.host.guard_died(self.engine.span(3.0, 20.0) / SECOND)

    def on_time(self) -> None:
        """The timer is due."""
        self._deliver(None)
        self._drain()

    def wakes(self) -> bool:
        """Not in the middle of a round: at its end the timer is set anew."""
        if self.busy or self.stands_still:
            return False
        self._count_tick()
        return True

    def _count_tick(self) -> None:
        """Detect a busy loop."""
        if self.engine.now - self._ticks_from_us > 1000:
            self._ticks, self._ticks_from_us = 0, self.engine.now
        self._ticks += 1
        if self._ticks > MOST_TICKS:
            self.world.violate(f"the guard of {self.host.name} is in a busy loop")

    # ---- faults

    def died(self) -> None:
        """systemd starts it again."""
        self.host.guard_died()

    def replace(self, pause_us: int) -> None:
        """SIGHUP: the process ends, and systemd starts the next one. The fencer's promise stands."""
        if not self.alive or self.busy or self.stands_still or self.ending:
            return
        self.alive = False
        self.host.process = None
        self.world.trace("guard replaced", self.host.name, f"in {pause_us / SECOND:.2f} s")
        self.host.after(pause_us, self.host.start_guard)

    def end(self) -> None:
        """SIGTERM."""
        if self.alive and not self.ending:
            self.ending = True
            self.post(Ended(f"the guard of {self.host.name} was stopped"))

    def order(
        self, op: Op, reason: str, epoch: int = 0, wait_s: float = 30.0, target: str = "", gentle_s: float = 0.0
    ) -> None:
        """Somebody orders something over the socket."""
        self.post(Ordered(op, self.world.next_ticket(), reason, wait_s, epoch, target, gentle_s))

    @property
    def vm(self) -> Vm:
        """What this guard knows of its VM."""
        return self.guard.view.vm

    # ---- ports

    def cas(self, lease: Lease, index: int, ticket: int) -> None:
        """Port: LeaseStore."""
        self.call()
        self.world.consul.cas(self, lease, index, ticket)

    def read(self) -> None:
        """Port: LeaseStore."""
        self.call()
        self.world.consul.read(self)

    def start(self, epoch: int, generation: int) -> None:
        """Port: Hypervisor."""
        self.call()
        self.world.on_order(self.host, self.guard.view)
        self.world.trace("start", self.host.name, f"epoch {epoch}")
        self.host.hypervisor.start(generation)

    def migrate(self, target: str, generation: int) -> None:
        """Port: Hypervisor."""
        self.call()
        self.world.trace("migrate", self.host.name, f"to {target}")
        self.host.hypervisor.migrate(self.world.host(target).hypervisor, generation)

    def abort(self) -> None:
        """Port: Hypervisor."""
        self.call()
        self.host.hypervisor.abort()

    def resume(self, generation: int) -> None:
        """Port: Hypervisor."""
        self.call()
        self.world.on_order(self.host, self.guard.view)
        self.world.trace("resume", self.host.name)
        self.host.hypervisor.resume(generation)

    def unpause(self, generation: int) -> None:
        """Port: Hypervisor."""
        self.call()
        self.world.on_order(self.host, self.guard.view)
        self.host.hypervisor.unpause(generation)

    def shutdown(self) -> None:
        """Port: Hypervisor."""
        self.call()
        self.host.hypervisor.shutdown()

    def kill(self) -> None:
        """Port: Hypervisor."""
        self.call()
        self.host.hypervisor.kill()

    def note(self, event: str, text: str, **data: Any) -> None:
        """Port: Journal."""
        self.call()
        self.world.trace(event, self.host.name, text)
        if event == "killed":
            self.world.on_kill(self.host, self.guard.view)

    def log(self, text: str) -> None:
        """Port: Journal."""
        self.call()
        self.world.trace("log", self.host.name, text)

    def answer(self, ticket: int, kind: str, message: str, data: dict[str, Any]) -> None:
        """Port: Journal."""
        self.call()
        self.world.trace("answer", self.host.name, f"{kind}: {message}")


class Desk:
    """A guard's connection to the fencer of its node: a :class:`mnha.core.ports.Fencer`. It keeps the order.

    A fencer that owes an answer for too long is not there, as one that has ended; nothing is carried out that was asked
    on a connection which is gone.
    """

    def __init__(self, process: GuardProcess) -> None:
        self._process = process
        self._arrives_us = 0
        self._line, self._connected = 0, False
        self._owed: set[int] = set()

    def connect(self) -> None:
        """Connect, to a fencer that answers; else try again."""
        process = self._process
        if not process.alive or self._connected:
            return
        fencer = process.host.fencer
        if process.stands_still or fencer is None or fencer.stands_still:
            process.host.after(process.engine.span(0.1, 0.4), self.connect)
            return
        self._connected = True
        process.post(FencerSeen(True))

    def broken(self) -> None:
        """The connection is gone."""
        if self._connected:
            self._connected, self._line = False, self._line + 1
            self._owed.clear()
            self._process.post(FencerSeen(False))
            self._process.host.after(self._process.engine.span(0.1, 0.4), self.connect)

    def is_on(self, line: int) -> bool:
        """Whether a request of this connection is to be carried out."""
        return self._process.alive and line == self._line

    def answer(self, line: int, confirmed: Confirmed) -> None:
        """An answer arrives, unless the connection is gone."""
        if self.is_on(line):
            self._owed.discard(confirmed.ticket)
            self._process.post(confirmed)

    def _look(self, line: int, ticket: int) -> None:
        """Whether an answer is owed for too long; while this process stands still, nobody looks."""
        if self._process.stands_still:
            self._process.host.after(us(SILENT_S / 4), self._look, line, ticket)
        elif line == self._line and ticket in self._owed:
            self.broken()

    def prepare(self, until_s: float, kill_s: float, ticket: int) -> None:
        """Port: Fencer."""
        self._ask("prepare", until_s, kill_s, ticket)

    def grant(self, until_s: float, kill_s: float, ticket: int) -> None:
        """Port: Fencer."""
        self._ask("grant", until_s, kill_s, ticket)

    def expect(self, until_s: float, ticket: int) -> None:
        """Port: Fencer."""
        self._ask("expect", until_s, 1.0, ticket)

    def forbid(self, ticket: int) -> None:
        """Port: Fencer."""
        self._ask("forbid", 0.0, 1.0, ticket)

    def _ask(self, op: str, until_s: float, kill_s: float, ticket: int) -> None:
        """Send a request; lost, when the fencer that it was sent to dies before it arrives."""
        process = self._process
        process.call()
        fencer = process.host.fencer
        if not self._connected or fencer is None:
            return
        now_us, line = process.engine.now, self._line
        self._owed.add(ticket)
        self._arrives_us = max(self._arrives_us, now_us + process.engine.span(0.0001, 0.003))
        process.host.after(self._arrives_us - now_us, fencer.ask, self, line, op, until_s, kill_s, ticket)
        process.host.after(process.engine.span(SILENT_S, 1.25 * SILENT_S), self._look, line, ticket)
