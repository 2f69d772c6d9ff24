"""``mnha-guard``: the process around the guards of one node.

One thread, the main one, owns the guards: it takes events from a queue, gives them to a guard, and wakes by
itself when a guard wants to act on the time. All waiting is done by the adapters' threads.

    python3 -m mnha.daemon --config /etc/mnha/guard.json            run (systemd's Type=notify)
    python3 -m mnha.daemon --config /etc/mnha/guard.json --check    say whether this node is ready, and why not
    python3 -m mnha.daemon --config /etc/mnha/guard.json --try      say whether this version can be run with this
    configuration at all (systemd's ExecReload, before a running guard is replaced by it)
    python3 -m mnha.daemon --config /etc/mnha/guard.json --stop     shut its VMs down, give their leases back and end
    (systemd's ExecStop); while systemd restarts it, nothing of that

SIGTERM and SIGHUP end the process and touch no running VM: the fencer lets it run until the moment that was last
granted, and systemd starts the next guard, which goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import datetime
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__, keys
from ..core import lease as rules
from ..core.guard import OUTCOME_S, Guard, Limits
from ..core.model import Move, Op, Run, View, Vm
from ..core.ports import Ended, Event, MaintenanceSeen, Ordered
from ..core.timing import Timings
from ..errors import ConfigurationError, DeadlineError, InputError, MnhaError, from_wire
from ..fencer.slices import KernelSlices
from ..host.clock import boottime_s
from ..host.systemd import notify, stops
from . import client
from .adapters import fencer
from .adapters.consul import Servers
from .adapters.health import GuestHealth
from .adapters.lease_store import ConsulStore
from .adapters.libvirt import Connection, LibvirtHypervisor
from .adapters.maintenance import Maintenance
from .adapters.migration import Route
from .adapters.other_nodes import OtherNodes
from .adapters.peers import Peers
from .adapters.probe import free_memory_mib
from .adapters.processes import Process
from .adapters.publisher import Publisher
from .checks import Of, of_node, told
from .loop import Loop, Trouble, faults
from .prober import Prober
from .readiness import check, report
from .server import Request, Server, Subscribers

log = logging.getLogger("mnha.guard")

CONFIG_VERSION = 1
UNIT = "mnha-guard.service"
FENCER_WAIT_S = 0.5
"""How long a guard that begins waits for the fencer. Both may have ended at once, under a VM whose moment is there:
then this and both starts fit into K."""
LONGEST_SLEEP_S = 0.5
PET_EVERY_S = 0.5
END_EXTRA_S = 30.0
"""How long, beyond the time that a guest may take to shut down, an end may take: a kill, and Consul's answers."""
CALM_LIMIT_S = 3.0
"""How long a process that is told to end (SIGTERM) waits for a start or a migration to end."""
DEFAULT_WAIT_S = 30.0
LONGEST_WAIT_S = 3600
LAST_WORDS_S, LAST_RECORDS_S = 0.3, 1.7
"""How long a process that ends, or is replaced, waits for its answers and its records to be sent, at the most."""
FAILED_PAUSE_S = 0.1
FAULT_S = 10.0
"""How long the status tells of what nobody expected in the main loop: it does much else meanwhile, and well."""
MEMORY_STEP_MIB = 256
REALTIME_PRIORITY = 50
STACK_BYTES = 512 * 1024
SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def load(path: Path) -> dict[str, Any]:
    """Read the guard's configuration.

    :raises ConfigurationError: it is missing, not JSON, or of another version.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}; apply states.guard") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON: {error}; apply states.guard") from error
    if not isinstance(config, dict) or config.get("v") != CONFIG_VERSION:
        raise ConfigurationError(
            f"{path} is not of version {CONFIG_VERSION}, which this guard knows; apply states.guard"
        )
    return config


@dataclasses.dataclass
class Protected:
    """One VM under guard, with its adapters."""

    name: str
    guard: Guard
    store: ConsulStore
    hypervisor: LibvirtHypervisor
    prober: Prober
    health: GuestHealth
    trouble: Trouble
    rest_until_s: float = float("-inf")
    """Until when the guard is not asked to act on the time, for the last attempt failed in a way nobody expected."""

    @property
    def wake_s(self) -> float:
        """When the guard is due."""
        try:
            return max(self.guard.wake_s(), self.rest_until_s)
        except Exception as error:
            return boottime_s() + self.trouble.note(error)

    def act(self, event: Event | None = None) -> None:
        """Let the guard take an event, or act on the time alone. What nobody expected in it is told, ends neither this
        process nor what the other guards do, and is not tried again at once. The VM is the fencer's matter as ever: it
        lives no longer than was granted.
        """
        now_s = boottime_s()
        if event is None and now_s < self.rest_until_s:
            return
        try:
            if event is None:
                self.guard.tick(now_s)
            else:
                self.guard.handle(event, now_s)
        except Exception as error:
            self.rest_until_s = now_s + self.trouble.note(error)


class GuardJournal:
    """Logs, history and answers of one VM's guard: a :class:`mnha.core.ports.Journal`."""

    def __init__(self, daemon: Daemon, vm: str) -> None:
        self._daemon, self._vm = daemon, vm
        self._count = 0
        self.trouble = Trouble(f"journal-{vm}", FAULT_S)

    def log(self, text: str) -> None:
        """See :class:`mnha.core.ports.Journal`."""
        with self._whatever_comes():
            log.info("%s: %s", self._vm, text)
            self._daemon.subscribers.publish({"vm": self._vm, "at_s": boottime_s(), "text": text})

    def note(self, event: str, text: str, **data: Any) -> None:
        """See :class:`mnha.core.ports.Journal`."""
        with self._whatever_comes():
            log.warning("%s: %s: %s", self._vm, event, text)
            now = datetime.datetime.now(datetime.UTC)
            self._count += 1
            record = {
                "at": now.isoformat(timespec="milliseconds"),
                "boottime_s": boottime_s(),
                "node": self._daemon.node,
                "vm": self._vm,
                "event": event,
                "text": text,
                **data,
            }
            self._daemon.subscribers.publish(record)
            name = f"{now:%Y%m%dT%H%M%S.%f}Z-{self._daemon.node}-{self._count}"
            self._daemon.publisher.append(keys.full(self._daemon.cluster, keys.HISTORY), name, record)
            if event == "started":
                start = {key: record[key] for key in ("at", "node", "epoch", "boottime_s")}
                self._daemon.publisher.put(keys.full(self._daemon.cluster, keys.last_start(self._vm)), start)

    def answer(self, ticket: int, kind: str, message: str, data: dict[str, Any]) -> None:
        """See :class:`mnha.core.ports.Journal`."""
        self._daemon.answers.put(ticket, (kind, message, data))
        with self._whatever_comes():
            log.info("%s: order %d: %s: %s", self._vm, ticket, kind, message)

    @contextlib.contextmanager
    def _whatever_comes(self) -> Iterator[None]:
        """What is written for people must not keep a guard from what it is about to do."""
        try:
            yield
        except Exception as error:
            self.trouble.note(error)


