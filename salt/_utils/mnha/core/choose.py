"""Which node shall take over a VM. Pure.

The invariant: **a node that is known to be unable is never chosen, and every node that is not chosen has a
reason.** What is merely unknown about a node never makes it a candidate. Two masters with the same facts choose
the same node.

A wrong choice costs time, never safety: the chosen node's guard takes the lease only when it may, and says no
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .model import Vm

OF_A_VM = frozenset({"image", "overlay", "bridge", "domain", "memory", "fencer"})
"""The checks that concern one VM and not its node, which an older guard has told among its node's."""

MANAGEMENT = "management"
"""The check of that network, among the `network_checks` of a record."""
NEEDED = frozenset({MANAGEMENT})
"""The checks of networks without which the VM is of little use, and better elsewhere."""


@dataclass(frozen=True)
class Node:
    """What is known of a node.

    :param record: its guard's `nodes/<node>` in Consul; None when there is none.
    :param alive: whether Consul sees it; None when Consul does not know it or could not be asked.
    :param maintenance: the `maintenance/<node>` record; None when it is not in maintenance.
    """

    name: str
    record: Mapping[str, Any] | None = None
    alive: bool | None = None
    maintenance: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Needs:
    """What a VM needs of its host; the checks of VM `vm` are among it."""

    vm: str
    memory_mib: int
    cpus: int


@dataclass(frozen=True)
class Choice:
    """The candidates, best first, each with what speaks for it; and why each other node is none."""

    order: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    rejected: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The choice in one sentence, for logs and status."""
        others = "; ".join(f"{name}: {why}" for name, why in self.rejected.items())
        if not self.order:
            return f"no node can take it over ({others or 'the cluster has no other node'})"
        first = self.order[0]
        return f"{first} ({self.reasons[first]})" + (f"; not {others}" if others else "")


def choose(
    nodes: Sequence[Node],
    needs: Needs,
    prefer: Sequence[str] = (),
    holder: str = "",
    *,
    promised: Mapping[str, Mapping[str, int]] | None = None,
    reserve_mib: int = 0,
) -> Choice:
    """Rank the nodes that can run a VM: preferred ones in their order, then by free memory, CPUs and name. Those that
    are in doubt (:func:`_doubt`) come after all others.

    :param holder: who has the lease that is being lost; it keeps itself alive or not, and is no candidate.
    :param promised: node -> VM -> MiB that it is to have there; what the node's record counts is not counted again.
    :param reserve_mib: what each node keeps for itself.
    """
    rooms = {node.name: Room(node, (promised or {}).get(node.name, {}), reserve_mib) for node in nodes}
    rejected = {node.name: why for node in nodes if (why := objection(node, needs, holder, rooms[node.name]))}
    fit = [node for node in nodes if node.name not in rejected]
    rank = {name: number for number, name in enumerate(prefer)}
    doubts = {node.name: _doubt(node, needs.vm) for node in fit}
    fit.sort(
        key=lambda node: (doubts[node.name] != "", rank.get(node.name, len(rank)), *_size(rooms[node.name]), node.name)
    )
    reasons = {
        node.name: (f"preferred as number {rank[node.name] + 1}, " if node.name in rank else "")
        + f"{rooms[node.name].left_mib} MiB and {_number(node, 'cpus')} CPUs"
        + (f"; in doubt: {doubts[node.name]}" if doubts[node.name] else "")
        for node in fit
    }
    return Choice(order=tuple(node.name for node in fit), reasons=reasons, rejected=rejected)


@dataclass(frozen=True)
class Room:
    """The memory of a node.

    :param promised: VM -> MiB that others are to have there.
    :param reserve_mib: what the host keeps for itself.
    """

    node: Node
    promised: Mapping[str, int] = field(default_factory=dict)
    reserve_mib: int = 0

    @property
    def coming(self) -> dict[str, int]:
        """What is promised and not yet counted by the node's guard: the VM is off there by its record."""
        return {vm: mib for vm, mib in self.promised.items() if not _is_counted(self.node.record, vm)}

    @property
    def left_mib(self) -> int:
        """What is left for one more VM; 0 if all is promised."""
        return max(0, _number(self.node, "free_memory_mib") - self.reserve_mib - sum(self.coming.values()))

    def lack(self, needed_mib: int) -> str:
        """Why a VM does not fit; empty when it does."""
        if self.left_mib >= needed_mib:
            return ""
        more = [f"{mib} MiB of them for {vm}, which is on its way" for vm, mib in sorted(self.coming.items())]
        more += [f"{self.reserve_mib} MiB for the host"] if self.reserve_mib else []
        free = f"{_number(self.node, 'free_memory_mib')} MiB of memory are free"
        return f"{', '.join([free, *more])}; the VM needs {needed_mib} MiB"


