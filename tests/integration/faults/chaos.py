"""Random faults with a fixed seed, on the real cluster: bursts of them, then healing, and again.

    python -m tests.integration.faults.chaos --minutes 30 --seed 7        (make chaos MINUTES=30 SEED=7)

What is asserted: no two instances of the VM ever overlap (kernel's processes, guest's disk, all consoles), epochs never
fall, and after each burst, once everything is healed, one node runs the VM again within :data:`BACK_S`.

The kinds of faults have the words of the simulation (tests/simulation/faults.py) where it has them. A seed gives the
same script each time; what a script does to a real cluster also depends on who holds the lease at that moment, so a
failure prints the seed, every step as it was carried out, and what all witnesses saw.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lab import cgroups, checker, consul, guards, health, provision
from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.settings import MGMT, STORAGE, LabError
from lab.shell import say
from lab.witness import Witness
from mnha.core.model import Run

KINDS = {
    "cut": 6, "cut up": 6, "cut down": 6, "loss": 4, "slow": 4, "management cut": 2,
    "power": 4, "reboot": 1, "freeze": 6,
    "crash": 4, "stall": 5, "replace": 4, "stop": 1, "fencer crash": 4, "fencer stall": 3,
    "guest crashes": 4, "guest hangs": 3,
    "libvirt hangs": 3, "libvirt dies": 2,
    "still": 3, "agent dies": 3, "no leader": 5,
    "desired": 3, "takeover": 4, "release": 3, "reset": 2, "masters dead": 2,
}  # fmt: skip
"""Kinds of faults with their weights."""
BEYOND_SIMULATION = {"management cut", "guest hangs", "libvirt dies", "agent dies"}
"""Words that the simulation has not: what they break is not modelled there."""

LENGTHS_S = (1.0, 4.0, 7.0, 12.0)
"""Below the deadline, about as long as it, about as long as the lease, and longer."""
UNWATCHED_S = 0.2
"""How long a node or its guard may stand still where no watchdog covers that: see the failure model."""
GUEST_UP_S = 120.0
BACK_S = 90.0
"""After healing (every node on, every daemon started, no cut) the VM must run again within this time. It may take a
lease's expiry (8 s), a take-over by a guard (5 s and its turn), a node's back-off after failed starts (10 s), each
further start after a crash a second later than the one before, and an election of Consul's before any of it."""
UNDO_S = 120.0
"""In which nodes must have booted, daemons have started, and commands have ended."""
ORDER_S = 20.0
ORDERS = "chaos-order"


class ChaosError(AssertionError):
    """What is promised does not hold; the message has the seed, the steps and what was seen."""


@dataclass(frozen=True, order=True)
class Step:
    """One fault of a burst.

    :param at_s: seconds after the burst's begin.
    :param where: a number that chooses the node: see :func:`target`.
    :param size: 0 … 1, how bad it is; each kind makes of it what it needs.
    """

    at_s: float
    kind: str
    where: int
    size: float
    lasts_s: float


def draw_burst(chance: random.Random) -> tuple[Step, ...]:
    """One burst: one to five faults, some at the same moment, most of them on the holder or on one node."""
    steps, at_s, where = [], 0.0, chance.choice((0, 0, chance.randrange(60)))
    for _ in range(chance.choice((1, 2, 2, 3, 3, 5))):
        kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        where = where if chance.random() < 0.6 else chance.randrange(60)
        lasts_s = round(chance.choice(LENGTHS_S) * chance.uniform(0.5, 1.3), 2)
        steps.append(Step(round(at_s, 2), kind, where, round(chance.random(), 3), lasts_s))
        at_s += chance.choice((0.0, 0.5, 4.0, 8.0)) * chance.uniform(0.3, 1.3)
    return tuple(steps)


def script(seed: int) -> Iterator[tuple[Step, ...]]:
    """The bursts of a seed, without end."""
    chance = random.Random(seed)
    while True:
        yield draw_burst(chance)


def target(where: int, names: list[str], holder: str) -> str:
    """The node that a fault strikes: every fourth number the holder, if there is one, otherwise one by its number."""
    return holder if where % 4 == 0 and holder in names else names[where % len(names)]


