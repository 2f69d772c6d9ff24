"""Salt's masters and the operator. Safety may not depend on them: they are late, dead, wrong, and two at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnha.core import lease as rules
from mnha.core.choose import Node
from mnha.core.model import Op, Phase, Run

from .engine import Engine

if TYPE_CHECKING:
    from .host import Host
    from .world import World


class Master:
    """A Salt master: looks at what the guards' beacons tell, and orders.

    :param sloppy: probability that it orders anybody, with anything.
    :param late_s: how long an order may be under way.
    """

    def __init__(self, world: World, engine: Engine, name: str, sloppy: float = 0.0, late_s: float = 0.3) -> None:
        self._world, self._engine, self._name = world, engine, name
        self.sloppy, self.late_s = sloppy, late_s
        self.dead_until_us = 0
        self._ordered: dict[tuple[int, int], int] = {}
        self._tries: dict[tuple[int, int], int] = {}
        engine.after(engine.span(0.0, 1.0), self._look)

    def _look(self) -> None:
        """Look, order, look again later."""
        self._engine.after(self._engine.span(0.3, 1.2), self._look)
        if self._engine.now < self.dead_until_us:
            return
        reachable = [host for host in self._world.hosts if host.process is not None and not host.process.stands_still]
        if self.sloppy and self._engine.chance(self.sloppy) and reachable:
            self._order_anything(self._engine.random.choice(reachable))
        self._order_failover(reachable)

    def _order_failover(self, reachable: list[Host]) -> None:
        """Order one of those who see the lease expired, or nearly, to take it."""
        able = [host for host in reachable if self._sees_it_free(host)]
        if not able:
            return
        sightings = [host.process.guard.view.sighting for host in able if host.process is not None]
        lease = max((s.lease for s in sightings if s is not None), key=lambda item: item.seq)
        key = (lease.epoch, lease.seq)
        if self._engine.now < self._ordered.get(key, 0):
            return
        self._ordered[key] = self._engine.now + self._engine.span(2.0, 5.0)
        order = self._world.records.choice(able[0], [self._node(host) for host in able])
        able.sort(key=lambda host: order.index(host.name) if host.name in order else len(order))
        self._tries[key] = self._tries.get(key, -1) + 1
        chosen = able[self._tries[key] % len(able)]
        self._send(chosen, Op.TAKEOVER, lease.epoch)
        if self.sloppy and self._engine.chance(self.sloppy):  # a second one, at once
            self._send(self._engine.random.choice(able), Op.TAKEOVER, lease.epoch)

    def _node(self, host: Host) -> Node:
        """A node as a master sees it: by its record."""
        return Node(host.name, self._world.records.stored.get(host.name), alive=True)

    def _sees_it_free(self, host: Host) -> bool:
        """Whether a guard reports a lease that is to be had, and could run the VM."""
        if host.process is None:
            return False
        view, sighting = host.process.guard.view, host.process.guard.view.sighting
        if sighting is None or view.desired is not Run.STARTED or view.unable:
            return False
        now_s = host.now_s()
        if now_s < view.not_before_s:
            return False
        if sighting.lease.phase is Phase.RELEASED:
            return True
        return now_s >= rules.overdue_s(sighting, view.timings) and not rules.is_mine(view)

    def _order_anything(self, host: Host) -> None:
        """An order that makes no sense, or comes at a bad moment."""
        lease = self._world.consul.lease
        epoch = (lease.epoch if lease else 0) + self._engine.random.choice((-1, 0, 0, 0, 1))
        op = self._engine.random.choice((Op.TAKEOVER, Op.TAKEOVER, Op.RELEASE, Op.RESET))
        self._send(host, op, epoch)

    def _send(self, host: Host, op: Op, epoch: int) -> None:
        """Send an order; it arrives later, and may be too late."""
        self._world.trace("order", host.name, f"{op} epoch {epoch} by {self._name}")
        wait_s = self._engine.random.choice((3.0, 10.0, 30.0))
        self._engine.after(self._engine.span(0.005, self.late_s), self._arrive, host, host.boot, op, epoch, wait_s)

    def _arrive(self, host: Host, boot: int, op: Op, epoch: int, wait_s: float) -> None:
        """It reaches the guard, if that is still there."""
        if host.process is not None and host.boot == boot:
            host.process.order(op, f"ordered by {self._name}", epoch, wait_s)
