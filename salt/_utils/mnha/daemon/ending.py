"""When the guard's process ends: by a signal, and its VMs run on for the next one; or by an order, with its VMs off."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

from ..core import lease as rules
from ..core.model import Move, View, Vm
from ..core.ports import Ended
from ..host.clock import boottime_s
from .loop import Loop

END_EXTRA_S = 30.0
"""How long, beyond the time that a guest may take to shut down, an end may take: a kill, and Consul's answers."""
CALM_LIMIT_S = 3.0
"""How long a process that is told to end (SIGTERM) waits for a start or a migration to end."""
LAST_WORDS_S, LAST_RECORDS_S = 0.3, 1.7
"""How long a process that ends, or is replaced, waits for its answers and its records to be sent, at the most."""
SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Ending:
    """Whether this process is to end, and whether it may by now. All of it in the main thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._ending_s: float | None = None
        self._replaced_by_s: float | None = None

    def begin(self, reason: str) -> dict[str, Any]:
        """Shut down what runs here, give it to another node, and end. Returns at once: the process' end tells.

        :param reason: why, for the leases' records.
        """
        if self._ending_s is None:
            self._ending_s = boottime_s()
            for vm in self._loop.guards:
                self._loop.deliver(vm, Ended(reason))
        return {"pid": os.getpid()}

    def take_signals(self) -> None:
        """Take what has come since the loop was here the last time, `LONGEST_SLEEP_S` ago at the most. SIGHUP waits
        for the end of a start or a migration, SIGTERM not for long.
        """
        while taken := signal.sigtimedwait(SIGNALS, 0):
            patience_s = CALM_LIMIT_S if taken.si_signo == signal.SIGTERM else float("inf")
            self._replaced_by_s = min(self._replaced_by_s or float("inf"), boottime_s() + patience_s)

    def is_over(self) -> bool:
        """Whether the process may end."""
        guards = list(self._loop.guards.values())
        if self._replaced_by_s is not None and (
            boottime_s() > self._replaced_by_s or all(is_calm(guard.view) for guard in guards)
        ):
            return True
        if self._ending_s is None:
            return False
        if all(guard.done for guard in guards):
            return True
        waited_s = boottime_s() - self._ending_s
        dead = all(guard.view.vm is Vm.OFF for guard in guards)
        longest_s = max(guard.view.shutdown_limit_s for guard in guards)
        return waited_s > longest_s + END_EXTRA_S or (dead and waited_s > guards[0].view.timings.lease_s + longest_s)


def block_signals() -> None:
    """Have no thread ever interrupted by a signal, this one and those that it begins: :meth:`Ending.take_signals` takes
    it. One that comes after the loop changes nothing: the process is ending.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def is_calm(view: View) -> bool:
    """Whether a guard may be replaced by a new one: that one would void a start that is under way, and would know of no
    migration that is. And nobody renews until it is there: when the deadline is near, that is done first.
    """
    has_time = rules.has_half_a_deadline(view) or not view.vm.may_write
    is_still = view.vm not in (Vm.STARTING, Vm.ARRIVING) and view.move is Move.NONE and not view.resuming
    return is_still and has_time


def last_s(views: Sequence[View], now_s: float) -> float:
    """How long a process may wait for its last words to be sent, while nobody looks at the deadlines any more. Half of
    the time to the next one is for the process that comes after it.
    """
    deadlines = [view.granted_until_s for view in views if view.vm.may_write and view.granted_until_s is not None]
    ahead_s = min(deadlines, default=float("inf")) - now_s
    return max(0.0, min(LAST_WORDS_S + LAST_RECORDS_S, ahead_s / 2))
