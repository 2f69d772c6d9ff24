"""The VM on this node: started, watched and shut down through libvirt, killed without it.

OFF is the kernel's word: the VM's slice is not populated (:mod:`mnha.fencer.slices`). What runs of it outside of its
slice, which libvirt never makes by itself, is an error that is told, and is killed too.

A start is the dangerous order: libvirtd may hang with it and carry it out much later. So OFF is reported only
when the slice is empty **and** no start is under way; and a kill that meets a start under way which
does not end kills libvirtd, which voids the start. (Waiting instead was rejected: the lease does not wait.
Starting the VM paused was rejected too: the resume would be just such an order.) systemd starts libvirtd again,
and running VMs outlive it. Where the guard is not there to do that, the slice is frozen from T on.

To resume a VM that a migration has brought is such an order too, and is treated as a start. Until then it is ARRIVING,
which is told by its process alone: its command line says that it was started for an incoming migration, and no mark in
/run, left *before* each resume, names it.

To resume a VM that QEMU has paused for its disk's sake is such an order as well: carried out late, it would resume what
a migration brings by then. It may fail without harm: the VM stands paused as before.

A start outlives the guard that ordered it, too: so it leaves a mark in /run while it is under way, and the next guard,
which finds the mark, voids the start before it believes that the VM is off.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from ...core.model import Pause, Vm
from ...core.pauses import BY_ITSELF
from ...core.ports import Event, Moved, StartFailed, VmSeen
from ...errors import FailedError
from ...fencer.slices import KernelSlices
from ...guest.domain import with_epoch
from ..threads import Fault, Forever
from .asking import Asker, Told
from .migration import Route
from .moves import Moves
from .processes import Process, birth_of, is_incoming, is_qemu_of, kill_all, libvirt_pids, qemu_pids

log = logging.getLogger(__name__)

URI = "qemu:///system"
RECONNECT_S = 1.0
ALIVE_S = 5.0
"""How often the connection is looked at itself; libvirt tells of its end, too."""
BEAT_MS, EVENTS_HANG_S = 5000, 20.0
"""libvirt's events come round so often at the least, and hang after that time."""
ORDER_HANGS_S, SCAN_HANGS_S = 90.0, 30.0
"""After this time an order to libvirt, and a look at what runs, are told to hang."""
SCAN_S = 5.0
COUNT_S = 0.5
"""How often libvirt is asked how far a migration is."""
STRAY_S = 1.0
"""How long a QEMU may be outside of its slice: one that libvirt has just begun is put there before long."""
CONFIRM_S = 0.25
"""How long one round of a kill waits for QEMU to be gone; the guard repeats a kill that is not confirmed."""
VOID_AFTER_S = 0.5
"""How long a kill lets a start under way end by itself before it kills libvirtd."""
SETTLE_S = 1.0
"""How long libvirt may take to say how a QEMU ended that is gone, and how long its helpers may outlive it."""
UNIDENTIFIED_S = 5.0
"""How long something in the slice may take to become a QEMU: libvirt puts a process there before it is one."""
LOOK_AGAIN_S = 0.02

CLEAN_ENDS = (libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED)
"""What libvirt says of a QEMU that ended by the guest's own wish, or because it goes on elsewhere."""

SUSPENDED_BY_SOMEBODY = (
    libvirt.VIR_DOMAIN_PAUSED_USER,
    libvirt.VIR_DOMAIN_PAUSED_SAVE,
    libvirt.VIR_DOMAIN_PAUSED_DUMP,
    libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT,
    libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT,
)
"""Why libvirt says that a domain is paused, where somebody has asked for it."""
STOPPED_TO_MOVE = (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED)
"""What libvirt says of a guest that is stopped at a migration's source, to go on at its target."""
NO_SPACE = "enospc"
"""libvirt's word for it, in the event of an I/O error."""

# QEMU's own words when another process has the image open; libvirt has no error code for it.
_LOCKED_WORDS = ('Failed to get "write" lock', "Failed to get shared", "Is another process using the image")

# Without machined: the group of another name, into which libvirt would put QEMU then, and which it does not make. With
# one that does not start: its name on the bus.
_UNPLACED_WORDS = ("/mnha.partition/", "org.freedesktop.machine1")


