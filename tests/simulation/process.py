"""A process on a node, guard or fencer: it may stand still or die at any moment, also in the middle of a call."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .engine import SECOND

if TYPE_CHECKING:
    from .host import Host


class Process:
    """What guard and fencer have in common: their faults, and the timer of their loop.

    Any call through a port may be the moment at which the process stands still (`trap_us`) or dies.

    :cvar WHO: its name in the trace.
    :cvar GONE: raised out of the call in which it dies; not an Exception, so that no handler of its own sees it.
    """

    WHO: str
    GONE: type[BaseException]

    def __init__(self, host: Host) -> None:
        self.host, self.engine, self.world = host, host.engine, host.world
        self.alive, self.busy = True, False
        self.stalled_until_us = 0
        self.trap_us, self._trap_calls = 0, 0
        self._timer_us: int | None = None
        self._due_us = math.inf

    # ---- what is its own

    def go_on(self) -> None:
        """The process goes on."""
        raise NotImplementedError

    def died(self) -> None:
        """What the node does when it is dead."""
        raise NotImplementedError

    def late_until(self, until_us: int) -> None:
        """It gets no turn before `until_us`: for those who keep an account of that."""

    def on_time(self) -> None:
        """The timer is due, and the process may act."""
        raise NotImplementedError

    def wakes(self) -> bool:
        """Whether it looks at the time when the timer has run out."""
        return True

    # ---- the timer

    def wake_at(self, when_s: float) -> None:
        """Wake at a moment of the node's clock. A timer that is too early by now is left to run out."""
        self._due_us = math.inf if when_s == math.inf else max(self.host.global_us(when_s), self.engine.now + 1)
        if self._due_us < math.inf and (self._timer_us is None or self._due_us < self._timer_us):
            self._set_timer()

    def _set_timer(self) -> None:
        """Set it to the moment that is due."""
        self._timer_us = int(self._due_us)
        self.engine.at(self._timer_us, self._wake, self._timer_us)

    def _wake(self, when_us: int) -> None:
        """The timer has run out."""
        if not self.alive or when_us != self._timer_us:
            return
        self._timer_us = None
        if not self.wakes():
            return
        if self._due_us <= self.engine.now:
            self.on_time()
        elif self._due_us < math.inf:
            self._set_timer()

    # ---- faults

    @property
    def stands_still(self) -> bool:
        """Whether the process is stopped, or its whole node."""
        now_us = self.engine.now
        return self.stalled_until_us > now_us or self.host.frozen_until_us > now_us

    def stall(self, duration_us: int) -> None:
        """SIGSTOP, and SIGCONT later."""
        self.stalled_until_us = max(self.stalled_until_us, self.engine.now + duration_us)
        self.late_until(self.stalled_until_us)
        self.world.trace(f"{self.WHO} stands still", self.host.name, f"{duration_us / SECOND:.1f} s")
        self.engine.at(self.stalled_until_us, self.go_on)

    def trap(self, calls: int, duration_us: int) -> None:
        """Stand still in the middle of the `calls`-th call through a port from now."""
        self._trap_calls, self.trap_us = calls, duration_us

    def crash(self) -> None:
        """SIGKILL."""
        if self.alive:
            self.alive = False
            self.world.trace(f"{self.WHO} killed", self.host.name)
            self.died()

    def call(self) -> None:
        """A call through a port: the process may stand still here, while the world goes on."""
        if self.trap_us and self.engine.depth == 1:
            self._trap_calls -= 1
            if self._trap_calls <= 0:
                until_us, self.trap_us = self.engine.now + self.trap_us, 0
                self.late_until(until_us)
                self.world.trace(f"{self.WHO} stands still in a call", self.host.name)
                self.engine.run_until(until_us)
        while self.alive and self.stands_still:
            self.engine.run_until(max(self.stalled_until_us, self.host.frozen_until_us))
        if not self.alive:
            raise self.GONE
