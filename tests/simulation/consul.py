"""Consul as a guard meets it: one linearizable record with a ModifyIndex, behind a network that loses and delays.

A request is committed at one moment between its arrival and its reply. It may be lost before that moment (nothing
happened) or its reply after it (it happened, and nobody is told). Without a leader nothing is committed or vouched for.
Each node's own agent has a copy of the record that lags behind, and stands still while the node is cut off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mnha.core.model import Lease, Run
from mnha.core.ports import Answered, DesiredSeen, Outcome, ReadFailed

from .engine import Engine, us

if TYPE_CHECKING:
    from .host import GuardProcess, Host
    from .world import World


@dataclasses.dataclass
class Link:
    """A node's way to Consul. `up` is for requests, `down` for replies and for the copy of its own agent.

    :param slow_up_s: requests take up to this long.
    :param slow_down_s: replies take up to this long.
    :param steady: whether they always take that long.
    :param loss: probability that a message is lost.
    :param lag_s: how far the node's own agent may lag behind.
    :param still: whether its agent stands still.
    """

    cut_up: bool = False
    cut_down: bool = False
    slow_up_s: float = 0.0
    slow_down_s: float = 0.0
    steady: bool = False
    loss: float = 0.0
    lag_s: float = 0.0
    still: bool = False

    @property
    def copies(self) -> bool:
        """Whether the node's agent receives what is committed."""
        return not (self.cut_down or self.cut_up or self.still)

    @property
    def is_cut(self) -> bool:
        """Whether nothing gets through in one direction at least."""
        return self.cut_up or self.cut_down


@dataclasses.dataclass
class Agent:
    """What the node's own Consul agent knows."""

    lease: Lease | None = None
    index: int = 0
    run: Run | None = None
    run_index: int = 0


