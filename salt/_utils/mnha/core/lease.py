"""The lease's rules, pure: may I run the VM, until when, may I take the lease, what does the next record say.

The invariant: **a node that may run the VM by its own clock is the only one of the cluster that may.** It rests
on three things kept here and in the guard:

1. A granted renewal lets its holder run until ``t0 + D``, with ``t0`` read *before* the request was sent.
2. An observer counts the lease as expired ``L`` after it *received* the record's last change, which is after
  the commit and so after ``t0``; with ``L > (D + K)·(1 + skew) + margin`` the old VM is dead by then.
3. Whoever takes the lease does so by compare-and-set on the very index that it saw expire. So gaps in the
  watching, stale readers and two candidates at once can only fail: an index that is still the same proves that
  nothing was renewed.
"""

from __future__ import annotations

import dataclasses

from .model import Lease, Phase, Sighting, View
from .timing import LONGEST_S, Timings

RANK_STEP_S = 0.5
"""How much later each next node takes a lease without an order: a take-over's compare-and-set is answered, and seen
by the others, within milliseconds. Two that try at once, as in an election, are no danger."""

SETTLE_S = 3.0
"""How much later a lease is taken without an order that was given back: whoever freed it may be moving it on, masters
hear of it only after 2 s, and an operator who starts the VM is about to order it from the best node."""


def may_run_vm(view: View) -> bool:
    """Whether the VM may run on this node at this moment."""
    return view.granted_until_s is not None and view.now_s < view.granted_until_s


def has_half_a_deadline(view: View) -> bool:
    """Whether the VM may run on this node for more than half of the deadline."""
    return view.granted_until_s is not None and view.now_s < view.granted_until_s - view.timings.deadline_s / 2


def deadline_after(asked_s: float, timings: Timings) -> float:
    """Until when a renewal that was asked for at `asked_s`, and granted, lets the VM run.

    Not from the reply's arrival: a reply may take longer than the lease lives.
    """
    return asked_s + timings.deadline_s


def is_mine(view: View) -> bool:
    """Whether the newest lease seen names this node as its holder."""
    lease = view.lease
    return lease is not None and lease.holder == view.node and lease.phase is not Phase.RELEASED


def expires_s(sighting: Sighting, own: Timings) -> float:
    """When, by this node's clock, the lease is expired if nothing more is seen.

    By the longer of the holder's and the observer's timings, so that a change of the configuration can't
    shorten a wait.
    """
    return sighting.received_s + max(sighting.lease.timings.lease_s, own.lease_s)


def overdue_s(sighting: Sighting, own: Timings) -> float:
    """When three renewals in a row have not come: a take-over may be prepared, though not done before it has
    expired.
    """
    return sighting.received_s + 3 * max(sighting.lease.timings.renew_s, own.renew_s)


def is_promised(view: View) -> bool:
    """Whether the fencer lets the VM run on this node for more than half of the deadline, by its last word."""
    return (
        view.fencer_there
        and not view.fencer_owes
        and view.promised_until_s is not None
        and view.now_s < view.promised_until_s - view.timings.deadline_s / 2
    )


def is_offered(view: View) -> bool:
    """Whether the lease's holder lets the VM move to this node."""
    lease = view.lease
    offered = lease is not None and lease.phase is Phase.MIGRATING and lease.target == view.node
    return offered and not is_expired(view)


def heard_s(view: View) -> float:
    """When the target's guard has heard of this node's offer. Its watch is answered within milliseconds; libvirt then
    takes about half a second until something comes there, on a loaded machine longer. One that has not heard by then
    lets the migration fail, and the VM go on here.
    """
    return view.offered_s + view.timings.renew_s / 4


def may_arrive(view: View) -> bool:
    """Whether a migration may bring the VM to this node, paused: its holder offers it, or has handed it over, and
    nobody else may have taken the lease since.
    """
    if view.lease is None:
        return True  # nothing is known yet: a paused VM harms nobody until it is
    return is_offered(view) or (was_handed_over(view) and not is_expired(view))


def is_expired(view: View) -> bool:
    """Whether this node saw the lease unchanged for L. A guard that has just started waits a full L."""
    sighting = view.sighting
    return (
        sighting is not None
        and sighting.lease.phase is not Phase.RELEASED
        and view.now_s >= expires_s(sighting, view.timings)
    )


def may_take(view: View) -> bool:
    """Whether this node may try to take the lease: it is released, or expired by this node's own clock."""
    lease = view.lease
    return lease is not None and (lease.phase is Phase.RELEASED or is_expired(view))


