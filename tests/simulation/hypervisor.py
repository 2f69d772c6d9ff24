"""libvirtd, QEMU and the lock on the VM's image.

A start that was handed to libvirtd may be carried out much later, if libvirtd hangs. Only a kill voids it, and even
that may come too late: then QEMU appears and is killed at once, and nothing is reported OFF before that is over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mnha.core.model import Pause, Vm
from mnha.core.pauses import BY_ITSELF
from mnha.core.ports import Moved, StartFailed, VmSeen

from .engine import Engine, us

if TYPE_CHECKING:
    from .host import GuardProcess, Host
    from .world import World


BOOT_US = us(2.5)
"""So long a guest that has just come to a node does not hear that it is to shut down."""


@dataclasses.dataclass
class Image:
    """The VM's image on the shared file system, with its lock.

    :param locked_until_us: until when the lock of a dead client is held by the file server.
    """

    owner: str = ""
    locked_until_us: int = 0

    def is_locked_against(self, host: str, now_us: int) -> bool:
        """Whether QEMU on `host` can't open the image."""
        return (self.owner not in ("", host)) and now_us < self.locked_until_us


@dataclasses.dataclass(eq=False)
class Start:
    """A start handed to libvirtd.

    :param voided: it will not be carried out.
    :param doomed: it can't be voided any more; its QEMU is killed as soon as it appears.
    :param killed: its process, which is in the slice since the start has begun, was killed there.
    """

    generation: int
    begun: bool = False
    voided: bool = False
    doomed: bool = False
    killed: bool = False


@dataclasses.dataclass(eq=False)
class Qemu:
    """A live QEMU process of the VM.

    :param pause: why it stands paused, if not for a migration.
    :param arriving: a migration brings it, or has brought it, and it was not resumed since.
    :param complete: all of the guest's memory has arrived.
    :param stale: the guest has run elsewhere since its memory was copied: it must never be resumed.
    :param left: its memory was sent away; only libvirtd may resume it, when it did not hear of the arrival.
    :param leaderless: its main thread has ended, and with it its command line; other threads sleep in the kernel.
    """

    paused: bool = False
    pause: Pause = Pause.NONE
    dying: bool = False
    started: bool = False
    arriving: bool = False
    complete: bool = False
    stale: bool = False
    left: bool = False
    leaderless: bool = False


@dataclasses.dataclass(eq=False)
class Migration:
    """A live migration, steered by the source's libvirtd.

    :param qemu: the one at the source.
    :param copy: the one at the target.
    """

    generation: int
    target: Hypervisor
    qemu: Qemu
    copy: Qemu | None = None
    over: bool = False


