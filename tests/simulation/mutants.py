"""Known-bad variants, and which layer of the tests catches which. One that none catches shows a weakness of the tests.

    python -m tests.simulation.mutants --write [NAME …]    try all layers, and write the table
    python -m tests.simulation.mutants NAME                the failure of one in the sweep

A variant is a subclass of the guard or of the fencer, a function of ``lease``, ``decide`` or an adapter replaced, or a
changed configuration. The layers, cheapest first:

===============  ====================================================================================================
``constructor``  the timings can't even be made
``unit``         tests/unit/core; for a variant of the fencer tests/unit/fencer; for one of an adapter, its own tests
                 against the real thing
``scenario``     a scenario of this folder, with any of its seeds
``machine``      hypothesis' state machine, with the examples of CI
``sweep``        one of the first seeds of the sweep
===============  ====================================================================================================
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from mnha.core import choose, evacuation, pauses
from mnha.core import decide as rules_of_decide
from mnha.core import guard as guard_module
from mnha.core import lease as rules
from mnha.core.choose import Node
from mnha.core.evacuation import Evacuation
from mnha.core.guard import Ask, Guard
from mnha.core.model import Action, Decision, Lease, Op, Pause, Phase, Run, Sighting, View, Vm
from mnha.core.ports import Answered, Confirmed, Ended, LeaseSeen, Moved, Ordered, Outcome, StartFailed, VmSeen
from mnha.core.timing import Timings
from mnha.daemon.adapters import lease_store
from mnha.daemon.adapters import processes as processes_adapter
from mnha.errors import ConfigurationError
from mnha.fencer import rules as fencer_module
from mnha.fencer.rules import Fencer, Grant, Kind

from . import consul as consul_world
from . import machine
from .compiled import ROOT
from .host import Watchdog
from .hypervisor import Hypervisor
from .scenario import SEEDS, every
from .sweep import Result, play
from .world import Config, World

MOST_SEEDS = 400
"""So many seeds are tried for the table."""

EXAMPLES = 400
"""So many examples hypothesis tries for the table, as many as in its own test."""

CORE = ("tests/unit/core",)
FENCER = ("tests/unit/fencer",)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A known-bad variant.

    :param what: what is wrong with it.
    :param patches: what to replace: (module or class, name, replacement).
    :param twist: changes the configuration of a seed's world.
    :param tests: the tests of the layer ``unit``.
    :param worlds: whether the simulation can show it; not so for what is wrong with a real adapter.
    """

    what: str
    guard_class: type[Guard] = Guard
    fencer_class: type[Fencer] = Fencer
    patches: tuple[tuple[Any, str, Any], ...] = ()
    twist: Callable[[Config], Config] = lambda config: config
    tests: tuple[str, ...] = CORE
    worlds: bool = True

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put it in the place of the real one."""
        with contextlib.ExitStack() as stack:
            classes = ((guard_module, "Guard", self.guard_class), (fencer_module, "Fencer", self.fencer_class))
            for module, name, replacement in (*classes, *self.patches):
                stack.enter_context(mock.patch.object(module, name, replacement))
            yield

    def play(self, seed: int) -> Result:
        """Play a seed with it."""
        with self.applied():
            return play(seed, twist=self.twist)

    def find(self, seeds: Iterable[int]) -> Result | None:
        """The first of `seeds` that catches it."""
        return next((result for result in map(self.play, seeds) if result.failure), None)


# ---- variants of the guard


class AnchoredAtReply(Guard):
    """The deadline counts from the reply."""

    def _on_granted(self, ask: Ask) -> None:
        super()._on_granted(dataclasses.replace(ask, sent_s=self.view.now_s))


class OffAssumed(Guard):
    """A kill that was sent counts as done."""

    def _kill(self, reason: str) -> None:
        super()._kill(reason)
        self._on_vm(VmSeen(Vm.OFF, self._generation))


class TakenWithPlainWrite(Guard):
    """The lease is taken by a plain write, not by compare-and-set on the index that was seen."""

    def _ask(self, decision: Any) -> None:
        store = self._store
        if decision.action is Action.TAKE:
            self._store = _PlainWrites(store)
        super()._ask(decision)
        self._store = store


class _PlainWrites:
    """A store whose compare-and-set does not compare."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def cas(self, lease: Lease, index: int, ticket: int) -> None:
        self._real.cas(lease, -1, ticket)

    def read(self) -> None:
        self._real.read()


class NoWaitAfterRestart(Guard):
    """A guard that has just started takes the first lease it sees for as old as it likes."""

    def _sight(self, sighting: Sighting) -> None:
        if self.view.sighting is None:
            sighting = dataclasses.replace(sighting, received_s=float("-inf"))
        super()._sight(sighting)


class CountedFromTheSightBefore(Guard):
    """An observer counts from when it last knew the holder alive: from the change *before* the one it has now."""

    def _sight(self, sighting: Sighting) -> None:
        before = self.view.sighting
        own = getattr(self, "_own_received_s", sighting.received_s)
        self._own_received_s = sighting.received_s
        super()._sight(dataclasses.replace(sighting, received_s=own) if before else sighting)


class LateGrantRevives(Guard):
    """Answers to requests from before the lease was given back still count."""

    def _forget_lease(self) -> None:
        self._set(granted_until_s=None)

    def _on_granted(self, ask: Ask) -> None:
        granted_until_s = rules.deadline_after(ask.sent_s, self.view.timings)
        self._set(granted_until_s=granted_until_s)
        if self.view.promised_until_s is not None and self.view.fencer_there:
            self._tell(Action.RENEW, granted_until_s)


class RefusedIsUnreachable(Guard):
    """A refusal is taken for silence: nothing is read."""

    def _on_answer(self, answered: Answered) -> None:
        if answered.outcome is Outcome.REFUSED:
            answered = dataclasses.replace(answered, outcome=Outcome.UNREACHABLE)
        super()._on_answer(answered)


class MissingIsFree(Guard):
    """A lease that is not there is free."""

    def _on_lease(self, seen: LeaseSeen) -> None:
        if seen.lease is None:
            free = Lease("", 0, Phase.RELEASED, 0, self.view.timings)
            seen = dataclasses.replace(seen, lease=free, index=0)
        super()._on_lease(seen)


