"""Known-bad variants of the guard. Each must be caught; one that is not shows a weakness of the world.

    python -m tests.simulation.mutants --write    find the seeds, and write the table
    python -m tests.simulation.mutants NAME       the failure of one, at its seed

A variant is a subclass of the guard, a function of ``lease`` or ``decide`` replaced, or a changed configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from mnha import decide as rules_of_decide
from mnha import guard as guard_module
from mnha import lease as rules
from mnha.guard import Ask, Guard
from mnha.model import Action, Decision, Lease, Phase, Run, Sighting, View, Vm
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
    :param patches: functions to replace: (module, name, replacement).
    :param twist: changes the configuration of a seed's world.
    :param test: ``file::name`` of the test that catches it where no seed is to: a scenario for what costs availability
        and not safety, a unit test for what this world can't bring about.
    """

    what: str
    guard_class: type[Guard] = Guard
    patches: tuple[tuple[Any, str, Any], ...] = ()
    twist: Callable[[Config], Config] = lambda config: config
    test: str = ""

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put it in the place of the real one."""
        with contextlib.ExitStack() as stack:
            for module, name, replacement in ((guard_module, "Guard", self.guard_class), *self.patches):
                stack.enter_context(mock.patch.object(module, name, replacement))
            yield

    @property
    def layer(self) -> str:
        """Which layer of the tests catches it."""
        if not self.test:
            return "sweep"
        return "scenario" if "scenarios" in self.test else "unit"

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


class HandoverExtends(Guard):
    """A guard that replaced itself gives the VM a fresh deadline."""

    def __init__(self, *args: Any, now_s: float, deadline_s: float | None = None, **kwargs: Any) -> None:
        fresh_s = None if deadline_s is None else now_s + args[1].deadline_s
        super().__init__(*args, now_s=now_s, deadline_s=fresh_s, **kwargs)


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


def _start_without_deadline(view: View) -> Decision | None:
    """Started by the holder's name alone."""
    if rules.is_mine(view) and view.vm is Vm.OFF and rules_of_decide.wants_vm(view):
        return Decision(Action.START, "mine")
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