class Consul:
    """The record store."""

    def __init__(self, world: World, engine: Engine, first: Lease) -> None:
        self._world, self._engine = world, engine
        self._raft_index = 10
        self.lease: Lease | None = first
        self.index = 10
        self.run: Run | None = Run.STOPPED
        self.run_index = 10
        self.leader_from_us = 0
        self.retries = False

    # ---- what guards ask

    def cas(self, process: GuardProcess, lease: Lease, index: int, ticket: int) -> None:
        """Compare-and-set from a guard; ends as Answered, or never, and rarely as Answered twice."""
        timeout_us = us(process.timings.deadline_s * 1.2)
        answered = False

        def serve() -> tuple[Outcome, int]:
            return self._commit(process.host.name, lease, index)

        def reply(result: tuple[Outcome, int] | None) -> None:
            nonlocal answered
            answered = True
            if result is None:
                process.post(Answered(ticket, Outcome.UNREACHABLE, error="no cluster leader"))
            else:
                process.post(Answered(ticket, *result))

        self._send(process.host, serve, reply)
        if self.retries and self._engine.chance(0.3):  # by another server, when the first seems to hang: a second copy
            self._engine.after(timeout_us // 4, self._send, process.host, serve, reply)

        def give_up() -> None:
            if not answered or self._engine.chance(0.02):
                process.post(Answered(ticket, Outcome.UNREACHABLE, error="timed out"))

        if self._engine.chance(0.5):
            self._engine.after(timeout_us, give_up)

    def read(self, process: GuardProcess) -> None:
        """Consistent read from a guard; ends as LeaseSeen, ReadFailed, or never."""
        asked_s = process.host.now_s()

        def serve() -> tuple[Lease | None, int]:
            return self.lease, self.index

        def reply(result: tuple[Lease | None, int] | None) -> None:
            if result is None:
                process.post(ReadFailed("no cluster leader"))
            else:
                process.post_lease(*result, asked_s=asked_s)

        self._send(process.host, serve, reply)

    def watch(self, process: GuardProcess) -> None:
        """A guard begins to watch: its own agent tells at once what it knows, however old that is."""
        agent = process.host.agent
        if agent.index:
            process.post_lease(agent.lease, agent.index)
        if agent.run_index:
            process.post(DesiredSeen(agent.run))

    # ---- the way there and back

    def _send(self, host: Host, serve: Callable[[], Any], reply: Callable[[Any], None]) -> None:
        """Send a request on its way."""
        link = host.link
        if link.cut_up or (link.loss and self._engine.chance(link.loss)):
            return
        self._engine.after(self._delay_us(link, link.slow_up_s), self._arrive, host, serve, reply)

    def _delay_us(self, link: Link, slow_s: float) -> int:
        """How long a message takes."""
        return us(slow_s) if link.steady else self._engine.span(0.0002, 0.002 + slow_s)

    def _arrive(self, host: Host, serve: Callable[[], Any], reply: Callable[[Any], None]) -> None:
        """A request reaches Consul; without a leader it waits for one, or fails after a while."""
        if host.link.cut_up:
            return
        if self._engine.now < self.leader_from_us:
            if self._engine.chance(0.3):
                self._engine.after(self._engine.span(0.0, 2.0), self._deliver, host, reply, None)
            elif self._engine.chance(0.7):
                self._engine.at(self.leader_from_us + self._engine.span(0.0, 0.3), self._arrive, host, serve, reply)
            return
        result = serve()
        link = host.link
        if link.cut_down or (link.loss and self._engine.chance(link.loss)):
            self._world.counts["reply lost after the commit"] += 1
            return
        self._engine.after(self._delay_us(link, link.slow_down_s), self._deliver, host, reply, result)

    def _deliver(self, host: Host, reply: Callable[[Any], None], result: Any) -> None:
        """A reply reaches the node."""
        if not host.link.cut_down:
            reply(result)

    # ---- the record

    def _commit(self, writer: str, lease: Lease, index: int) -> tuple[Outcome, int]:
        """The moment of a compare-and-set. As with Consul, index 0 creates; below 0 stands for a plain write."""
        if index >= 0 and index != (self.index if self.lease is not None else 0):
            self._world.counts["refused"] += 1
            return Outcome.REFUSED, 0
        self._raft_index += 1
        before, self.lease, self.index = self.lease, lease, self._raft_index
        self._world.on_commit(writer, before, lease)
        self._spread()
        return Outcome.GRANTED, self.index

    def set_desired(self, run: Run | None) -> None:
        """An operator's wish. Waits for no leader: the operator tries until it is there."""
        self._raft_index += 1
        self.run, self.run_index = run, self._raft_index
        self._world.trace("desired", "", str(run))
        self._spread()

    def delete(self) -> None:
        """An operator deletes the lease by mistake."""
        self._raft_index += 1
        self.lease, self.index = None, self._raft_index
        self._world.trace("deleted", "", "the lease")

    def restore(self, lease: Lease, index: int) -> None:
        """An operator restores Consul from a copy: an older record, with an older index."""
        self.lease, self.index = lease, index
        self._world.trace("restored", "", f"index {index}")

    def write_by_hand(self, lease: Lease) -> None:
        """An operator writes it, as no guard would."""
        self._raft_index += 1
        self.lease, self.index = lease, self._raft_index
        self._world.trace("written by hand", "", f"held by {lease.holder}")
        self._spread()

    def create(self, lease: Lease) -> None:
        """An operator creates it again (cas=0)."""
        if self.lease is None:
            self._raft_index += 1
            self.lease, self.index = lease, self._raft_index
            self._world.trace("created", "", "the lease")
            self._spread()

    def _spread(self) -> None:
        """Tell every node's agent, in its time."""
        for host in self._world.hosts:
            if host.power and host.link.copies:
                delay_us = self._engine.span(0.0005, 0.005 + host.link.lag_s)
                self._engine.after(
                    delay_us, self._copy, host, host.boot, self.lease, self.index, self.run, self.run_index
                )

    def _copy(self, host: Host, boot: int, lease: Lease | None, index: int, run: Run | None, run_index: int) -> None:
        """A node's agent receives a copy, and its guard, if it watches, the news."""
        if boot != host.boot or not host.power or not host.link.copies:
            return
        if host.is_frozen:
            host.after(1, self._copy, host, boot, lease, index, run, run_index)
            return
        agent, process = host.agent, host.process
        if index > agent.index:
            agent.lease, agent.index = lease, index
            if process is not None and lease is not None:
                process.post_lease(lease, index)
        if run_index > agent.run_index:
            agent.run, agent.run_index = run, run_index
            if process is not None:
                process.post(DesiredSeen(run))

    def catch_up(self, host: Host, within_s: float = 2.0) -> None:
        """A node's agent is in touch again."""
        self._engine.after(self._engine.span(0.0, within_s), self._caught_up, host, host.boot)

    def _caught_up(self, host: Host, boot: int) -> None:
        """It has the newest record then."""
        self._copy(host, boot, self.lease, self.index, self.run, self.run_index)