class GenerationIgnored(Guard):
    """What was seen before the newest start counts as seen after it."""

    def _on_vm(self, seen: VmSeen) -> None:
        super()._on_vm(dataclasses.replace(seen, generation=self._generation))


class OldStartFailureCounts(Guard):
    """A failure of an older start counts as OFF of the newest."""

    def _on_start_failed(self, failed: StartFailed) -> None:
        super()._on_start_failed(dataclasses.replace(failed, generation=self._generation))
        self._set(vm=Vm.OFF)


class AdoptsWithoutAGrant(Guard):
    """A guard that finds a VM running at its start lets it run, whatever the fencer was granted."""

    def __init__(self, *args: Any, now_s: float, granted_until_s: float | None = None, **kwargs: Any) -> None:
        timings = args[1]
        super().__init__(*args, now_s=now_s, granted_until_s=granted_until_s or now_s + timings.deadline_s, **kwargs)


class AdoptionExtends(Guard):
    """A guard that adopts what the fencer was granted gives the VM a fresh deadline."""

    def __init__(self, *args: Any, now_s: float, granted_until_s: float | None = None, **kwargs: Any) -> None:
        fresh_s = None if granted_until_s is None else now_s + args[1].deadline_s
        super().__init__(*args, now_s=now_s, granted_until_s=fresh_s, **kwargs)


class NewKillTime(Guard):
    """A guard that adopts what the fencer was granted counts K by its own timings, not by those of the record."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kill_s = self.view.timings.kill_s


class LateReadBelieved(Guard):
    """A consistent read's answer counts whenever it comes."""

    def _on_lease(self, seen: LeaseSeen) -> None:
        super()._on_lease(dataclasses.replace(seen, asked_s=float("inf")))


class CopyBelieved(Guard):
    """A guard that replaced itself believes the first copy it gets, vouched for or not."""

    def _on_lease(self, seen: LeaseSeen) -> None:
        if self.view.sighting is None:
            seen = dataclasses.replace(seen, consistent=True)
        super()._on_lease(seen)


class SupersededAwaited(Guard):
    """Requests that can only be refused are waited for, and their refusals believed to be news."""

    def _drop_superseded(self, granted: Ask, index: int) -> None:
        pass


class StartsWithoutDeadline(Guard):
    """Who finds its name in the lease starts the VM, confirmed or not."""

    def _sight(self, sighting: Sighting) -> None:
        super()._sight(sighting)
        if rules.is_mine(self.view) and self.view.granted_until_s is None:
            self._set(granted_until_s=self.view.now_s + self.view.timings.deadline_s)


class LongerDeadlineKept(Guard):
    """A record with shorter timings is sent before the fencer has confirmed them."""

    def _keeps_within(self, until_s: float) -> bool:
        return True


class DeniedIsConfirmed(Guard):
    """What the fencer refuses counts as confirmed."""

    def _on_confirmed(self, confirmed: Confirmed) -> None:
        super()._on_confirmed(dataclasses.replace(confirmed, error=""))


class UntoldMomentPromised(Guard):
    """A guard counts on the moment that it asked for, though the required device was not told of it."""

    def _on_confirmed(self, confirmed: Confirmed) -> None:
        told = self._told.get(confirmed.ticket)
        super()._on_confirmed(confirmed)
        if told is not None and told.action is Action.RENEW and not (confirmed.error or confirmed.as_required):
            self._set(promised_until_s=told.until_s)


class PromiseOutlivesABar(Guard):
    """What was promised before the VM was barred still counts for a start."""

    def _on_confirmed(self, confirmed: Confirmed) -> None:
        kept_s = self.view.promised_until_s
        super()._on_confirmed(confirmed)
        if self.view.promised_until_s is None:
            self._set(promised_until_s=kept_s)


class FailedMoveIsDone(Guard):
    """A migration that failed counts as one that succeeded."""

    def _on_moved(self, moved: Moved) -> None:
        super()._on_moved(dataclasses.replace(moved, error=""))


class EndsWithoutHandOver(Guard):
    """SIGTERM ends the order of a migration although the VM is at the target."""

    def _on_end(self, ended: Ended) -> None:
        self._end_order("failed", "")
        super()._on_end(ended)


# ---- variants of the fencer


class ArmedAfterPrepare(Fencer):
    """The watchdog is armed with the first grant, when the VM runs already."""

    def prepare(self, vm: str, until_s: float, kill_s: float, now_s: float) -> None:
        self._is_preparing = True
        try:
            super().prepare(vm, until_s, kill_s, now_s)
        finally:
            self._is_preparing = False

    def _arm(self, vm: str, until_s: float) -> bool:
        return getattr(self, "_is_preparing", False) or super()._arm(vm, until_s)


class NeverArmed(Fencer):
    """The watchdog is never armed, and said to be."""

    def _arm(self, vm: str, until_s: float) -> bool:
        return True


class WatchdogRefusalIgnored(Fencer):
    """A watchdog that refuses is no reason to refuse."""

    def _arm(self, vm: str, until_s: float) -> bool:
        super()._arm(vm, until_s)
        return True


class UntoldMomentCounts(Fencer):
    """A later moment counts, whether the required device was told of it or not."""

    def grant(self, vm: str, until_s: float, kill_s: float, now_s: float) -> bool:
        protected = super().grant(vm, until_s, kill_s, now_s)
        self._remember(vm, Grant(Kind.RUN, until_s, kill_s))
        return protected


class PettedAtEachLook(Fencer):
    """The watchdog is petted whenever the fencer looks, not only with a grant."""

    def look(self, now_s: float) -> float:
        for vm in {*self._grants, *self._doomed} & self._armed:
            self._watchdog.arm(now_s + 4.0, vm)
        return super().look(now_s)


class ArmedTooLong(Fencer):
    """The watchdog is given more than T + K."""

    def _arm(self, vm: str, until_s: float) -> bool:
        return super()._arm(vm, until_s + 3.0)


class LetGoAtKill(Fencer):
    """The watchdog is let go when the slice is killed, not when it is empty."""

    def _look_at(self, vm: str, now_s: float) -> None:
        super()._look_at(vm, now_s)
        if vm in self._doomed:
            self._watchdog.disarm(vm)


