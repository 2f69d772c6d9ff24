"""What a guard does next, pure: ``decide(view) -> decisions``.

The invariants, each kept by one rule below and by no other:

- A VM that may not run is killed, before anything else is thought of (`_fence`).
- Nothing is started or resumed without a deadline ahead that the fencer has confirmed (`_prepare`, `_start`,
  `_resume`, `_unpause`).
- A lease is given back, or handed over, only when the VM is confirmed dead, and the fencer lets none come to life
  (`_bar`, `_release`, `_hand_over`).
- A VM that a migration has brought is resumed only when its former holder has handed the lease over, and this node has
  renewed it (`_resume`). Nobody else knows that the VM did not go on there: libvirt resumes it at the source when it
  did not hear of the arrival, and then what has arrived is older than the disk. So if the source is lost before, what
  has arrived is killed, and the VM started from its disk.
- A lease is taken only when it is free or expired by this node's clock, on an order or when nobody gives one, and
with no VM alive here (`_take`).

No rule reads a clock or does anything: the guard carries decisions out and folds what comes of them into the next view.
"""

from __future__ import annotations

from . import lease as rules
from . import pauses
from .model import MAX_UNANSWERED, MAX_UNPROTECTED, Action, Decision, Move, Op, Phase, Run, View, Vm


def decide(view: View) -> list[Decision]:
    """Return what is to be done at this moment, most urgent first. Nothing is a decision too: an empty list."""
    rules_by_urgency = (
        _fence, _read, _void_order, _abort, _migrate, _stop, _bar, _expect, _release, _hand_over, _renew, _prepare,
        _start, _resume, _unpause, _take,
    )  # fmt: skip
    return [decision for rule in rules_by_urgency if (decision := rule(view))]


def fence_reason(view: View) -> str:
    """Why a VM must not be alive on this node now; empty when it may."""
    if view.vm is Vm.ARRIVING:
        wanted = rules.may_arrive(view) and not (view.ending and not rules.is_mine(view))
        return "" if wanted else "a migration that nobody stands for any more has brought it"
    if view.lease is not None and not rules.is_mine(view):
        holder = view.lease.holder or "nobody"
        return f"the lease of epoch {view.lease.epoch} is held by {holder}, not by {view.node}"
    if view.granted_until_s is None:
        return "this node has no confirmed lease"
    if not rules.may_run_vm(view):
        why = "" if _may_tell(view) else f": the fencer of {view.node} does not answer"
        return f"no renewal was confirmed for {view.timings.deadline_s:g} s{why}"
    return ""


def storage_reason(view: View) -> str:
    """Why a VM that may run here can't go on: its image is out of reach for too long. Empty when it can.

    Only if another node reaches it. When nobody does, as when the file server restarts, the VM had better wait.
    """
    if view.storage_lost_s is None or not view.storage_elsewhere:
        return ""
    if view.now_s < view.storage_lost_s + view.storage_limit_s:
        return ""
    return f"the image is out of reach here for {view.storage_limit_s:g} s, and not on {view.storage_elsewhere}"


def useless_reason(view: View) -> str:
    """Why a VM that may run here had better run elsewhere, for the sake of its storage; empty where it had not."""
    return storage_reason(view) or pauses.given_up_reason(view)


def off_reason(view: View) -> str:
    """By whose order, or for want of what, the VM is to be off here in an orderly way; empty when it is not."""
    if view.desired is Run.STOPPED:
        return "desired: stopped"
    if view.ending:
        return view.ending
    if view.unprotected >= MAX_UNPROTECTED:
        return f"the watchdog of {view.node} is required and does not work any more"
    return view.order.reason if view.order and view.order.op is Op.RELEASE else ""


def end_reason(view: View) -> str:
    """Why the guest is asked to shut down: to be off here, or to be started again; empty when it is not."""
    resets = view.order is not None and view.order.op is Op.RESET and view.now_s < view.order.kill_s
    return off_reason(view) or (view.order.reason if resets and view.order else "")