def explained(error: str) -> str:
    """libvirt's error, with what to do where its words do not say it."""
    if any(words in error for words in _UNPLACED_WORDS):
        return f"{error}; libvirt puts a VM into its slice by systemd-machined: apply states.hypervisor, and unmask it"
    if "Failed to connect socket" in error:
        return f"{error}; `systemctl start libvirtd`"
    return error


def mark_of(run: Path, vm: str) -> Path:
    """The file that says that a start of `vm` is under way; `run` is the folder of the guard's socket."""
    return run / f"{vm}.starting"


def resumed_mark_of(run: Path, vm: str) -> Path:
    """The file that names the process of `vm` that was resumed after a migration; `run` as above."""
    return run / f"{vm}.resumed"


def void_start(mark: Path) -> None:
    """Make sure that a start whose mark is there, ordered by whomever, can't make a QEMU any more."""
    if mark.exists():
        log.error("%s: a start was under way; killing libvirtd to void it", mark)
        while not kill_all(libvirt_pids(), CONFIRM_S):
            log.error("libvirtd is not gone %g s after SIGKILL", CONFIRM_S)
        mark.unlink(missing_ok=True)


class Connection:
    """A connection to libvirtd that comes back by itself, and its event loop.

    It is used for events alone. Who calls libvirt has a connection of its own, one for each thread: a process in which
    a connection ends under two threads that wait on it for an answer is ended by SIGSEGV (seen with libvirt 9.0, when
    libvirtd had hung for longer than :meth:`_open` lets it).
    """

    def __init__(self, uri: str = URI) -> None:
        self._uri = uri
        self._connection: Any = None
        self._own = threading.local()
        self._listeners: list[Callable[[str, int, int], None]] = []
        self._io_listeners: list[Callable[[str, str], None]] = []
        self._reboot_listeners: list[Callable[[str], None]] = []
        self.error = "not connected yet"
        self._connector = Forever("libvirt-connect", self._connect)
        self.threads = (Forever("libvirt-events", self._turn_events, limit_s=EVENTS_HANG_S), self._connector)

    def start(self) -> None:
        """Start the event loop and connect."""
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()
        libvirt.virEventAddTimeout(BEAT_MS, lambda _timer, _data: None, None)
        for thread in self.threads:
            thread.start()

    def listen(self, listener: Callable[[str, int, int], None]) -> None:
        """Call `listener(vm, event, detail)` at each lifecycle event, and ``(“”, -1, -1)`` after a
        reconnection.
        """
        self._listeners.append(listener)

    def listen_for_io_errors(self, listener: Callable[[str, str], None]) -> None:
        """Call `listener(vm, reason)` at each I/O error of a disk, in libvirt's words: before it tells of the pause."""
        self._io_listeners.append(listener)

    def listen_for_reboots(self, listener: Callable[[str], None]) -> None:
        """Call `listener(vm)` when a guest begins anew in the same process: it has rebooted, or was reset."""
        self._reboot_listeners.append(listener)

    def get(self) -> Any:
        """The libvirt connection of the thread that asks, and of no other.

        :raises FailedError: there is none now.
        :raises libvirtError: none could be opened.
        """
        if self._connection is None:
            raise FailedError(f"libvirtd does not answer at {self._uri}: {self.error}")
        own = getattr(self._own, "connection", None)
        if own is None or own.isAlive() != 1:
            self._own.connection = own = None  # closed with its last user
            self._own.connection = own = self._open()
        return own

    def _open(self) -> Any:
        """A new connection, which ends when libvirtd has not answered for 15 to 20 s."""
        connection = libvirt.open(self._uri)
        connection.setKeepAlive(5, 3)
        return connection

    def is_alive(self) -> bool:
        """Whether the connection that was given to this thread last still stands. None is opened for that."""
        try:
            return bool(self._own.connection.isAlive() == 1)
        except Exception:  # whatever it was, it can't be relied on
            return False

    @staticmethod
    def _turn_events() -> float:
        """Run libvirt's events, one turn."""
        libvirt.virEventRunDefaultImpl()
        return 0.0

    def _connect(self) -> float:
        """Connect, and stay connected until the connection is gone."""
        connection, callbacks = None, list[int]()
        gone = threading.Event()
        try:
            connection = self._open()
            connection.registerCloseCallback(lambda _connection, _reason, _data: gone.set(), None)
            for event, callback in (
                (libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, self._on_io_error),
                (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._on_reboot),
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
            ):
                callbacks.append(connection.domainEventRegisterAny(None, event, callback, None))
            self._connection, self.error = connection, ""
            self._tell("", -1, -1)
            while not gone.wait(ALIVE_S) and connection.isAlive() == 1:
                self._connector.well()
            self.error = "the connection was closed"
            log.warning("libvirtd closed the connection")
        except libvirt.libvirtError as error:
            self.error = explained(str(error))
        except Exception as error:
            self.error = repr(error)
            raise
        finally:
            self._connection = None
            if connection is not None:
                self._forget(connection, callbacks)
        return RECONNECT_S

    @staticmethod
    def _forget(connection: Any, callbacks: list[int]) -> None:
        """Take back what libvirt holds of a connection; it is closed with its last user then. To close it here was
        rejected: another thread may be about to call it, and would call what is gone.
        """
        with contextlib.suppress(Exception):
            connection.unregisterCloseCallback()
        for callback in callbacks:
            with contextlib.suppress(Exception):
                connection.domainEventDeregisterAny(callback)

    def _on_lifecycle(self, _connection: Any, domain: Any, event: int, detail: int, _data: Any) -> None:
        """Pass an event on; one that can't be understood is a reason to look at all."""
        try:
            about = domain.name(), event, detail
        except Exception:
            log.exception("an event of libvirt can't be read")
            about = "", -1, -1
        self._tell(*about)

    def _on_io_error(
        self, _connection: Any, domain: Any, path: str, alias: str, action: int, reason: str, _data: Any
    ) -> None:
        """Pass an I/O error on."""
        log.warning("I/O error of %s at %s (%s): %s", alias, path, action, reason or "no reason given")
        self._call(self._io_listeners, lambda: (domain.name(), str(reason)))

    def _on_reboot(self, _connection: Any, domain: Any, _data: Any) -> None:
        """Pass a reboot on."""
        self._call(self._reboot_listeners, lambda: (domain.name(),))

    def _tell(self, vm: str, event: int, detail: int) -> None:
        """Call the listeners for lifecycle events."""
        self._call(self._listeners, lambda: (vm, event, detail))

    @staticmethod
    def _call(listeners: list[Callable[..., None]], what: Callable[[], tuple[Any, ...]]) -> None:
        """Call listeners; none may end the event loop."""
        for listener in listeners:
            try:
                listener(*what())
            except Exception:
                log.exception("a listener for libvirt's events failed")