class LetGoAtForbid(Fencer):
    """What is forbidden counts as dead: the watchdog is let go, and nothing is killed again."""

    def forbid(self, vm: str, now_s: float) -> None:
        super().forbid(vm, now_s)
        self._let_go(vm)
        self._let_the_device_rest()


class NoKillAtT(Fencer):
    """The deadline is kept by the guard alone: what was granted once is never killed unless it is forbidden."""

    def _look_at(self, vm: str, now_s: float) -> None:
        if vm not in self._grants or vm in self._doomed:
            super()._look_at(vm, now_s)

    def look(self, now_s: float) -> float:
        return max(super().look(now_s), now_s + fencer_module.KILL_EVERY_S)  # a moment that is over is none to wake for


class GrantedAfterT(Fencer):
    """A grant that comes after T counts, and ends the killing."""

    def _must_not_be_doomed(self, vm: str, now_s: float) -> None:
        self._doomed.discard(vm)


class ForgetsAndSpares(Fencer):
    """A populated slice of which nobody knows a moment is left alone."""

    def _all(self) -> list[str]:
        return sorted(set(self._grants) | self._doomed)


class NotWrittenDown(Fencer):
    """What is granted lives in the process only."""

    def _remember(self, vm: str, grant: Grant) -> None:
        self._grants[vm] = grant


class RestartExtends(Fencer):
    """A fencer that begins gives what it finds written down some more time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._grants = {vm: dataclasses.replace(g, until_s=g.until_s + 5.0) for vm, g in self._grants.items()}


class NotBarred(Fencer):
    """A slice with no moment ahead is killed, and not frozen: what comes to it runs for a while."""

    def _bar(self, vm: str) -> str:
        return ""


class KilledOnce(Fencer):
    """What comes to a slice after T is not looked at any more."""

    def look(self, now_s: float) -> float:
        next_s = super().look(now_s)
        self._doomed.clear()
        return next_s

    def _all(self) -> list[str]:
        return sorted(self._grants)


class UnknownIsEmpty(Fencer):
    """A slice of which the kernel says nothing counts as empty."""

    def _is_empty(self, vm: str, unknown: bool | None = False) -> Any:
        return super()._is_empty(vm, unknown=True)


class PreparedWhateverArrives(Fencer):
    """A VM that a migration brings may be granted a moment to run, with nothing prepared."""

    def _may_run(self, vm: str) -> bool:
        return vm in self._grants


# ---- variants of the rules


def _handed_over_alive(view: View) -> Decision | None:
    """Whether the VM is dead here does not matter."""
    return _real_hand_over(view.but(vm=Vm.OFF))


def _mine_is_enough(view: View) -> bool:
    """Who holds the lease resumes what has arrived, however it came to hold it."""
    return rules.is_mine(view) and not rules.has_launched(view)


def _offered_once_is_enough(view: View) -> bool:
    """What was offered may stay until the lease names another holder."""
    lease = view.lease
    if lease is None:
        return True
    return (lease.phase is Phase.MIGRATING and lease.target == view.node) or _mine_is_enough(view)


def _taken_with_what_has_arrived(view: View) -> Decision | None:
    """A lease may be taken with a paused copy of the VM here."""
    return _real_take(view.but(vm=Vm.OFF) if view.vm is Vm.ARRIVING else view)


_real_hand_over, _real_take = rules_of_decide._hand_over, rules_of_decide._take


def _released_unbarred(view: View) -> Decision | None:
    """Given back when the VM is off, barred or not."""
    return _REAL_RELEASE(view.but(barred=True))


def _handed_over_unbarred(view: View) -> Decision | None:
    """Handed over when the VM is off, barred or not."""
    return _real_hand_over(view.but(barred=True))


def _renewed_unanswered(view: View) -> Decision | None:
    """Renewed whether the fencer answers or not."""
    return _REAL_RENEW(view.but(fencer_there=True, fencer_owes=0))


def _promised_when_asked(view: View) -> bool:
    """What the fencer was asked for counts as confirmed."""
    return bool(view.fencer_owes) or _REAL_PROMISED(view)


_REAL_RELEASE, _REAL_RENEW, _REAL_PROMISED = rules_of_decide._release, rules_of_decide._renew, rules.is_promised


class GentleIsKilledAtOnce(Guard):
    """A guest that may shut down before it is reset is killed at once."""

    def _on_order(self, ordered: Ordered) -> None:
        super()._on_order(dataclasses.replace(ordered, gentle_s=0.0))


class GentleForEver(Guard):
    """A guest that is to shut down before it is reset, and does not, is never killed."""

    def _on_order(self, ordered: Ordered) -> None:
        super()._on_order(dataclasses.replace(ordered, gentle_s=1e6 if ordered.gentle_s else 0.0))


def _unpaused_unpromised(view: View) -> str:
    """What a failing disk has paused is resumed, whatever the fencer has confirmed."""
    return _REAL_OBSTACLE(view.but(fencer_there=True, fencer_owes=0, promised_until_s=view.granted_until_s))


def _given_up_though_full(view: View) -> str:
    """Given to another node though the folder is full for that one, too."""
    return _REAL_GIVEN_UP(view.but(storage_full=False))


def _given_up_each_time(view: View) -> str:
    """Given up by a node as often as its disk fails."""
    return _REAL_GIVEN_UP(view.but(gave_up_s=float("-inf")))


_REAL_OBSTACLE, _REAL_GIVEN_UP = pauses.obstacle, pauses.given_up_reason


def _nothing_in_doubt(node: Node, vm: str) -> str:
    """What speaks against a node that gave the VM back: nothing."""
    return ""


def _launched_when_asked(self: Guard, _came_by: str, launch: Callable[[], None]) -> None:
    """Nobody looks whether the fencer has confirmed."""
    self._set(launched_epoch=self._epoch())
    self._generation += 1
    self._set(vm=Vm.STARTING, start_asked_s=self.view.now_s)
    launch()


def _never_barred(view: View) -> Decision | None:
    """The fencer is never told that nothing may come to life; it counts as done."""
    return None


def _no_deadline_reason(view: View) -> str:
    """No kill at the deadline."""
    if view.lease is not None and not rules.is_mine(view):
        return "not mine"
    return "" if view.granted_until_s is not None else "no lease"


def _expired_after_d(view: View) -> bool:
    """Expired after D, not after L."""
    return (
        view.sighting is not None
        and view.sighting.lease.phase is not Phase.RELEASED
        and view.now_s >= view.sighting.received_s + view.sighting.lease.timings.deadline_s
    )


def _released_while_running(view: View) -> Decision | None:
    """Given back as soon as it is unwanted."""
    if rules.is_mine(view) and view.desired is Run.STOPPED and rules_of_decide._may_ask(view):
        return Decision(Action.RELEASE, "desired is stopped")
    return None


def _taken_with_vm_alive(view: View) -> Decision | None:
    """Taken although a VM is alive here that may not be."""
    return _REAL_TAKE(dataclasses.replace(view, vm=Vm.OFF))


_REAL_TAKE = rules_of_decide._take


def _taken_with_the_same_epoch(lease: Lease, node: str, timings: Timings, reason: str) -> Lease:
    """The fencing token stays."""
    return Lease(node, lease.epoch, Phase.HELD, lease.seq + 1, timings, reason=reason)


def _unsafe_timings(config: Config) -> Config:
    """Timings that violate the inequality: L = D + 0.1 s."""
    timings = object.__new__(Timings)
    vars(timings).update(config.timings.to_dict(), lease_s=config.timings.deadline_s + 0.1)
    return dataclasses.replace(config, timings=timings, others=None)


# ---- masterless


def _taken_before_it_is_free(view: View) -> Decision | None:
    """Of its own accord a lease is taken so long after it was last *seen*, expired or not."""
    sighting = view.sighting
    if view.order is not None or sighting is None or not view.masterless_s:
        return _REAL_TAKE(view)
    if view.vm is not Vm.OFF or rules.is_mine(view) or rules_of_decide.unfit_reason(view):
        return None
    if view.now_s < sighting.received_s + view.timings.renew_s or not rules_of_decide._may_ask(view):
        return None
    return Decision(Action.TAKE, "nobody ordered a take-over")


_REAL_UNFIT = rules_of_decide.unfit_reason
_REAL_MASTERLESS = rules.masterless_at_s


def _stopped_is_no_reason(view: View) -> str:
    """Nobody asks whether the VM is to run."""
    return _REAL_UNFIT(view.but(desired=Run.STARTED))


def _failure_forgotten(view: View) -> int | None:
    """The best always comes first, also after it could not start the VM."""
    return _REAL_TURN(view.but(last_until_s=float("-inf")))


def _ranking_alone(view: View) -> int | None:
    """The nodes come in a fixed order, whatever their records say."""
    return _REAL_TURN(view.but(turns=view.ranking))


def _blind_comes_first(view: View) -> int | None:
    """A guard that does not see the records comes in its place of the fixed order, before those that do."""
    return _REAL_TURN(view.but(turns=view.ranking) if view.turns is None else view)


def _blind_never(view: View) -> int | None:
    """A guard that does not see the records leaves the VM to the others for ever."""
    return None if view.turns is None else _REAL_TURN(view)


_REAL_TURN = rules.turn_of


# ---- storage


def _out_of_reach_is_enough(view: View) -> str:
    """The VM is stopped though no other node reaches its image either."""
    return "" if view.storage_lost_s is None else _REAL_STORAGE(view.but(storage_elsewhere="n9"))


_REAL_STORAGE = rules_of_decide.storage_reason


# ---- the management network


def _gone_for_a_moment(self: Evacuation, view: View, now_s: float, lost_s: float | None, better: Any) -> Any:
    """The VM leaves as soon as the network is gone."""
    return _REAL_STEP(self, view, now_s, None if lost_s is None else float("-inf"), better)


def _when_all_are_back(self: Evacuation, view: View, now_s: float, lost_s: float | None, better: Any) -> Any:
    """The VM leaves as soon as another node has the network, however long it was gone for all."""
    self._better_s = float("-inf")
    return _REAL_STEP(self, view, now_s, lost_s, better)


def _never_stopped(self: Evacuation, view: View, now_s: float, lost_s: float | None, better: Any) -> Any:
    """A VM that can't be migrated stays out of reach for ever."""
    step = _REAL_STEP(self, view, now_s, lost_s, better)
    return None if step is not None and step.op is Op.RELEASE else step


