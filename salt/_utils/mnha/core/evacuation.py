"""When a VM has to leave a node that has lost its management network, and where to. Pure.

That network is the cloud's and not the lease's: without it the VM runs on, and nobody can manage anything with it. So
it goes where the network is well: live, or if that can't be, by an orderly stop and a start elsewhere.

The invariants:

- Nothing is ordered before the network was gone here for the whole limit without a break, and another node could take
  the VM and had the network for as long. Where it is gone for all, as with their switch, the VM stays; also when it
  comes back, which each node sees at another moment.
- Each such node is tried once for each loss. A VM that has come back, for no other could run it, is not stopped again
  for :data:`AGAIN_S`.

What it orders is an order like any other: whether it may be carried out is the guard's and the lease's to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import lease as rules
from .choose import MANAGEMENT
from .decide import off_reason
from .model import Move, Op, Run, View, Vm
from .ports import Ordered

MOVE_S = 180.0
"""How long a live migration may take: 16 GiB at 1 Gbit/s take two and a half minutes."""
STOP_SLACK_S = 30.0
"""How much longer than a guest's shutdown the order to give the VM away stands."""
AGAIN_S = 600.0
NOBODYS = -1
"""The ticket of an order whose answer nobody waits for."""


def has_management(record: Any) -> bool:
    """Whether a node's record says that its management network is well; not if it says nothing of it."""
    for key in ("network_checks", MANAGEMENT, "ok"):
        record = record.get(key) if isinstance(record, Mapping) else None
    return record is True


class Evacuation:
    """One VM's.

    :param limit_s: how long the network may be gone; infinity: for ever.
    :param move_s: how long a live migration may take.
    """

    def __init__(self, limit_s: float, move_s: float = MOVE_S) -> None:
        self._limit_s, self._move_s = limit_s, move_s
        self._tried: set[str] = set()
        self._stopped_s = float("-inf")
        self._better_s: float | None = None

    def step(self, view: View, now_s: float, lost_s: float | None, better: Sequence[str]) -> Ordered | None:
        """What is to be ordered from this node's guard now.

        :param lost_s: since when this node's management network is gone (CLOCK_BOOTTIME); None: it is well.
        :param better: the nodes that can take the VM and whose management network is well, the best first.
        """
        if not better:
            self._better_s = None
        elif self._better_s is None:
            self._better_s = now_s
        if lost_s is None:
            self._tried.clear()
            return None
        if self._better_s is None or now_s < max(lost_s, self._better_s) + self._limit_s or not _may_go(view):
            return None
        reason = f"{view.node} has lost its management network"
        if target := next((node for node in better if node not in self._tried), ""):
            self._tried.add(target)
            return Ordered(Op.MIGRATE, NOBODYS, reason, self._move_s, target=target)
        if now_s < self._stopped_s + AGAIN_S:
            return None
        self._stopped_s = now_s
        return Ordered(Op.RELEASE, NOBODYS, reason, view.shutdown_limit_s + STOP_SLACK_S)


def _may_go(view: View) -> bool:
    """Whether the VM runs here, is to run, and nothing else is being done with it."""
    return (
        view.vm is Vm.RUNNING
        and rules.is_mine(view)
        and view.desired is Run.STARTED
        and view.order is None
        and view.move is Move.NONE
        and not off_reason(view)
    )
