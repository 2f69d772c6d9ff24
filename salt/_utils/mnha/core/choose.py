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


def choose(nodes: Sequence[Node], needs: Needs, prefer: Sequence[str] = (), holder: str = "") -> Choice:
    """Rank the nodes that can run a VM: preferred ones in their order, then by free memory, CPUs and name.

    :param holder: who has the lease that is being lost; it keeps itself alive or not, and is no candidate.
    """
    rejected = {node.name: why for node in nodes if (why := objection(node, needs, holder))}
    fit = [node for node in nodes if node.name not in rejected]
    rank = {name: place for place, name in enumerate(prefer)}
    fit.sort(key=lambda node: (rank.get(node.name, len(rank)), *_size(node), node.name))
    reasons = {
        node.name: (f"preferred as number {rank[node.name] + 1}, " if node.name in rank else "")
        + f"{_number(node, 'free_memory_mib')} MiB and {_number(node, 'cpus')} CPUs"
        for node in fit
    }
    return Choice(order=tuple(node.name for node in fit), reasons=reasons, rejected=rejected)


def objection(node: Node, needs: Needs, holder: str = "") -> str:
    """Why `node` can't take over; empty when it can."""
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
    return _failing(checks) or _failing(_own_checks(node.record, needs.vm)) or _lack(node, needs)


def _failing(checks: Mapping[str, Any]) -> str:
    """The first check that is not well; empty if all are."""
    for name in sorted(checks):
        check = checks[name]
        if not isinstance(check, Mapping) or check.get("ok") is not True:
            why = check.get("why") if isinstance(check, Mapping) else ""
            return f"check {name} fails" + (f": {why}" if why else "")
    return ""


def _own_checks(record: Mapping[str, Any], vm: str) -> Mapping[str, Any]:
    """The checks that concern this VM alone. A guard older than them has told them among the node's: then there are
    none, and what fails for one VM there counts for all. What can't be read of them is a check that fails.
    """
    found: Any = record
    for key in ("guard", "vms", vm, "checks"):
        if key not in found:
            return {}
        found = found[key]
        if not isinstance(found, Mapping):
            return {key: None}
    return dict(found)


def _lack(node: Node, needs: Needs) -> str:
    """What of memory and CPUs is missing."""
    free, cpus = _number(node, "free_memory_mib"), _number(node, "cpus")
    if free < needs.memory_mib:
        return f"{free} MiB of memory are free, the VM needs {needs.memory_mib} MiB"
    if cpus < needs.cpus:
        return f"has {cpus} CPUs, the VM needs {needs.cpus}"
    return ""


def _size(node: Node) -> tuple[int, int]:
    """Sorts the biggest first: by free memory, then CPUs."""
    return -_number(node, "free_memory_mib"), -_number(node, "cpus")


def _number(node: Node, key: str) -> int:
    """A number of the record; 0 when it is missing or no number."""
    value = node.record.get(key) if isinstance(node.record, Mapping) else None
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else 0