class Answers:
    """Where those who gave an order wait for its end."""

    def __init__(self) -> None:
        self._waiting: dict[int, queue.SimpleQueue[tuple[str, str, dict[str, Any]]]] = {}
        self._last = 0
        self._lock = threading.Lock()

    def ticket(self) -> int:
        """A new number to wait for."""
        with self._lock:
            self._last += 1
            self._waiting[self._last] = queue.SimpleQueue()
            return self._last

    @property
    def awaited(self) -> int:
        """How many have no answer yet."""
        with self._lock:
            return sum(waiting.empty() for waiting in self._waiting.values())

    def put(self, ticket: int, answer: tuple[str, str, dict[str, Any]]) -> None:
        """Answer; nobody may be waiting any more."""
        if waiting := self._waiting.get(ticket):
            waiting.put(answer)

    def wait(self, ticket: int, timeout_s: float) -> dict[str, Any]:
        """Return the answer's data with its message.

        :raises MnhaError: of the answer's kind; DeadlineError when none came.
        """
        try:
            kind, message, data = self._waiting[ticket].get(timeout=timeout_s)
        except queue.Empty:
            raise DeadlineError(f"no outcome within {timeout_s:g} s; see the guard's status") from None
        finally:
            with self._lock:
                self._waiting.pop(ticket, None)
        if kind != "ok":
            raise from_wire({"kind": kind, "message": message})
        return {"message": message, **data}