class LibvirtHypervisor:
    """One VM: a :class:`mnha.core.ports.Hypervisor`.

    :param domain_xml: file with its rendered domain.
    :param run: folder for the mark of a start under way; must not outlive a boot.
    :param slices: where libvirt puts its QEMU.
    :param route: how it gets to other nodes.
    :param objection: asked in the moment before the VM is started or resumed: why it must not be; empty: it may.
    :param post: takes the events, from any thread.
    :param tell: takes how a guest ended that was asked to shut down, before the event that says so, from any thread;
        nothing where nobody had asked.
    :ivar moves: the last migration away from here.
    :ivar asker: asks the guest to shut down.
    :param shut_others_out: called before each start, not before a resume, with what tells whether the start is void by
        now; it may wait. :class:`FailedError`: the VM must not be started.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        uuid: str,
        domain_xml: Path,
        run: Path,
        slices: KernelSlices,
        route: Route,
        objection: Callable[[], str],
        post: Callable[[Event], None],
        tell: Callable[[Told | None], None] = lambda told: None,
        shut_others_out: Callable[[Callable[[], bool]], None] = lambda is_void: None,
    ) -> None:
        self._shut_others_out = shut_others_out
        self._connection, self.name, self._uuid, self._domain_xml = connection, name, uuid, domain_xml
        self._slices, self._route, self._objection, self._post = slices, route, objection, post
        self._tell, self.moves = tell, Moves()
        self.asker = Asker(name, lambda: connection.get().lookupByUUIDString(self._uuid), self._is_empty)
        self._strays: list[int] = []
        self._suspects: set[int] = set()
        self._unidentified_s = float("inf")
        self._look_soon = threading.Event()
        self._unknown = ""
        self._fault = ""
        self._mark, self._resumed_mark = mark_of(run, name), resumed_mark_of(run, name)
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._generation = 0
        self._starting = False
        self._voided = 0
        self._killing = False
        self._killed_pid = 0
        self._process: Process | None = None
        self._pause = Pause.NONE
        self._io_reason: str | None = None
        self._arriving = False
        self._moving = 0
        self._stranded: Process | None = None
        self._stopped_detail: int | None = None
        self._stopped = threading.Event()
        self._worker = Forever(f"vm-{name}", self._work, longest_pause_s=0.0)
        self._scanner = Forever(f"vm-{name}-scan", self._scan, limit_s=SCAN_HANGS_S)
        self._launcher, self._killer, self._watcher = (Fault(f"vm-{name}-{what}") for what in ("start", "kill", "end"))
        self.threads = (self._worker, self._scanner, self._launcher, self._killer, self._watcher)

    @property
    def error(self) -> str:
        """Why this node can't be relied on to kill the VM; empty if it can."""
        if self._unknown:
            return f"whether its slice is empty can't be known: {self._unknown}"
        return self._fault or (f"it can't be killed: {self._killer.why}" if self._killer.why else "")

    def open(self) -> None:
        """Void what a guard before this one had begun, start the threads, and look."""
        void_start(self._mark)
        self._connection.listen(self._on_event)
        self._connection.listen_for_io_errors(self._on_io_error)
        self._worker.start()
        self._scanner.start()

    # ---- the port

    def start(self, epoch: int, generation: int) -> None:
        """See :class:`mnha.core.ports.Hypervisor`."""
        self._announce(generation)
        self._orders.put(lambda: self._start(epoch, generation))

    def migrate(self, target: str, generation: int) -> None:
        """See :class:`mnha.core.ports.Hypervisor`. In a thread of its own: other orders go on meanwhile."""
        with self._lock:
            self._moving += 1
        try:
            threading.Thread(
                target=self._migrate, args=(target, generation), name=f"vm-{self.name}-migrate", daemon=True
            ).start()
        except RuntimeError as error:  # no thread left
            self._note_moved(generation, f"the guard can't begin it: {error}", None)

    def abort(self) -> None:
        """See :class:`mnha.core.ports.Hypervisor`."""
        self._orders.put(self._abort)

    def resume(self, generation: int) -> None:
        """See :class:`mnha.core.ports.Hypervisor`. What can't be resumed is killed."""
        self._announce(generation)
        self._orders.put(lambda: self._resume(generation))

    def unpause(self, generation: int) -> None:
        """See :class:`mnha.core.ports.Hypervisor`."""
        self._announce(generation)
        self._orders.put(lambda: self._unpause(generation))

    def shutdown(self) -> None:
        """See :class:`mnha.core.ports.Hypervisor`, and :mod:`.asking`."""
        self._orders.put(functools.partial(self.asker.ask, self.asker.begin()))

    def kill(self) -> None:
        """See :class:`mnha.core.ports.Hypervisor`."""
        with self._lock:
            self._voided = self._generation
            if self._killing:
                return
            self._killing = True
        try:
            threading.Thread(target=self._kill, name=f"vm-{self.name}-kill", daemon=True).start()
        except RuntimeError as error:  # no thread left; the guard repeats it, and has told the fencer
            self._killing = False
            self._killer.note(error)

    # ---- orders

    def _work(self) -> float:
        """Carry out the next order."""
        order = self._orders.get()
        self._worker.expect(ORDER_HANGS_S)
        order()
        return 0.0

    def _announce(self, generation: int) -> None:
        """From now on a start is under way, and nothing is said of the VM until it has ended."""
        with self._lock:
            self._generation, self._starting = generation, True
            self._unidentified_s = float("inf")

    def _start(self, epoch: int, generation: int) -> None:
        """Define the domain with its epoch and start it, unless a kill came in between."""

        def create() -> None:
            xml = with_epoch(self._domain_xml.read_text(encoding="utf-8"), epoch)
            domain = self._connection.get().defineXML(xml)
            self._wait_until_inactive(domain)
            self._shut_others_out(lambda: self._voided >= generation)
            self._begin(generation)
            # A managed save, which somebody may have made by hand, would bring an old memory to a newer disk.
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_FORCE_BOOT)

        self._launch(create, generation)

    def _resume(self, generation: int) -> None:
        """Resume what a migration has brought, unless a kill came in between."""

        def resume() -> None:
            domain = self._connection.get().lookupByUUIDString(self._uuid)
            self._begin(generation)
            self._note_resumed()
            domain.resume()
            self.moves.resume()

        self._launch(resume, generation, on_error=self._kill_processes)

    def _unpause(self, generation: int) -> None:
        """Resume the VM, if it still is its disk for whose sake it stands paused; unless a kill came in between."""

        def unpause() -> None:
            domain = self._connection.get().lookupByUUIDString(self._uuid)
            self._pause = self._pause_of(domain, *domain.state())
            if self._pause in BY_ITSELF:
                self._begin(generation)
                domain.resume()
                self._pause = Pause.NONE

        self._launch(unpause, generation, starts=False)

    def _begin(self, generation: int) -> None:
        """Leave the mark of a start under way.

        :raises FailedError: it was voided in the meantime, or something speaks against it.
        """
        if self._voided >= generation:
            raise FailedError("the start was voided before it began")
        if why := self._objection():
            raise FailedError(why)
        self._stopped.clear()
        self._mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._mark.touch()

    def _note_resumed(self) -> None:
        """Remember, beyond the life of this guard, that the VM's process may run by now.

        :raises FailedError: there is none.
        """
        with self._lock:
            process = self._process
        if process is None:
            raise FailedError("what the migration had brought is gone")
        self._arriving = False
        self._resumed_mark.write_text(birth_of(process.pid), encoding="ascii")

    def _launch(
        self,
        launch: Callable[[], None],
        generation: int,
        on_error: Callable[[], None] = lambda: None,
        *,
        starts: bool = True,
    ) -> None:
        """Start or resume the VM and tell what came of it.

        :param starts: whether it comes to life here; else it was alive before, and is after a failure.
        """
        error, locked = "", False
        try:
            launch()
            self._must_be_in_its_slice()
        except libvirt.libvirtError as failure:
            error = explained(str(failure))
            locked = any(words in error for words in _LOCKED_WORDS)
        except (OSError, FailedError) as failure:
            error = str(failure)
        except Exception as failure:
            log.exception("starting %s", self.name)
            error = repr(failure)
        if starts:
            self._pause = Pause.NONE
        while error and not self._is_void(on_error):
            pass  # until then the start is under way, and the VM not off
        with contextlib.suppress(OSError):  # the next guard would void it once more
            self._mark.unlink(missing_ok=True)
        if error and starts:
            self._post(StartFailed(generation, error, locked))
        elif error:
            log.warning("%s stays paused: %s", self.name, error)
        with self._lock:
            self._starting = False
        self._look()

    def _is_void(self, on_error: Callable[[], None]) -> bool:
        """Make sure that nothing comes of a start that has failed; whether that is done. Else it waits for a moment."""
        try:
            self._find_strays()
            if self._strays:
                self._kill_processes()
            if not self._connection.is_alive():
                void_start(self._mark)  # the call ended because the connection did: libvirtd may still carry it out
            on_error()
        except Exception as error:
            time.sleep(self._launcher.note(error))
            return False
        self._launcher.over()
        return True

    def _must_be_in_its_slice(self) -> None:
        """Look where libvirt has put the QEMU that it says is running.

        :raises FailedError: not where the kernel could kill it at its moment.
        """
        if self._is_empty() and (pids := qemu_pids(self._uuid)):
            raise FailedError(
                f"libvirt did not put QEMU (process {pids[0]}) into the slice {self._slices.path(self.name).name}:"
                " this host's libvirt does not use control groups of version 2"
            )

    def _migrate(self, target: str, generation: int) -> None:
        """Migrate the VM away and tell how that ended, whatever it was."""
        error, process, self._stranded = "", self._process, None
        over = threading.Event()
        self.moves.begin(target)
        with contextlib.suppress(RuntimeError):  # no thread left: then nobody hears how far it is
            threading.Thread(target=self._count, args=(over,), name=f"vm-{self.name}-count", daemon=True).start()
        try:
            self._route.send(self._connection.get().lookupByUUIDString(self._uuid), target)
        except (libvirt.libvirtError, FailedError) as failure:
            error = str(failure)
        except Exception as failure:
            log.exception("migrating %s to %s", self.name, target)
            error = repr(failure)
        over.set()
        self._note_moved(generation, error, process)
        self._count_once(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
        self.moves.end(error)

    def _count(self, over: threading.Event) -> None:
        """Ask libvirt now and then how far a migration is, until that is `over`."""
        while not over.wait(COUNT_S):
            self._count_once()

    def _count_once(self, flags: int = 0) -> None:
        """Ask libvirt how far a migration is, or was."""
        try:
            stats = self._connection.get().lookupByUUIDString(self._uuid).jobStats(flags)
            if stats.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
                self.moves.count(stats)
        except Exception as error:  # whatever it was: only people want to know, and the migration goes on
            log.debug("how far the migration of %s is can't be known: %s", self.name, error)

    def _note_moved(self, generation: int, error: str, process: Process | None) -> None:
        """Tell how a migration of `process` has ended."""
        self._post(Moved(generation, error))
        with self._lock:
            self._moving -= 1
            self._stranded = process if error else None
        self._orders.put(self._ask_state)

    def _abort(self) -> None:
        """Ask libvirt to abort the migration; the call that waits for its end returns then."""
        try:
            self._connection.get().lookupByUUIDString(self._uuid).abortJob()
        except (libvirt.libvirtError, FailedError) as error:
            log.warning("can't abort the migration of %s: %s", self.name, error)

    def _wait_until_inactive(self, domain: Any) -> None:
        """Let libvirt notice the end of a QEMU that is seen to be gone; until then it would refuse a start."""
        end_s = time.monotonic() + SETTLE_S
        while domain.isActive() and self._is_empty() and time.monotonic() < end_s:
            time.sleep(LOOK_AGAIN_S)

    def _kill(self) -> None:
        """One attempt to make sure that nothing is left; the guard repeats it."""
        try:
            began_s = time.monotonic()
            self._kill_processes()
            while self._starting and time.monotonic() - began_s < VOID_AFTER_S:
                time.sleep(LOOK_AGAIN_S)
                self._kill_processes()
            if self._starting:
                log.error("a start of %s is under way and does not end: killing libvirtd to void it", self.name)
                kill_all(libvirt_pids(), CONFIRM_S)
                self._wait_for_start_to_end()
                self._kill_processes()
            self._look()
        except Exception as error:
            self._killer.note(error)
        finally:
            self._killing = False

    def _kill_processes(self) -> None:
        """SIGKILL all that is in the slice, and what was found outside of it, and wait a moment."""
        with self._lock:
            process = self._process
        self._killed_pid = process.pid if process else self._killed_pid
        failed = False
        for kill in (self._kill_slice, self._kill_strays):
            try:
                kill()
            except Exception as error:
                failed = True
                self._killer.note(error)
        if not failed:
            self._killer.over()
        end_s = time.monotonic() + CONFIRM_S
        while not self._is_empty() and time.monotonic() < end_s:
            time.sleep(LOOK_AGAIN_S / 4)
        if not self._is_empty():
            log.error("%s is not gone %g s after SIGKILL: %s", self.name, CONFIRM_S, self._inside())

    def _kill_slice(self) -> None:
        """SIGKILL all that is in the slice."""
        if not self._is_empty():
            log.warning("SIGKILL to all of %s: %s", self.name, self._inside())
            self._slices.kill(self.name)

    def _kill_strays(self) -> None:
        """SIGKILL what was found outside of the slice."""
        if strays := self._strays:
            log.warning("SIGKILL to QEMU of %s outside of its slice: %s", self.name, strays)
            if kill_all(strays, CONFIRM_S):
                self._strays = []

    def _inside(self) -> list[int] | str:
        """What is in the slice, for the log: that it can't be listed holds no kill up."""
        try:
            return self._slices.pids(self.name)
        except Exception as error:
            return repr(error)

    def _is_empty(self) -> bool:
        """Whether the slice is empty, by the kernel's word; not known is not empty."""
        try:
            empty = self._slices.is_empty(self.name)
        except Exception as error:
            if self._unknown != str(error):
                log.error("whether the slice of %s is empty can't be known: %s", self.name, error)
            self._unknown = str(error)
            return False
        self._unknown = ""
        return empty

    def _find_strays(self) -> None:
        """Look for what runs of the VM outside of its slice: for people, and to be killed. One that is on its way into
        its slice is no stray, so what is found is looked at twice. Until then nothing is said of the VM, for it may be
        alive.
        """
        outside = self._outside()
        try:
            if not outside <= set(self._strays):
                self._suspects = outside
                time.sleep(STRAY_S)
                outside &= self._outside()
            self._strays = sorted(outside)
        finally:
            self._suspects = set()
        self._fault = f"QEMU runs outside of its slice: process {self._strays[0]}" if self._strays else ""

    def _outside(self) -> set[int]:
        """Each QEMU of the VM that is not in its slice now."""
        found = set(qemu_pids(self._uuid))
        return {pid for pid in found - set(self._slices.pids(self.name)) if is_qemu_of(pid, self._uuid)}

    def _wait_for_start_to_end(self) -> None:
        """Give the call into the killed libvirtd a moment to return."""
        end_s = time.monotonic() + VOID_AFTER_S
        while self._starting and time.monotonic() < end_s:
            time.sleep(LOOK_AGAIN_S)

    # ---- observation

    def _on_event(self, vm: str, event: int, detail: int) -> None:
        """libvirt's lifecycle events, in its event thread."""
        if vm not in ("", self.name):
            return
        if self._moving and (event, detail) == STOPPED_TO_MOVE:
            self.moves.stop()
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self._stopped_detail = detail
            self._stopped.set()  # the process' end is what counts; its watcher reports it
        elif event != libvirt.VIR_DOMAIN_EVENT_DEFINED:
            self._orders.put(self._ask_state)

    def _scan(self) -> float:
        """Look at the start, and now and then: nothing may run unseen, whatever libvirt says."""
        self._find_strays()
        if self._strays and not self._starting:
            log.error("%s: %s", self.name, self._fault)
            self._kill_processes()
        if self._is_left_over() and not self._starting:
            log.error("what is left in the slice of %s is no QEMU", self.name)
            self._kill_processes()
        self._look()
        if not self._connection.error and self._orders.empty():
            self._orders.put(self._ask_state)  # an event may have been lost
        self._scanner.well()
        if self._look_soon.wait(SCAN_S):
            self._look_soon.clear()
            return 5 * LOOK_AGAIN_S
        return 0.0

    def _look(self) -> None:
        """Report how the VM stands, by its slice alone: libvirt may hang and is not asked here."""
        with self._lock:
            generation = self._generation
            if self._starting:
                return
            if self._process is not None and self._process.wait(0):
                return  # its watcher is about to report the end, and knows more of it
            process = self._process or self._adopt()
            if process is None and (self._suspects or self._is_unidentified()):
                return
        if process is None and not self._strays and self._is_empty():
            self._killer.over()  # whoever has killed it
            self._post(VmSeen(Vm.OFF, generation))
        else:
            alive = Vm.ARRIVING if self._arriving else Vm.PAUSED if self._pause else Vm.RUNNING
            self._post(VmSeen(alive, generation, pid=process.pid if process else None, pause=self._pause))

    def _adopt(self) -> Process | None:
        """Find the VM's QEMU in its slice and watch for its end; what else stays there, if that is all."""
        self._process = None
        pids = self._slices.pids(self.name)
        qemus = [pid for pid in pids if is_qemu_of(pid, self._uuid)]
        if qemus or not pids:
            self._unidentified_s = float("inf")
        for pid in qemus or (pids if self._is_left_over() else []):
            try:
                self._process = Process(pid)
            except ProcessLookupError:
                continue
            self._stopped.clear()
            self._pause, self._io_reason = Pause.NONE, None
            self._arriving = is_incoming(pid) and not self._was_resumed(pid)
            self._begin_watch(self._process)
            break
        return self._process

    def _begin_watch(self, process: Process) -> None:
        """Watch for the end of the process that was just found. Without a thread for it, it was not found."""
        try:
            threading.Thread(target=self._watch, args=(process,), name=f"vm-{self.name}-end", daemon=True).start()
        except RuntimeError:
            self._process = None
            process.close()
            raise

    def _is_unidentified(self) -> bool:
        """Whether the slice holds something that may become a QEMU in a moment: then it is looked at again soon."""
        if not self._slices.pids(self.name):
            return False
        self._unidentified_s = min(self._unidentified_s, time.monotonic())
        self._look_soon.set()
        return not self._is_left_over()

    def _is_left_over(self) -> bool:
        """Whether what is in the slice has been no QEMU for so long that it is what is left of one."""
        return time.monotonic() - self._unidentified_s > UNIDENTIFIED_S

    def _was_resumed(self, pid: int) -> bool:
        """Whether this guard, or one before it, has resumed this very process, or has at least begun to."""
        try:
            return self._resumed_mark.read_text(encoding="ascii") == birth_of(pid)
        except OSError:  # no mark, or no process
            return False

    def _watch(self, process: Process) -> None:
        """Wait for the end of a QEMU, and report it with what libvirt knows of its cause."""
        crashed = None
        try:
            process.wait(None)
            if process.pid != self._killed_pid:
                self._stopped.wait(SETTLE_S)
            killed = process.pid == self._killed_pid  # the fencer may have been first
            self._outlast_helpers(process)
            clean = self._stopped.is_set() and self._stopped_detail in CLEAN_ENDS
            crashed = not clean and not killed
        except Exception as error:  # the next scan finds out how things stand
            self._watcher.note(error)
        with self._lock:
            current, generation = self._process is process and not self._starting, self._generation
            if self._process is process:
                self._process = None
        process.close()
        if crashed is not None and current and not (self._strays or self._suspects) and self._is_empty():
            self._watcher.over()
            if killed or (clean and self._stopped_detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN):
                self._tell(self.asker.over(killed=killed))
            self._post(VmSeen(Vm.OFF, generation, crashed=crashed))

    def _outlast_helpers(self, process: Process) -> None:
        """Wait until the slice is empty as well; kill what stays there without its QEMU."""
        end_s = time.monotonic() + SETTLE_S
        while self._process is process and not self._starting and not self._is_empty():
            if time.monotonic() > end_s:
                self._kill_processes()
            time.sleep(LOOK_AGAIN_S / 4)

    def _ask_state(self) -> None:
        """Ask libvirt whether a live VM is paused; while it does not answer, a live process counts as
        running.
        """
        try:
            self._look()
            domain = self._connection.get().lookupByUUIDString(self._uuid)
            state, reason = domain.state()
            self._pause = self._pause_of(domain, state, reason)
            if self._arriving and state == libvirt.VIR_DOMAIN_RUNNING:
                log.error("%s was resumed here by somebody else than this guard", self.name)
                self._note_resumed()
            elif self._pause and reason == libvirt.VIR_DOMAIN_PAUSED_MIGRATION:
                self._go_on(domain)
            elif not self._arriving and state != libvirt.VIR_DOMAIN_SHUTOFF:
                self._abort_orphan(domain)
        except (libvirt.libvirtError, FailedError, OSError) as error:
            log.info("libvirt does not tell the state of %s: %s", self.name, error)
        finally:
            self._look()

    def _pause_of(self, domain: Any, state: int, reason: int) -> Pause:
        """Why a domain in that state stands paused."""
        if state != libvirt.VIR_DOMAIN_PAUSED:
            return Pause.OTHER if state == libvirt.VIR_DOMAIN_PMSUSPENDED else Pause.NONE
        if reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
            return Pause.NO_SPACE if self._has_no_space(domain) else Pause.IO_ERROR
        return Pause.OPERATOR if reason in SUSPENDED_BY_SOMEBODY else Pause.OTHER

    def _has_no_space(self, domain: Any) -> bool:
        """Whether an I/O error was for want of space, by its event; of one from before this guard began, by what QEMU
        has kept. (That alone does not do: QEMU 7.2 keeps the first error there until it ends.)
        """
        if self._io_reason is None:
            errors = domain.diskErrors() or {}
            self._io_reason = NO_SPACE if libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE in errors.values() else ""
        return self._io_reason == NO_SPACE

    def _on_io_error(self, vm: str, reason: str) -> None:
        """libvirt's events of I/O errors, in its event thread."""
        if vm == self.name:
            self._io_reason = reason

    def _abort_orphan(self, domain: Any) -> None:
        """Abort a migration that a guard before this one has begun: nobody hands the lease over at its end."""
        job = {} if self._moving else domain.jobStats()
        if job.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
            log.warning("aborting a migration of %s that a guard before this one has begun", self.name)
            domain.abortJob()

    def _go_on(self, domain: Any) -> None:
        """Resume a VM that libvirt paused at the end of a migration that has failed. libvirt does so itself, unless it
        ended, too. What has arrived at the target is killed there in any case.

        Only the very process that was to leave: at a target too libvirt says *paused for migration*, and to resume what
        is still arriving would let it run as soon as it is there.
        """
        with self._lock:
            if self._moving:  # libvirt has paused it for this one, and will say how it ended
                return
            process, self._stranded = self._stranded, None
        if process is None or process is not self._process or self._arriving:
            return
        log.warning("%s stays here after a failed migration: resuming it", self.name)
        domain.resume()
        self._pause = Pause.NONE