def _stopped_at_once(self: Evacuation, view: View, now_s: float, lost_s: float | None, better: Any) -> Any:
    """The VM is stopped without a migration being tried."""
    self._tried.update(better)
    return _REAL_STEP(self, view, now_s, lost_s, better)


def _tried_for_ever(self: Evacuation, view: View, now_s: float, lost_s: float | None, better: Any) -> Any:
    """A target that has refused is tried again and again."""
    self._tried.clear()
    return _REAL_STEP(self, view, now_s, lost_s, better)


_REAL_STEP = Evacuation.step


# ---- variants of the simulated world's adapters: what they promise, they have to keep


def _read_stamped_afterwards(
    self: World, lease: Lease | None, index: int, received_s: float, asked_s: float | None
) -> LeaseSeen:
    """The clock of a consistent read is looked at when its answer comes."""
    return _REAL_LEASE_SEEN(self, lease, index, received_s, None if asked_s is None else received_s)


def _receipt_stamped_too_early(
    self: World, lease: Lease | None, index: int, received_s: float, asked_s: float | None
) -> LeaseSeen:
    """A record counts as received when the blocking query was sent that brought it."""
    return _REAL_LEASE_SEEN(self, lease, index, received_s - 1.0, asked_s)


def _copy_vouched_for(
    self: World, lease: Lease | None, index: int, received_s: float, asked_s: float | None
) -> LeaseSeen:
    """A copy of the node's own agent is passed on as a consistent read."""
    return _REAL_LEASE_SEEN(self, lease, index, received_s, received_s if asked_s is None else asked_s)


_REAL_LEASE_SEEN = World.lease_seen
_REAL_KILL = Hypervisor.kill


