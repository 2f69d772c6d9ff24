"""The guard of one VM on one node: observe -> decide -> act, nothing else.

What it guarantees
    Of all nodes whose guards follow this code, at most one has a live QEMU process of the VM that may write, at any
    moment, whatever happens to the network, Consul, Salt, libvirtd and the other nodes, and whatever is ordered.

What it does not
    - A node whose *kernel* stands still for longer than L and then goes on (a suspended or frozen host) runs its VM for
      the moment until its fencer is scheduled. Only an armed watchdog covers it.
    - A guard *and* a fencer that are both stopped (SIGSTOP), or both end and can't be started again, while their VM
      runs on, with no watchdog. One of them may be: each kills at the deadline without the other.
    - Clocks (CLOCK_BOOTTIME) that run apart by more than :data:`mnha.core.timing.SKEW`.
    - A QEMU that can't be killed (uninterruptible sleep in I/O) on a node with no watchdog.
    - A VM that is started around the guard, on a node with no guard. On a node with one it is killed.
    - NFSv3, or NFS mounted ``nolock``: the image's lock, the last net, does not work there.

The object is fed with events and with the time; it never waits and never reads a clock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ..errors import BugError
from . import lease as rules
from . import pauses
from .decide import decide, end_reason, fence_reason, off_reason, offered_to, unfit_reason, unmovable_reason
from .model import (
    NOT_PROBED,
    SENTENCES,
    Action,
    Decision,
    Lease,
    Move,
    Op,
    Order,
    Pause,
    Phase,
    Sighting,
    State,
    View,
    Vm,
    json_of,
)
from .ports import (
    AbilitySeen,
    Answered,
    Confirmed,
    DesiredSeen,
    Ended,
    Event,
    Fencer,
    FencerSeen,
    Hypervisor,
    Journal,
    LeaseSeen,
    LeaseStore,
    MaintenanceSeen,
    Moved,
    Ordered,
    Outcome,
    ReadFailed,
    StartFailed,
    TurnsSeen,
    VmSeen,
)
from .renewals import Renewals
from .state import describe, next_moment
from .timing import Timings

MAX_ROUNDS = 32
"""Decisions in one reaction. Each changes the view so that it is not taken again; more than this is a bug."""

BACK_OFF_S = 10.0
"""How long a node that could not start the VM, and gave the lease back, does not take it again."""

OUTCOME_S = 10.0
"""How long libvirt may take to tell how a migration ended, after it was asked to abort it, or after the VM left."""

KILL_RETRY_S = 0.2
"""How often a kill that is not confirmed is repeated."""

SHUTDOWN_RETRY_S = 10.0
"""How often a guest that has not shut down is asked again."""


@dataclasses.dataclass(frozen=True)
class Ask:
    """A lease request in flight: what it writes, the index it compares with, and the clock *before* it was sent."""

    action: Action
    lease: Lease
    index: int
    sent_s: float


@dataclasses.dataclass(frozen=True)
class Told:
    """A request to the fencer in flight.

    :param until_s: the moment it names.
    :param reset_s: when the watchdog resets the node after that.
    """

    action: Action
    until_s: float = float("-inf")
    reset_s: float = float("-inf")


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is no matter of safety.

    :param failed_starts: so many failures within `window_s` and the lease is given back.
    :param window_s: after this time without a failure they are forgotten.
    :param start_s: how long libvirt may take to start it.
    :param shutdown_s: how long a guest may take to shut down.
    :param storage_s: how long the image's folder may be gone here, and only here, before a running VM is stopped.
    :param management_s: how long the management network may be gone here, and only here, before the VM leaves
        (:mod:`mnha.core.evacuation`).
    :param masterless_s: how long nobody orders a take-over that is needed before this node does it without an order;
        0: never.
    :param ranking: all nodes, the preferred ones first.
    """

    failed_starts: int = 3
    window_s: float = 600.0
    start_s: float = 30.0
    shutdown_s: float = 60.0
    storage_s: float = float("inf")
    management_s: float = float("inf")
    masterless_s: float = 0.0
    ranking: tuple[str, ...] = ()


