"""Known-bad variants of the guard. Each must be caught; one that is not shows a weakness of the world.

    python -m tests.simulation.mutants            the table: which layer catches which, and at which seed
    python -m tests.simulation.mutants NAME       the failure of one, at its seed

A variant is a subclass of the guard, a function of ``lease`` or ``decide`` replaced, or a changed configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from mnha import decide as rules_of_decide
from mnha import guard as guard_module
from mnha import lease as rules
from mnha.guard import Ask, Guard
from mnha.model import Action, Lease, Phase, Run, Sighting, View, Vm
from mnha.ports import Answered, LeaseSeen, Outcome, StartFailed, VmSeen
from mnha.timing import Timings

from .sweep import Result, play
from .world import Config

MOST_SEEDS = 400
"""So many seeds are tried when a variant is not caught at the seed that is written down for it."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A known-bad variant.

    :param what: what is wrong with it.
    :param seed: a seed of the sweep that catches it; None if another layer does.
    :param scenario: the scenario test that catches it, for those that no seed does: they cost availability, not safety.
    :param patches: functions to replace: (module, name, replacement).
    :param twist: changes the world's configuration.
    """

    what: str
    guard_class: type[Guard] = Guard
    patches: tuple[tuple[Any, str, Any], ...] = ()
    twist: Callable[[Config], Config] = lambda config: config
    seed: int | None = None
    scenario: str = ""

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the functions."""
        with contextlib.ExitStack() as stack:
            for module, name, replacement in self.patches:
                stack.enter_context(mock.patch.object(module, name, replacement))
            yield

    def play(self, seed: int) -> Result:
        """Play a seed with it."""
        with self.applied():
            return play(seed, self.guard_class, twist=self.twist)


# ---- variants of the guard


class AnchoredAtReply(Guard):
    """The deadline counts from the reply."""

    def _on_granted(self, ask: Ask) -> None:
        super()._on_granted(dataclasses.replace(ask, sent_s=self.view.now_s))


class WatchdogAfterStart(Guard):
    """The watchdog is armed once the VM runs."""

    def _start(self) -> None:
        self._generation += 1
        self._set(vm=Vm.STARTING, start_asked_s=self.view.now_s)
        self._hypervisor.start(self._epoch(), self._generation)

    def _on_started(self) -> None:
        if self.view.deadline_s is not None:
            self._watchdog.arm(self.view.deadline_s + self.view.timings.kill_s)
        super()._on_started()


class _Armless:
    """A watchdog that says yes and does nothing, or does it although it was refused."""

    def __init__(self, real: Any, arms: bool) -> None:
        self._real, self._arms = real, arms

    def arm(self, until_s: float) -> bool:
        if self._arms:
            self._real.arm(until_s)
        return True

    def disarm(self) -> None:
        self._real.disarm()


class NoWatchdog(Guard):
    """The watchdog is never armed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watchdog = _Armless(self._watchdog, arms=False)


class WatchdogRefusalIgnored(Guard):
    """The VM starts even if the required watchdog could not be armed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watchdog = _Armless(self._watchdog, arms=True)


class WatchdogPettedAnyway(Guard):
    """The watchdog is petted whenever the guard wakes, not only when a renewal is confirmed."""

    def tick(self, now_s: float) -> None:
        super().tick(now_s)
        if self.view.vm.may_write:
            self._watchdog.arm(now_s + self.view.timings.reset_s)


class WatchdogArmedTooLong(Guard):
    """The watchdog is given the whole lease, counted from the reply."""

    def _on_granted(self, ask: Ask) -> None:
        super()._on_granted(ask)
        if self.view.vm.may_write:
            self._watchdog.arm(self.view.now_s + self.view.timings.lease_s + 1.0)


class DisarmedAtKill(Guard):
    """The watchdog is stopped when the kill is sent, not when it is confirmed."""

    def _kill(self, reason: str) -> None:
        super()._kill(reason)
        self._watchdog.disarm()


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
        self._set(deadline_s=None)

    def _on_granted(self, ask: Ask) -> None:
        self._set(deadline_s=rules.deadline_after(ask.sent_s, self.view.timings))
        if self.view.vm.may_write and self.view.deadline_s is not None:
            self._watchdog.arm(self.view.deadline_s + self.view.timings.kill_s)


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


class AdoptsWithoutHandover(Guard):
    """A guard that finds a VM running at its start lets it run."""

    def __init__(self, *args: Any, now_s: float, deadline_s: float | None = None, **kwargs: Any) -> None:
        timings = args[1]
        super().__init__(*args, now_s=now_s, deadline_s=deadline_s or now_s + timings.deadline_s, **kwargs)


class StartsWithoutDeadline(Guard):
    """Who finds its name in the lease starts the VM, confirmed or not."""

    def _start(self) -> None:
        if self.view.deadline_s is None:
            self._set(deadline_s=self.view.now_s + self.view.timings.deadline_s)
        super()._start()


# ---- variants of the rules


def _no_deadline_reason(view: View) -> str:
    """No kill at the deadline."""
    if view.lease is not None and not rules.is_mine(view):
        return "not mine"
    return "" if view.deadline_s is not None else "no lease"


def _expired_when_given_up(view: View) -> bool:
    """Expired after D, not after L."""
    return (
        view.sighting is not None
        and view.sighting.lease.phase is not Phase.RELEASED
        and view.now_s >= rules.given_up_s(view.sighting, view.timings)
    )