def _off_when_kill_was_sent(self: Hypervisor) -> None:
    """OFF is reported without a look."""
    _REAL_KILL(self)
    self._tell(VmSeen(Vm.OFF, self._generation))


def _by_the_command_line(self: Hypervisor) -> bool:
    """OFF is reported when no process has the VM's command line: that of a killed QEMU is gone before its threads."""
    return self.qemu is None or self.qemu.leaderless


def _silence_is_a_grant(ticket: int, outcome: Outcome, index: int = 0, error: str = "") -> Answered:
    """A request without an answer counts as granted."""
    if outcome is Outcome.UNREACHABLE:
        return Answered(ticket, Outcome.GRANTED, index=1 << 40)
    return Answered(ticket, outcome, index, error)


def _refusal_is_silence(ticket: int, outcome: Outcome, index: int = 0, error: str = "") -> Answered:
    """A refusal is passed on as if nobody had answered."""
    return Answered(ticket, Outcome.UNREACHABLE if outcome is Outcome.REFUSED else outcome, index, error)


_REAL_ARM = Watchdog.arm


def _armed_for_a_second_more(self: Watchdog, until_s: float) -> bool:
    """The device's whole seconds are rounded up, and one is added for luck."""
    return _REAL_ARM(self, until_s + 2.0)


# ---- variants of the real adapters


@dataclasses.dataclass(frozen=True)
class _Stamped(LeaseSeen):
    """A sighting whose question is stamped when its answer comes."""

    def __post_init__(self) -> None:
        if self.consistent:
            object.__setattr__(self, "asked_s", self.received_s)


@dataclasses.dataclass(frozen=True)
class _StampedEarly(LeaseSeen):
    """A sighting that counts as received when it was asked for."""

    def __post_init__(self) -> None:
        if self.consistent:
            object.__setattr__(self, "received_s", self.asked_s)


def _ended_at_once(self: processes_adapter.Process, timeout_s: float | None) -> bool:
    """A process that was killed has ended."""
    return True


STORE_TESTS = ("tests/functional/test_consul_store.py", "tests/functional/test_adapter_clocks.py")

