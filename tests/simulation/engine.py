"""Global time, the one heap of events and the one source of chance."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

SECOND = 1_000_000
"""Global time is an integer number of microseconds."""


def us(seconds: float) -> int:
    """`seconds` in microseconds."""
    return round(seconds * SECOND)


class Engine:
    """Runs events in the order of their time, and of their creation where times are equal.

    :meth:`run_until` may be called from within an event: that is how a process stands still in the middle of a call
    while the rest of the world goes on.
    """

    def __init__(self, seed: int) -> None:
        self.now = 0
        self.depth = 0
        self.random = random.Random(seed)
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when_us: int, function: Callable[..., None], *args: Any) -> None:
        """Call `function` at `when_us`, or now if that is over."""
        self._count += 1
        heapq.heappush(self._heap, (max(when_us, self.now), self._count, function, args))

    def after(self, delay_us: int, function: Callable[..., None], *args: Any) -> None:
        """Call `function` in `delay_us`."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay_us, self._count, function, args))

    def run_until(self, end_us: int) -> None:
        """Run all events up to `end_us`; the time is `end_us` then (or later, if an event stood still for longer)."""
        heap = self._heap
        self.depth += 1
        try:
            while heap and heap[0][0] <= end_us:
                self.now, _, function, args = heapq.heappop(heap)
                function(*args)
        finally:
            self.depth -= 1
        self.now = max(self.now, end_us)

    # ---- chance

    def span(self, low_s: float, high_s: float) -> int:
        """A random time between two, in microseconds."""
        return int((low_s + (high_s - low_s) * self.random.random()) * SECOND)

    def chance(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return self.random.random() < probability