class Daemon:
    """The guards of one node and their main loop.

    :param config: what :func:`load` returned.
    :param granted: what the fencer lets run: VM -> (until, K).
    """

    def __init__(self, config: dict[str, Any], granted: Mapping[str, tuple[float, float]]) -> None:
        self._config = config
        self.node, self.cluster = config["node"], config["cluster"]
        self._events: queue.SimpleQueue[tuple[str, Event] | Callable[[], None]] = queue.SimpleQueue()
        consul = config["consul"]
        self._servers = Servers(consul["servers"], Path(consul["ca"]), Path(consul["token_file"]))
        self.publisher = Publisher(self._servers)
        self._peers = Peers(self._servers, [node for node in config["nodes"] if node != self.node])
        self._maintenance = Maintenance(
            self._servers, keys.full(self.cluster, keys.maintenance(self.node)), self._tell_of_maintenance
        )
        self._other_nodes = OtherNodes(self._servers, keys.folder(self.cluster), self.node, self._peers.seen)
        self.subscribers, self.answers = Subscribers(), Answers()
        self._connection = Connection()
        self._started_s = boottime_s()
        self._record: dict[str, Any] = {}
        self._ending_s: float | None = None
        self._replaced_by_s: float | None = None
        self._realtime = self._memory_locked = False
        self._trouble = Trouble("main", FAULT_S)
        self._server = Server(Path(config["socket"]), self._handlers(), {"events": self._stream})
        self._fencer = fencer.Link(Path(config["fencer"]["socket"]))
        self._slices = KernelSlices(Path(config["fencer"]["slices"]))
        self._journals: list[GuardJournal] = []
        self._protected: dict[str, Protected] = {
            vm["name"]: self._protect(vm, *granted.get(vm["name"], (None, 0.0))) for vm in config["vms"]
        }

    def _protect(self, vm: dict[str, Any], granted_until_s: float | None, granted_kill_s: float) -> Protected:
        """Put one VM under guard."""
        name, timings = vm["name"], Timings.from_dict(self._config["timings"])

        def post(event: Event) -> None:
            self._events.put((name, event))

        store = ConsulStore(self._servers, keys.full(self.cluster, keys.vm(name)), post, timings.deadline_s)
        run = run_folder(self._config)
        route = Route.of(self._config, vm)
        hypervisor = LibvirtHypervisor(
            self._connection, name, vm["uuid"], Path(vm["domain_xml"]), run, self._slices, route, post
        )
        restarts = vm.get("restarts", {})
        journal = GuardJournal(self, name)
        guard = Guard(
            self.node,
            timings,
            Limits(
                failed_starts=restarts.get("max", 3) + 1,
                window_s=restarts.get("window_s", 600.0),
                shutdown_s=vm.get("stop_timeout_s", 60.0),
                storage_s=self._config.get("storage_lost_after_s", 0.0) or float("inf"),
                masterless_s=self._config.get("masterless_takeover_after_s", 0.0),
                ranking=tuple(vm.get("ranking", ())),
            ),
            store=store,
            hypervisor=hypervisor,
            fencer=self._fencer.for_vm(name, post),
            journal=journal,
            now_s=boottime_s(),
            granted_until_s=granted_until_s,
            granted_kill_s=granted_kill_s,
        )
        prober = Prober(
            self.node,
            vm,
            is_running=lambda: guard.view.vm is not Vm.OFF,
            libvirt_error=lambda: self._connection.error,
            fencer_error=lambda: self._fencer.error or hypervisor.error or self._fencer.fault(name),
            watchdog_error=lambda: str(self._fencer.watchdog()["objection"]),
            storage_elsewhere=self._other_nodes.with_storage,
            changed=post,
        )
        health = GuestHealth(self._connection, vm, pid=lambda: guard.vm_pid if guard.view.vm is Vm.RUNNING else None)
        self._journals.append(journal)
        return Protected(name, guard, store, hypervisor, prober, health, Trouble(f"guard-{name}", FAULT_S))

    # ---- main loop

    def run(self) -> None:
        """Run until a signal, or until the order to end is carried out: then with the VMs off."""
        # No thread is ever interrupted by a signal: the loop takes it. One that comes after the loop changes nothing:
        # the process is ending.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._become_prompt()
        threading.stack_size(STACK_BYTES)
        self._fencer.start()
        self._connection.start()
        self.publisher.start()
        self._peers.start()
        self._maintenance.start()
        for protected in self._protected.values():
            protected.hypervisor.open()
            protected.prober.start()
            protected.health.start()
            protected.store.start()
        self._server.start()
        log.warning("guard %s of node %s, cluster %s", __version__, self.node, self.cluster)
        notify("READY=1")
        self._loop()
        notify("STOPPING=1")
        end_s = boottime_s() + last_s([protected.guard.view for protected in self._protected.values()], boottime_s())
        self._let_answers_out(min(end_s, boottime_s() + LAST_WORDS_S))
        self.publisher.drain(end_s - boottime_s())

    def _let_answers_out(self, end_s: float) -> None:
        """Wait until what has been answered was sent, though not for long."""
        while self._server.answering > self.answers.awaited + self.subscribers.count and boottime_s() < end_s:
            time.sleep(0.01)

    def _loop(self) -> None:
        """Take events and signals, and act on the time, until all is done. Each part is tried for itself: what nobody
        expected in one keeps no other from its turn.
        """
        next_pet_s, over = 0.0, False
        while not over:
            self._try(self._take_event)
            if (now_s := boottime_s()) >= next_pet_s:
                next_pet_s = now_s + PET_EVERY_S
                self._try(self._tell)
            self._try(self._take_signals)
            over = self._try(self._is_over) or False

    def _try(self, part: Callable[[], bool | None]) -> bool | None:
        """Run a part of the main loop; what nobody expected of it is told, and not tried again at once."""
        try:
            return part()
        except Exception as error:
            time.sleep(min(self._trouble.note(error), FAILED_PAUSE_S))
            return None

    def _take_event(self) -> None:
        """Wait for an event and give it to whom it concerns, or act on the time when that comes first."""
        wake_s = min([protected.wake_s for protected in self._protected.values()], default=float("inf"))
        pause_s = max(0.0, min(wake_s - boottime_s(), LONGEST_SLEEP_S))
        try:
            item = self._events.get(timeout=pause_s) if pause_s else self._events.get_nowait()
        except queue.Empty:
            self._tick()
            return
        if not callable(item):
            self._deliver(*item)
            return
        try:
            item()
        finally:
            self._tick()

    def _take_signals(self) -> None:
        """Take what has come since the loop was here the last time, LONGEST_SLEEP_S ago at the most. SIGHUP waits for
        the end of a start or a migration, SIGTERM not for long.
        """
        while taken := signal.sigtimedwait(SIGNALS, 0):
            patience_s = CALM_LIMIT_S if taken.si_signo == signal.SIGTERM else float("inf")
            self._replaced_by_s = min(self._replaced_by_s or float("inf"), boottime_s() + patience_s)

    def _deliver(self, vm: str, event: Event) -> None:
        """Give an event to its guard, and let every guard act on the time: a busy queue must not put off a
        deadline.
        """
        self._protected[vm].act(event)
        self._tick(but=vm)

    def _tick(self, but: str = "") -> None:
        """Let every guard act on the time, but the one of a VM that has just done so."""
        for protected in self._protected.values():
            if protected.name != but:
                protected.act()

    def _tell_of_maintenance(self, reason: str) -> None:
        """Let every guard know; from the watch's thread."""
        log.warning("this node is %s", reason or "a candidate")
        for name in self._protected:
            self._events.put((name, MaintenanceSeen(reason)))

    def _is_over(self) -> bool:
        """Whether the process may end."""
        guards = [protected.guard for protected in self._protected.values()]
        if self._replaced_by_s is not None and (
            boottime_s() > self._replaced_by_s or all(is_calm(guard.view) for guard in guards)
        ):
            return True
        if self._ending_s is None:
            return False
        if all(guard.done for guard in guards):
            return True
        waited_s = boottime_s() - self._ending_s
        dead = all(guard.view.vm is Vm.OFF for guard in guards)
        longest_s = max(guard.view.shutdown_limit_s for guard in guards)
        return waited_s > longest_s + END_EXTRA_S or (dead and waited_s > guards[0].view.timings.lease_s + longest_s)

    def _end(self, request: Request) -> dict[str, Any]:
        """Shut down what runs here, give it to another node, and end. Answered at once: the process' end tells."""

        def begin() -> dict[str, Any]:
            if self._ending_s is None:
                self._ending_s = boottime_s()
                for name in self._protected:
                    self._deliver(name, Ended(f"the guard of {self.node} was stopped"))
            return {"pid": os.getpid()}

        return self._in_main(begin)

    def _become_prompt(self) -> None:
        """Ask for real-time priority and locked memory; refused in containers, which status shows.

        The threads begun after this have that priority too: they renew and they kill, and one that is kept waiting for
        a core may hold Python's lock meanwhile. Only those that serve clients give it back (`server`).
        """
        try:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(REALTIME_PRIORITY))
            self._realtime = True
        except OSError as error:
            log.info("no real-time priority: %s", error)
        libc = ctypes.CDLL(None, use_errno=True)
        # ONFAULT: what is used stays in memory; the unused part of the threads' stacks takes none.
        self._memory_locked = libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0
        if not self._memory_locked:
            log.info("memory is not locked: %s", os.strerror(ctypes.get_errno()))

    # ---- telling

    def _tell(self) -> None:
        """Pet systemd's watchdog and publish this node's record if it has changed."""
        for name, protected in self._protected.items():
            if seen := protected.prober.overdue():
                self._deliver(name, seen)
        sentences = "; ".join(f"{name}: {p.guard.state or 'starting'}" for name, p in self._protected.items())
        notify(f"WATCHDOG=1\nSTATUS={sentences}")
        record = {
            "v": 1,
            "node": self.node,
            "guard": {
                "version": __version__,
                "vms": {
                    name: {"state": p.guard.state, "vm": p.guard.view.vm, "checks": told(p.prober.checks, Of.VM)}
                    for name, p in self._protected.items()
                },
            },
            "checks": self._checks(),
            "free_memory_mib": free_memory_mib() // MEMORY_STEP_MIB * MEMORY_STEP_MIB,
            "cpus": os.cpu_count(),
        }
        steady = {key: value for key, value in record.items() if key != "free_memory_mib"}
        before = {key: value for key, value in self._record.items() if key != "free_memory_mib"}
        moved_mib = abs(record["free_memory_mib"] - self._record.get("free_memory_mib", 0))
        if steady != before or moved_mib >= 4 * MEMORY_STEP_MIB:
            self._record = record
            self.publisher.put(keys.full(self.cluster, keys.node(self.node)), record)

    def _checks(self) -> dict[str, Any]:
        """The newest results of the checks that concern this node; those of a VM are told with it."""
        return of_node([protected.prober.checks for protected in self._protected.values()])

    def status(self) -> dict[str, Any]:
        """The whole status; in the main thread only."""
        now_s = boottime_s()
        protected = list(self._protected.values())
        contact = protected[0].store.contact if protected else None
        return {
            "v": 1,
            "guard": {
                "version": __version__,
                "pid": os.getpid(),
                "since_s": self._started_s,
                "uptime_s": now_s - self._started_s,
                "realtime": self._realtime,
                "memory_locked": self._memory_locked,
            },
            "cluster": self.cluster,
            "node": self.node,
            "boottime_s": now_s,
            "consul": contact
            and {
                **{key: value for key, value in dataclasses.asdict(contact).items() if key != "heard_s"},
                "heard_s_ago": now_s - contact.heard_s if contact.heard_s > 0 else None,
            },
            "fencer": {"error": self._fencer.error, "about": self._fencer.seen.get("fencer")},
            "watchdog": self._fencer.watchdog(),
            "peers": self._peers.seen(),
            "checks": self._checks(),
            "faults": faults(self._loops()),
            "vms": {
                p.name: {
                    **p.guard.status(now_s),
                    "checks": told(p.prober.checks, Of.VM),
                    "health": dataclasses.asdict(p.health.told()),
                }
                for p in protected
            },
        }

    def _loops(self) -> Iterable[Loop | Trouble]:
        """All that goes on for ever in this process."""
        yield self._trouble
        yield from (journal.trouble for journal in self._journals)
        for one in (self._server, self.publisher, self._peers, self._maintenance, self._fencer, self._connection):
            yield from one.loops
        for protected in self._protected.values():
            yield protected.trouble
            for other in (protected.store, protected.hypervisor, protected.prober, protected.health):
                yield from other.loops

    # ---- requests

    def _handlers(self) -> dict[str, Callable[[Request], dict[str, Any]]]:
        """op -> handler; called in the clients' threads."""
        return {
            "status": lambda request: self._in_main(self.status),
            "takeover": lambda request: self._order(Op.TAKEOVER, request),
            "release": lambda request: self._order(Op.RELEASE, request),
            "migrate": self._migrate,
            "reset": self._reset,
            "stop": self._stop,
            "end": self._end,
        }

    def _in_main(self, function: Callable[[], dict[str, Any]], timeout_s: float = 5.0) -> dict[str, Any]:
        """Run `function` in the main thread, which alone may look at a guard.

        :raises DeadlineError: the main thread does not come to it.
        :raises Exception: what `function` raises.
        """
        results: queue.SimpleQueue[dict[str, Any] | Exception] = queue.SimpleQueue()

        def run() -> None:
            try:
                results.put(function())
            except Exception as error:  # told, but without a pause: others may be asking as well
                self._trouble.note(error)
                results.put(error)

        self._events.put(run)
        try:
            result = results.get(timeout=timeout_s)
        except queue.Empty:
            raise DeadlineError(f"the guard's main loop does not answer within {timeout_s:g} s") from None
        if isinstance(result, Exception):
            raise result
        return result

    def _vm_of(self, request: Request) -> str:
        """The VM a request is about.

        :raises InputError: it is not named though there are several, or not known.
        """
        name = request.get("vm")
        if name is None and len(self._protected) == 1:
            return next(iter(self._protected))
        if not isinstance(name, str) or name not in self._protected:
            known = ", ".join(self._protected) or "none"
            raise InputError(f"no VM {name!r} is under guard on {self.node}; known: {known}")
        return str(name)

    def _order(self, op: Op, request: Request, objection: Callable[[], str] = lambda: "") -> dict[str, Any]:
        """Give an order to a guard, unless the main thread finds an `objection`, and wait for its outcome."""
        vm = self._vm_of(request)
        wait_s, epoch = wait_of(request), request.get("epoch", -1)
        if op is Op.TAKEOVER and (isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0):
            raise InputError("a takeover names the epoch of the lease that it replaces: see the status")
        ticket = self.answers.ticket()
        reason = str(request.get("reason", "ordered by an operator"))[:500]
        target = str(request.get("target", ""))

        def give() -> None:
            if why := objection():
                self.answers.put(ticket, ("refused", why, {}))
            else:
                self._deliver(vm, Ordered(op, ticket, reason, wait_s, epoch, target))

        self._events.put(give)
        # A migration that took too long is aborted, and what came of that is waited for, then not any more.
        return self.answers.wait(ticket, wait_s + 2.0 + (2 * OUTCOME_S if op is Op.MIGRATE else 0.0))

    def _reset(self, request: Request) -> dict[str, Any]:
        """Order a reset; of the process that is meant, if the request says so: it may be another one by now."""
        vm, meant = self._vm_of(request), request.get("vm_pid")
        if meant is not None and (isinstance(meant, bool) or not isinstance(meant, int)):
            raise InputError(f"vm_pid is {meant!r}: give the number that the status tells, or leave it out")

        def objection() -> str:
            found = self._protected[vm].guard.vm_pid
            if meant in (None, found):
                return ""
            return f"{vm} is not process {meant} any more, but {found or 'none'}: see the status"

        return self._order(Op.RESET, request, objection)

    def _migrate(self, request: Request) -> dict[str, Any]:
        """Order a live migration to another node of the cluster."""
        target, others = request.get("target"), [node for node in self._config["nodes"] if node != self.node]
        if target not in others:
            raise InputError(f"{target!r} is no node to migrate to from {self.node}; known: {', '.join(others)}")
        return self._order(Op.MIGRATE, request)

    def _stop(self, request: Request) -> dict[str, Any]:
        """Wait until the VM is off here and the lease given back; the desired state in Consul is what stops it."""
        vm, end_s = self._vm_of(request), boottime_s() + wait_of(request)
        wish_end_s = boottime_s() + 3.0
        while True:
            status = self._in_main(lambda: self._protected[vm].guard.status(boottime_s()))
            lease = status["lease"] or {}
            if status["desired"] != Run.STOPPED and boottime_s() > wish_end_s:
                raise InputError(f"{vm} is desired {status['desired']}, not stopped: set that first")
            if status["desired"] == Run.STOPPED and status["vm"] == Vm.OFF and lease.get("holder") != self.node:
                return {"message": f"{vm} is off on {self.node}", "node": self.node}
            if boottime_s() > end_s:
                raise DeadlineError(f"{vm} is still {status['vm']} on {self.node}: {status['sentence']}")
            time.sleep(0.1)

    def _stream(self, request: Request) -> Iterator[dict[str, Any]]:
        """The stream of events, with the status first."""
        return self.subscribers.subscribe(self._in_main(self.status))


