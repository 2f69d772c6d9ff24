"""The guest's heartbeats as its disk shows them to this machine, with this machine's clock: how long it stood still."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path

from lab.records import Record, Tail

POLL_S = 0.005


class Pulse:
    """Records each heartbeat with the moment at which it was seen. A context manager."""

    def __init__(self, image: Path) -> None:
        self._tail = Tail(image)
        self._seen: list[tuple[float, Record]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def boots(self) -> set[str]:
        """The boot ids of all records seen."""
        return {record.boot_id for _, record in list(self._seen)}

    @property
    def last_s(self) -> float:
        """When the newest record was seen (CLOCK_BOOTTIME); minus infinity before the first."""
        return self._seen[-1][0] if self._seen else float("-inf")

    def longest_gap_s(self, after_s: float = 0.0) -> float:
        """The longest time between two records that were seen one after the other, the first not before `after_s`."""
        times_s = [at_s for at_s, _ in list(self._seen) if at_s >= after_s]
        return max((two - one for one, two in pairwise(times_s)), default=float("inf"))

    def _work(self) -> None:
        while not self._stop.wait(POLL_S):
            now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            self._seen += [(now_s, record) for record in self._tail.poll()]