_SCENARIOS = "tests/simulation/test_scenarios.py"
_UNIT = "tests/unit/core/test_decide.py"

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
    "late_grant_revives": Mutant(
        "a late grant counts after the lease was given back",
        LateGrantRevives,
        test=f"{_SCENARIOS}::test_late_grant_after_a_release_revives_nothing",
    ),
    "refused_is_unreachable": Mutant(
        "a refusal is taken for silence",
        RefusedIsUnreachable,
        test=f"{_SCENARIOS}::test_a_reply_lost_after_the_commit_costs_nothing",
    ),
    "missing_is_free": Mutant("a lease that is not there is free", MissingIsFree),
    "generation_ignored": Mutant("an old observation of the VM counts after a start", GenerationIgnored),
    "old_start_failure_counts": Mutant("an old start's failure counts as OFF", OldStartFailureCounts),
    "adopts_without_handover": Mutant(
        "a running VM is adopted at the guard's start",
        AdoptsWithoutHandover,
        test=f"{_SCENARIOS}::test_guard_restarts_with_the_vm_still_running_and_kills_it",
    ),
    "no_kill_at_deadline": Mutant(
        "no kill at the deadline", patches=((rules_of_decide, "fence_reason", _no_deadline_reason),)
    ),
    "expired_after_d": Mutant("expired after D instead of L", patches=((rules, "is_expired", _expired_after_d),)),
    "expires_by_own_timings": Mutant(
        "an observer waits by its own timings only",
        patches=((rules, "expires_s", lambda sighting, own: sighting.received_s + own.lease_s),),
        test=f"{_SCENARIOS}::test_observer_with_shorter_timings_waits_by_those_of_the_holder",
    ),
    "deadline_of_l": Mutant(
        "the holder runs for L instead of D",
        patches=((rules, "deadline_after", lambda asked_s, timings: asked_s + timings.lease_s),),
    ),
    "released_before_dead": Mutant(
        "the lease is given back with the VM alive", patches=((rules_of_decide, "_release", _released_while_running),)
    ),
    "started_without_deadline": Mutant(
        "the VM starts by the holder's name alone",
        StartsWithoutDeadline,
        patches=((rules_of_decide, "_start", _start_without_deadline),),
    ),
    "taken_with_vm_alive": Mutant(
        "the lease is taken with a VM alive here",
        patches=((rules_of_decide, "_take", _taken_with_vm_alive),),
        test=f"{_UNIT}::test_no_lease_is_taken_while_a_vm_may_be_alive_here",
    ),
    "epoch_not_raised": Mutant(
        "the epoch does not grow when the lease is taken", patches=((rules, "taken", _taken_with_the_same_epoch),)
    ),
    "handover_extends": Mutant(
        "a guard that replaced itself gives the VM a fresh deadline",
        HandoverExtends,
        test=f"{_SCENARIOS}::test_guard_replaces_itself_without_consul_and_keeps_to_the_old_deadline",
    ),
    "late_read_believed": Mutant(
        "a consistent read's answer counts whenever it comes",
        LateReadBelieved,
        test=f"{_SCENARIOS}::test_late_answer_of_a_read_does_not_kill_what_was_started_since",
    ),
    "copy_believed": Mutant(
        "a guard that replaced itself believes the first copy it gets",
        CopyBelieved,
        test=f"{_SCENARIOS}::test_guard_replaces_itself_while_its_own_agent_lags_behind_and_the_vm_lives_on",
    ),
    "superseded_awaited": Mutant(
        "renewals that can only be refused are waited for",
        SupersededAwaited,
        test=f"{_SCENARIOS}::test_answers_that_take_two_fifths_of_the_deadline_cost_nothing",
    ),
    "three_unanswered": Mutant(
        "three lost requests keep the next from being sent",
        patches=((rules_of_decide, "MAX_UNANSWERED", 3),),
        test=f"{_SCENARIOS}::test_a_cut_that_leaves_time_for_one_renewal_costs_nothing",
    ),
    "unsafe_timings": Mutant("L = D + 0.1 s", twist=_unsafe_timings),
}
"""Every variant by its name."""

TABLE = Path(__file__).with_name("MUTANTS.md")
"""Which layer catches which, and at which seed; written by ``--write``."""


def seeds_of_table() -> dict[str, int]:
    """The seed that is known to catch each."""
    rows = [line.split("|") for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {row[1].strip(" `"): int(row[4]) for row in rows if row[4].strip().isdigit()}


def table_of(found: Mapping[str, Result | None]) -> str:
    """The table as Markdown."""
    lines = [
        "# Known-bad variants of the guard, and what catches each",
        "",
        f"Written by `python -m tests.simulation.mutants --write`. A seed is the first of {MOST_SEEDS} to catch it.",
        "",
        "| variant | what is wrong | layer | seed | what is seen first |",
        "|---|---|---|---|---|",
    ]
    for name, mutant in MUTANTS.items():
        result = found.get(name)
        seen = f"`{mutant.test.split('::')[1]}`" if mutant.test else result.failure if result else "NOT CAUGHT"
        seed = str(result.seed) if result else ""
        lines.append(f"| `{name}` | {mutant.what} | {mutant.layer} | {seed} | {seen} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the table, write it, or show the failure of one."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="all, if none is given")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    arguments = parser.parse_args()
    found: dict[str, Result | None] = {}
    for name, mutant in MUTANTS.items():
        if mutant.test if not arguments.names else name not in arguments.names:
            continue
        begun_s = time.monotonic()
        result = found[name] = mutant.find(range(MOST_SEEDS))
        told = f"seed {result.seed}: {result.failure}" if result else "NOT CAUGHT"
        print(f"{name:32} {time.monotonic() - begun_s:5.1f} s  {told[:150]}", flush=True)
        if arguments.names and result:
            print(result.trace)
    if arguments.write:
        TABLE.write_text(table_of(found), encoding="utf-8")
    return 1 if None in found.values() else 0


if __name__ == "__main__":
    sys.exit(main())