def is_calm(view: View) -> bool:
    """Whether a guard may be replaced by a new one: that one would void a start that is under way, and would know of no
    migration that is. And nobody renews until it is there: when the deadline is near, that is done first.
    """
    has_time = rules.has_half_a_deadline(view) or not view.vm.may_write
    return view.vm not in (Vm.STARTING, Vm.ARRIVING) and view.move is Move.NONE and has_time


def last_s(views: Sequence[View], now_s: float) -> float:
    """How long a process may wait for its last words to be sent, while nobody looks at the deadlines any more. Half of
    the time to the next one is for the process that comes after it.
    """
    deadlines = [view.granted_until_s for view in views if view.vm.may_write and view.granted_until_s is not None]
    ahead_s = min(deadlines, default=float("inf")) - now_s
    return max(0.0, min(LAST_WORDS_S + LAST_RECORDS_S, ahead_s / 2))


def wait_of(request: Request) -> float:
    """How long a request waits for its outcome, in seconds.

    :raises InputError: that is no time, or too long.
    """
    wait_s = request.get("wait_s", DEFAULT_WAIT_S)
    if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not 0 < wait_s <= LONGEST_WAIT_S:
        raise InputError(f"wait_s is {wait_s!r}: give a number of seconds between 0 and {LONGEST_WAIT_S}")
    return float(wait_s)


