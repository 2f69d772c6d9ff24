"""What the guards tell of their nodes in Consul, and who takes over without an order by what each sees of it.

As in the product (`mnha.daemon.turns`) each guard makes the choice of a master for itself, again and again: of its own
node by what it knows, of the others by a copy of their records that may be old, a part of them, or none at all.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mnha.core import evacuation
from mnha.core.choose import MANAGEMENT, Needs, Node
from mnha.core.placement import Cluster, place, placed
from mnha.core.ports import TurnsSeen

from .engine import us

if TYPE_CHECKING:
    from .host import GuardProcess, Host
    from .world import World

NEEDS = Needs("vm", memory_mib=1024, cpus=1)
EVERY_S = 0.5
OLD_S = 20.0
"""A copy that is older says nothing (:data:`mnha.daemon.adapters.node_records.OLD_S`)."""
GOSSIP_S = 3.0
"""How long a node that is gone is still seen alive."""


class NodeRecords:
    """The records `nodes/<node>` in Consul."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self.random = random.Random(f"records of seed {seed}")
        """Of its own, so that all else goes as it would without them."""
        self.stored: dict[str, Mapping[str, Any]] = {}
        self.blind_until_us: dict[str, int] = {}
        """Node -> until when its guard sees no record at all."""
        self.deluded_until_us: dict[str, int] = {}
        """Node -> until when its guard believes that no other node is any good."""

    def begin(self, process: GuardProcess) -> None:
        """A guard begins to tell of its node, and to look at the others."""
        copy = Copy(self._world, self, process)
        process.host.after(self.span(0.05, EVERY_S), copy.look)

    def span(self, low_s: float, high_s: float) -> int:
        """A random time between two, in microseconds."""
        return us(self.random.uniform(low_s, high_s))

    def choice(self, host: Host, nodes: list[Node]) -> tuple[str, ...]:
        """Who may take over, by what is known of `nodes`."""
        view = host.process.guard.view if host.process is not None else None
        lease = vars(view.lease) if view is not None and view.lease is not None else None
        vm = placed(NEEDS, self._world.limits.ranking, lease, view.desired if view is not None else None)
        return place(Cluster(nodes, {NEEDS.vm: vm}), NEEDS.vm).order


class Copy:
    """What one guard knows of the records."""

    def __init__(self, world: World, records: NodeRecords, process: GuardProcess) -> None:
        self._world, self._records, self._process = world, records, process
        self._seen: dict[str, Mapping[str, Any]] | None = None
        self._heard_us = 0

    def look(self) -> None:
        """Write this node's record, read those of the others as far as possible, and make the choice."""
        process, world, records = self._process, self._world, self._records
        host, now_us = process.host, world.engine.now
        if not process.alive:
            return
        host.after(records.span(0.8 * EVERY_S, 1.2 * EVERY_S), self.look)
        if process.stands_still:
            return
        own = record_of(process)
        if not host.link.is_cut and now_us >= world.consul.leader_from_us:
            records.stored[host.name] = own
        if host.link.copies:
            everything = dict(records.stored)
            if records.random.random() < world.config.partial:
                everything = {name: one for name, one in everything.items() if records.random.random() < 0.5}
            self._seen, self._heard_us = everything, now_us
        blind = records.blind_until_us.get(host.name, 0) > now_us or now_us - self._heard_us > us(OLD_S)
        if self._seen is None or blind:
            process.post(TurnsSeen(None))
            return
        seen = {} if records.deluded_until_us.get(host.name, 0) > now_us else self._seen
        nodes = [
            Node(other.name, own, alive=True)
            if other is host
            else Node(other.name, seen.get(other.name), alive=is_seen(host, other))
            for other in world.hosts
        ]
        order = records.choice(host, nodes)
        process.post(TurnsSeen(order))
        better = [name for name in order if evacuation.has_management(seen.get(name))]
        step = process.evacuation.step(process.guard.view, host.now_s(), host.management_lost_s, better)
        if step is not None:
            world.trace("evacuation", host.name, f"{step.op} {step.target}")
            process.post(step)


def record_of(process: GuardProcess) -> dict[str, Any]:
    """What a guard tells of its node."""
    view = process.guard.view
    checks = {"storage": {"ok": not view.unable, "why": view.unable}} if view.probed else {}
    own = {"vm": view.vm.value, "failed_here": process.host.now_s() < view.last_until_s}
    return {
        "guard": {"vms": {NEEDS.vm: own}},
        "checks": checks,
        "network_checks": {MANAGEMENT: {"ok": process.host.management_lost_us is None}},
        "free_memory_mib": NEEDS.memory_mib,
        "cpus": NEEDS.cpus,
    }


def is_seen(host: Host, other: Host) -> bool:
    """Whether the gossip of a node has another one for alive."""
    if host.link.is_cut:
        return False
    return not other.link.is_cut and (other.power or other.engine.now - other.power_lost_us < us(GOSSIP_S))