def wants_vm(view: View) -> bool:
    """Whether this node, given the lease, would run the VM."""
    return (
        view.desired is Run.STARTED
        and not off_reason(view)
        and not view.unable
        and view.failed_starts < view.failed_starts_limit
    )


def _fence(view: View) -> Decision | None:
    """Kill what may not run; kill what was ordered or asked to end and did not."""
    if not view.vm.may_write or view.now_s < view.next_kill_s:
        return None
    if reason := fence_reason(view) or useless_reason(view):
        return Decision(Action.KILL, reason)
    if view.order and view.order.op is Op.RESET and view.now_s >= view.order.kill_s:
        return Decision(Action.KILL, view.order.reason)
    if view.move is Move.DONE:
        return Decision(Action.KILL, "the VM was migrated away")
    if view.start_asked_s is not None and view.now_s >= view.start_asked_s + view.start_limit_s:
        return Decision(Action.KILL, f"the start did not end within {view.start_limit_s:g} s")
    if _had_its_time(view) and off_reason(view):
        stood = f": it stands paused, {view.pause}" if view.vm is Vm.PAUSED else ""
        return Decision(Action.KILL, f"the guest did not shut down within {view.shutdown_limit_s:g} s{stood}")
    return None


def _had_its_time(view: View) -> bool:
    """Whether the guest was asked to shut down so long ago that it is not waited for any more."""
    return view.shutdown_asked_s is not None and view.now_s >= view.shutdown_asked_s + view.shutdown_limit_s


def _read(view: View) -> Decision | None:
    """Look at the lease itself when an answer was *refused* or lost, or when none was ever seen."""
    if (view.must_read or view.sighting is None) and view.now_s >= view.next_read_s:
        why = "a lease request was refused or its answer lost" if view.must_read else "the lease was never seen"
        return Decision(Action.READ, why)
    return None


def void_reason(view: View) -> str:
    """Why the order at hand can't be carried out any more; empty when it can."""
    order, lease = view.order, view.lease
    if order is None or lease is None:
        return ""
    if rules.is_mine(view):
        waits = order.op is Op.MIGRATE and view.move is Move.NONE and view.vm is not Vm.UNKNOWN
        return unmovable_reason(view) if waits else ""
    if order.op is Op.MIGRATE:
        return f"{view.node} lost the lease before it could hand it over"
    if order.op is not Op.TAKEOVER:
        return f"{view.node} does not hold the lease: {lease.holder or 'nobody'} does, epoch {lease.epoch}"
    if lease.epoch != order.epoch:
        return f"{lease.holder or 'nobody'} has the lease by now, epoch {lease.epoch}: {lease.reason}"
    if view.sighting is not None and view.sighting.index != order.index and lease.phase is not Phase.RELEASED:
        return f"{lease.holder} has renewed the lease of epoch {lease.epoch}"
    return unfit_reason(view)


def unmovable_reason(view: View) -> str:
    """Why the VM here can't be migrated as it is; empty when it can. An order that waited for it to run would keep one
    that its disk has paused from being resumed (:func:`mnha.core.pauses.obstacle`).
    """
    if view.vm is Vm.RUNNING:
        return ""
    why = f", {view.pause}" if view.vm is Vm.PAUSED else ""
    remedy = f"; `virsh resume` on {view.node} lets it go on" if why and not pauses.is_by_io(view) else ""
    return f"only a running VM can be migrated: here it is {view.vm}{why}{remedy}"


def unfit_reason(view: View) -> str:
    """Why this node can't take over for its own part; empty when it can."""
    if view.desired is not Run.STARTED:
        return f"the VM is not to run: desired is {view.desired or 'unknown'}"
    if view.unable:
        return f"{view.node} can't run the VM: {view.unable}"
    if not view.fencer_there:
        return f"{view.node} can't run the VM: its fencer does not answer"
    if view.ending:
        return f"the guard of {view.node} is ending"
    if view.now_s < view.not_before_s:
        return f"{view.node} could not start the VM and backs off for {view.not_before_s - view.now_s:.0f} s"
    return ""