class Hypervisor:
    """libvirtd and QEMU of one node, and the guard's adapter to them."""

    def __init__(self, world: World, engine: Engine, host: Host) -> None:
        self._world, self._engine, self._host = world, engine, host
        self.hung_until_us = 0
        self.stuck_until_us = 0
        self.deaf = False
        self.fail_starts = 0.0
        self.refuses_migrations = False
        self.disk_fails_until_us = 0
        self.reset()

    def reset(self) -> None:
        """The node lost its power."""
        self.qemu: Qemu | None = None
        self.pending: Start | None = None
        self.migration: Migration | None = None
        self.unpausing: int | None = None
        self.hung_until_us = self.stuck_until_us = 0
        self._asleep: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._adapter: GuardProcess | None = None
        self._generation = 0
        self._told_us = 0
        self.has_slice = self.is_barred = False
        self.populated_us = 0

    # ---- the slice

    @property
    def is_populated(self) -> bool:
        """Whether a process is in the slice: QEMU, or what is to become one."""
        return self.qemu is not None or (self.pending is not None and self.pending.begun)

    def bar(self, barred: bool) -> None:
        """Freeze the slice, or let go on what is in it."""
        self.has_slice, self.is_barred = True, barred

    @property
    def is_off(self) -> bool:
        """Whether the adapter finds nothing left: by the slice, not by the command line, which goes first."""
        return self.qemu is None

    @property
    def is_being_killed(self) -> bool:
        """Whether what is in the slice was sent SIGKILL."""
        if self.qemu is not None:
            return self.qemu.dying
        return self.pending is None or self.pending.killed

    def kill_slice(self) -> None:
        """SIGKILL to all that is in the slice, by the kernel."""
        start = self.pending
        if self.qemu is not None:
            self._kill_qemu(self.qemu)
        elif start is not None and start.begun and not start.killed:
            start.killed = True
            stuck_us = max(0, self.stuck_until_us - self._engine.now)
            self._host.after(stuck_us + self._engine.span(0.001, 0.05), self._killed, start)

    def _killed(self, start: Start) -> None:
        """libvirtd hears that the process of a start has ended."""
        if start is self.pending:
            self._drop(start, report=False)
            self._tell(StartFailed(start.generation, "QEMU was killed"))
            self._observe()

    def _populate(self) -> None:
        """Something comes to the slice."""
        self.has_slice, self.populated_us = True, self._engine.now
        if self._host.fencer is not None:
            self._host.fencer.poke()

    @property
    def may_write(self) -> bool:
        """Whether a QEMU is alive that runs the guest, or a start under way could still make one."""
        pending = self.pending is not None and not self.pending.voided
        return self.has_writer or (pending and not self.is_barred)

    @property
    def has_writer(self) -> bool:
        """Whether a QEMU is alive that runs the guest, or did; not one that a migration brings."""
        return self.qemu is not None and not self.qemu.arriving

    @property
    def runs(self) -> bool:
        """Whether the VM runs."""
        qemu = self.qemu
        return qemu is not None and not (qemu.paused or qemu.dying or qemu.arriving or qemu.left)

    # ---- what the guard asks

    def attach(self, adapter: GuardProcess) -> None:
        """A guard's process begins: what its predecessor ordered is void before OFF is reported."""
        self._adapter, self._generation, self.unpausing = adapter, 0, None
        self._told_us = self._engine.now + self._engine.span(0.005, 0.2)
        if self.pending is not None:
            self._void()
        self._observe()

    def start(self, generation: int) -> None:
        """Start the VM."""
        self._generation = generation
        start = Start(generation)
        if self.pending is not None:
            self.pending.voided = True
        self.pending = start
        self._host.after(self._engine.span(0.001, 0.05), self._begin, start)

    def shutdown(self) -> None:
        """Ask the guest to shut down; it may be deaf, or boot, or the request be lost in a libvirtd that hangs."""
        boots = self._engine.now < self.populated_us + BOOT_US
        if self.qemu is not None and not (self.deaf or boots) and self._engine.now >= self.hung_until_us:
            self._host.after(self._engine.span(0.5, 15.0), self._end_guest, self.qemu, False)

    def kill(self) -> None:
        """SIGKILL QEMU, void a start or a resume under way; report OFF once it is so."""
        self.unpausing = None
        if self.pending is not None:
            self._void()
        if self.qemu is not None:
            self._kill_qemu(self.qemu)
        elif self.pending is None:
            self._observe()

    def migrate(self, target: Hypervisor, generation: int) -> None:
        """Migrate the VM away."""
        if self.qemu is not None:
            self.migration = Migration(generation, target, self.qemu)
            self._host.after(self._engine.span(0.01, 0.5), self._prepare, self.migration)

    def abort(self) -> None:
        """Abort the migration, if its memory is not sent yet."""
        move = self.migration
        if move is not None and self._engine.now >= self.hung_until_us:
            self._host.after(self._engine.span(0.01, 0.3), self._abort, move)

    def resume(self, generation: int) -> None:
        """Resume what a migration has brought."""
        self._generation = generation
        if self.qemu is not None:
            self._host.after(self._engine.span(0.001, 0.1), self._resume, self.qemu, generation)

    def unpause(self, generation: int) -> None:
        """Resume what QEMU has paused for its disk's sake. Until that has ended nothing is reported."""
        self._generation = self.unpausing = generation
        self._host.after(self._engine.span(0.001, 0.05), self._begin_unpause, generation)

    # ---- a migration happens: prepare at the target, copy, switch over, finish at the target, confirm at the source

    def _prepare(self, move: Migration) -> None:
        """The target makes a QEMU that waits for the guest's memory."""
        if self._hangs(self._prepare, move):
            return
        host, target = self._host, move.target
        if target.is_barred:
            host.after(self._engine.span(0.05, 0.5), self._end_migration, move, "its process was killed at the target")
            return
        apart = not target._host.power or target._host.is_frozen or host.link.is_cut or target._host.link.is_cut
        refuses = target.refuses_migrations or target.qemu is not None
        if apart or refuses or target.pending is not None or move.qemu is not self.qemu:
            late_s = 27.0 if apart else 0.5
            host.after(self._engine.span(0.05, late_s), self._end_migration, move, "the target refuses")
            return
        move.copy = target.qemu = Qemu(arriving=True, started=True, paused=True)
        target._populate()
        self._world.trace("arriving", target._host.name, f"from {host.name}")
        target._observe()
        copy_s = self._world.config.copy_s
        copying_us = us(copy_s) if copy_s else self._engine.span(0.3, self._engine.random.choice((1.5, 10.0, 40.0)))
        host.after(copying_us, self._switch_over, move)

    def _switch_over(self, move: Migration) -> None:
        """The guest stops here; its memory is there, all of it."""
        if self._hangs(self._switch_over, move) or move.over:
            return
        if not self._reaches(move):
            self._end_migration(move, "the connection to the target broke")
            return
        if move.qemu.paused or move.qemu.dying:
            self._end_migration(move, "the VM does not run")
            return
        assert move.copy is not None
        move.qemu.left = move.copy.complete = True
        self._world.trace("switched over", self._host.name, f"to {move.target._host.name}")
        self._host.after(self._engine.span(0.001, 0.2), self._confirm, move)

    def _confirm(self, move: Migration) -> None:
        """The source hears from the target, or not: then the guest goes on here."""
        if self._hangs(self._confirm, move) or move.over:
            return
        if self._reaches(move) and not self._engine.chance(self._world.config.unheard):
            self._world.counts["migrated"] += 1
            if move.qemu is self.qemu:
                self._kill_qemu(move.qemu)
            self._end_migration(move, "")
            return
        if move.qemu is self.qemu and not move.qemu.dying:
            move.qemu.left = False
            self._world.on_run(self._host)
        self._end_migration(move, "nothing was heard of the arrival")

    def _reaches(self, move: Migration) -> bool:
        """Whether the target is there, with what has arrived."""
        target = move.target
        cut = self._host.link.is_cut or target._host.link.is_cut
        return target._host.power and not cut and target.qemu is move.copy and move.qemu is self.qemu

    def _abort(self, move: Migration) -> None:
        """libvirtd aborts it, unless all of the memory was sent in the meantime."""
        if not move.qemu.left:
            self._end_migration(move, "aborted")

    def _end_migration(self, move: Migration, error: str) -> None:
        """libvirtd tells how it ended. What has arrived in part is removed at the target, sooner or later."""
        if move.over:
            return
        move.over = True
        self._world.trace("migration ended", self._host.name, error or "well")
        if error and move.copy is not None and not move.copy.complete:
            move.target._host.after(self._engine.span(0.01, 30.0), move.target._gone, move.copy, False)
        if not self._engine.chance(self._world.config.unheard / 4):  # else the answer to the guard is lost
            self._tell(Moved(move.generation, error))

    def _resume(self, qemu: Qemu, generation: int) -> None:
        """libvirtd resumes what has arrived; what can't be resumed is killed."""
        if self._hangs(self._resume, qemu, generation):
            return
        if qemu is not self.qemu or qemu.dying:
            self._tell(StartFailed(generation, "the VM is gone"))
            self._observe()
        elif not qemu.complete:
            self._tell(StartFailed(generation, "the VM has not arrived"))
            self._kill_qemu(qemu)
        else:
            self._world.on_resume(self._host, qemu)
            qemu.arriving = qemu.paused = False
            self._world.image.owner = self._host.name
            self._world.image.locked_until_us = 1 << 62
            self._observe()

    # ---- a resume happens

    def _begin_unpause(self, generation: int) -> None:
        """The adapter asks libvirtd why the VM is paused, and orders the resume."""
        if generation != self.unpausing or self._hangs(self._begin_unpause, generation):
            return
        if self.qemu is not None and self.qemu.pause in BY_ITSELF:
            self._host.after(self._engine.span(0.001, 0.05), self._unpause, generation)
        else:
            self._end_unpause()

    def _unpause(self, generation: int) -> None:
        """libvirtd resumes whatever stands paused by now; late, if it hangs."""
        if generation != self.unpausing or self._hangs(self._unpause, generation):
            return
        qemu = self.qemu
        if qemu is not None and qemu.paused and not qemu.dying:
            self._world.on_unpause(self._host, qemu)
            qemu.paused, qemu.pause = False, Pause.NONE
            self._host.after(self._engine.span(0.001, 0.5), self._use_disk, qemu)
        self._end_unpause()

    def _end_unpause(self) -> None:
        """The order is over."""
        self.unpausing = None
        self._observe()

    def _use_disk(self, qemu: Qemu) -> None:
        """The guest writes; of a disk that fails QEMU pauses it."""
        now_us = self._engine.now
        full, fails = self._world.full_until_us > now_us, self.disk_fails_until_us > now_us
        if qemu is self.qemu and (full or fails):
            self.guest_pauses(Pause.NO_SPACE if full else Pause.IO_ERROR)

    # ---- what happens

    def _hangs(self, step: Callable[..., None], *args: Any) -> bool:
        """Whether libvirtd hangs; then it does this step when that is over."""
        late_us = self.hung_until_us - self._engine.now
        if late_us > 0:
            self._asleep.append((step, args))
            self._host.after(late_us, self.go_on)
        return late_us > 0

    def go_on(self) -> None:
        """libvirtd does what it was asked to while it hung; unless it hangs for longer by now."""
        late_us = self.hung_until_us - self._engine.now
        if late_us > 0:
            self._host.after(late_us, self.go_on)
            return
        steps, self._asleep = self._asleep, []
        for step, args in steps:
            self._host.after(self._engine.span(0.001, 0.1), step, *args)

    def _begin(self, start: Start) -> None:
        """libvirtd takes up a start, when it does not hang."""
        now_us = self._engine.now
        if start.voided:
            return
        if self._host.storage_lost_us is not None:
            self._host.after(self._engine.span(0.5, 1.0), self._begin, start)
            return
        if self._hangs(self._begin, start):
            return
        if start.doomed:
            self._drop(start)
            return
        start.begun = True
        self._populate()
        if not self.is_barred:
            self._world.on_start(self._host)
        locked = self._world.image.is_locked_against(self._host.name, now_us)
        if locked or self._engine.chance(self.fail_starts):
            self._host.after(self._engine.span(0.1, 0.6), self._fail, start, locked)
        else:
            self._host.after(self._engine.span(0.02, 0.6), self._launch, start)

    def _fail(self, start: Start, locked: bool) -> None:
        """A start fails."""
        if start.voided or start.killed:
            return
        self._drop(start, report=False)
        failed = StartFailed(start.generation, "the image is locked" if locked else "QEMU ended", locked)
        if self._adapter is not None and self._engine.chance(0.2):  # a kill's look at the VM overtakes the start's end
            self._host.after(self._engine.span(0.01, 0.3), self._adapter.post, failed)
        else:
            self._tell(failed)
        self._observe()

    def _launch(self, start: Start) -> None:
        """QEMU appears; not from a frozen process."""
        if start.voided or start.killed:
            return
        if self.is_barred:
            self._host.after(us(0.05), self._launch, start)
            return
        self.pending = None
        if self.qemu is not None:  # a migration came first: libvirtd has one domain of a name
            self._tell(StartFailed(start.generation, "the domain is active already"))
            self._observe()
            return
        self.qemu = Qemu()
        self._world.on_launch(self._host)
        self._world.image.owner = self._host.name
        self._world.image.locked_until_us = 1 << 62
        if start.doomed:
            self._kill_qemu(self.qemu)
        else:
            self._host.after(self._engine.span(0.02, 0.4), self._started, self.qemu)

    def _started(self, qemu: Qemu) -> None:
        """libvirtd says that the VM runs."""
        qemu.started = True
        self._host.after(self._engine.span(0.05, 2.0), self._use_disk, qemu)
        if qemu is self.qemu:
            self._observe()

    def _void(self) -> None:
        """Void the start under way. One that has begun may be past that point."""
        start = self.pending
        if start is None or start.doomed:
            return
        if start.begun and self._engine.chance(0.5):
            start.doomed = True
            return
        start.doomed = not start.begun and self._engine.chance(0.2) and self._engine.now >= self.hung_until_us
        if not start.doomed:
            start.voided = True
            self._host.after(self._engine.span(0.001, 0.3), self._drop, start)

    def _drop(self, start: Start, report: bool = True) -> None:
        """A start is over without a QEMU."""
        start.voided = True
        if self.pending is start:
            self.pending = None
        if report:
            self._observe()

    def _kill_qemu(self, qemu: Qemu) -> None:
        """SIGKILL; in uninterruptible sleep it works only when that is over."""
        if qemu.dying:
            return
        qemu.dying = True
        if self._host.storage_lost_us is None:
            stuck_us = max(0, self.stuck_until_us - self._engine.now)
            self._host.after(stuck_us + self._engine.span(0.001, 0.05), self._gone, qemu, False)
            if not stuck_us:
                return
        self._host.after(us(0.05), self._lose_leader, qemu)

    def _lose_leader(self, qemu: Qemu) -> None:
        """The main thread of a QEMU that is killed ends before the others."""
        qemu.leaderless = True
        if qemu is self.qemu:
            self._observe()

    def wake_up(self) -> None:
        """The storage is back: what was killed while it hung dies now."""
        if self.qemu is not None and self.qemu.dying:
            self._host.after(self._engine.span(0.001, 0.05), self._gone, self.qemu, False)

    def _gone(self, qemu: Qemu, crashed: bool) -> None:
        """QEMU is dead. Its lock goes with it, or a little later."""
        if qemu is not self.qemu:
            return
        self.qemu = None
        if not qemu.arriving and not self._world.has_writer:
            self._world.image.locked_until_us = self._engine.now + (
                self._engine.span(0.0, 10.0) if self._engine.chance(self._world.config.lingering) else 0
            )
        self._world.trace("qemu gone", self._host.name, "crashed" if crashed else "")
        self._observe(crashed)

    def _end_guest(self, qemu: Qemu, crashed: bool) -> None:
        """The guest ends by itself, if it still runs."""
        if qemu is self.qemu and not qemu.dying and not qemu.paused and not qemu.left:
            self._gone(qemu, crashed)

    # ---- faults

    def guest_ends(self, crashed: bool) -> None:
        """The guest powers itself off, or QEMU crashes."""
        if self.qemu is not None:
            self._end_guest(self.qemu, crashed)

    def guest_pauses(self, pause: Pause) -> None:
        """QEMU pauses the guest, or somebody does."""
        qemu = self.qemu
        if qemu is not None and qemu.started and not (qemu.dying or qemu.arriving or qemu.left or qemu.paused):
            qemu.paused, qemu.pause = True, pause
            self._observe()
            self._probe_soon()

    def guest_goes_on(self) -> None:
        """Who has suspended the guest resumes it."""
        if self.qemu is not None and self.qemu.pause is Pause.OPERATOR:
            self.qemu.paused, self.qemu.pause = False, Pause.NONE
            self._observe()

    def _probe_soon(self) -> None:
        """The next look at the storage asks the other nodes, too."""
        if self._adapter is not None:
            self._host.after(self._engine.span(0.0, 2.0), self._adapter.probe)

    def lose_power(self, locked_us: int) -> None:
        """QEMU is gone with the node; the file server keeps its lock for a while."""
        if self.has_writer:
            self._world.image.locked_until_us = self._engine.now + locked_us
        if self.migration is not None and self.migration.copy is not None and not self.migration.copy.complete:
            move = self.migration
            move.target._host.after(self._engine.span(0.1, 30.0), move.target._gone, move.copy, False)
        self.reset()

    # ---- what the guard hears

    def _observe(self, crashed: bool = False) -> None:
        """Report how the VM stands, unless a start or a resume is under way."""
        if self.unpausing is not None:
            return
        if self.qemu is not None and not self.is_off:
            if self.qemu.arriving:
                self._tell(VmSeen(Vm.ARRIVING, self._generation, pid=1))
            elif self.qemu.started:
                seen = Vm.PAUSED if self.qemu.paused else Vm.RUNNING
                self._tell(VmSeen(seen, self._generation, pid=1, pause=self.qemu.pause))
            elif self.pending is None and self._adapter is not None:
                self._host.after(self._engine.span(0.02, 0.4), self._started, self.qemu)
        elif self.pending is None:
            self._tell(VmSeen(Vm.OFF, self._generation, crashed=crashed))

    def _tell(self, event: VmSeen | StartFailed | Moved) -> None:
        """Post an event, later, but never before an earlier one."""
        adapter = self._adapter
        if adapter is None:
            return
        slow_s = self._host.slow_reports_s if self._engine.chance(0.5) else 0.0
        self._told_us = max(self._told_us, self._engine.now + self._engine.span(0.0002, 0.01 + slow_s))
        self._host.after(self._told_us - self._engine.now, adapter.post, event)
