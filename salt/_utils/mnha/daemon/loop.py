"""The main thread's queue, and the guards that it owns: nobody else may touch one.

Adapters' threads put events into the queue, clients' threads put questions; the main thread takes them in turn.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from ..core.guard import Guard
from ..core.ports import Event
from ..errors import DeadlineError
from ..host.clock import boottime_s

LONGEST_SLEEP_S = 0.5


class Loop:
    """Gives events to the guards of one node, and lets them act on the time.

    :ivar guards: VM -> its guard; to be filled before the first :meth:`turn`.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[str, Event] | Callable[[], None]] = queue.SimpleQueue()
        self.guards: dict[str, Guard] = {}

    # ---- in any thread

    def post(self, vm: str, event: Event) -> None:
        """Have an event given to the guard of a VM."""
        self._queue.put((vm, event))

    def call(self, function: Callable[[], None]) -> None:
        """Have `function` called in the main thread, and do not wait for it."""
        self._queue.put(function)

    def ask(self, function: Callable[[], dict[str, Any]], timeout_s: float = 5.0) -> dict[str, Any]:
        """Run `function` in the main thread, which alone may look at a guard, and wait for what it returns.

        :raises DeadlineError: the main thread does not come to it.
        """
        results: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.call(lambda: results.put(function()))
        try:
            return results.get(timeout=timeout_s)
        except queue.Empty:
            raise DeadlineError(f"the guard's main loop does not answer within {timeout_s:g} s") from None

    # ---- in the main thread

    def turn(self) -> None:
        """Take one event; wait for it until a guard wants to act on the time, :data:`LONGEST_SLEEP_S` at the most."""
        wake_s = min([guard.wake_s() for guard in self.guards.values()], default=float("inf"))
        pause_s = max(0.0, min(wake_s - boottime_s(), LONGEST_SLEEP_S))
        try:
            item = self._queue.get(timeout=pause_s) if pause_s else self._queue.get_nowait()
        except queue.Empty:
            self._tick()
        else:
            if callable(item):
                item()
                self._tick()
            else:
                self.deliver(*item)

    def deliver(self, vm: str, event: Event) -> None:
        """Give an event to its guard, and let every guard act on the time: a busy queue must not put off a
        deadline.
        """
        self.guards[vm].handle(event, boottime_s())
        self._tick(but=vm)

    def _tick(self, but: str = "") -> None:
        """Let every guard act on the time, but the one of a VM that has just done so."""
        for vm, guard in self.guards.items():
            if vm != but:
                guard.tick(boottime_s())