def free_since_s(sighting: Sighting, own: Timings) -> float:
    """Since when, by this node's clock, the lease is to be had: it was released, or expired (or will expire) then."""
    return sighting.received_s if sighting.lease.phase is Phase.RELEASED else expires_s(sighting, own)


def masterless_at_s(view: View) -> float:
    """When this node takes a lease that nobody orders anybody to take; infinity: never.

    The nodes come one after the other, by :func:`turn_of`. The compare-and-set lets one through, whatever they believe.
    """
    sighting, turn = view.sighting, turn_of(view)
    if not view.masterless_s or sighting is None or turn is None or view.maintenance:
        return float("inf")
    needed_since_s = max(free_since_s(sighting, view.timings), view.desired_since_s)
    settle_s = SETTLE_S if sighting.lease.phase is Phase.RELEASED else 0.0
    return needed_since_s + settle_s + view.masterless_s + turn * RANK_STEP_S


def turn_of(view: View) -> int | None:
    """How many nodes may take the lease without an order before this one; None: it does not take it.

    They come in the order in which a master would choose them (`view.turns`), as far as this node sees what a master
    would see. One that does not see it comes after all that may: it might be the worst of them. So does one that could
    not start the VM lately, or it would take it again and again while another could run it.
    """
    sighting, blind = view.sighting, view.turns is None
    order = view.ranking if view.turns is None else view.turns
    if sighting is None or view.node not in order:
        return None
    lease = sighting.lease
    gone = "" if lease.phase is Phase.RELEASED else lease.holder
    turn = sum(node != gone for node in order[: order.index(view.node)])
    return turn + (blind + (sighting.received_s < view.last_until_s)) * len(view.ranking)


def renewed(lease: Lease, timings: Timings, target: str | None = None) -> Lease:
    """The record with which its holder renews; with `target` it lets that node receive the VM, paused."""
    phase = Phase.MIGRATING if target else Phase.HELD
    return dataclasses.replace(lease, seq=lease.seq + 1, timings=timings, phase=phase, target=target)


def was_handed_over(view: View) -> bool:
    """Whether the former holder handed the lease to this node, which has not run the VM since: what has arrived here by
    migration is the VM as it was when it stopped there.
    """
    lease = view.lease
    handed = lease is not None and lease.phase is Phase.HELD and bool(lease.source)
    return handed and is_mine(view) and not has_launched(view)


def is_out_of_turn(before: Lease, after: Lease) -> bool:
    """Whether the holder has changed as no guard changes it: each holder has an epoch of its own. Somebody has written
    the record, and the holder before, who has heard nothing of that, may run the VM until its deadline.
    """
    return bool(after.holder) and after.holder != before.holder and after.epoch <= before.epoch


def has_launched(view: View) -> bool:
    """Whether this guard has started or resumed the VM under the lease of this epoch."""
    return view.lease is not None and view.launched_epoch == view.lease.epoch


def taken(lease: Lease, node: str, timings: Timings, reason: str) -> Lease:
    """The record with which `node` takes the lease."""
    return Lease(
        holder=node,
        epoch=lease.epoch + 1,
        phase=Phase.HELD,
        target=None,
        seq=lease.seq + 1,
        timings=timings,
        reason=reason,
    )


def handed_over(lease: Lease, reason: str) -> Lease:
    """The record with which a holder, whose VM was migrated away and is dead here, names its new holder."""
    return dataclasses.replace(
        lease,
        holder=lease.target or "",
        epoch=lease.epoch + 1,
        phase=Phase.HELD,
        target=None,
        source=lease.holder,
        seq=lease.seq + 1,
        reason=reason,
    )


def released(lease: Lease, reason: str) -> Lease:
    """The record with which a holder whose VM is dead gives the lease back."""
    return dataclasses.replace(
        lease, holder="", phase=Phase.RELEASED, target=None, source=None, seq=lease.seq + 1, reason=reason
    )


def first(timings: Timings) -> Lease:
    """The record that an installation creates, once: *held by nobody*, not released, so that it has to expire before
    anybody takes it.
    """
    return Lease(holder="", epoch=0, phase=Phase.HELD, seq=0, timings=timings, reason="created")


def created_again(timings: Timings) -> Lease:
    """The record in the place of one that somebody deleted by hand, maybe under a running VM.

    Its holder can't renew any more, but may run the VM for as long as its timings let it. Those stood in the record
    that is gone, and may be longer than `timings`: a new configuration may be spreading. So the others wait for the
    longest that there can be.
    """
    longest = dataclasses.replace(timings, lease_s=LONGEST_S)
    return dataclasses.replace(first(longest), reason="created again")