MUTANTS: dict[str, Mutant] = {
    "deadline_anchored_at_the_reply": Mutant("the deadline counts from the reply", AnchoredAtReply),
    "watchdog_armed_after_start": Mutant(
        "the watchdog is armed once the VM runs", fencer_class=ArmedAfterPrepare, tests=FENCER
    ),
    "no_watchdog": Mutant("a required watchdog is never armed", fencer_class=NeverArmed, tests=FENCER),
    "watchdog_refusal_ignored": Mutant(
        "the VM starts though the required watchdog can't be armed", fencer_class=WatchdogRefusalIgnored, tests=FENCER
    ),
    "untold_moment_counts": Mutant(
        "a moment of which the required watchdog is not told counts", fencer_class=UntoldMomentCounts, tests=FENCER
    ),
    "untold_moment_promised": Mutant(
        "a guard counts on a moment of which the required watchdog was not told", UntoldMomentPromised
    ),
    "watchdog_petted_anyway": Mutant(
        "the watchdog is petted without a grant", fencer_class=PettedAtEachLook, tests=FENCER
    ),
    "watchdog_armed_too_long": Mutant("the watchdog is given more than T + K", fencer_class=ArmedTooLong, tests=FENCER),
    "watchdog_let_go_at_kill": Mutant(
        "the watchdog is let go before the slice is empty", fencer_class=LetGoAtKill, tests=FENCER
    ),
    "watchdog_let_go_at_forbid": Mutant("what is forbidden counts as dead", fencer_class=LetGoAtForbid, tests=FENCER),
    "fencer_never_kills_at_t": Mutant("the deadline is kept by the guard alone", fencer_class=NoKillAtT, tests=FENCER),
    "fencer_grants_after_t": Mutant("a grant counts after T", fencer_class=GrantedAfterT, tests=FENCER),
    "fencer_forgets_and_spares": Mutant(
        "a fencer with no memory lets a populated slice live", fencer_class=ForgetsAndSpares, tests=FENCER
    ),
    "fencer_writes_nothing_down": Mutant(
        "what is granted dies with the fencer", fencer_class=NotWrittenDown, tests=FENCER
    ),
    "fencer_extends_at_its_start": Mutant(
        "a fencer that begins grants more than is written down", fencer_class=RestartExtends, tests=FENCER
    ),
    "slice_not_barred": Mutant("a slice with nothing granted is not frozen", fencer_class=NotBarred, tests=FENCER),
    "slice_killed_once": Mutant(
        "what comes to a slice after T is not looked at", fencer_class=KilledOnce, tests=FENCER
    ),
    "unknown_is_empty": Mutant(
        "a slice of which nothing is known counts as empty", fencer_class=UnknownIsEmpty, tests=FENCER
    ),
    "arrived_is_granted": Mutant(
        "what was only expected to arrive is granted a moment to run",
        fencer_class=PreparedWhateverArrives,
        tests=FENCER,
    ),
    "started_before_prepared": Mutant(
        "the VM starts before the fencer has confirmed that it may",
        patches=((rules, "is_promised", _promised_when_asked), (Guard, "_launch", _launched_when_asked)),
    ),
    "denied_is_confirmed": Mutant("what the fencer refuses counts as confirmed", DeniedIsConfirmed),
    "promise_outlives_a_bar": Mutant("a promise from before the bar counts for a start", PromiseOutlivesABar),
    "released_unbarred": Mutant(
        "the lease is given back before the fencer has confirmed the bar",
        patches=((rules_of_decide, "_release", _released_unbarred),),
    ),
    "handed_over_unbarred": Mutant(
        "the lease is handed over before the fencer has confirmed the bar",
        patches=((rules_of_decide, "_hand_over", _handed_over_unbarred),),
    ),
    "never_barred": Mutant(
        "the lease is given back with the slice never barred",
        patches=(
            (rules_of_decide, "_bar", _never_barred),
            (rules_of_decide, "_release", _released_unbarred),
            (rules_of_decide, "_hand_over", _handed_over_unbarred),
        ),
    ),
    "renewed_unanswered": Mutant(
        "a renewal is sent while the fencer owes an answer", patches=((rules_of_decide, "_renew", _renewed_unanswered),)
    ),
    "kill_time_of_the_new_timings": Mutant(
        "a guard that adopts a grant counts K by its own timings: the watchdog comes later than the record in force",
        NewKillTime,
    ),
    "off_assumed": Mutant("a kill that was sent counts as done", OffAssumed),
    "taken_with_plain_write": Mutant("a take-over does not compare the index", TakenWithPlainWrite),
    "no_wait_after_restart": Mutant("a guard that just started does not wait L", NoWaitAfterRestart),
    "counted_from_the_sight_before": Mutant("an observer counts from the change before", CountedFromTheSightBefore),
    "late_grant_revives": Mutant(
        "a late grant counts after the lease was given back",
        LateGrantRevives,
    ),
    "refused_is_unreachable": Mutant(
        "a refusal is taken for silence",
        RefusedIsUnreachable,
    ),
    "missing_is_free": Mutant("a lease that is not there is free", MissingIsFree),
    "generation_ignored": Mutant("an old observation of the VM counts after a start", GenerationIgnored),
    "old_start_failure_counts": Mutant("an old start's failure counts as OFF", OldStartFailureCounts),
    "adopts_without_a_grant": Mutant(
        "a running VM is adopted at the guard's start, whatever was granted",
        AdoptsWithoutAGrant,
    ),
    "no_kill_at_deadline": Mutant(
        "no kill at the deadline", patches=((rules_of_decide, "fence_reason", _no_deadline_reason),)
    ),
    "expired_after_d": Mutant("expired after D instead of L", patches=((rules, "is_expired", _expired_after_d),)),
    "expires_by_own_timings": Mutant(
        "an observer waits by its own timings only",
        patches=((rules, "expires_s", lambda sighting, own: sighting.received_s + own.lease_s),),
    ),
    "created_again_by_own_timings": Mutant(
        "a lease that somebody deleted is created again with the timings of who creates it",
        patches=((rules, "created_again", rules.first),),
    ),
    "deadline_of_l": Mutant(
        "the holder runs for L instead of D",
        patches=((rules, "deadline_after", lambda asked_s, timings: asked_s + timings.lease_s),),
    ),
    "released_before_dead": Mutant(
        "the lease is given back with the VM alive", patches=((rules_of_decide, "_release", _released_while_running),)
    ),
    "started_without_deadline": Mutant("the VM starts by the holder's name alone", StartsWithoutDeadline),
    "taken_with_vm_alive": Mutant(
        "the lease is taken with a VM alive here",
        patches=((rules_of_decide, "_take", _taken_with_vm_alive),),
    ),
    "epoch_not_raised": Mutant(
        "the epoch does not grow when the lease is taken", patches=((rules, "taken", _taken_with_the_same_epoch),)
    ),
    "adoption_extends": Mutant(
        "a guard that adopts a grant gives the VM a fresh deadline",
        AdoptionExtends,
    ),
    "longer_deadline_kept": Mutant(
        "a record with shorter timings is sent before the fencer has confirmed them", LongerDeadlineKept
    ),
    "late_read_believed": Mutant(
        "a consistent read's answer counts whenever it comes",
        LateReadBelieved,
    ),
    "copy_believed": Mutant(
        "a guard that replaced itself believes the first copy it gets",
        CopyBelieved,
    ),
    "superseded_awaited": Mutant(
        "renewals that can only be refused are waited for",
        SupersededAwaited,
    ),
    "three_unanswered": Mutant(
        "three lost requests keep the next from being sent",
        patches=((rules_of_decide, "MAX_UNANSWERED", 3),),
    ),
    "handed_over_alive": Mutant(
        "the lease is handed over before the source's VM is dead",
        patches=((rules_of_decide, "_hand_over", _handed_over_alive),),
    ),
    "failed_migration_is_done": Mutant("a migration that failed counts as one that succeeded", FailedMoveIsDone),
    "arrived_is_resumed_by_its_finder": Mutant(
        "a node that takes an expired lease resumes what a migration had brought",
        patches=(
            (rules, "was_handed_over", _mine_is_enough),
            (rules, "may_arrive", _offered_once_is_enough),
            (rules_of_decide, "_take", _taken_with_what_has_arrived),
        ),
    ),
    "offered_once_stays": Mutant(
        "what has arrived is kept though it is not offered any more",
        patches=((rules, "may_arrive", _offered_once_is_enough),),
    ),
    "ends_without_hand_over": Mutant(
        "a guard that is to end forgets that it has sent the VM to another node", EndsWithoutHandOver
    ),
    "resumed_again": Mutant(
        "what turns up paused in an epoch in which the VM was launched is resumed, too",
        patches=((rules, "has_launched", lambda view: False),),
    ),
    "paused_for_ever": Mutant(
        "what a failing disk has paused is never resumed", patches=((pauses, "obstacle", lambda view: "left alone"),)
    ),
    "migration_waits_for_a_vm_that_stands": Mutant(
        "an order to migrate waits for a VM that its disk has paused, and so nobody resumes it",
        patches=((rules_of_decide, "unmovable_reason", lambda view: ""),),
    ),
    "suspended_is_resumed": Mutant(
        "what somebody has suspended is resumed", patches=((pauses, "BY_ITSELF", tuple(Pause)[1:]),)
    ),
    "resumed_at_once": Mutant(
        "a disk that fails is tried without a pause", patches=((pauses, "gap_s", lambda tries: 0.0),)
    ),
    "unpaused_unpromised": Mutant(
        "what a failing disk has paused is resumed without the fencer's word",
        patches=((pauses, "obstacle", _unpaused_unpromised),),
    ),
    "given_up_though_full": Mutant(
        "a VM whose disk is full goes to another node", patches=((pauses, "given_up_reason", _given_up_though_full),)
    ),
    "given_up_each_time": Mutant(
        "a VM whose disk fails everywhere goes from node to node",
        patches=((pauses, "given_up_reason", _given_up_each_time),),
    ),
    "who_gave_it_up_comes_first_again": Mutant(
        "a node that gave a VM up is chosen before one that was not tried",
        patches=((choose, "_doubt", _nothing_in_doubt),),
    ),
    "gentle_is_killed_at_once": Mutant(
        "a guest that may shut down before it is reset is killed at once", GentleIsKilledAtOnce
    ),
    "gentle_for_ever": Mutant("a deaf guest that hangs is asked to shut down for ever", GentleForEver),
    "unsafe_timings": Mutant("L = D + 0.1 s", twist=_unsafe_timings),
    "masterless_before_it_is_free": Mutant(
        "of its own accord a guard takes a lease that is not expired",
        patches=((rules_of_decide, "_take", _taken_before_it_is_free),),
    ),
    "masterless_though_stopped": Mutant(
        "of its own accord a guard takes the lease of a VM that is not to run",
        patches=((rules_of_decide, "unfit_reason", _stopped_is_no_reason),),
    ),
    "masterless_without_turns": Mutant(
        "all guards take a lease of their own accord at the same time", patches=((rules, "RANK_STEP_S", 0.0),)
    ),
    "masterless_failure_forgotten": Mutant(
        "the best node always comes first, also if it can't start the VM",
        patches=((rules, "turn_of", _failure_forgotten),),
    ),
    "masterless_by_ranking_alone": Mutant(
        "the guards take over in a fixed order, whatever the nodes' records say",
        patches=((rules, "turn_of", _ranking_alone),),
    ),
    "masterless_blind_comes_first": Mutant(
        "a guard that does not see the records comes before those that do",
        patches=((rules, "turn_of", _blind_comes_first),),
    ),
    "masterless_blind_never": Mutant(
        "a guard that does not see the records never takes over",
        patches=((rules, "turn_of", _blind_never),),
    ),
    "masterless_never": Mutant(
        "no guard takes a lease without an order",
        patches=((rules, "masterless_at_s", lambda view: float("inf")),),
    ),
    "stopped_for_storage_nobody_reaches": Mutant(
        "a VM is stopped for its storage though no node could do better",
        patches=((rules_of_decide, "storage_reason", _out_of_reach_is_enough),),
    ),
    "storage_never_a_reason": Mutant(
        "a VM without its image holds the lease for ever",
        patches=((rules_of_decide, "storage_reason", lambda view: ""),),
    ),
    "written_lease_is_obeyed": Mutant(
        "a lease into which somebody has written this node is started under at once",
        patches=((rules, "is_out_of_turn", lambda before, after: False),),
    ),
    "evacuated_though_nobody_is_better": Mutant(
        "a VM leaves a lost management network for a node that has lost it as well",
        patches=((evacuation, "has_management", lambda record: True),),
    ),
    "evacuated_at_once": Mutant(
        "a VM leaves as soon as its node's management network is gone",
        patches=((Evacuation, "step", _gone_for_a_moment),),
    ),
    "evacuated_when_all_are_back": Mutant(
        "a VM leaves a management network that comes back, for others have seen that a moment earlier",
        patches=((Evacuation, "step", _when_all_are_back),),
    ),
    "evacuated_live_or_never": Mutant(
        "a VM that can't be migrated stays on a node without its management network",
        patches=((Evacuation, "step", _never_stopped),),
    ),
    "evacuated_by_a_stop_alone": Mutant(
        "a VM is stopped for a lost management network, and not migrated",
        patches=((Evacuation, "step", _stopped_at_once),),
    ),
    "evacuated_to_the_same_again": Mutant(
        "a migration off a lost management network is tried again and again",
        patches=((Evacuation, "step", _tried_for_ever),),
    ),
    "evacuated_again_and_again": Mutant(
        "a VM that has come back to a lost management network is stopped for it again",
        patches=((evacuation, "AGAIN_S", 0.0),),
    ),
    "adapter_stamps_a_read_afterwards": Mutant(
        "the simulated store stamps a read when its answer comes",
        patches=((World, "lease_seen", _read_stamped_afterwards),),
    ),
    "adapter_stamps_a_receipt_too_early": Mutant(
        "the simulated store stamps a record when it was asked for",
        patches=((World, "lease_seen", _receipt_stamped_too_early),),
    ),
    "adapter_vouches_for_copies": Mutant(
        "the simulated store passes stale copies on as consistent",
        patches=((World, "lease_seen", _copy_vouched_for),),
    ),
    "adapter_takes_silence_for_a_grant": Mutant(
        "the simulated store takes no answer for a yes",
        patches=((consul_world, "Answered", _silence_is_a_grant),),
    ),
    "adapter_takes_a_refusal_for_silence": Mutant(
        "the simulated store takes a no for no answer",
        patches=((consul_world, "Answered", _refusal_is_silence),),
    ),
    "adapter_reports_off_unseen": Mutant(
        "the simulated hypervisor reports OFF when the kill was sent",
        patches=((Hypervisor, "kill", _off_when_kill_was_sent),),
    ),
    "adapter_believes_the_command_line": Mutant(
        "the simulated hypervisor reports OFF when QEMU's leader is gone, though its slice is populated",
        patches=((Hypervisor, "is_off", property(_by_the_command_line)),),
    ),
    "adapter_arms_for_too_long": Mutant(
        "the simulated watchdog is armed for longer than it was asked to",
        patches=((Watchdog, "arm", _armed_for_a_second_more),),
    ),
    "consul_takes_a_refusal_for_silence": Mutant(
        "the real store takes a no for no answer",
        patches=((lease_store, "Answered", _refusal_is_silence),),
        tests=STORE_TESTS,
        worlds=False,
    ),
    "consul_stamps_a_read_afterwards": Mutant(
        "the real store stamps a read when its answer comes",
        patches=((lease_store, "LeaseSeen", _Stamped),),
        tests=STORE_TESTS,
        worlds=False,
    ),
    "consul_stamps_a_receipt_too_early": Mutant(
        "the real store stamps a record when it was asked for",
        patches=((lease_store, "LeaseSeen", _StampedEarly),),
        tests=STORE_TESTS,
        worlds=False,
    ),
    "kill_confirmed_unseen": Mutant(
        "the real hypervisor's kill is confirmed without a look at the process",
        patches=((processes_adapter.Process, "wait", _ended_at_once),),
        tests=("tests/functional/test_processes.py",),
        worlds=False,
    ),
}
"""Every variant by its name."""


