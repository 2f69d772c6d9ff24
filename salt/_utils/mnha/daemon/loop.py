"""The main thread's queue, and the guards that it owns: nobody else may touch one.

Adapters' threads put events into the queue, clients' threads put questions; the main thread takes them in turn. What
nobody expected of one guard, or of one part of the main thread's work, is told and ends neither the others nor the
process.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..core.guard import Guard
from ..core.ports import Event
from ..errors import DeadlineError
from ..host.clock import boottime_s
from .threads import Fault

LONGEST_SLEEP_S = 0.5
FAILED_PAUSE_S = 0.1
FAULT_S = 10.0
"""How long the status tells of what nobody expected in the main thread: it does much else meanwhile, and well."""
LOST_S = 10.0
"""A guard that has done nothing but fail for so long does not recover: another process has to begin."""


class Contained:
    """A guard whose failures stay its own.

    :ivar fault: what nobody expected of it.
    """

    def __init__(self, vm: str, guard: Guard) -> None:
        self._guard = guard
        self._rest_until_s = float("-inf")
        self._fails_since_s: float | None = None
        self.fault = Fault(f"guard-{vm}", FAULT_S)

    @property
    def is_lost(self) -> bool:
        """Whether it has done nothing but fail for :data:`LOST_S`."""
        return self._fails_since_s is not None and boottime_s() > self._fails_since_s + LOST_S

    def wake_s(self) -> float:
        """When the guard is due; after it has failed, not at once."""
        try:
            return max(self._guard.wake_s(), self._rest_until_s)
        except Exception as error:
            return boottime_s() + self.fault.note(error)

    def act(self, event: Event | None = None) -> None:
        """Let the guard take an event, or act on the time alone. What nobody expected in it is told, ends neither this
        process nor what the other guards do, and is not tried again at once. The VM is the fencer's matter as ever: it
        lives no longer than was granted.
        """
        now_s = boottime_s()
        if event is None and now_s < self._rest_until_s:
            return
        try:
            if event is None:
                self._guard.tick(now_s)
            else:
                self._guard.handle(event, now_s)
            self._fails_since_s = None
        except Exception as error:
            self._fails_since_s = self._fails_since_s or now_s
            self._rest_until_s = now_s + self.fault.note(error)


class Loop:
    """Gives events to the guards of one node, and lets them act on the time."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[str, Event] | Callable[[], None]] = queue.SimpleQueue()
        self._guards: dict[str, Guard] = {}
        self._contained: dict[str, Contained] = {}
        self._fault = Fault("main", FAULT_S)

    @property
    def guards(self) -> Mapping[str, Guard]:
        """VM -> its guard."""
        return self._guards

    @property
    def faults(self) -> Iterator[Fault]:
        """Of the main thread, and of each guard in it."""
        yield self._fault
        yield from (contained.fault for contained in self._contained.values())

    @property
    def lost(self) -> list[str]:
        """The VMs whose guard has done nothing but fail for :data:`LOST_S`."""
        return [vm for vm, contained in self._contained.items() if contained.is_lost]

    def add(self, vm: str, guard: Guard) -> None:
        """Take a guard in; before the first :meth:`turn`."""
        self._guards[vm], self._contained[vm] = guard, Contained(vm, guard)

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
        :raises Exception: what `function` raises.
        """
        results: queue.SimpleQueue[dict[str, Any] | Exception] = queue.SimpleQueue()

        def run() -> None:
            try:
                results.put(function())
            except Exception as error:  # told, but without a pause: others may be asking as well
                self._fault.note(error)
                results.put(error)

        self.call(run)
        try:
            result = results.get(timeout=timeout_s)
        except queue.Empty:
            raise DeadlineError(f"the guard's main loop does not answer within {timeout_s:g} s") from None
        if isinstance(result, Exception):
            raise result
        return result

    # ---- in the main thread

    def attempt(self, part: Callable[[], bool | None]) -> bool | None:
        """Run a part of the main thread's work, for what it returns. What nobody expected of it is told, and not tried
        again at once; then None.
        """
        try:
            return part()
        except Exception as error:
            time.sleep(min(self._fault.note(error), FAILED_PAUSE_S))
            return None

    def turn(self) -> None:
        """Take one event; wait for it until a guard wants to act on the time, :data:`LONGEST_SLEEP_S` at the most."""
        wake_s = min([contained.wake_s() for contained in self._contained.values()], default=float("inf"))
        pause_s = max(0.0, min(wake_s - boottime_s(), LONGEST_SLEEP_S))
        try:
            item = self._queue.get(timeout=pause_s) if pause_s else self._queue.get_nowait()
        except queue.Empty:
            self._tick()
            return
        if not callable(item):
            self.deliver(*item)
            return
        try:
            item()
        finally:
            self._tick()

    def deliver(self, vm: str, event: Event) -> None:
        """Give an event to its guard, and let every guard act on the time: a busy queue must not put off a
        deadline.
        """
        self._contained[vm].act(event)
        self._tick(but=vm)

    def _tick(self, but: str = "") -> None:
        """Let every guard act on the time, but the one of a VM that has just done so."""
        for vm, contained in self._contained.items():
            if vm != but:
                contained.act()