class Guard:
    """Keeps or loses the lease of one VM, and starts and kills the VM accordingly.

    :param node: this node's name, as it stands in the lease.
    :param now_s: CLOCK_BOOTTIME at the start.
    :param granted_until_s: until when the fencer lets a VM run that is found running; None: it knows of none.
    :param granted_kill_s: the K that belongs to it: by the timings of the guard that was granted it.
    """

    def __init__(
        self,
        node: str,
        timings: Timings,
        limits: Limits,
        *,
        store: LeaseStore,
        hypervisor: Hypervisor,
        fencer: Fencer,
        journal: Journal,
        now_s: float,
        granted_until_s: float | None = None,
        granted_kill_s: float = 0.0,
    ) -> None:
        self._store, self._hypervisor, self._fencer, self._journal = store, hypervisor, fencer, journal
        self._limits = limits
        self._asks: dict[int, Ask] = {}
        self._told: dict[int, Told] = {}
        self._generation = 0
        self._found_off: bool | None = None
        self._moves = 0
        self._kill_s = granted_kill_s
        self._reset_s = float("-inf") if granted_until_s is None else granted_until_s + granted_kill_s
        """The latest moment at which the fencer may have the node reset."""
        self._tickets = 0
        self._last_failure_s = float("-inf")
        self.vm_pid: int | None = None
        self.came_by: str | None = None
        """How this guard last brought the VM to life here, by a start or a migration; None: it did not."""
        self.state: State | None = None
        self.last_decision: dict[str, Any] | None = None
        self.last_fence: dict[str, Any] | None = None
        self.timeline: dict[str, Any] = {}
        self.renewals: Renewals | None = None
        self.view = View(
            now_s=now_s,
            node=node,
            timings=timings,
            granted_until_s=granted_until_s,
            promised_until_s=granted_until_s,
            fencer_there=False,
            barred=False,
            unable=NOT_PROBED,
            probed=False,
            start_limit_s=limits.start_s,
            shutdown_limit_s=limits.shutdown_s,
            storage_limit_s=limits.storage_s,
            failed_starts_limit=limits.failed_starts,
            give_up_every_s=limits.window_s,
            masterless_s=limits.masterless_s,
            ranking=limits.ranking,
        )
        self._on: dict[type[Event], Callable[[Any], None]] = {
            LeaseSeen: self._on_lease,
            Answered: self._on_answer,
            ReadFailed: self._on_read_failed,
            VmSeen: self._on_vm,
            StartFailed: self._on_start_failed,
            Moved: self._on_moved,
            Confirmed: self._on_confirmed,
            FencerSeen: self._on_fencer,
            DesiredSeen: self._on_desired,
            MaintenanceSeen: self._on_maintenance,
            TurnsSeen: self._on_turns,
            AbilitySeen: self._on_ability,
            Ordered: self._on_order,
            Ended: self._on_end,
        }

    # ---- observe

    def handle(self, event: Event, now_s: float) -> None:
        """Take in what happened, and act on it."""
        self._advance(now_s)
        self._on[type(event)](event)
        self._react()

    def tick(self, now_s: float) -> None:
        """Act on the time alone."""
        self._advance(now_s)
        self._react()

    def wake_s(self) -> float:
        """When :meth:`tick` is due if no event comes before."""
        next_overdue_s = min(map(self._overdue_s, self._asks.values()), default=float("inf"))
        return min(next_moment(self.view), next_overdue_s)

    @property
    def done(self) -> bool:
        """Whether a guard that was asked to end may do so: no VM is alive here, no lease is held or asked for."""
        return bool(self.view.ending) and self.view.vm is Vm.OFF and not rules.is_mine(self.view) and not self._asks

    def _advance(self, now_s: float) -> None:
        """Move the view's clock; it never goes back. Give up requests whose grant could not move the deadline any
        more."""
        if now_s > self.view.now_s:
            self._set(now_s=now_s)
        overdue = [ticket for ticket, ask in self._asks.items() if self._overdue_s(ask) <= self.view.now_s]
        for ticket in overdue:
            self._on_answer(Answered(ticket, Outcome.UNREACHABLE, error="no answer within the deadline"))

    def _overdue_s(self, ask: Ask) -> float:
        """When an answer to `ask` is of no use any more."""
        return rules.deadline_after(ask.sent_s, self.view.timings)

    def _set(self, **changes: Any) -> None:
        """Replace the view: the one setter."""
        self.view = self.view.but(**changes)

    def _on_lease(self, seen: LeaseSeen) -> None:
        """Fold a received record into the view.

        A copy that nobody vouches for counts only if it is newer; a consistent one also if it was asked for after what
        is known was received: an answer may be under way for so long that it is old news, and would kill a VM that was
        started since. The moment of *first* receipt stays: seeing the same index again proves nothing new.
        """
        known = self.view.sighting
        if seen.consistent:
            if known is not None and seen.index < known.index and seen.asked_s <= known.received_s:
                return
            self._set(must_read=False)
        elif known is not None and seen.index <= known.index:
            return
        elif known is None and self.view.granted_until_s is not None:
            return  # granted to the guard before this one: only what is vouched for may take that away
        if seen.lease is None:
            if seen.consistent:
                if rules.is_mine(self.view):
                    self._journal.note(
                        "lease deleted", f"the lease of epoch {self._epoch()} is gone", epoch=self._epoch()
                    )
                self._forget_lease()
                self._set(sighting=None, missing=True, next_read_s=self.view.now_s + self.view.timings.deadline_s)
            return
        if known is None or known.index != seen.index:
            if seen.consistent:
                # Only news lets the next request go out at once: a refusal that repeats itself must not become a busy
                # loop.
                self._set(next_ask_s=min(self.view.next_ask_s, self.view.now_s))
            self._sight(Sighting(seen.lease, seen.index, seen.received_s))

    def _on_read_failed(self, failed: ReadFailed) -> None:
        """Read again soon."""
        self._set(next_read_s=self.view.now_s + self.view.timings.renew_s / 4)

    def _on_desired(self, seen: DesiredSeen) -> None:
        """Fold the wish into the view, and since when it is known."""
        if seen.run is not self.view.desired:
            self._set(desired=seen.run, desired_since_s=self.view.now_s)

    def _on_maintenance(self, seen: MaintenanceSeen) -> None:
        """Fold the maintenance of this node into the view."""
        self._set(maintenance=seen.reason)

    def _on_turns(self, seen: TurnsSeen) -> None:
        """Fold into the view who may take over without an order."""
        if seen.turns != self.view.turns:
            self._set(turns=seen.turns)

    def _on_ability(self, seen: AbilitySeen) -> None:
        """Fold what the probes have found into the view. Storage that is well again is tried at once, and what was in
        vain before says nothing of it.
        """
        before = self.view
        is_back = before.storage_lost_s is not None and seen.storage_lost_s is None
        if (is_back or (before.storage_full and not seen.storage_full)) and before.troubled_s is not None:
            self._set(troubled_s=before.now_s, resumes=0, next_resume_s=before.now_s)
        self._set(
            unable=seen.unable,
            probed=True,
            storage_lost_s=seen.storage_lost_s,
            storage_elsewhere=seen.storage_elsewhere,
            storage_full=seen.storage_full,
        )

    def _sight(self, sighting: Sighting) -> None:
        """Adopt `sighting`; a lease that is not this node's ends every claim of this node to run the VM."""
        before, was_mine = self.view.lease, rules.is_mine(self.view)
        self._set(sighting=sighting, missing=False)
        after = sighting.lease
        if before is None or before.target != after.target:
            self._set(offered_s=self.view.now_s)
        if before is not None and rules.is_mine(self.view) and rules.is_out_of_turn(before, after):
            self._wait_for(before, after)
        if not rules.is_mine(self.view):
            self._forget_lease()
            if was_mine:
                self._on_lost(after)
                self._forget_move()
            if self.view.order and self.view.order.op is Op.RELEASE:
                self._end_order("ok", f"{self.view.node} does not hold the lease any more: {after.reason}")
            if self.view.order and self.view.order.op is Op.MIGRATE and after.holder == self.view.order.target:
                self._end_order("ok", f"the VM was migrated to {after.holder}, epoch {after.epoch}")
        if before is None:
            self._tell_found_off()
        if before is None or (before.epoch, before.holder, before.phase) != (after.epoch, after.holder, after.phase):
            self._journal.log(
                f"lease: epoch {after.epoch}, {after.phase} by {after.holder or 'nobody'} ({after.reason})"
            )

    def _wait_for(self, before: Lease, after: Lease) -> None:
        """Start nothing under a lease that came here by no guard's hand until the holder before can't run the VM."""
        wait_s = max(before.timings.lease_s, after.timings.lease_s)
        self._wait_until(self.view.now_s + wait_s)
        holder = before.holder or "nobody"
        text = f"the lease of epoch {after.epoch} went from {holder} to {self.view.node}, and no guard has written that"
        self._journal.note("lease written", f"{text}: nothing is started for {wait_s:g} s", epoch=after.epoch)

    def _forget_lease(self) -> None:
        """Void the deadline and every request in flight: an answer that comes late must not revive a right to run."""
        if self._asks or self.view.granted_until_s is not None:
            gives = (Action.RELEASE, Action.HAND_OVER)
            self._asks = {ticket: ask for ticket, ask in self._asks.items() if ask.action in gives}
            self._set(granted_until_s=None, unanswered=len(self._asks))

    def _on_answer(self, answered: Answered) -> None:
        """Fold the end of a lease request into the view. Only *granted* moves the deadline."""
        ask = self._asks.pop(answered.ticket, None)
        if ask is None:
            return
        now_s = self.view.now_s
        self._set(unanswered=len(self._asks))
        self._count_renewal(ask, answered.outcome)
        if answered.outcome is Outcome.UNREACHABLE:
            # Lost or never sent: nobody knows. A renewal is simply tried again (if the lost one was committed the
            # next is refused and the lease is read); what changes hands is read first.
            self._set(next_ask_s=min(self.view.next_ask_s, now_s + self.view.timings.renew_s / 4))
            if ask.action is not Action.RENEW:
                self._set(must_read=True, next_read_s=now_s)
            return
        if answered.outcome is Outcome.REFUSED:
            self._set(must_read=True, next_read_s=now_s)
            return
        self._drop_superseded(ask, answered.index)
        known = self.view.sighting
        if known is None or answered.index > known.index:
            self._sight(Sighting(ask.lease, answered.index, now_s))
        if ask.action in (Action.RENEW, Action.TAKE):
            self._on_granted(ask)

    def _count_renewal(self, ask: Ask, outcome: Outcome) -> None:
        """Count how a renewal ended, for the status; a lease that is taken begins a new count."""
        now_s = self.view.now_s
        if self.renewals is None or (ask.action is Action.TAKE and outcome is Outcome.GRANTED):
            self.renewals = Renewals(since_s=now_s)
        match outcome:
            case Outcome.GRANTED if ask.action is not Action.RELEASE:
                self.renewals.grant(ask.sent_s, now_s, self.view.timings.renew_s)
            case Outcome.REFUSED if ask.action is Action.RENEW:
                self.renewals.refused += 1
            case Outcome.UNREACHABLE if ask.action is Action.RENEW:
                self.renewals.lost += 1

    def _drop_superseded(self, granted: Ask, index: int) -> None:
        """Forget the requests that compare with an older index than the one just written: they can only be refused.

        Their refusals would cost a read each, and while a read is under way nothing is renewed. When the grant took
        longer than a renewal's pace, the next one goes out at once: with slow answers the deadline is near.
        """
        view = self.view
        self._asks = {ticket: ask for ticket, ask in self._asks.items() if ask.index >= index}
        next_ask_s = min(view.next_ask_s, max(view.now_s, granted.sent_s + view.timings.renew_s))
        self._set(unanswered=len(self._asks), next_ask_s=next_ask_s)

    def _on_granted(self, ask: Ask) -> None:
        """Move the deadline, counted from before the request was sent; tell the fencer."""
        if not rules.is_mine(self.view) or self.view.lease is None or self.view.lease.epoch != ask.lease.epoch:
            return
        granted_until_s = rules.deadline_after(ask.sent_s, self.view.timings)
        if self.view.granted_until_s is None or granted_until_s > self.view.granted_until_s:
            self._set(granted_until_s=granted_until_s)
            self._kill_s = self.view.timings.kill_s
            if self._may_grant():
                self._tell(Action.RENEW, granted_until_s)
        if ask.action is Action.TAKE:
            self.timeline["taken_s"] = self.view.now_s
            self._journal.note("taken", f"{self.view.node} took the lease: {ask.lease.reason}", epoch=ask.lease.epoch)

    def _keeps_within(self, until_s: float) -> bool:
        """Let the VM run no longer than the record allows that is about to be sent, whether its answer arrives or not.

        The others go by its timings once it is written. When an operator has shortened them, a guard with the longer
        ones has told the fencer: that has confirmed the shorter ones before the record is sent.

        :returns: whether it may be sent; else the fencer was told, and its answer is to be waited for.
        """
        if self.view.granted_until_s is None or self._reset_s <= until_s + self.view.timings.kill_s:
            return True
        until_s = min(until_s, self.view.granted_until_s)
        self._kill_s = min(self._kill_s, self.view.timings.kill_s)
        self._set(granted_until_s=until_s, next_ask_s=self.view.now_s + self.view.timings.renew_s / 4)
        if self.view.fencer_there and not self._told:
            self._tell(Action.RENEW, until_s)
        return False

    # ---- the fencer

    def _ask_fencer(self, action: Action) -> None:
        """Carry out a decision that is the fencer's matter."""
        match action:
            case Action.PREPARE if self.view.granted_until_s is not None:
                self._tell(action, self.view.granted_until_s)
            case Action.EXPECT if self.view.sighting is not None:
                self._tell(action, rules.expires_s(self.view.sighting, self.view.timings))
            case Action.BAR:
                self._tell(action)

    def _tell(self, action: Action, until_s: float = float("-inf")) -> None:
        """Send the fencer a request: PREPARE, RENEW, EXPECT or BAR."""
        self._tickets += 1
        kill_s, ticket = self._kill_s, self._tickets
        self._told[ticket] = told = Told(action, until_s, until_s + kill_s)
        self._set(fencer_owes=len(self._told), barred=False)
        match action:
            case Action.PREPARE:
                self._fencer.prepare(until_s, kill_s, ticket)
            case Action.RENEW:
                self._fencer.grant(until_s, kill_s, ticket)
            case Action.EXPECT:
                self._fencer.expect(until_s, ticket)
            case _:
                self._fencer.forbid(ticket)
        self._reset_s = max(self._reset_s, told.reset_s)

    def _may_grant(self) -> bool:
        """Whether the fencer is to be told of a renewal: the VM is alive or prepared, and not being barred. Also after
        one that it has refused: what was granted before may count on.
        """
        view = self.view
        lives = view.promised_until_s is not None or self._is_alive()
        return lives and view.fencer_there and not view.barred and not self._is_barring()

    def _on_confirmed(self, confirmed: Confirmed) -> None:
        """Fold an answer of the fencer into the view."""
        told = self._told.pop(confirmed.ticket, None)
        if told is None:
            return
        self._set(fencer_owes=len(self._told), armed=confirmed.protected and self.view.vm.may_write)
        if confirmed.error:
            self._on_denied(told, confirmed.error)
            return
        match told.action:
            case Action.BAR:
                self._set(barred=not self._told, promised_until_s=None, expected_until_s=None)
            case Action.EXPECT:
                self._set(expected_until_s=told.until_s)
            case _:
                until_s: float | None = told.until_s
                if not confirmed.as_required:  # no later moment counts
                    promised_s = self.view.promised_until_s
                    until_s = None if promised_s is None else min(told.until_s, promised_s)
                self._set(promised_until_s=until_s, expected_until_s=None, armed=confirmed.protected)
        if told.action is Action.RENEW:
            self._count_unprotected(confirmed.as_required)
        if told.action in (Action.PREPARE, Action.RENEW) and not self._told:
            self._reset_s = told.reset_s
        self._forget_reset()

    def _forget_reset(self) -> None:
        """Where nothing is alive, nor can come to life, no reset is to come."""
        if self.view.vm is Vm.OFF and self.view.barred:
            self._reset_s = float("-inf")

    def _on_denied(self, told: Told, error: str) -> None:
        """The fencer has refused, or could not: what it was to allow is not allowed."""
        self._journal.log(f"the fencer does not {told.action}: {error}")
        if told.action in (Action.PREPARE, Action.RENEW):
            self._set(promised_until_s=None)
        if told.action is Action.EXPECT:
            self._set(expected_until_s=told.until_s)  # asked again with the next renewal of the offer, not at once
        if told.action is Action.BAR:
            self._set(next_bar_s=self.view.now_s + KILL_RETRY_S)
        if told.action is Action.PREPARE:
            if self.view.vm is Vm.ARRIVING:
                self._set(launched_epoch=self._epoch())  # what can't be resumed now is of no use any more
            self._on_start_failed(StartFailed(self._generation, error))

    def _on_fencer(self, seen: FencerSeen) -> None:
        """The fencer came or went. One that has come is told how things stand; what was asked before has no answer."""
        there = seen.there
        if there is self.view.fencer_there and not self._told:
            return
        self._journal.log(f"the fencer {'answers' if there else 'does not answer'}")
        self._told.clear()
        runs = self.view.vm.may_write and self.view.vm is not Vm.ARRIVING and self.view.granted_until_s is not None
        self._set(fencer_there=there, fencer_owes=0, barred=False, expected_until_s=None)
        if not runs and self.view.vm is not Vm.UNKNOWN:
            self._set(promised_until_s=None)
        if there and self.view.vm is not Vm.UNKNOWN and runs and self.view.granted_until_s is not None:
            self._tell(Action.RENEW, self.view.granted_until_s)

    def _count_unprotected(self, as_required: bool) -> None:
        """Count the renewals in a row with which a required watchdog could not be armed: the VM is soon handed over."""
        before = self.view.unprotected
        after = 0 if as_required else before + 1
        if after != before:
            self._set(unprotected=after)
        if after == 1:
            text = (
                f"the watchdog of {self.view.node} is required and can't be armed; if that lasts the VM is handed over"
            )
            self._journal.note("unprotected", text, epoch=self._epoch())
        elif before and not after:
            self._journal.note("protected", f"the watchdog of {self.view.node} works again", epoch=self._epoch())

    def _on_lost(self, after: Lease) -> None:
        """Start afresh after the lease went, however that became known: the answer to a release may be lost."""
        if self.view.failed_starts >= self.view.failed_starts_limit:
            now_s = self.view.now_s
            self._wait_until(now_s + BACK_OFF_S)
            self._set(last_until_s=now_s + self._limits.window_s)
        self._set(failed_starts=0, unprotected=0)
        if after.phase is Phase.RELEASED:
            self._journal.note("released", f"{self.view.node} gave the lease back: {after.reason}", epoch=after.epoch)

    def _on_vm(self, seen: VmSeen) -> None:
        """Fold the VM's state into the view; what was seen before the newest start says nothing about it."""
        if seen.generation < self._generation:
            return
        before, self.vm_pid = self.view.vm, seen.pid
        self._fold_pause(seen)
        self._set(vm=seen.vm)
        if self._found_off is None and seen.vm is not Vm.UNKNOWN:
            self._found_off = seen.vm is Vm.OFF
        if seen.vm is before:
            return
        self._journal.log(f"VM: {before} -> {seen.vm}")
        if seen.vm is Vm.OFF:
            self._on_vm_off(before, seen.crashed)
            self._tell_found_off()
        elif seen.vm is Vm.RUNNING and before is Vm.STARTING:
            self._on_started()

    def _fold_pause(self, seen: VmSeen) -> None:
        """Fold into the view what pauses the VM, and for how long it does so now and again."""
        view, pause = self.view, seen.pause if seen.vm is Vm.PAUSED else Pause.NONE
        self._set(pause=pause, resuming=False)
        if seen.vm is Vm.OFF:
            self._set(troubled_s=None, resumes=0)
        if pause is view.pause:
            return
        if not pause:
            self._set(calm_s=view.now_s + pauses.CALM_S)
            return
        if pause in pauses.BY_ITSELF and (view.troubled_s is None or view.now_s >= view.calm_s):
            self._set(troubled_s=view.now_s, resumes=0)
        self._set(calm_s=float("inf"), next_resume_s=view.now_s + pauses.gap_s(self.view.resumes))
        if view.move is Move.NONE:  # else it stands still for a moment, to go on elsewhere
            self._journal.note("paused", f"the VM is paused on {view.node}: {pause}", epoch=self._epoch())

    def _tell_found_off(self) -> None:
        """Tell that the VM which this node is to run was dead when this guard began: nobody else will."""
        if self._found_off and rules.is_mine(self.view) and not self._generation:
            self._found_off = False
            text = f"the VM was off on {self.view.node} when its guard began: the one before did not see it end"
            self._journal.note("off", text, epoch=self._epoch())

    def _on_vm_off(self, before: Vm, crashed: bool) -> None:
        """The VM is confirmed dead; was it a failure?"""
        never_s = float("-inf")
        self._set(armed=False, shutdown_asked_s=None, next_shutdown_s=never_s, start_asked_s=None, next_kill_s=never_s)
        self._forget_reset()
        if self.view.move is not Move.UNDER_WAY:
            # While it is, no renewal for this: it would be in flight when the hand-over goes out, and void that.
            self._set(next_ask_s=float("-inf"))
        if self.view.move is not Move.NONE:
            self._set(move_until_s=min(self.view.move_until_s, self.view.now_s + OUTCOME_S))
        if self.view.order and self.view.order.op is Op.RESET:
            how = "killed" if self.view.now_s >= self.view.order.kill_s else "shut down"
            self._end_order("ok", f"the VM was {how} and is being started again")
        elif crashed and (reason := fence_reason(self.view.but(vm=before))):
            self._note_fence(reason)  # by the fencer: this guard was not there, or comes second
        elif crashed and before in (Vm.RUNNING, Vm.PAUSED):
            self._count_failure()
            self._journal.note("died", f"the VM died on {self.view.node}", epoch=self._epoch())
        elif before is Vm.RUNNING and not self.view.ending and self.view.move is Move.NONE:
            self._journal.note("off", f"the VM is off on {self.view.node}", epoch=self._epoch())

    def _on_started(self) -> None:
        """The VM runs."""
        self._set(start_asked_s=None, last_until_s=float("-inf"))
        self.timeline["started_s"] = self.view.now_s
        how = ", where a migration has brought it" if self.came_by == "migration" else ""
        self._journal.note(
            "started", f"the VM runs on {self.view.node}{how}", epoch=self._epoch(), timeline=dict(self.timeline),
            came_by=self.came_by,
        )  # fmt: skip
        if self.view.order and self.view.order.op is Op.TAKEOVER:
            self._end_order("ok", f"the VM runs on {self.view.node}, epoch {self._epoch()}")

    def _on_moved(self, moved: Moved) -> None:
        """The migration has ended. One that succeeded after nobody waited for it any more has failed: what it brought
        to the target is killed there, and the VM started from its disk.
        """
        if moved.generation != self._moves or self.view.move is not Move.UNDER_WAY:
            return
        order = self.view.order
        if not moved.error and order is not None and order.op is Op.MIGRATE:
            self._set(move=Move.DONE, next_ask_s=min(self.view.next_ask_s, self.view.now_s))
            return
        self._end_move(moved.error or "nobody wanted it any more")

    def _end_move(self, error: str) -> None:
        """The migration has failed: the next renewal withdraws the offer, and the VM goes on here."""
        self._forget_move()
        self._set(next_ask_s=min(self.view.next_ask_s, self.view.now_s))
        self._journal.note("migration failed", f"{self.view.node}: the VM stays here: {error}", epoch=self._epoch())
        if self.view.order and self.view.order.op is Op.MIGRATE:
            self._end_order("failed", f"the VM stays on {self.view.node}: {error}")

    def _forget_move(self) -> None:
        """Nothing that libvirt still tells of a migration counts."""
        self._moves += 1
        self._set(move=Move.NONE, move_until_s=float("inf"), move_aborted=False)

    def _on_start_failed(self, failed: StartFailed) -> None:
        """Count it. With the image locked, or on an order, give the lease back at once: somebody else may do better.

        Never force a locked image: its lock is the last net under everything else.
        """
        if failed.generation < self._generation:
            return
        self._count_failure()
        ordered = self.view.order is not None and self.view.order.op is Op.TAKEOVER
        if failed.locked or ordered:
            self._set(failed_starts=self.view.failed_starts_limit)
        self._journal.note(
            "start failed", f"{self.view.node} could not start the VM: {failed.error}", epoch=self._epoch()
        )
        if ordered:
            self._end_order("failed", f"{self.view.node} could not start the VM: {failed.error}")

    def _count_failure(self) -> None:
        """Count a start that failed or a VM that died; the next start waits a little longer each time."""
        now_s = self.view.now_s
        recent = now_s - self._last_failure_s < self._limits.window_s
        count = self.view.failed_starts + 1 if recent else 1
        self._last_failure_s = now_s
        self._wait_until(now_s + (0.0 if count == 1 else 1.0 * count))
        self._set(failed_starts=count)

    def _wait_until(self, moment_s: float) -> None:
        """Start nothing before `moment_s`; no reason to wait ends another that lasts longer."""
        self._set(not_before_s=max(self.view.not_before_s, moment_s))

    def _epoch(self) -> int:
        """The epoch of the newest lease seen."""
        return self.view.lease.epoch if self.view.lease else 0

    # ---- orders

    def _on_order(self, ordered: Ordered) -> None:
        """Accept an order, or answer at once why not."""
        kind, message = self._objection(ordered)
        if message:
            self._journal.answer(ordered.ticket, kind, message, {})
            return
        sighting = self.view.sighting
        self._set(
            order=Order(
                op=ordered.op,
                reason=ordered.reason,
                until_s=self.view.now_s + ordered.wait_s,
                epoch=ordered.epoch,
                index=sighting.index if sighting else 0,
                ticket=ordered.ticket,
                target=ordered.target,
                kill_s=self.view.now_s + ordered.gentle_s,
            )
        )
        if ordered.op is Op.MIGRATE:
            self.timeline = {"ordered_s": self.view.now_s}
            self._set(next_ask_s=min(self.view.next_ask_s, self.view.now_s))
        if ordered.op is Op.TAKEOVER:
            self.timeline = {"ordered_s": self.view.now_s}

    def _objection(self, ordered: Ordered) -> tuple[str, str]:
        """Why an order is not even accepted: (kind, message), the message empty when it is."""
        view, lease = self.view, self.view.lease
        if lease is None or view.sighting is None:
            return "unreachable", f"{view.node} has not seen the lease: {SENTENCES[describe(view)]}"
        if view.ending:
            return "refused", f"the guard of {view.node} is ending"
        if view.order is not None:
            return "refused", f"{view.node} is busy with another order: {view.order.op} ({view.order.reason})"
        mine = rules.is_mine(view)
        if ordered.op is Op.MIGRATE and mine:
            return "refused", self._unmovable(ordered.target)
        if ordered.op is not Op.TAKEOVER:
            return "refused", "" if mine else f"{view.node} does not hold the lease: {lease.holder or 'nobody'} does"
        if mine:
            return "refused", f"{view.node} holds the lease already, epoch {lease.epoch}"
        if lease.epoch != ordered.epoch:
            return "refused", f"the lease has epoch {lease.epoch} ({lease.holder or 'nobody'}), not {ordered.epoch}"
        age_s = view.now_s - view.sighting.received_s
        if lease.phase is not Phase.RELEASED and view.now_s < rules.overdue_s(view.sighting, view.timings):
            return "refused", f"{lease.holder or 'nobody'} holds the lease, seen renewed {age_s:.1f} s ago"
        return "refused", unfit_reason(view)

    def _unmovable(self, target: str) -> str:
        """Why the VM can't be migrated from here to `target`; empty when it can, as far as this node knows."""
        view = self.view
        if target not in view.ranking or target == view.node:
            others = ", ".join(node for node in view.ranking if node != view.node) or "none"
            return f"{target or 'nothing'} is no node to migrate to from {view.node}; known: {others}"
        if view.move is not Move.NONE:
            return f"a migration from {view.node} is {view.move}"
        return unmovable_reason(view) or off_reason(view)

    def _end_order(self, kind: str, message: str) -> None:
        """Answer the order at hand and forget it."""
        order = self.view.order
        if order is None:
            return
        self._set(order=None)
        data = {"epoch": self._epoch(), "node": self.view.node, "timeline": json_of(self.timeline)}
        self._journal.answer(order.ticket, kind, message, data)

    def _on_end(self, ended: Ended) -> None:
        """The process is to end: what is held here goes to another node. A VM that has been migrated goes on there: its
        order ends with the hand-over, as ever.
        """
        if self.view.move is not Move.DONE:
            self._end_order("failed", f"the guard of {self.view.node} is ending")
        self._set(ending=ended.reason)

    # ---- act

    def _react(self) -> None:
        """Decide and act until nothing is left to do at this moment."""
        for _ in range(MAX_ROUNDS):
            if self.view.shutdown_asked_s is not None and not end_reason(self.view):
                self._set(shutdown_asked_s=None, next_shutdown_s=float("-inf"))
            decisions = decide(self.view)
            if not decisions:
                break
            self._act(decisions[0])
        else:
            raise BugError(f"no end of decisions: {decisions}")
        state = describe(self.view)
        if state is not self.state:
            self._journal.log(f"state: {self.state or 'none'} -> {state} ({SENTENCES[state]})")
            self.state = state

    def _act(self, decision: Decision) -> None:
        """Carry out one decision. Each changes the view such that the same one does not come again at once."""
        if decision.action not in (Action.RENEW, Action.EXPECT):  # those come each second
            self._journal.log(f"{decision.action}: {decision.reason}")
            self.last_decision = {"action": decision.action, "reason": decision.reason, "at_s": self.view.now_s}
        match decision.action:
            case Action.KILL:
                self._kill(decision.reason)
            case Action.READ:
                self._set(next_read_s=self.view.now_s + self.view.timings.renew_s)
                self._store.read()
            case Action.RENEW | Action.TAKE | Action.RELEASE | Action.HAND_OVER:
                self._ask(decision)
            case Action.PREPARE | Action.EXPECT | Action.BAR:
                self._ask_fencer(decision.action)
            case Action.START:
                self._launch("start", lambda: self._hypervisor.start(self._epoch(), self._generation))
            case Action.RESUME:
                self._launch("migration", lambda: self._hypervisor.resume(self._generation))
            case Action.UNPAUSE:
                self._unpause()
            case Action.MIGRATE:
                self._migrate()
            case Action.ABORT:
                self._abort(decision.reason)
            case Action.SHUTDOWN:
                now_s, asked_s = self.view.now_s, self.view.shutdown_asked_s
                self._set(
                    shutdown_asked_s=now_s if asked_s is None else asked_s, next_shutdown_s=now_s + SHUTDOWN_RETRY_S
                )
                self._hypervisor.shutdown()
            case Action.VOID_ORDER:
                timed_out = self.view.order is not None and self.view.now_s >= self.view.order.until_s
                self._end_order("timeout" if timed_out else "refused", decision.reason)

    def _kill(self, reason: str) -> None:
        """Kill the VM, by the fencer and without it."""
        fenced = self._is_alive() and self.view.move is not Move.DONE and self.last_fence_is_over()
        if not fence_reason(self.view) and pauses.given_up_reason(self.view):
            # Not started here again: the lease is given back.
            self._set(gave_up_s=self.view.now_s, failed_starts=self.view.failed_starts_limit)
        self._set(next_kill_s=self.view.now_s + KILL_RETRY_S)
        if self.view.fencer_there and not self.view.barred and not self._is_barring():
            self._tell(Action.BAR)
        self._hypervisor.kill()
        if fenced:
            self._note_fence(reason)

    def _is_alive(self) -> bool:
        """Whether the VM runs here, or is about to: not what a migration has only brought."""
        return self.view.vm in (Vm.RUNNING, Vm.PAUSED, Vm.STARTING)

    def _note_fence(self, reason: str) -> None:
        """Tell that the VM was not left to run, and why."""
        self.last_fence = {"at_s": self.view.now_s, "reason": reason, "epoch": self._epoch()}
        self._journal.note("killed", f"{self.view.node} kills the VM: {reason}", epoch=self._epoch())

    def _is_barring(self) -> bool:
        """Whether the last request to the fencer was to bar the VM, and is not answered yet."""
        return bool(self._told) and next(reversed(self._told.values())).action is Action.BAR

    def last_fence_is_over(self) -> bool:
        """Whether the next kill is a new one, not the repetition of one that is not confirmed yet."""
        return self.view.next_kill_s == float("-inf")

    def _ask(self, decision: Decision) -> None:
        """Send a lease request; the clock was read before, by whoever called the guard."""
        sighting = self.view.sighting
        if sighting is None:
            raise BugError(f"{decision.action} without having seen a lease")
        timings, node = self.view.timings, self.view.node
        match decision.action:
            case Action.RENEW:
                record = rules.renewed(sighting.lease, timings, offered_to(self.view))
                if rules.has_launched(self.view):
                    record = dataclasses.replace(record, source=None)
                if not self._keeps_within(rules.deadline_after(self.view.now_s, timings)):
                    return
            case Action.TAKE:
                record = rules.taken(sighting.lease, node, timings, decision.reason)
                if self.view.order is None:
                    self.timeline = {"masterless_s": rules.masterless_at_s(self.view)}
                if sighting.lease.phase is not Phase.RELEASED:
                    self.timeline["expired_s"] = rules.expires_s(sighting, timings)
            case Action.HAND_OVER:
                record = rules.handed_over(sighting.lease, decision.reason)
                self._forget_lease()
            case _:
                # From here on this node may not run the VM, whatever becomes of the request.
                record = rules.released(sighting.lease, decision.reason)
                self._forget_lease()
        self._tickets += 1
        self._asks[self._tickets] = Ask(decision.action, record, sighting.index, self.view.now_s)
        self._set(unanswered=len(self._asks), next_ask_s=self.view.now_s + timings.renew_s)
        self._store.cas(record, sighting.index, self._tickets)

    def _launch(self, came_by: str, launch: Callable[[], None]) -> None:
        """Start or resume the VM, which the fencer has been prepared for: a start that hangs is covered as well."""
        if not rules.is_promised(self.view):
            raise BugError("a start that the fencer was not prepared for")
        self._set(launched_epoch=self._epoch())  # what has arrived here is of no use from now on, if it is not resumed
        self._generation += 1
        self.came_by = came_by
        self._set(vm=Vm.STARTING, start_asked_s=self.view.now_s)
        launch()

    def _unpause(self) -> None:
        """Resume the VM, which runs under what was promised already: an order to libvirt like a start, and voided like
        one.
        """
        if not rules.is_promised(self.view):
            raise BugError("a resume that the fencer was not prepared for")
        self._generation += 1
        tries = self.view.resumes + 1
        self._set(resuming=True, resumes=tries, next_resume_s=self.view.now_s + pauses.gap_s(tries))
        text = f"{self.view.node} resumes the VM: {self.view.pause}, and may be well again"
        self._journal.note("resumed", text, epoch=self._epoch())
        self._hypervisor.unpause(self._generation)

    def _migrate(self) -> None:
        """Send the VM to where the record says that it may go."""
        order = self.view.order
        if order is None:
            raise BugError("a migration without an order")
        self._moves += 1
        self._set(move=Move.UNDER_WAY, move_until_s=order.until_s, move_aborted=False)
        self.timeline["migrating_s"] = self.view.now_s
        self._hypervisor.migrate(order.target, self._moves)

    def _abort(self, reason: str) -> None:
        """Abort the migration; give up waiting for its end when that was done before."""
        if self.view.move_aborted:
            self._end_move(f"{reason}; libvirt does not tell how it ended")
            return
        self._set(move_aborted=True, move_until_s=self.view.now_s + OUTCOME_S)
        self._hypervisor.abort()

    # ---- tell

    def status(self, now_s: float) -> dict[str, Any]:
        """Return what there is to know, for the socket; the shape stands in docs/architecture.md."""
        view = dataclasses.replace(self.view, now_s=max(now_s, self.view.now_s))
        state = describe(view)
        return {
            "state": state.value,
            "sentence": SENTENCES[state],
            "lease": self._lease_status(view),
            "may_run_for_s": view.granted_until_s - view.now_s
            if rules.may_run_vm(view) and view.granted_until_s
            else None,
            "fencer": {
                "there": view.fencer_there,
                "lets_it_run_for_s": None if view.promised_until_s is None else view.promised_until_s - view.now_s,
                "barred": view.barred,
            },
            "renewals": self.renewals.to_dict() if self.renewals else None,
            "desired": view.desired,
            "vm": view.vm.value,
            "vm_pid": self.vm_pid,
            "came_by": self.came_by,
            "paused": self._paused(view),
            "order": {"op": view.order.op.value, "epoch": view.order.epoch} if view.order else None,
            "unable": view.unable,
            "maintenance": view.maintenance,
            "masterless_in_s": self._masterless_in_s(view),
            "turns": json_of(view.turns),
            "last_decision": json_of(self.last_decision),
            "last_fence": json_of(self.last_fence),
            "starts_failed": view.failed_starts,
            "failed_here": now_s < view.last_until_s,
            "timeline": json_of(self.timeline),
        }

    @staticmethod
    def _paused(view: View) -> dict[str, Any] | None:
        """Why the VM stands paused, and when it is resumed; None while it does not."""
        if view.vm is not Vm.PAUSED:
            return None
        return {"why": view.pause.value, "resumes": view.resumes, "obstacle": pauses.obstacle(view)}

    @staticmethod
    def _masterless_in_s(view: View) -> float | None:
        """In how many seconds this node takes the lease without an order if all stays as it is; None: it does not."""
        at_s = rules.masterless_at_s(view)
        if rules.is_mine(view) or unfit_reason(view) or at_s == float("inf"):
            return None
        return max(0.0, at_s - view.now_s)

    @staticmethod
    def _lease_status(view: View) -> dict[str, Any] | None:
        """The lease's part of the status; None before the first sighting."""
        sighting = view.sighting
        if sighting is None:
            return None
        return {
            **json_of(sighting.lease),
            "index": sighting.index,
            "age_s": view.now_s - sighting.received_s,
            "expires_in_s": rules.expires_s(sighting, view.timings) - view.now_s,
            "overdue": view.now_s >= rules.overdue_s(sighting, view.timings),
            "expired": rules.is_expired(view),
        }
