"""``mnha-guard``: the process around the guards of one node.

One thread, the main one, owns the guards: it takes events from a queue, gives them to a guard, and wakes by
itself when a guard wants to act on the time. All waiting is done by the adapters' threads.

    python3 -m mnha.daemon --config /etc/mnha/guard.json            run (systemd's Type=notify)
    python3 -m mnha.daemon --config /etc/mnha/guard.json --check    say whether this node is ready, and why not
    python3 -m mnha.daemon --config /etc/mnha/guard.json --try      say whether this version can be run with this
    configuration at all (systemd's ExecReload, before a running guard is replaced by it)
    python3 -m mnha.daemon --config /etc/mnha/guard.json --stop     shut its VMs down, give their leases back and end
    (systemd's ExecStop); while systemd restarts it, nothing of that; when the node goes down, migrate them away before

SIGTERM and SIGHUP end the process and touch no running VM: the fencer lets it run until the moment that was last
granted, and systemd starts the next guard, which goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.choose import MANAGEMENT
from ..core.ports import MaintenanceSeen, TurnsSeen
from ..errors import MnhaError
from ..host.clock import boottime_s
from ..host.jobs import node_stops, stops
from ..host.systemd import notify
from . import client
from .adapters import fencer
from .adapters.processes import Process
from .answers import Answers
from .ending import LAST_WORDS_S, Ending, block_signals, last_s
from .journal import GuardJournal
from .leaving import leave
from .loop import Loop
from .node import Node
from .priority import become_prompt
from .protected import Protected, protect
from .readiness import check, report
from .requests import Requests
from .server import Server, Subscribers
from .settings import load
from .status import Status
from .successor import Successor, trials
from .threads import Fault, Forever, faults
from .turns import better_of, turns_of

log = logging.getLogger(__name__)

UNIT = "mnha-guard.service"
FENCER_WAIT_S = 0.5
"""How long a guard that begins waits for the fencer. Both may have ended at once, under a VM whose moment is there:
then this and both starts fit into K."""
PET_EVERY_S = 0.5
STACK_BYTES = 512 * 1024


class Daemon:
    """The guards of one node and what serves them, put together.

    :param config: what :func:`mnha.daemon.settings.load` returned.
    :param granted: what the fencer lets run: VM -> (until, K).
    :param file: where the configuration was read from, and will be by the next guard.
    """

    def __init__(self, config: dict[str, Any], granted: Mapping[str, tuple[float, float]], file: Path) -> None:
        self._loop = Loop()
        self._node = Node(
            config, self._loop.guards, self._tell_of_maintenance, self._tell_of_consul, self._tell_of_network
        )
        self._subscribers, self._answers = Subscribers(), Answers()
        self._protected = {vm["name"]: self._protect(vm, granted.get(vm["name"], (None, 0.0))) for vm in config["vms"]}
        for name, protected in self._protected.items():
            self._loop.add(name, protected.guard)
        self._status = Status(self._node, self._protected, lambda: faults(self._threads()))
        self._ending, self._successor = Ending(self._loop), Successor(trials(file))
        requests = Requests(
            self._node, self._loop, self._status, self._ending, self._answers, self._subscribers, self._protected
        )
        self._server = Server(Path(config["socket"]), requests.handlers(), requests.streamers())

    def _protect(self, vm: dict[str, Any], granted: tuple[float | None, float]) -> Protected:
        """Put one VM under guard."""
        name, node = vm["name"], self._node
        journal = GuardJournal(node.cluster, node.name, name, node.publisher, self._subscribers, self._answers)
        return protect(node, vm, granted, functools.partial(self._loop.post, name), self._loop.call, journal)

    def _tell_of_maintenance(self, reason: str) -> None:
        """Let every guard know; from the watch's thread."""
        log.warning("this node is %s", reason or "a candidate")
        for name in self._protected:
            self._loop.post(name, MaintenanceSeen(reason))

    def _tell_of_consul(self, why: str) -> None:
        """Have written into each VM's history why Consul's server was ended; from the thread that did it."""
        for protected in self._protected.values():
            self._loop.call(functools.partial(protected.journal.note, "consul_ended", why))

    def _tell_of_network(self, event: str, text: str) -> None:
        """Have written into the history that a network of this node is lost, or well again; from the watch's thread."""
        journal = next(iter(self._protected.values())).journal
        self._loop.call(functools.partial(journal.note, event, f"{self._node.name}: {text}", vm=None))

    def _threads(self) -> Iterator[Forever | Fault]:
        """All that goes on for ever in this process."""
        yield from self._loop.faults
        yield from self._server.threads
        yield from self._node.threads
        yield from self._successor.threads
        for protected in self._protected.values():
            yield from protected.threads

    def run(self) -> None:
        """Run until a signal, or until the order to end is carried out: then with the VMs off."""
        block_signals()
        self._status.priority = become_prompt()
        threading.stack_size(STACK_BYTES)
        self._node.start()
        for protected in self._protected.values():
            protected.start()
        self._server.start()
        self._successor.start()
        log.warning("guard %s of node %s, cluster %s", __version__, self._node.name, self._node.cluster)
        notify("READY=1")
        self._work()
        notify("STOPPING=1")
        end_s = boottime_s() + last_s([guard.view for guard in self._loop.guards.values()], boottime_s())
        self._let_answers_out(min(end_s, boottime_s() + LAST_WORDS_S))
        self._node.publisher.drain(end_s - boottime_s())

    def _work(self) -> None:
        """Take events and signals, act on the time, and tell of it, until all is done. Each part is tried for itself:
        what nobody expected in one keeps no other from its turn.
        """
        next_pet_s, over = 0.0, False
        while not over:
            self._loop.attempt(self._loop.turn)
            if (now_s := boottime_s()) >= next_pet_s:
                next_pet_s = now_s + PET_EVERY_S
                self._loop.attempt(self._tell)
            self._loop.attempt(self._ending.take_signals)
            over = self._loop.attempt(self._ending.is_over) or False

    def _tell(self) -> None:
        """Tell the guards of probes that hang and of their turns, systemd that this thread goes on, and the cluster of
        this node. With a guard that is lost this process does not go on: systemd has another one begin. VMs are the
        fencer's meanwhile.
        """
        for name, protected in self._protected.items():
            if seen := protected.prober.overdue():
                self._loop.deliver(name, seen)
        alive = "" if self._loop.lost else "WATCHDOG=1\n"
        notify(f"{alive}STATUS={self._status.sentences()}")
        record, node = self._status.publish(), self._node
        others = node.records.seen()
        turns = turns_of(node.config, self._loop.guards, record, others, node.peers.seen())
        for name, order in turns.items():
            if order != self._loop.guards[name].view.turns:
                self._loop.deliver(name, TurnsSeen(order))
            self._evacuate(name, better_of(order, others, self._protected[name].disk.known_objection()))

    def _evacuate(self, name: str, better: Sequence[str]) -> None:
        """Order that a VM leaves this node, if its management network is lost."""
        guard, lost_s = self._loop.guards[name], self._node.networks.lost_s(MANAGEMENT)
        if step := self._protected[name].evacuation.step(guard.view, boottime_s(), lost_s, better):
            to = f"to {step.target}" if step.target else "by a stop and a start"
            self._protected[name].journal.note("evacuated", f"{step.reason}: the VM is to leave it, {to}")
            self._loop.deliver(name, step)

    def _let_answers_out(self, end_s: float) -> None:
        """Wait until what has been answered was sent, though not for long."""
        while self._server.answering > self._answers.awaited + self._subscribers.count and boottime_s() < end_s:
            time.sleep(0.01)


def stop(config: dict[str, Any]) -> int:
    """Have the running guard end in an orderly way, and wait for that; at once where systemd only restarts it. When the
    whole node goes down, its VMs are migrated away before.

    systemd ends what takes longer than its limit for that (`TimeoutStopSec=`).
    """
    if not stops(UNIT):
        return 0
    reason = f"the guard of {config['node']} was stopped"
    if node_stops():
        reason = f"{config['node']} goes down"
        leave(config)
    try:
        pid = client.request("end", path=config["socket"], reason=reason)["pid"]
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
            Daemon(config, {}, arguments.config)
            return 0
        granted = fencer.granted(Path(config["fencer"]["socket"]), FENCER_WAIT_S)
        daemon = Daemon(config, granted, arguments.config)
        daemon.run()
    except MnhaError as error:
        log.critical("%s", error.message)
        return 2
    return 0