def _released_while_running(view: View) -> Iterator[Any]:
    """Given back as soon as it is unwanted."""
    if rules.is_mine(view) and view.desired is Run.STOPPED and rules_of_decide._may_ask(view):
        yield rules_of_decide.Decision(Action.RELEASE, "desired is stopped")


def _start_without_deadline(view: View) -> Iterator[Any]:
    """Started by the holder's name alone."""
    if rules.is_mine(view) and view.vm is Vm.OFF and rules_of_decide.wants_vm(view):
        yield rules_of_decide.Decision(Action.START, "mine")


def _taken_with_vm_alive(view: View) -> Iterator[Any]:
    """Taken although a VM is alive here that may not be."""
    with_off = dataclasses.replace(view, vm=Vm.OFF)
    yield from _REAL_TAKE(with_off)


_REAL_TAKE = rules_of_decide._take


def _unsafe_timings(config: Config) -> Config:
    """Timings that violate the inequality: L = D + 0.1 s."""
    timings = object.__new__(Timings)
    vars(timings).update(config.timings.to_dict(), lease_s=config.timings.deadline_s + 0.1)
    return dataclasses.replace(config, timings=timings, others=None)


decide_module = importlib.import_module("mnha.decide")


MUTANTS: dict[str, Mutant] = {
    "deadline_anchored_at_the_reply": Mutant("the deadline counts from the reply", AnchoredAtReply),
    "watchdog_armed_after_start": Mutant("the watchdog is armed once the VM runs", WatchdogAfterStart),
    "no_watchdog": Mutant("a required watchdog is never armed", NoWatchdog),
    "watchdog_refusal_ignored": Mutant(
        "the VM starts though the required watchdog can't be armed", WatchdogRefusalIgnored
    ),
    "watchdog_petted_anyway": Mutant("the watchdog is petted without a confirmed renewal", WatchdogPettedAnyway),
    "watchdog_armed_too_long": Mutant("the watchdog is given more than D + K", WatchdogArmedTooLong),
    "watchdog_disarmed_at_kill": Mutant("the watchdog is stopped before the death is confirmed", DisarmedAtKill),
    "off_assumed": Mutant("a kill that was sent counts as done", OffAssumed),
    "taken_with_plain_write": Mutant("a take-over does not compare the index", TakenWithPlainWrite),
    "no_wait_after_restart": Mutant("a guard that just started does not wait L", NoWaitAfterRestart),
    "counted_from_the_sight_before": Mutant("an observer counts from the change before", CountedFromTheSightBefore),
    "late_grant_revives": Mutant("a late grant counts after the lease was given back", LateGrantRevives),
    "refused_is_unreachable": Mutant("a refusal is taken for silence", RefusedIsUnreachable),
    "missing_is_free": Mutant("a lease that is not there is free", MissingIsFree),
    "generation_ignored": Mutant("an old observation of the VM counts after a start", GenerationIgnored),
    "old_start_failure_counts": Mutant("an old start's failure counts as OFF", OldStartFailureCounts),
    "adopts_without_handover": Mutant("a running VM is adopted at the guard's start", AdoptsWithoutHandover),
    "no_kill_at_deadline": Mutant(
        "no kill at the deadline", patches=((decide_module, "fence_reason", _no_deadline_reason),)
    ),
    "expired_when_given_up": Mutant(
        "expired after D instead of L", patches=((rules, "is_expired", _expired_when_given_up),)
    ),
    "expires_by_own_timings": Mutant(
        "an observer waits by its own timings only",
        patches=((rules, "expires_s", lambda sighting, own: sighting.received_s + own.lease_s),),
    ),
    "deadline_of_l": Mutant(
        "the holder runs for L instead of D",
        patches=((rules, "deadline_after", lambda asked_s, timings: asked_s + timings.lease_s),),
    ),
    "released_before_dead": Mutant(
        "the lease is given back with the VM alive", patches=((decide_module, "_release", _released_while_running),)
    ),
    "started_without_deadline": Mutant(
        "the VM starts by the holder's name alone",
        StartsWithoutDeadline,
        patches=((decide_module, "_start", _start_without_deadline),),
    ),
    "taken_with_vm_alive": Mutant(
        "the lease is taken with a VM alive here", patches=((decide_module, "_take", _taken_with_vm_alive),)
    ),
    "unsafe_timings": Mutant("L = D + 0.1 s", twist=_unsafe_timings),
}
"""Every variant by its name."""

_ = guard_module


def find(mutant: Mutant, seeds: range = range(MOST_SEEDS)) -> Result | None:
    """The first of `seeds` that catches it."""
    for seed in seeds:
        result = mutant.play(seed)
        if result.failure:
            return result
    return None


def main() -> int:
    """Print the table, or the failure of one."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="all, if none is given")
    names = parser.parse_args().names
    missed = 0
    for name, mutant in MUTANTS.items():
        if names and name not in names:
            continue
        begun_s = time.monotonic()
        result = find(mutant)
        took_s = time.monotonic() - begun_s
        missed += result is None
        print(
            f"{name:32} {f'seed {result.seed}' if result else 'NOT CAUGHT':10} {took_s:5.1f} s  "
            f"{result.failure[:150] if result else mutant.scenario}",
            flush=True,
        )
        if names and result:
            print(result.trace)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