@dataclass
class Chaos:
    """A run on a cluster.

    :param tell: takes each line of the protocol.
    """

    cluster: Cluster
    witness: Witness
    seed: int
    tell: Callable[[str], None]
    lines: list[str] = field(default_factory=list)
    backs_s: list[float] = field(default_factory=list)
    faults: int = 0
    _due: list[tuple[float, int, str, Callable[[], object]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _holder: str = ""
    _are_watched: bool = False

    def run(self, minutes: float) -> None:
        """Bursts until the time is over; the last one is ended and judged as well.

        :raises ChaosError: something does not hold.
        """
        begin_s, bursts = time.monotonic(), script(self.seed)
        (holder,) = guards.runners(self.cluster)
        self._are_watched = bool(guards.ask(self.cluster, holder, "status")["result"]["watchdog"]["armed"])
        self.witness.mark("chaos begins", "", text=f"chaos begins, seed {self.seed}")
        self._say(f"seed {self.seed}, {'with' if self._are_watched else 'without'} watchdogs")
        for number in itertools.count(1):
            if time.monotonic() - begin_s >= minutes * 60:
                break
            self._say(f"burst {number} of seed {self.seed}, after {time.monotonic() - begin_s:.0f} s")
            self._play(next(bursts))
            self._recover(number)
        self._say(self.summary(number - 1))

    def summary(self, bursts: int) -> str:
        """The figures of the run."""
        lives = len(self.witness.monitor.lives())
        return (
            f"seed {self.seed}: {bursts} bursts, {self.faults} faults, {lives} QEMU processes one after the other; "
            f"the VM was back at the latest {max(self.backs_s, default=0.0):.1f} s after healing"
        )

    # ---- a burst

    def _play(self, burst: tuple[Step, ...]) -> None:
        """Carry out a burst: every step at its time, and the end of what lasts at its own."""
        begin_s = time.monotonic()
        for step in burst:
            self._at(begin_s + step.at_s, step.kind, lambda step=step: self._strike(step))
        while self._due:
            at_s, _, what, act = heapq.heappop(self._due)
            time.sleep(max(0.0, at_s - time.monotonic()))
            try:
                act()
            except LabError as error:  # a node that is off or frozen can't be struck: that is no fault of the product
                self._say(f"  {what}: could not be done: {str(error).splitlines()[0]}")

    def _at(self, at_s: float, what: str, act: Callable[[], object]) -> None:
        """Do something later."""
        heapq.heappush(self._due, (at_s, next(self._numbers), what, act))

    def _later(self, step: Step, act: Callable[[], object]) -> None:
        """Do something when a step has lasted as long as it should."""
        self._at(time.monotonic() + step.lasts_s, f"end of {step.kind}", act)

    def _strike(self, step: Step) -> None:
        """Let one fault happen."""
        living = self.witness.monitor.living()
        self._holder = living[0].node if living else ""
        node = target(step.where, self.cluster.names, self._holder)
        role = "the holder" if node == self._holder else "a candidate"
        text = f"{step.kind} on {node} ({role}), size {step.size:.2f}, for {step.lasts_s:g} s"
        self._say(f"  {text}")
        self.witness.mark(step.kind, node, text=text)
        self.faults += 1
        for table in (self._of_network, self._of_node, self._of_guard, self._of_vm, self._of_consul, self._of_people):
            if table(step, node):
                return
        raise LabError(f"unknown kind of fault {step.kind!r}")

    def _of_network(self, step: Step, node: str) -> bool:
        """Faults of the cables; healing one heals all of that network on that node."""
        cluster, network = self.cluster, STORAGE
        match step.kind:
            case "cut":
                cluster.cut(node, STORAGE)
            case "cut up":
                cluster.cut(node, STORAGE, "out")
            case "cut down":
                cluster.cut(node, STORAGE, "in")
            case "loss":
                cluster.cut(node, STORAGE, "both", max(1, int(step.size * 90)))
            case "slow":
                cluster.delay(node, STORAGE, 20 + 400 * step.size)
            case "management cut":
                network = MGMT
                cluster.cut(node, MGMT)
            case _:
                return False
        self._later(step, lambda: cluster.heal(node, network))
        return True

    def _of_node(self, step: Step, node: str) -> bool:
        """Faults of a whole node; power stays away until the burst is healed."""
        match step.kind:
            case "power":
                self.cluster.poweroff(node)
            case "reboot":
                self._in(node, "systemctl", "reboot", "--no-block")
            case "freeze":
                self.cluster.freeze(node)
                self._at(time.monotonic() + self._bounded_s(step), "thaw", lambda: self._thaw(node))
            case _:
                return False
        return True

    def _of_guard(self, step: Step, node: str) -> bool:
        """Faults of the processes of guard and fencer."""
        match step.kind:
            case "crash":
                self._in(node, "systemctl", "kill", "--kill-who=main", "--signal=KILL", "mnha-guard")
            case "stall":
                self._stop_for(step.lasts_s, node, "mnha-guard")
            case "replace":
                self._in(node, "systemctl", "reload", "--no-block", "mnha-guard")
            case "stop":
                self._in(node, "systemctl", "stop", "--no-block", "mnha-guard")
                self._later(step, lambda: self._in(node, "systemctl", "start", "--no-block", "mnha-guard"))
            case "fencer crash":
                self._in(node, "systemctl", "kill", "--kill-who=main", "--signal=KILL", "mnha-fencer")
            case "fencer stall":
                self._stop_for(self._bounded_s(step), node, "mnha-fencer")
            case _:
                return False
        return True

    def _of_vm(self, step: Step, node: str) -> bool:
        """Faults of QEMU and libvirt, QEMU's wherever it runs."""
        match step.kind:
            case "guest crashes" | "guest hangs":
                name = signal.SIGKILL if step.kind == "guest crashes" else signal.SIGSTOP
                for life in self.witness.monitor.living():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(life.pid, name)
                if step.kind == "guest hangs":
                    self._later(step, self._resume_guests)
            case "libvirt hangs":
                self._stop_for(step.lasts_s, node, "libvirtd")
            case "libvirt dies":
                self._in(node, "systemctl", "kill", "--signal=KILL", "libvirtd")
            case _:
                return False
        return True

    def _of_consul(self, step: Step, node: str) -> bool:
        """Faults of Consul's servers."""
        match step.kind:
            case "still":
                self._stop_for(step.lasts_s, node, "consul")
            case "agent dies":
                self._in(node, "systemctl", "kill", "--signal=KILL", "consul")
            case "no leader":
                if leader := consul.leader(self.cluster):
                    self._stop_for(step.lasts_s, leader, "consul")
            case _:
                return False
        return True

    def _of_people(self, step: Step, node: str) -> bool:
        """What masters and operators do at a bad moment; nobody waits for an answer."""
        match step.kind:
            case "desired":
                self._background(self._salt_run, node, "stop")
                self._later(step, lambda: self._background(self._salt_run, node, "start"))
            case "takeover" | "release" | "reset":
                self._background(self._order, node if step.kind == "takeover" else self._holder or node, step.kind)
            case "masters dead":
                for name in self.cluster.names:
                    with contextlib.suppress(LabError):
                        self._in(name, "systemctl", "kill", "--signal=KILL", "salt-master")
                        self._in(name, "systemctl", "stop", "--no-block", "salt-master")
            case _:
                return False
        return True

    # ---- tools

    def _in(self, node: str, *words: str) -> None:
        """A short command on a node.

        :raises LabError: the node is off, or stands still.
        """
        if cgroups.is_frozen(node):
            raise LabError(f"{node} is frozen")
        self.cluster.run(node, words, timeout_s=10)

    def _stop_for(self, seconds: float, node: str, unit: str) -> None:
        """SIGSTOP to a service, SIGCONT later."""
        self._in(node, "systemctl", "kill", "--kill-who=main", "--signal=STOP", unit)
        self._at(
            time.monotonic() + seconds,
            f"{unit} goes on",
            lambda: self._in(node, "systemctl", "kill", "--kill-who=main", "--signal=CONT", unit),
        )

    def _bounded_s(self, step: Step) -> float:
        """How long something may stand still that only a watchdog covers."""
        return step.lasts_s if self._are_watched else min(step.lasts_s, UNWATCHED_S)

    def _thaw(self, node: str) -> None:
        """Let a frozen node go on; its watchdog may have reset it meanwhile."""
        if self.cluster.node(node).is_on() and cgroups.is_frozen(node):
            self.cluster.thaw(node)

    def _resume_guests(self) -> None:
        """SIGCONT to what is left of the QEMU processes."""
        for life in self.witness.monitor.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(life.pid, signal.SIGCONT)

    def _background(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do something in a thread whose outcome nobody waits for."""

        def quietly() -> None:
            with contextlib.suppress(LabError):
                work(*arguments)

        threading.Thread(target=quietly, name=ORDERS, daemon=True).start()

    def _salt_run(self, node: str, verb: str) -> None:
        """An operator's verb."""
        self.cluster.run(node, ["salt-run", f"mnha.{verb}", f"cluster={CLUSTER_NAME}"], timeout_s=60)

    def _order(self, node: str, op: str) -> None:
        """An order to a guard, as a master gives it; a take-over names the epoch that this guard knows."""
        epoch = (guards.vm_status(self.cluster, node)["lease"] or {}).get("epoch", 0)
        extra = {"epoch": epoch} if op == "takeover" else {}
        answer = guards.ask(self.cluster, node, op, timeout_s=ORDER_S + 5, wait_s=ORDER_S, reason="chaos", **extra)
        self._say(f"  {op} on {node}: {answer.get('result', answer.get('error'))}"[:200])

    def _say(self, text: str) -> None:
        self.lines.append(text)
        self.tell(text)

    # ---- after a burst

    def _recover(self, number: int) -> None:
        """Heal everything, and see that the VM runs again in time and that no two instances ever overlapped.

        :raises ChaosError: it does not, or they did.
        """
        try:
            self._patiently(self._undo, UNDO_S)
            began_s = time.monotonic()
            self._patiently(self._wish_started, BACK_S)
            health.wait_healthy(self.cluster, BACK_S - (time.monotonic() - began_s))
            self.backs_s.append(time.monotonic() - began_s)
        except LabError as error:
            raise ChaosError(self._evidence(number, f"it does not get well: {error}")) from error
        self._say(f"  healed: all well after {self.backs_s[-1]:.1f} s")
        verdict = checker.check(self.cluster.settings.disk_image, self.cluster.consoles())
        if overlaps := self.witness.monitor.overlaps():
            raise ChaosError(self._evidence(number, f"two QEMU processes lived at once: {overlaps}"))
        if not verdict.ok:
            raise ChaosError(self._evidence(number, verdict.text()))

    def _patiently(self, work: Callable[[], None], limit_s: float) -> None:
        """Do something again until it works: a node may be in the middle of a reboot.

        :raises LabError: it does not within `limit_s`.
        """
        end_s = time.monotonic() + limit_s
        while True:
            try:
                return work()
            except LabError:
                if time.monotonic() > end_s:
                    raise
            time.sleep(0.5)

    def _undo(self) -> None:
        """Undo all faults, and wait for the operator's commands that are under way: none may strike later."""
        self._resume_guests()
        health.undo(self.cluster)
        for thread in threading.enumerate():
            if thread.name == ORDERS:
                thread.join(timeout=UNDO_S)

    def _wish_started(self) -> None:
        """Make *started* the operator's wish again if it is not.

        :raises LabError: not all nodes know of it yet.
        """
        wishes = {name: guards.vm_status(self.cluster, name)["desired"] for name in self.cluster.names}
        if Run.STOPPED in wishes.values():
            self._salt_run(self.cluster.names[0], "start")
        if set(wishes.values()) != {Run.STARTED}:
            raise LabError(f"the wish for the VM is {wishes}")

    def _evidence(self, number: int, what: str) -> str:
        """Everything that a failure is judged by."""
        history = []
        for name in self.cluster.names:
            with contextlib.suppress(LabError):
                words = ["journalctl", "-u", "mnha-guard", "-o", "short-monotonic", "--no-pager", "-n", "150"]
                history += [f"---- guard of {name}", self.cluster.run(name, words, timeout_s=20).stdout]
        verdict = checker.check(self.cluster.settings.disk_image, self.cluster.consoles())
        seen = ["---- witnesses", self.witness.table(), "---- instances", verdict.text()]
        return "\n".join([f"seed {self.seed}, burst {number}: {what}", "---- steps", *self.lines, *seen, *history])


def main() -> int:
    """A lab of its own, chaos in it; the exit code says whether all held."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.faults.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    options = parser.parse_args()
    cluster = Cluster()
    if cluster.is_up():
        say("there is a lab already: remove it with `make lab-down` if nobody needs it")
        return 2
    try:
        provision.up(cluster)
        first = cluster.names[0]
        with Witness(cluster) as witness:
            began_s = witness.mark("start ordered", first)
            cluster.run(first, ["salt-run", "mnha.start", f"cluster={CLUSTER_NAME}"], timeout_s=120, check=True)
            say("waiting for the guest's first heartbeat: without one a first burst could prove nothing")
            witness.wait_for("guest up", GUEST_UP_S, after_s=began_s)
        health.heal(cluster, links=True)
        with Witness(cluster) as witness:
            Chaos(cluster, witness, options.seed, say).run(options.minutes)
    except (ChaosError, LabError) as error:
        print(error, flush=True)
        return 1
    finally:
        cluster.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
