"""When a VM that is paused is resumed, and when it is given up here, pure.

The invariant: **a VM is resumed only if an I/O error has paused it, and under what a start would need**: a lease held
and renewed, a moment ahead that the fencer has confirmed, and no migration under way or offered. Nobody but the process
that is alive here already goes on then, on the node that holds the lease: to others it was never off.

QEMU pauses a guest whose disk fails (``error_policy='stop'``), and repeats what has failed when it is resumed. So a try
costs nothing, and tells more than any look at the storage: of a disk that still fails, QEMU pauses the guest at once.
It is tried again after a gap that grows, and never given up for good: a VM that is paused is of no use to anybody. (To
resume at once and for ever was rejected: a disk that fails each time would flap for ever, and fill every log.)

A VM that was paused by somebody, or for a reason of its own, is left alone: who has paused it has a reason.
"""

from __future__ import annotations

from . import lease as rules
from .model import Move, Op, Pause, Phase, Run, View, Vm

FIRST_GAP_S, LONGEST_GAP_S = 1.0, 60.0
"""How long is waited before the first try, and at the most before another one."""
CALM_S = 60.0
"""A VM that has run for so long since it was resumed is well: what pauses it then is another trouble."""
LEAST_TRIES = 3
"""A VM is not given up here before it was resumed so often in vain."""
BY_ITSELF = (Pause.IO_ERROR, Pause.NO_SPACE)
"""What QEMU pauses a guest for, and what may be over."""


def is_by_io(view: View) -> bool:
    """Whether the VM stands paused here because its disk fails."""
    return view.vm is Vm.PAUSED and view.pause in BY_ITSELF


def gap_s(tries: int) -> float:
    """How long to wait after so many tries."""
    return float(min(FIRST_GAP_S * 2 ** min(tries, 10), LONGEST_GAP_S))


def obstacle(view: View) -> str:
    """Why a VM that is paused is not resumed now, for people too; empty when it is."""
    if not is_by_io(view):
        return f"{view.pause}: nobody but who has paused it resumes it"
    if view.desired is not Run.STARTED:
        return f"desired is {view.desired or 'unknown'}"
    if view.ending or (view.order is not None and view.order.op is not Op.TAKEOVER):
        return view.ending or f"{view.order.op if view.order else ''} was ordered"
    if view.move is not Move.NONE or view.lease is None or view.lease.phase is not Phase.HELD:
        return "a migration is under way, or offered"
    if not view.probed or view.storage_lost_s is not None:
        return "the folder with the image does not answer, or fails"
    if view.resuming:
        return "it is being resumed"
    if not rules.is_mine(view) or not rules.has_half_a_deadline(view) or not rules.is_promised(view):
        return "it has not been confirmed that it may run"
    return "" if view.now_s >= view.next_resume_s else f"tried again in {view.next_resume_s - view.now_s:.0f} s"


def given_up_reason(view: View) -> str:
    """Why a VM whose disk fails here, though its folder is well, is given to another node. Empty when it is not.

    As when the folder is out of reach (:func:`mnha.core.decide.storage_reason`): only if another node finds it well,
    and after the same time. A handle that the file server has forgotten fails for ever, and so does a lock that was
    lost. A folder that is full is so for every node: the VM waits here then. That a disk fails everywhere no node can
    tell, so none gives it up more often than once in a while.
    """
    if not is_by_io(view) or view.troubled_s is None or not view.storage_elsewhere or view.resumes < LEAST_TRIES:
        return ""
    if view.storage_lost_s is not None or (view.pause is Pause.NO_SPACE and view.storage_full):
        return ""
    again = view.gave_up_s < view.troubled_s and view.now_s < view.gave_up_s + view.give_up_every_s
    if again or view.resuming or view.now_s < view.troubled_s + view.storage_limit_s:
        return ""
    return (
        f"{view.pause} here, and the storage of {view.storage_elsewhere} is well: resumed {view.resumes} times in vain"
    )


def next_moment(view: View) -> list[float]:
    """When another rule of this module may hold, with no news at all."""
    if not is_by_io(view):
        return []
    limit_s = float("-inf") if view.troubled_s is None else view.troubled_s + view.storage_limit_s
    return [view.next_resume_s, limit_s, view.gave_up_s + view.give_up_every_s]