def _void_order(view: View) -> Decision | None:
    """End an order that time or others have overtaken. While the lease's state is in doubt nothing is ended."""
    if view.order is None or view.must_read:
        return None
    if reason := void_reason(view):
        return Decision(Action.VOID_ORDER, reason)
    if view.now_s >= view.order.until_s and view.move is Move.NONE:
        return Decision(Action.VOID_ORDER, "the time given for the order is over")
    return None


def _may_ask(view: View) -> bool:
    """Whether a lease request may go out now."""
    return not view.must_read and view.unanswered < MAX_UNANSWERED and view.now_s >= view.next_ask_s


def offered_to(view: View) -> str | None:
    """To which node this one, as the holder, lets the VM move; it stands in each renewal."""
    order = view.order
    if order is None or order.op is not Op.MIGRATE or view.vm is Vm.STARTING:
        return None
    return None if off_reason(view) and view.move is not Move.DONE else order.target


def _migrate(view: View) -> Decision | None:
    """Begin the migration once the record says where to, and the target's guard has had the time to hear of it: its
    fencer kills what comes to a slice that nobody has opened.
    """
    target = offered_to(view)
    if (
        target
        and view.move is Move.NONE
        and view.vm is Vm.RUNNING
        and rules.is_mine(view)
        and view.lease is not None
        and view.lease.target == target
        and view.now_s >= rules.heard_s(view)
        and not fence_reason(view)
        and not storage_reason(view)
    ):
        return Decision(Action.MIGRATE, view.order.reason if view.order else "")
    return None


def _abort(view: View) -> Decision | None:
    """End a migration that takes too long or that nobody wants any more."""
    if view.move is not Move.UNDER_WAY:
        return None
    if view.now_s >= view.move_until_s:
        return Decision(Action.ABORT, "the migration took too long")
    if not view.move_aborted and not offered_to(view):
        return Decision(Action.ABORT, "nobody wants the migration any more")
    return None


def _hand_over(view: View) -> Decision | None:
    """Name the target the holder, when libvirt has said that the VM is there and it is confirmed dead here."""
    if (
        view.move is Move.DONE
        and view.vm is Vm.OFF
        and rules.is_mine(view)
        and view.lease is not None
        and view.lease.target
        and view.lease.target == offered_to(view)
        and view.barred
        and _may_ask(view)
    ):
        return Decision(Action.HAND_OVER, view.order.reason if view.order else "")
    return None


def _stop(view: View) -> Decision | None:
    """Ask the guest to shut down when somebody wants the VM off here, again and again: one that boots does not hear it,
    nor does any while libvirtd restarts.
    """
    if view.vm not in (Vm.RUNNING, Vm.PAUSED) or view.move is not Move.NONE or view.now_s < view.next_shutdown_s:
        return None
    reason = end_reason(view)
    if reason and not fence_reason(view) and not _had_its_time(view):
        return Decision(Action.SHUTDOWN, reason)
    return None


def _release(view: View) -> Decision | None:
    """Give back a lease that is of no use here. Only with the VM confirmed dead: others may start it at once.

    A guard that has just started keeps it until its first probes are done: there may be nobody to order another node.
    """
    if view.vm is not Vm.OFF or not view.barred or view.move is not Move.NONE or not rules.is_mine(view):
        return None
    useless = view.desired is not None and view.probed and not wants_vm(view)
    if (off_reason(view) or useless) and _may_ask(view):
        return Decision(Action.RELEASE, release_reason(view))
    return None


def release_reason(view: View) -> str:
    """Why a lease is given back, for its record."""
    if reason := off_reason(view):
        return reason
    if view.unable:
        return f"{view.node} can't run the VM: {view.unable}"
    return f"the VM could not be started, or kept running, on {view.node}"


