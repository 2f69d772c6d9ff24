"""How a view stands and until when, pure: ``describe(view) -> state``, ``next_moment(view) -> time``."""

from __future__ import annotations

from . import lease as rules
from . import pauses
from .decide import fence_reason, take_reason, useless_reason
from .model import Move, Op, Run, State, View, Vm

_LIVES = {Vm.RUNNING: State.RUNNING, Vm.PAUSED: State.PAUSED}


def describe(view: View) -> State:
    """Return the state, in a word, that `view` amounts to."""
    if view.vm.may_write and (fence_reason(view) or useless_reason(view)):
        return State.SELF_FENCING
    if view.vm is Vm.ARRIVING:
        return State.MIGRATING_IN
    if view.sighting is None:
        return State.UNINITIALISED if view.missing else State.NO_QUORUM
    if rules.is_mine(view):
        if view.granted_until_s is None or not rules.may_run_vm(view):
            return State.RENEWING
        if view.vm is Vm.STARTING:
            return State.STARTING
        if view.move is not Move.NONE:
            return State.MIGRATING_OUT
        if view.shutdown_asked_s is not None and view.vm.may_write:
            return State.STOPPING
        return _LIVES.get(view.vm, State.DEGRADED)
    if (view.order is not None and view.order.op is Op.TAKEOVER) or take_reason(view):
        return State.TAKING_OVER if view.unanswered else State.WAITING
    return State.STOPPED if view.desired is Run.STOPPED else State.STANDBY


def next_moment(view: View) -> float:
    """When, with no news at all, another decision than at ``view.now_s`` may be due (CLOCK_BOOTTIME seconds)."""
    moments = [
        view.next_bar_s,
        view.granted_until_s,
        view.next_ask_s,
        view.next_read_s,
        view.next_kill_s,
        view.next_shutdown_s,
        view.not_before_s,
        *pauses.next_moment(view),
    ]
    for until_s in (view.granted_until_s, view.promised_until_s):
        if until_s is not None:
            moments.append(until_s - view.timings.deadline_s / 2)
    if view.sighting is not None:
        moments.append(rules.overdue_s(view.sighting, view.timings))
        moments.append(rules.expires_s(view.sighting, view.timings))
        moments.append(rules.masterless_at_s(view))
    if view.storage_lost_s is not None:
        moments.append(view.storage_lost_s + view.storage_limit_s)
    if view.order is not None:
        moments += [view.order.until_s, view.order.kill_s]
    if view.order is not None and view.order.op is Op.MIGRATE:
        moments.append(rules.heard_s(view))
    if view.move is Move.UNDER_WAY:
        moments.append(view.move_until_s)
    if view.start_asked_s is not None:
        moments.append(view.start_asked_s + view.start_limit_s)
    if view.shutdown_asked_s is not None:
        moments.append(view.shutdown_asked_s + view.shutdown_limit_s)
    now_s = view.now_s
    return min([moment for moment in moments if moment is not None and moment > now_s], default=float("inf"))
