"""What may be asked of the guard's process at its socket; docs/architecture.md has the requests and answers."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from ..core.guard import OUTCOME_S
from ..core.model import Move, Op, Run, View, Vm
from ..core.ports import Ordered
from ..errors import DeadlineError, InputError, RefusedError
from ..host.clock import boottime_s
from .answers import Answers
from .ending import Ending
from .loop import Loop
from .node import Node
from .protected import Protected
from .server import Request, Subscribers
from .status import Status

DEFAULT_WAIT_S = 30.0
LONGEST_WAIT_S = 3600
LOOK_AGAIN_S = 0.1
ABORT_S = 15.0
"""So long after the abort of a migration what becomes of it is waited for."""
FIGURES_S = 1.0
"""So long after a migration libvirt's last figures of it are waited for."""


class Requests:
    """Answers requests, in the clients' threads; guards are looked at, and given orders, in the main thread."""

    def __init__(
        self,
        node: Node,
        loop: Loop,
        status: Status,
        ending: Ending,
        answers: Answers,
        subscribers: Subscribers,
        protected: Mapping[str, Protected],
    ) -> None:
        self._node, self._loop, self._status, self._ending = node, loop, status, ending
        self._answers, self._subscribers, self._protected = answers, subscribers, protected

    def handlers(self) -> dict[str, Callable[[Request], dict[str, Any]]]:
        """op -> handler."""
        return {
            "status": lambda request: self._loop.ask(self._status.whole),
            "takeover": self._takeover,
            "release": self._release,
            "migrate": self._migrate,
            "migration": self._migration,
            "migrate_abort": self._abort_migration,
            "reset": self._reset,
            "stop": self._stop,
            "fit": self._fit,
            "adopt_share": self._adopt_share,
            "accept_disk": self._accept_disk,
            "end": self._end,
        }

    def streamers(self) -> dict[str, Callable[[Request], Iterator[dict[str, Any]]]]:
        """op -> generator of answers."""
        return {"events": self._events}

    def _events(self, request: Request) -> Iterator[dict[str, Any]]:
        """The stream of events, with the status first."""
        return self._subscribers.subscribe(self._loop.ask(self._status.whole))

    def _vm_of(self, request: Request) -> str:
        """The VM a request is about.

        :raises InputError: it is not named though there are several, or not known.
        """
        name, guards = request.get("vm"), self._loop.guards
        if name is None and len(guards) == 1:
            return next(iter(guards))
        if not isinstance(name, str) or name not in guards:
            known = ", ".join(guards) or "none"
            raise InputError(f"no VM {name!r} is under guard on {self._node.name}; known: {known}")
        return str(name)

    def _order(
        self,
        op: Op,
        request: Request,
        objection: Callable[[], str] = lambda: "",
        gentle_s: Callable[[], float] = lambda: 0.0,
    ) -> dict[str, Any]:
        """Give an order to a guard, unless the main thread finds an `objection`, and wait for its outcome.

        :param gentle_s: how long a guest may take to shut down before it is reset, as the main thread finds it.
        """
        vm = self._vm_of(request)
        wait_s, epoch = wait_of(request), request.get("epoch", -1)
        if op is Op.TAKEOVER and (isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0):
            raise InputError("a takeover names the epoch of the lease that it replaces: see the status")
        ticket = self._answers.ticket()
        reason = str(request.get("reason", "ordered by an operator"))[:500]
        target = str(request.get("target", ""))

        def give() -> None:
            if why := objection():
                self._answers.put(ticket, ("refused", why, {}))
            else:
                self._loop.deliver(vm, Ordered(op, ticket, reason, wait_s, epoch, target, gentle_s()))

        self._loop.call(give)
        # A migration that took too long is aborted, and what came of that is waited for, then not any more.
        return self._answers.wait(ticket, wait_s + 2.0 + (2 * OUTCOME_S if op is Op.MIGRATE else 0.0))

    def _takeover(self, request: Request) -> dict[str, Any]:
        """Order a take-over. Of several VMs that are ordered at once those come that fit."""
        vm = self._vm_of(request)
        return self._order(Op.TAKEOVER, request, lambda: self._node.memory.objection(vm))

    def _reset(self, request: Request) -> dict[str, Any]:
        """Order a reset; of the process that is meant, if the request says so: it may be another one by now. Of one for
        that the guest hangs (`hung`) this guard is the judge: whether it still does, what the configuration says, and
        whether it is to be asked to shut down before.
        """
        vm, meant = self._vm_of(request), request.get("vm_pid")
        if meant is not None and (isinstance(meant, bool) or not isinstance(meant, int)):
            raise InputError(f"vm_pid is {meant!r}: give the number that the status tells, or leave it out")

        hangs = bool(request.get("hung"))

        def objection() -> str:
            found = self._loop.guards[vm].vm_pid
            if meant in (None, found):
                # What could not be started again is not reset.
                return self._status.disk_objection(vm) or (self._status.of(vm).health.objection() if hangs else "")
            return f"{vm} is not process {meant} any more, but {found or 'none'}: see the status"

        def gentle_s() -> float:
            return min(self._status.of(vm).health.gentle_s(), wait_of(request) / 2) if hangs else 0.0

        return self._order(Op.RESET, request, objection, gentle_s)

    def _migrate(self, request: Request) -> dict[str, Any]:
        """Order a live migration to another node of the cluster."""
        target, others = request.get("target"), self._node.others
        if target not in others:
            raise InputError(f"{target!r} is no node to migrate to from {self._node.name}; known: {', '.join(others)}")
        vm = self._vm_of(request)
        found = self._order(Op.MIGRATE, request, lambda: self._status.disk_objection(vm))
        moves, end_s = self._protected[vm].hypervisor.moves, boottime_s() + FIGURES_S
        while moves.last and not moves.last.outcome and boottime_s() < end_s:
            time.sleep(LOOK_AGAIN_S / 4)  # the lease went over before libvirt was asked for its last figures
        return {**found, "migration": moves.told()}

    def _release(self, request: Request) -> dict[str, Any]:
        """Order that the VM is shut down here, and its lease given back; tell how its guest ended, too."""
        vm = self._vm_of(request)
        asker = self._protected[vm].hypervisor.asker
        asker.forget()
        found = self._order(Op.RELEASE, request)
        return {**found, "ended": asker.last and dataclasses.asdict(asker.last)}

    def _migration(self, request: Request) -> dict[str, Any]:
        """How far the last migration away from here is. The main thread is not asked: whoever wants to know asks each
        second.
        """
        vm = self._vm_of(request)
        return {"node": self._node.name, "migration": self._protected[vm].hypervisor.moves.told()}

    def _abort_migration(self, request: Request) -> dict[str, Any]:
        """Have libvirt abort a migration away from here, and wait for what becomes of it. One that was ordered, and
        waits for its target to hear of it, is aborted as soon as it begins.

        :raises RefusedError: there is none, or it was handed over by then.
        :raises DeadlineError: what becomes of it is not known in time.
        """
        vm, node = self._vm_of(request), self._node.name
        hypervisor, end_s = self._protected[vm].hypervisor, boottime_s() + ABORT_S
        view = first = self._view(vm)
        while _is_moving(view, first):
            if view.move is Move.UNDER_WAY:
                hypervisor.abort()
            if boottime_s() > end_s:
                raise DeadlineError(f"what becomes of the migration of {vm} is not known within {ABORT_S:g} s")
            time.sleep(LOOK_AGAIN_S)
            view = self._view(vm)
        lease = view.lease
        holder = lease.holder if lease else ""
        where = f"{holder} has its lease, epoch {lease.epoch}" if lease and holder else "nobody has its lease"
        if not _is_moving(first, first):
            last = hypervisor.moves.told()
            over = f"; the last one, to {last['target']}, has ended: {last['outcome']}" if last else ""
            raise RefusedError(f"no migration of {vm} away from {node} is under way{over}; {where}")
        target = first.order.target if first.order else ""
        if holder not in ("", node):
            raise RefusedError(f"{vm} had left {node} already: {where}; migrate it back, if it is to be here")
        return {"node": node, "target": target, "message": f"the migration of {vm} to {target} is aborted: {where}"}

    def _view(self, vm: str) -> View:
        """What a guard knows now: a snapshot that never changes."""
        return cast(View, self._loop.ask(lambda: {"view": self._loop.guards[vm].view})["view"])

    def _fit(self, request: Request) -> dict[str, Any]:
        """Whether a VM could come here now."""
        vm = self._vm_of(request)
        return self._loop.ask(lambda: self._status.fitness(vm))

    def _adopt_share(self, request: Request) -> dict[str, Any]:
        """Make what is mounted here the cluster's share; where a VM runs, its node is the one to be asked.

        :raises RefusedError: another node has a VM.
        """
        node, running = self._node.name, {}
        status = self._loop.ask(self._status.whole)
        images = {vm["name"]: vm["image"] for vm in self._node.config["vms"] if not vm.get("ceph")}
        for name, vm in status["vms"].items():
            lease = vm["lease"] or {}
            holder = lease.get("holder")
            if holder and holder != node and not lease["expired"]:
                raise RefusedError(f"{name} is held by {holder}: its share is the cluster's; ask there, or stop {name}")
            if vm["vm_pid"] and name in images:
                running[images[name]] = int(vm["vm_pid"])
        name = self._node.share.adopt(running)
        for vm in self._protected:
            self._note(vm, "share adopted", f"what {node} has mounted is the cluster's share from now on, id {name}")
        return {"node": node, "id": name}

    def _note(self, vm: str, event: str, text: str) -> None:
        """Have what an operator decided written into the history."""
        self._loop.call(functools.partial(self._protected[vm].journal.note, event, text))

    def _end(self, request: Request) -> dict[str, Any]:
        """Have this process end, with its VMs off."""
        reason = str(request.get("reason", "its guard was asked to end"))[:500]
        return self._loop.ask(lambda: self._ending.begin(reason))

    def _accept_disk(self, request: Request) -> dict[str, Any]:
        """Let a VM that is off be started from its image, whatever it last wrote to.

        :raises RefusedError: it may be running.
        """
        name = self._vm_of(request)
        vm = self._loop.ask(self._status.whole)["vms"][name]
        lease = vm["lease"] or {}
        if vm["vm"] != Vm.OFF or (lease.get("holder") and not lease["expired"]):
            raise RefusedError(f"{name} may be running: it has to be off, and its lease given back; see mnha.status")
        self._protected[name].disk.accept()
        self._note(name, "disk accepted", f"{name} is started from its image, whatever it last wrote to")
        return {"vm": name, "message": f"{name} is started from its image again"}

    def _stop(self, request: Request) -> dict[str, Any]:
        """Wait until the VM is off here and the lease given back; the desired state in Consul is what stops it."""
        vm, node, end_s = self._vm_of(request), self._node.name, boottime_s() + wait_of(request)
        wish_end_s = boottime_s() + 3.0
        while True:
            status = self._loop.ask(lambda: self._loop.guards[vm].status(boottime_s()))
            lease = status["lease"] or {}
            if status["desired"] != Run.STOPPED and boottime_s() > wish_end_s:
                raise InputError(f"{vm} is desired {status['desired']}, not stopped: set that first")
            if status["desired"] == Run.STOPPED and status["vm"] == Vm.OFF and lease.get("holder") != node:
                return {"message": f"{vm} is off on {node}", "node": node}
            if boottime_s() > end_s:
                raise DeadlineError(f"{vm} is still {status['vm']} on {node}: {status['sentence']}")
            time.sleep(LOOK_AGAIN_S)


def _is_moving(view: View, first: View) -> bool:
    """Whether the order of `first` to migrate the VM away is still being carried out."""
    order, meant = view.order, first.order
    return order is not None and meant is not None and order.op is Op.MIGRATE and order.ticket == meant.ticket


def wait_of(request: Request) -> float:
    """How long a request waits for its outcome, in seconds.

    :raises InputError: that is no time, or too long.
    """
    wait_s = request.get("wait_s", DEFAULT_WAIT_S)
    if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not 0 < wait_s <= LONGEST_WAIT_S:
        raise InputError(f"wait_s is {wait_s!r}: give a number of seconds between 0 and {LONGEST_WAIT_S}")
    return float(wait_s)