def objection(node: Node, needs: Needs, holder: str = "", room: Room | None = None) -> str:
    """Why `node` can't take over; empty when it can.

    :param room: its memory, if not all that is free there is to be had.
    """
    if node.name == holder:
        return "holds the lease that is being lost"
    if node.maintenance is not None:
        by, reason = node.maintenance.get("by"), node.maintenance.get("reason")
        return "is in maintenance" + (f" by {by}" if by else "") + (f": {reason}" if reason else "")
    if node.alive is None:
        return "is not known to Consul"
    if not node.alive:
        return "is lost: Consul does not reach it"
    if not isinstance(node.record, Mapping):
        return "its guard has never reported: is mnha-guard running there?"
    checks = node.record.get("checks")
    if not isinstance(checks, Mapping) or not checks:
        return "its guard has reported no checks"
    of_node = checks if _is_alone(node.record, needs.vm) else _without_vms(checks)
    return _failing(of_node) or _failing(_own_checks(node.record, needs.vm)) or _lack(room or Room(node), needs)


def _doubt(node: Node, vm: str) -> str:
    """What speaks against a node that may well be able; empty if nothing does.

    It gave the VM back, since that could not run there; it may again, and is better than none. Or nobody could manage
    anything with the VM there, for the management network is gone. Or an older guard tells
    of one of its VMs without saying of which: it knows itself, and takes the order, or refuses it at once.
    """
    record = node.record or {}
    if _of_vm(record, vm).get("failed_here") is True:
        return "it gave the VM back lately, which could not run there"
    checks, networks = record.get("checks", {}), record.get("network_checks")
    if isinstance(networks, Mapping) and (why := _failing({key: networks[key] for key in NEEDED & set(networks)})):
        return why
    return _failing({name: checks[name] for name in sorted(OF_A_VM & set(checks))})


def _of_vm(record: Mapping[str, Any], vm: str) -> Mapping[str, Any]:
    """What a record's guard tells of a VM; empty if it can't be read."""
    found: Any = record
    for key in ("guard", "vms", vm):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _without_vms(checks: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a record's checks that concern the node."""
    return {name: check for name, check in checks.items() if name not in OF_A_VM}


def _is_alone(record: Mapping[str, Any], vm: str) -> bool:
    """Whether all that a record tells of VMs is of this one: its guard tells of no other."""
    guard = record.get("guard")
    vms = guard.get("vms") if isinstance(guard, Mapping) else None
    return not isinstance(vms, Mapping) or not set(vms) - {vm}


def _failing(checks: Mapping[str, Any]) -> str:
    """The first check that is not well; empty if all are."""
    for name in sorted(checks):
        check = checks[name]
        if not isinstance(check, Mapping) or check.get("ok") is not True:
            why = check.get("why") if isinstance(check, Mapping) else ""
            return f"check {name} fails" + (f": {why}" if why else "")
    return ""


def _own_checks(record: Mapping[str, Any], vm: str) -> Mapping[str, Any]:
    """The checks that concern this VM alone; none of a guard that is older than them. What can't be read of them is a
    check that fails, and so is a guard that tells of other VMs only: it was not told of this one yet.
    """
    found: Any = record
    for key in ("guard", "vms", vm, "checks"):
        if key not in found:
            untold = key == vm and bool(found)
            return {"guard": {"ok": False, "why": f"it does not know {vm}: apply states.guard"}} if untold else {}
        found = found[key]
        if not isinstance(found, Mapping):
            return {key: None}
    return dict(found)


def _lack(room: Room, needs: Needs) -> str:
    """What of memory and CPUs is missing."""
    if lack := room.lack(needs.memory_mib):
        return lack
    cpus = _number(room.node, "cpus")
    return "" if cpus >= needs.cpus else f"has {cpus} CPUs, the VM needs {needs.cpus}"


def _is_counted(record: Mapping[str, Any] | None, vm: str) -> bool:
    """Whether a record's free memory is what the VM leaves: it is alive there, by the record."""
    state = _of_vm(record or {}, vm).get("vm")
    return isinstance(state, str) and state != Vm.OFF


def _size(room: Room) -> tuple[int, int]:
    """Sorts the biggest first: by memory that is left, then CPUs."""
    return -room.left_mib, -_number(room.node, "cpus")


def _number(node: Node, key: str) -> int:
    """A number of the record; 0 when it is missing or no number."""
    value = node.record.get(key) if isinstance(node.record, Mapping) else None
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else 0