def run_folder(config: dict[str, Any]) -> Path:
    """Where the socket lies, and what must not outlive a boot."""
    return Path(config["socket"]).parent


def stop(config: dict[str, Any]) -> int:
    """Have the running guard end in an orderly way, and wait for that; at once where systemd only restarts it.

    systemd ends what takes longer than its limit for that (`TimeoutStopSec=`).
    """
    if not stops(UNIT):
        return 0
    try:
        pid = client.request("end", path=config["socket"])["pid"]
    except MnhaError as error:
        log.warning("the guard can't be asked to end, its VM dies at its moment: %s", error.message)
        return 1
    with contextlib.suppress(ProcessLookupError):
        Process(pid).wait(None)
    return 0


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="mnha-guard", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("/etc/mnha/guard.json"))
    parser.add_argument("--check", action="store_true", help="say whether this node is ready")
    parser.add_argument("--stop", action="store_true", help="have the running guard shut its VMs down and end")
    parser.add_argument("--try", action="store_true", dest="only_try", help="say whether this guard can be run at all")
    parser.add_argument("--json", action="store_true", help="with --check: print JSON")
    parser.add_argument("--version", action="version", version=__version__)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        config = load(arguments.config)
        if arguments.stop:
            return stop(config)
        if arguments.check:
            return report(check(config), as_json=arguments.json)
        if arguments.only_try:
            Daemon(config, {})
            return 0
        daemon = Daemon(config, fencer.granted(Path(config["fencer"]["socket"]), FENCER_WAIT_S))
        daemon.run()
    except MnhaError as error:
        log.critical("%s", error.message)
        return 2
    return 0