# ---- the layers


def by_constructor(mutant: Mutant) -> str:
    """The inequality with which the timings refuse to be made; empty if they do not."""
    timings = mutant.twist(Config()).timings
    try:
        Timings(**vars(timings))
    except ConfigurationError as error:
        return error.faults[0].problem.split(" does not hold")[0] if error.faults else str(error)
    return ""


def by_tests(name: str, tests: Iterable[str] = ()) -> str:
    """The first test of the layer ``unit`` that fails with a variant; empty if none does.

    :raises RuntimeError: the tests could not be run.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "tests.simulation.mutated"]
    run = subprocess.run(
        [*command, *(tests or MUTANTS[name].tests)],
        cwd=ROOT,
        env={**os.environ, "MNHA_MUTANT": name, "PYTEST_ADDOPTS": "-rf"},  # whatever the outer run was given
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode not in (0, 1):
        raise RuntimeError(run.stdout + run.stderr)
    failed = re.search(r"^FAILED (tests/\S+?::\w+)", run.stdout, re.MULTILINE)
    return failed[1] if failed else ""


def by_scenarios(mutant: Mutant, names: Iterable[str] = ()) -> list[str]:
    """The scenarios (of `names`, or of all) that fail with a variant."""
    return [scenario.name for scenario in every() if (not names or scenario.name in names) and _fails(scenario, mutant)]


def _fails(scenario: Any, mutant: Mutant) -> bool:
    """Whether a scenario fails with a variant."""
    twisted = dataclasses.replace(scenario, config=mutant.twist(scenario.config))
    with mutant.applied():
        for seed in SEEDS:
            try:
                twisted.check(seed)
            except Exception:  # of whatever kind: with the real guard none is raised
                return True
    return False


def by_machine(mutant: Mutant) -> bool:
    """Whether hypothesis finds a play that shows a variant."""
    try:
        with mutant.applied():
            machine.run(EXAMPLES, shrink=False)
    except Exception:
        return True
    return False


@dataclasses.dataclass(frozen=True)
class Caught:
    """What each layer says of a variant; empty where it says nothing."""

    name: str
    constructor: str = ""
    unit: str = ""
    scenarios: tuple[str, ...] = ()
    machine: str = ""
    seed: str = ""

    def __bool__(self) -> bool:
        """Whether any layer catches it."""
        return any((self.constructor, self.unit, self.scenarios, self.machine, self.seed))


def examine(name: str) -> Caught:
    """Try a variant in all layers."""
    mutant, begun_s = MUTANTS[name], time.monotonic()
    caught = Caught(name, constructor=by_constructor(mutant), unit=by_tests(name))
    if mutant.worlds:
        found = mutant.find(range(MOST_SEEDS))
        caught = dataclasses.replace(
            caught,
            scenarios=tuple(by_scenarios(mutant)),
            machine="caught" if by_machine(mutant) else "",
            seed=str(found.seed) if found else "",
        )
    print(f"{name:36} {time.monotonic() - begun_s:5.0f} s  {caught if caught else 'NOT CAUGHT'}"[:250], flush=True)
    return caught


# ---- the table

TABLE = Path(__file__).with_name("MUTANTS.md")
HEAD = f"""# Known-bad variants, and which layer of the tests catches which