def _renew(view: View) -> Decision | None:
    """Keep the lease while the VM runs here, or is about to. Out of its storage's reach it is being killed, but may
    sleep in the kernel, with writes under way: only where an armed watchdog resets the node may the lease expire then.
    Not while the fencer owes an answer: nobody but this guard would keep the promise that a renewal is. Without a
    fencer the VM could not start here, and the lease not be given back: it is left to expire, for another node.
    """
    if not _may_ask(view) or not rules.is_mine(view) or not view.fencer_there:
        return None
    if view.vm.may_write:
        useful = not view.fencer_owes and not fence_reason(view) and not (view.armed and useless_reason(view))
    else:
        useful = wants_vm(view) and view.move is not Move.DONE
    return Decision(Action.RENEW, "keep the lease") if useful else None


def _may_tell(view: View) -> bool:
    """Whether the fencer can be asked, and owes no answer."""
    return view.fencer_there and not view.fencer_owes


def may_start(view: View) -> bool:
    """Whether the VM is to be started here, with more than half of the deadline ahead so that it is not killed while it
    boots.
    """
    return (
        view.vm is Vm.OFF
        and view.lease is not None
        and view.lease.phase is Phase.HELD
        and rules.is_mine(view)
        and wants_vm(view)
        and view.now_s >= view.not_before_s
        and view.move is Move.NONE
        and rules.has_half_a_deadline(view)
    )


def may_resume(view: View) -> bool:
    """Whether what a migration has brought is to be resumed: the lease was handed over and this node has renewed it."""
    return view.vm is Vm.ARRIVING and rules.was_handed_over(view) and rules.has_half_a_deadline(view)


def _bar(view: View) -> Decision | None:
    """Let nothing come to life where nothing is alive or about to be: no start that somebody ordered and died."""
    idle = view.vm is Vm.OFF and not view.barred and view.now_s >= view.next_bar_s and _may_tell(view)
    if idle and not may_start(view) and not rules.is_offered(view):
        return Decision(Action.BAR, "the VM is off")
    return None


def _expect(view: View) -> Decision | None:
    """Let a migration bring the VM while its holder offers it, by each renewal for another L."""
    if view.vm not in (Vm.OFF, Vm.ARRIVING) or view.sighting is None or not rules.is_offered(view):
        return None
    until_s = rules.expires_s(view.sighting, view.timings)
    is_told = view.expected_until_s is not None and until_s <= view.expected_until_s
    return None if is_told or not _may_tell(view) else Decision(Action.EXPECT, "a migration is to bring the VM")


def _prepare(view: View) -> Decision | None:
    """Have the fencer let the VM run, with the watchdog armed, before it is started or resumed."""
    if (may_start(view) or may_resume(view)) and not rules.is_promised(view) and _may_tell(view):
        return Decision(Action.PREPARE, "the VM is to run")
    return None


def _start(view: View) -> Decision | None:
    """Start the VM here."""
    if view.lease is not None and may_start(view) and rules.is_promised(view):
        return Decision(Action.START, view.lease.reason)
    return None


def _resume(view: View) -> Decision | None:
    """Resume what a migration has brought."""
    if view.lease is not None and may_resume(view) and rules.is_promised(view):
        return Decision(Action.RESUME, view.lease.reason)
    return None


def _unpause(view: View) -> Decision | None:
    """Resume what QEMU has paused for its disk's sake."""
    return Decision(Action.UNPAUSE, str(view.pause)) if view.vm is Vm.PAUSED and not pauses.obstacle(view) else None


def _take(view: View) -> Decision | None:
    """Take a free or expired lease, if so ordered or if nobody orders anybody to."""
    if (
        view.vm is Vm.OFF
        and rules.may_take(view)
        and not rules.is_mine(view)
        and _may_ask(view)
        and (reason := take_reason(view))
    ):
        return Decision(Action.TAKE, reason)
    return None


def take_reason(view: View) -> str:
    """On whose behalf this node takes the lease as soon as it may; empty: it does not."""
    if view.order is not None:
        return view.order.reason if view.order.op is Op.TAKEOVER and not void_reason(view) else ""
    if view.now_s < rules.masterless_at_s(view) or unfit_reason(view):
        return ""
    return f"nobody ordered a take-over for {view.masterless_s:g} s"
