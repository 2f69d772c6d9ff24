"""Where each VM of a cluster is to go, in one go. Pure.

The invariant: **what is promised of a node's memory, to the VMs that are there, to those on their way and to the host,
never exceeds what it has.** A failover of one VM is the failover of all that its node had: the largest is placed first,
and what one is to get the next one does not find free. Whoever has the same facts, and asks for whichever of them,
places all of them alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .choose import Choice, Needs, Node, choose
from .model import Phase, Run


@dataclass(frozen=True)
class Placed:
    """A VM of the cluster and where it is.

    :param prefer: the nodes on which it is preferred, in that order.
    :param holder: who holds its lease; empty: nobody.
    :param target: where a migration is taking it; empty: nowhere.
    :param wanted: whether it is to run.
    """

    needs: Needs
    prefer: tuple[str, ...] = ()
    holder: str = ""
    target: str = ""
    wanted: bool = True


@dataclass(frozen=True)
class Cluster:
    """What a placement depends on.

    :param vms: all protected VMs, by name.
    :param reserve_mib: what each node keeps for itself.
    """

    nodes: Sequence[Node]
    vms: Mapping[str, Placed] = field(default_factory=dict)
    reserve_mib: int = 0


def place(cluster: Cluster, vm: str, *, alone: bool = False) -> Choice:
    """Rank the nodes for a VM that leaves its holder, or that nobody has.

    :param alone: it leaves alone, as in a migration; else its holder is lost, or is left by all that it has.
    """
    return place_all(cluster, vm, alone=alone)[vm]


def place_all(cluster: Cluster, vm: str, *, alone: bool = False) -> dict[str, Choice]:
    """The same, of all VMs that need a place at the same time as this one, in the order in which they are placed."""
    leaving = [name for name in cluster.vms if name == vm or _needs_place(cluster.vms, name, vm, alone=alone)]
    leaving.sort(key=lambda name: (-cluster.vms[name].needs.memory_mib, name))
    promised: dict[str, dict[str, int]] = {}
    for name, one in cluster.vms.items():
        if name not in leaving:
            for node in {one.holder, one.target} - {""}:
                promised.setdefault(node, {})[name] = one.needs.memory_mib
    choices, left = {}, "" if alone else cluster.vms[vm].holder
    for name in leaving:
        one = cluster.vms[name]
        choices[name] = choose(
            cluster.nodes, one.needs, one.prefer, one.holder or left, promised=promised, reserve_mib=cluster.reserve_mib
        )
        if choices[name].order:
            promised.setdefault(choices[name].order[0], {})[name] = one.needs.memory_mib
    return choices


def _needs_place(vms: Mapping[str, Placed], name: str, vm: str, *, alone: bool) -> bool:
    """Whether a VM needs a place as soon as `vm` does: nobody has it, or they leave the same holder."""
    one = vms[name]
    return one.wanted and (not one.holder or (not alone and one.holder == vms[vm].holder))


def placed(needs: Needs, prefer: Sequence[str], lease: Any, run: Any) -> Placed:
    """A VM by its lease and its desired state, as far as they can be read.

    :param lease: `holder`, `target` and `phase`; None where there is none.
    :param run: the desired state's word.
    """
    held = isinstance(lease, Mapping) and lease.get("phase") != Phase.RELEASED
    holder, target = (str(lease.get(key) or "") if held else "" for key in ("holder", "target"))
    return Placed(needs, tuple(prefer), holder, target, run == Run.STARTED)