Written by `python -m tests.simulation.mutants --write`; a test asserts that each is still caught by what stands here.

| layer | what |
|---|---|
| constructor | the timings can't be made |
| unit | `tests/unit/core` or `tests/unit/fencer`, or a real adapter's own tests: the first that fails |
| scenario | `tests/simulation/scenarios`: the first that fails, and how many do |
| machine | hypothesis' state machine, {EXAMPLES} examples |
| sweep | the first of {MOST_SEEDS} seeds that violates an invariant |
"""


def table_of(found: Mapping[str, Caught]) -> str:
    """The table as Markdown; of the scenarios it has the first that catches a variant."""
    lines = [
        HEAD,
        "| variant | what is wrong | constructor | unit | scenario | machine | sweep |",
        "|---|" + "---|" * 6,
    ]
    for name, mutant in MUTANTS.items():
        caught = found[name]
        scenario = f"`{caught.scenarios[0]}`" if caught.scenarios else ""
        cells = [
            f"`{name}`",
            mutant.what,
            f"`{caught.constructor}`" if caught.constructor else "",
            f"`{caught.unit}`" if caught.unit else "",
            scenario,
            caught.machine,
            caught.seed,
        ]
        lines.append("| " + " | ".join(cell or "–" for cell in cells) + " |")
    layers = ("constructor", "unit", "scenarios", "machine", "seed")
    sums = ", ".join(f"{sum(bool(getattr(found[name], layer)) for name in MUTANTS)}" for layer in layers)
    lines += ["", f"{len(MUTANTS)} variants; caught by constructor, unit, scenario, machine, sweep: {sums}."]
    return "\n".join(lines) + "\n"


def written() -> dict[str, Caught]:
    """What stands in the table."""
    rows = [line.split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    found = {}
    for row in rows:
        name, _, constructor, unit, scenario, by_play, seed = (
            "" if c.strip(" |") == "–" else c.strip(" |") for c in row
        )
        scenarios = tuple(re.findall("`(.*?)`", scenario))
        name, constructor, unit = (cell.strip("`") for cell in (name, constructor, unit))
        found[name] = Caught(name, constructor, unit, scenarios, by_play, seed)
    return found


def main() -> int:
    """Show the failure of one in the sweep, or try all layers and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="all, if none is given")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    names = arguments.names or list(MUTANTS)
    if not arguments.write:
        for name in names:
            found = MUTANTS[name].find(range(MOST_SEEDS))
            print(name, *((f"seed {found.seed}: {found.failure}", found.trace) if found else ("not caught",)), sep="\n")
        return 0
    known = written() if arguments.names else {}
    with ProcessPoolExecutor(arguments.jobs) as pool:
        known.update({caught.name: caught for caught in pool.map(examine, names)})
    TABLE.write_text(table_of(known), encoding="utf-8")
    return 0 if all(known.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
